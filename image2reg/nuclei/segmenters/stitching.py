"""Large images block by block, each object counted once by the block that owns it.

Blocks overlap by a halo, so that every object is seen whole by the block its middle lies in; that block owns it and
draws it, also where it reaches into a neighbour (StarDist's rule, here by the middle of the bounding box).
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
        Objects 1, 2, … without gaps. Beside it, one window and its labels are held in memory.
    """
    if max(shape) <= block:
        return label((slice(0, shape[0]), slice(0, shape[1])))
    made = np.zeros(shape, dtype=np.int32)
    n_objects = 0
    boxes = block_boxes(shape, (block, block))
    for n_done, box in enumerate(boxes, start=1):
        window = tuple(
            slice(max(0, part.start - halo), min(n, part.stop + halo))
            for part, n in zip(box, shape, strict=True)
        )
        found = _owned(label(window), window, box)
        there = made[window]
        area = np.bincount(found.ravel())
        free = np.bincount(found.ravel(), weights=(there == 0).ravel())
        keep = free > (1 - _SEEN_TWICE) * area
        keep[0] = False
        number = np.where(keep, n_objects + np.cumsum(keep), 0).astype(np.int32)
        draw = (there == 0) & keep[found]
        there[draw] = number[found[draw]]
        n_objects += int(keep.sum())
        if progress is not None:
            progress(n_done, len(boxes))
    return made


def _owned(labels: Labels, window: Box, block: Box) -> Labels:
    """Keep the objects whose bounding box has its middle in the block."""
    keep = np.zeros(int(labels.max()) + 1, dtype=bool)
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is not None:
            middle = [w.start + (f.start + f.stop - 1) / 2 for f, w in zip(found, window, strict=True)]
            keep[number] = all(b.start <= m < b.stop for m, b in zip(middle, block, strict=True))
    return np.where(keep[labels], labels, 0)
