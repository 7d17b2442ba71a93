"""The pixels of all labelled nuclei as one sorted list: what makes every measure a sum over slices, not a loop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from image2reg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "MARGIN",
    "Regions",
    "dense_labels",
    "refuse_beyond_int64",
    "refuse_black_and_white",
    "sort_pieces",
]

# Background around an image, pixels: enough for every measure but textures of a larger scale.
MARGIN = 12


def dense_labels(labels: NDArray[Any], where: str = "labels") -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Renumber labels to 1 … n without gaps.

    Parameters
    ----------
    labels : (Y, X) or (Z, Y, X) integer
        0 is background.
    where : str
        File that messages name.

    Returns
    -------
    dense : int32, shape of `labels`
    ids : (n,) int64
        The label numbers as given, ascending.

    Raises
    ------
    DataError
        Other dimensions, values that are not whole numbers, negative ones, or ones beyond int64.
    """
    labels = np.asarray(labels)
    if labels.ndim not in (2, 3):
        raise DataError(f"{where}: labels have shape {labels.shape}; allowed are (Y, X) and (Z, Y, X).")
    if labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{where}: labels are {labels.dtype}; whole numbers are needed, 0 for background. Segment again, or "
            "convert the file."
        )
    if labels.size and int(labels.min()) < 0:
        raise DataError(f"{where}: the lowest label is {int(labels.min())}; labels start at 0 (background).")
    refuse_beyond_int64(labels, where)
    largest = int(labels.max(initial=0))
    if largest < 16 * labels.size:
        present = np.zeros(largest + 1, bool)
        present[labels.reshape(-1)] = True
        present[0] = False
        ids = np.flatnonzero(present)
        numbers = np.zeros(largest + 1, np.int32)
        numbers[ids] = np.arange(1, len(ids) + 1)
        return numbers[labels], ids.astype(np.int64)
    ids = np.unique(labels)
    ids = ids[ids > 0]
    found = np.searchsorted(ids, labels) + 1
    return np.where(labels > 0, found, 0).astype(np.int32), ids.astype(np.int64)


def refuse_beyond_int64(labels: NDArray[Any], where: str) -> None:
    """Refuse unsigned numbers that int64, in which labels are listed, cannot hold.

    Raises
    ------
    DataError
    """
    if labels.dtype == np.uint64 and labels.size and (largest := int(labels.max())) >= 2**63:
        raise DataError(
            f"{where}: the largest label is {largest}; allowed are numbers below 2**63. Number the objects anew, for "
            "instance with skimage.segmentation.relabel_sequential."
        )


def refuse_black_and_white(labels: NDArray[Any], where: str) -> None:
    """Refuse a mask of nuclei that all have one number: it would be measured as one nucleus.

    One number on three or more separate pieces that are not specks, of at least a tenth of the largest, is such a mask.

    Raises
    ------
    DataError
    """
    inside = labels > 0
    if not inside.any() or (numbers := labels[inside]).min() != numbers.max():
        return
    pieces, _ = ndimage.label(inside, np.ones((3,) * labels.ndim))
    size = np.bincount(pieces.ravel())[1:]
    if (n := int((size >= size.max() / 10).sum())) > 2:
        raise DataError(
            f"{where}: {n} separate pieces all have the number {int(numbers[0])}, as in a black-and-white mask; labels "
            "give each nucleus a number of its own. Number the pieces, for instance with skimage.measure.label (nuclei "
            "that touch stay one), or segment the image (image2reg segment)."
        )


def sort_pieces(values: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """Sort each of consecutive pieces ascending.

    Parameters
    ----------
    values : (total,) unsigned or float
        No NaN.
    lengths : (pieces,) int64

    Notes
    -----
    Pieces of alike length (within a power of two) are rows of one array: short rows sort several times faster than one
    list with the piece in its keys, and one long piece does not widen the rows of the others.
    """
    ordered = np.empty_like(values)
    last = np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    size = np.frexp(lengths)[1]
    for one in np.unique(size[lengths > 0]):
        alike = size == one
        where = np.repeat(alike, lengths)
        taken = np.arange(lengths[alike].max()) < lengths[alike, None]
        rows = np.full(taken.shape, last, values.dtype)
        rows[taken] = values[where]
        rows.sort(axis=1)
        ordered[where] = rows[taken]
    return ordered


class Regions:
    """Labelled pixels, sorted by label, with fast sums, extremes, quantiles and neighbours per region.

    Parameters
    ----------
    labels : (Y, X) or (Z, Y, X) integer
        0 is background; numbers may have gaps. Regions need not be connected.
    aspect : sequence of float, optional
        Length of a voxel along each axis in units of the X voxel; ones when not given.
    margin : int
        See below.
    where : str
        File that messages name.

    Attributes
    ----------
    ids : (n,) int64
        Label numbers.
    region : (pixels,) int64
        Position in `ids` of each pixel, ascending.
    index : (pixels,) int64
        Flat position of each pixel in `padded`.
    inside : (pixels,) int64
        Flat position in the image.
    padded : int32
        Labels 1 … n with `margin` background pixels on all sides.
    margin : int
        How far a measure may look beyond a pixel; offsets up to this never leave `padded`.
    local : (axes, pixels) int64
        Coordinates from the corner of the region's bounding box.
    low, high : (axes, n) int64
        Bounding box, high excluded.
    """

    def __init__(
        self,
        labels: NDArray[Any],
        *,
        aspect: Sequence[float] | None = None,
        margin: int = MARGIN,
        where: str = "labels",
    ) -> None:
        dense, self.ids = dense_labels(labels, where)
        self.margin = margin
        self.shape, self.ndim, self.n = dense.shape, dense.ndim, len(self.ids)
        self.aspect = tuple(aspect or (1.0,) * dense.ndim)
        self.padded = np.pad(dense, margin)
        found = np.flatnonzero(self.padded)
        numbers = self.padded.reshape(-1)[found]
        # uint16 sorts by radix, in linear time
        order = np.argsort(numbers.astype(np.uint16) if self.n < 2**16 else numbers, kind="stable")
        self.index = found[order]
        self._number = numbers[order]
        self.region = self._number.astype(np.int64) - 1
        self.counts = np.bincount(self.region, minlength=self.n)
        self.starts = np.cumsum(self.counts) - self.counts
        coordinates = np.stack(np.unravel_index(self.index, self.padded.shape)) - margin
        self.inside = np.ravel_multi_index(tuple(coordinates), self.shape)
        self.low = np.stack([self.lowest(axis) for axis in coordinates])
        self.high = np.stack([self.highest(axis) for axis in coordinates]) + 1
        self.local = coordinates - self.low[:, self.region]
        self._same: dict[tuple[int, ...], NDArray[np.bool_]] = {}

    def __len__(self) -> int:
        """Count the regions."""
        return self.n

    def total(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum per region of (pixels,) values, (n,) float64."""
        if not self.n:
            return np.zeros(0)
        summed: NDArray[np.float64] = np.add.reduceat(values, self.starts, dtype=np.float64)
        return summed

    def mean(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Mean per region of (pixels,) values."""
        return self.total(values) / self.counts

    def lowest(self, values: NDArray[Any]) -> NDArray[Any]:
        """Minimum per region."""
        return np.minimum.reduceat(values, self.starts) if self.n else np.zeros(0, values.dtype)

    def highest(self, values: NDArray[Any]) -> NDArray[Any]:
        """Maximum per region."""
        return np.maximum.reduceat(values, self.starts) if self.n else np.zeros(0, values.dtype)

    def offset(self, step: Sequence[int]) -> int:
        """Distance in flat `padded` of a neighbour `step` pixels away along each axis."""
        return int(np.dot(step, [math.prod(self.padded.shape[axis + 1 :]) for axis in range(self.ndim)]))

    def same(self, step: Sequence[int]) -> NDArray[np.bool_]:
        """Whether the neighbour at `step` belongs to the same region, (pixels,)."""
        key = tuple(step)
        if key not in self._same:
            self._same[key] = self.padded.reshape(-1)[self.index + self.offset(key)] == self._number
        return self._same[key]

    def edge(self, *, in_plane: bool = False) -> NDArray[np.bool_]:
        """Pixels with a face neighbour (in the same plane) outside their region; the image border is outside."""
        inner = np.ones(len(self.index), bool)
        for axis in range(self.ndim - 2 if in_plane else 0, self.ndim):
            for side in (-1, 1):
                inner &= self.same([side * (axis == other) for other in range(self.ndim)])
        return ~inner

    def map(self, values: NDArray[Any]) -> NDArray[Any]:
        """Put (pixels,) values into an array like `padded`, 0 elsewhere."""
        made = np.zeros(self.padded.shape, values.dtype)
        made.reshape(-1)[self.index] = values
        return made

    def sort_within(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Sort (pixels,) finite values ascending within each region; rounded to float32."""
        return sort_pieces(values.astype(np.float32), self.counts)

    def quantile(self, ordered: NDArray[Any], share: float) -> NDArray[np.float64]:
        """Quantile per region, linear between ranks as `numpy.quantile`, of values from `sort_within`."""
        rank = share * (self.counts - 1)
        below = np.floor(rank).astype(np.int64)
        above = np.minimum(below + 1, self.counts - 1)
        low, high = (ordered[self.starts + at].astype(np.float64) for at in (below, above))
        return low + (rank - below) * (high - low)
