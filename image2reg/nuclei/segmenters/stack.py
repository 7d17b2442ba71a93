"""Stacks: planes are segmented one by one and what overlaps from plane to plane becomes one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from image2reg.errors import DataError
from image2reg.nuclei.segmenters.interface import Measuring, diameter_in_pixels

if TYPE_CHECKING:
    from image2reg.nuclei.segmenters.interface import Segmenter, VoxelSize

__all__ = ["link_planes", "segment_stack"]

Labels = NDArray[np.int32]

# Along Z a nucleus ends where its brightness above its plane's dark end (percentile) falls to this share of that in its
# brightest plane. Each plane is segmented at its own brightness, and finds the blur of nuclei that lie above or below.
_EDGE, _DARK = 0.35, 5.0


def segment_stack(
    segmenter: Segmenter,
    stack: ArrayLike,
    *,
    diameter_px: float | None = None,
    diameter_um: float | None = None,
    voxel_um: VoxelSize = None,
    min_planes: int = 2,
    min_iou: float = 0.25,
) -> Labels:
    """Label the nuclei of a stack; of a stain, each as far along Z as it is a third as bright as at its brightest.

    Parameters
    ----------
    segmenter : Segmenter
    stack : (Z, Y, X), any real dtype
    diameter_px, diameter_um, voxel_um
        As in `Segmenter.segment`. Without any, the size is measured on the brightest plane and kept for all, where the
        segmenter can measure.
    min_planes : int
        Objects found in fewer planes are noise; as many as there are planes, where there are fewer.
    min_iou : float
        Overlap from which outlines of neighbouring planes are one object.

    Returns
    -------
    (Z, Y, X) int32

    Raises
    ------
    DataError
        Not a stack, or what `Segmenter.segment` refuses.
    """
    values = np.asarray(stack)
    if values.ndim != 3 or values.size == 0:
        raise DataError(f"segment_stack: the stack has shape {values.shape}; needed is (Z, Y, X).")
    size: dict[str, Any] = {"diameter_px": diameter_px, "diameter_um": diameter_um, "voxel_um": voxel_um}
    if diameter_in_pixels(**size) is None and isinstance(segmenter, Measuring):
        brightest = max(range(len(values)), key=lambda z: float(np.percentile(values[z], 99)))
        size["diameter_px"] = segmenter.measure_diameter(values[brightest])
    planes = [segmenter.segment(plane, **size) for plane in values]
    shown = None if getattr(segmenter, "label_free", False) else values
    return link_planes(np.stack(planes), shown, min_planes=min(min_planes, len(values)), min_iou=min_iou)


def link_planes(
    planes: Labels, stack: NDArray[Any] | None = None, *, min_planes: int = 2, min_iou: float = 0.25
) -> Labels:
    """Link the objects of neighbouring planes that are each other's best overlap, of equal ones the first.

    Parameters
    ----------
    planes : (Z, Y, X) int32
        Labels of each plane by itself; the same number in two planes means nothing.
    stack : (Z, Y, X), optional
        Bright objects: where one is dimmer than a third of its brightest plane it is blur from there, and none.
    min_planes, min_iou
        As in `segment_stack`.

    Returns
    -------
    (Z, Y, X) int32
        Objects 1, 2, … without gaps.

    Examples
    --------
    >>> link_planes(np.array([[[1, 0, 2]], [[2, 0, 0]]], dtype=np.int32), min_planes=1).tolist()
    [[[1, 0, 2]], [[1, 0, 0]]]
    """
    counts = planes.reshape(len(planes), -1).max(axis=1)
    first = np.concatenate([[0], np.cumsum(counts)])
    unique = np.where(planes > 0, planes + first[:-1, None, None], 0)
    n_pieces = int(first[-1])
    area = np.bincount(unique.ravel(), minlength=n_pieces + 1)
    upper, lower = unique[:-1].ravel(), unique[1:].ravel()
    both = (upper > 0) & (lower > 0)
    shared = sparse.coo_matrix(
        (np.ones(int(both.sum())), (upper[both], lower[both])), (n_pieces + 1,) * 2
    ).tocsr()
    pairs = shared.tocoo()
    iou = pairs.data / (area[pairs.row] + area[pairs.col] - pairs.data)
    linked = (iou >= min_iou) & _best(pairs.row, pairs.col, iou) & _best(pairs.col, pairs.row, iou)
    links = pairs.row[linked], pairs.col[linked]
    chain = _chains(*links, n_pieces)
    thickness = np.bincount(chain[1:], minlength=int(chain.max()) + 1)
    present = (area > 0) & (thickness[chain] >= min_planes)
    if stack is not None:
        light = np.concatenate(
            [[0.0], *(_light(*plane) for plane in zip(planes, stack, counts, strict=True))]
        )
        brightest = np.full(thickness.size, -np.inf)
        np.maximum.at(brightest, chain[1:], light[1:])
        present &= light >= np.where(brightest > 0, _EDGE * brightest, -np.inf)[chain]
        kept = present[links[0]] & present[links[1]]
        chain = _chains(links[0][kept], links[1][kept], n_pieces)
    present[0] = False
    number = np.unique(chain[present], return_inverse=True)[1]
    table = np.zeros(n_pieces + 1, dtype=np.int32)
    table[present] = number + 1
    return table[unique]


def _light(labels: Labels, plane: NDArray[Any], n: int) -> NDArray[np.float64]:
    """Give the mean brightness of the objects 1 … n of a plane above its dark end; 0 for numbers that none has."""
    sums = np.bincount(labels.ravel(), plane.ravel(), n + 1)
    area = np.bincount(labels.ravel(), minlength=n + 1)
    mean = sums / np.maximum(area, 1) - float(np.percentile(plane, _DARK))
    return np.where(area > 0, mean, 0.0)[1:]


def _chains(upper: NDArray[np.integer], lower: NDArray[np.integer], n: int) -> NDArray[np.intp]:
    """Give the number of the chain that links make of each of the pieces 0 … n."""
    graph = sparse.coo_matrix((np.ones(upper.size), (upper, lower)), (n + 1,) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], np.intp)


def _best(
    own: NDArray[np.integer], other: NDArray[np.integer], iou: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Mark one pair of each `own`: that of the largest overlap, the lowest `other` among equals."""
    order = np.lexsort((other, -iou, own))
    best = np.zeros(own.size, dtype=bool)
    best[order[np.diff(own[order], prepend=-1) > 0]] = True
    return best
