"""Which objects of two label images share pixels, and how many: one sparse table, without a loop over objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import DataError
from image2reg.nuclei.regions import refuse_beyond_int64

__all__ = ["Overlap", "overlap_table"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Overlap:
    """Pairs of objects that share a pixel, and all objects.

    Attributes
    ----------
    true_labels, true_area, predicted_labels, predicted_area : (objects,)
        Labels as they stand in the two images, ascending, and their pixels.
    row, column, shared, iou : (pairs,)
        Position of a pair's true and predicted object in these, shared pixels, intersection over union;
        in order of row.
    """

    true_labels: Integers
    true_area: Integers
    predicted_labels: Integers
    predicted_area: Integers
    row: Integers
    column: Integers
    shared: Integers
    iou: Floats


def overlap_table(truth: ArrayLike, prediction: ArrayLike) -> Overlap:
    """Compare two label images.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X) integer
        0 is background; ids need not be consecutive.

    Raises
    ------
    DataError
        Shapes differ, or labels are not integers, negative, or beyond int64.
    """
    first, second = _checked_labels(truth, "truth"), _checked_labels(prediction, "prediction")
    if first.shape != second.shape:
        raise DataError(
            f"truth has shape {first.shape}, prediction {second.shape}; they must cover the same pixels."
        )
    true_codes, true_labels, true_area = _sequential(first)
    codes, labels, area = _sequential(second)
    both = (true_codes > 0) & (codes > 0)
    # One integer per pair of labels; only pairs that occur are kept, so the table is sparse.
    pairs, shared = np.unique(
        (true_codes[both] - 1) * max(labels.size, 1) + (codes[both] - 1), return_counts=True
    )
    row, column = np.divmod(pairs, max(labels.size, 1))
    iou = shared / (true_area[row] + area[column] - shared)
    return Overlap(true_labels, true_area, labels, area, row, column, shared, iou)


def _checked_labels(labels: ArrayLike, name: str) -> Integers:
    array = np.asarray(labels)
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_):
        raise DataError(f"{name}: labels are {array.dtype}; needed are integers, 0 for background.")
    if array.size and array.min() < 0:
        raise DataError(f"{name}: smallest label is {array.min()}; labels are 0 (background) or positive.")
    refuse_beyond_int64(array, name)
    return array


def _sequential(labels: Integers) -> tuple[Integers, Integers, Integers]:
    """Codes (0 = background, then 1, 2, … in order of label), the labels, and their areas."""
    flat = labels.ravel().astype(np.int64)
    if not flat.size or flat.max() > 4 * flat.size + 65_536:  # ids far apart: sort instead of a long count
        present, flat = np.unique(flat, return_inverse=True)
        if present.size and present[0] != 0:
            present, flat = np.concatenate([[0], present]), flat + 1
        return flat, present[1:], np.bincount(flat, minlength=present.size)[1:]
    area = np.bincount(flat)
    area[0] = 0
    present = np.flatnonzero(area)
    codes = np.zeros(area.size, dtype=np.int64)
    codes[present] = np.arange(1, present.size + 1)
    return codes[flat], present, area[present]
