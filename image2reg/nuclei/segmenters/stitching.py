"""Large images block by block, each object counted once by the block that owns it.

Blocks overlap by a halo, so that every object is seen whole by the block its middle lies in; that block owns it and
draws it, also where it reaches into a neighbour (StarDist's rule, here by the middle of the bounding box). Two blocks
may see outlines that differ by a pixel and each put the middle into the other: what is seen so close to a border is
kept, and drawn at the end where no block has drawn it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from image2reg.images.tiling import block_boxes

if TYPE_CHECKING:
    from collections.abc import Callable

    from image2reg.images.tiling import Box

__all__ = ["label_blocks"]

Labels = NDArray[np.int32]

# An object of which a neighbour's objects cover more than this is the neighbour's, seen twice.
_SEEN_TWICE = 0.5
# How far beyond its border a block still keeps objects in case their owner sees them elsewhere: pixels, and share of
# the halo.
_BEYOND_PX, _BEYOND_SHARE = 3.0, 1 / 30


def label_blocks(
    label: Callable[[Box], Labels],
    shape: tuple[int, int],
    *,
    block: int,
    halo: int,
    progress: Callable[[int, int], None] | None = None,
) -> Labels:
    """Label an image block by block.

    Parameters
    ----------
    label : callable
        ``label(box) -> (*box) int32`` of a window of the image, background 0.
    shape : (Y, X)
    block : int
        Side of a block; an image of at most this size on both sides is labelled at once.
    halo : int
        What a window adds to its block on every side, at least the size of the largest object.
    progress : callable, optional
        ``progress(n_blocks_done, n_blocks)``.

    Returns
    -------
    (Y, X) int32
        Objects 1, 2, … without gaps. Beside it, one window, its labels and what lies on borders are held in memory.
    """
    if max(shape) <= block:
        return label((slice(0, shape[0]), slice(0, shape[1])))
    made = np.zeros(shape, dtype=np.int32)
    n_objects, beyond = 0, max(_BEYOND_PX, _BEYOND_SHARE * halo)
    boxes = block_boxes(shape, (block, block))
    spare: list[tuple[NDArray[np.intp], Labels]] = []
    for n_done, box in enumerate(boxes, start=1):
        window = tuple(
            slice(max(0, part.start - halo), min(n, part.stop + halo))
            for part, n in zip(box, shape, strict=True)
        )
        labels = label(window)
        middle = _middles(labels, window)
        start, stop = np.array([(part.start, part.stop) for part in box]).T
        inside = ((middle >= start) & (middle < stop)).all(axis=1)
        reached = ((middle >= start - beyond) & (middle < stop + beyond)).all(axis=1)
        made[window], n_objects = _drawn(np.where(inside[labels], labels, 0), made[window], n_objects)
        row, column = np.nonzero((reached & ~inside)[labels])
        where = np.ravel_multi_index((row + window[0].start, column + window[1].start), shape)
        spare.append((where, labels[row, column]))
        if progress is not None:
            progress(n_done, len(boxes))
    flat = made.reshape(-1)
    for where, found in spare:
        flat[where], n_objects = _drawn(found, flat[where], n_objects)
    return made


def _drawn(found: Labels, there: Labels, n_objects: int) -> tuple[Labels, int]:
    """Draw the objects of `found` that are not mostly `there` already, numbered on from `n_objects`; and count."""
    free = there == 0
    area, uncovered = np.bincount(found.ravel()), np.bincount(found.ravel(), weights=free.ravel())
    keep = uncovered > (1 - _SEEN_TWICE) * area
    keep[:1] = False
    number = np.where(keep, n_objects + np.cumsum(keep), 0).astype(np.int32)
    return np.where(free, number[found], there), n_objects + int(keep.sum())


def _middles(labels: Labels, window: Box) -> NDArray[np.float64]:
    """Give the middle of each label's bounding box in the image, (labels + 1, 2); NaN for what is no object."""
    middle = np.full((int(labels.max()) + 1, 2), np.nan)
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is not None:
            middle[number] = [
                w.start + (f.start + f.stop - 1) / 2 for f, w in zip(found, window, strict=True)
            ]
    return middle
