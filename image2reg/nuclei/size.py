"""How large the nuclei of a field are, and the field without those that are too small."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.nuclei.regions import dense_labels

__all__ = ["only", "typical_diameter", "without_small"]


def typical_diameter(labels: ArrayLike) -> float:
    """Give the diameter of the disc with the area of the nucleus that holds the middle pixel; NaN without nuclei.

    Labels are a plane or a volume and may have gaps. Counted by pixel and not by object, so that specks and debris do
    not shrink it.
    """
    area = np.sort(np.bincount(dense_labels(np.asarray(labels))[0].ravel())[1:])
    if not area.any():
        return float("nan")
    return 2 * math.sqrt(float(area[np.searchsorted(np.cumsum(area), area.sum() / 2)]) / math.pi)


def without_small(labels: NDArray[np.integer], smallest_px: float) -> NDArray[np.int32]:
    """Keep the objects of at least `smallest_px` pixels, as 1, 2, … without gaps.

    Examples
    --------
    >>> without_small(np.array([1, 3, 3, 0, 4, 4]), 2).tolist()
    [0, 1, 1, 0, 2, 2]
    """
    return only(labels, np.bincount(labels.ravel()) >= max(1.0, smallest_px))


def only(labels: NDArray[np.integer], keep: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Keep the objects n with ``keep[n]``, as 1, 2, … without gaps; ``keep[0]``, the background's, is not read."""
    number = np.cumsum(keep) - keep[0]
    return np.where(keep & (np.arange(keep.size) > 0), number, 0).astype(np.int32)[labels]
