"""Statistics of an image's channels from one pass over it, in memory that does not grow with it."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.streaming import chunks_of, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from image2reg.images.image import Image

__all__ = ["QUANTILE_ERROR", "Statistics", "channel_statistics"]

# Mantissa bits of float32 kept in the counts that quantiles come from.
_MANTISSA_BITS = 12
QUANTILE_ERROR = 2.0**-_MANTISSA_BITS


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation, extremes and counts of a set of voxels; two of them merge into one.

    Counts, extremes and quantiles of a merge do not depend on order or grouping; mean and standard
    deviation do in the last digits of float64 only (pairwise update of Chan, Golub and LeVeque 1983).

    Parameters
    ----------
    n : int
        Finite voxels; everything below is about these.
    n_nan, n_inf : int
        Voxels left out.
    mean : float
    m2 : float
        Sum of squared differences from the mean.
    minimum, maximum : float
        NaN when `n` is 0.
    n_at_maximum : int
        Voxels that equal the maximum; many of them mean a saturated detector.
    keys, counts : (k,) uint32, (k,) int64
        Sorted counts by value. Integer types of up to 16 bits keep their value; other values share
        a key with their neighbours within a relative distance of `QUANTILE_ERROR`. At most 2 million keys
        (24 MB).

    Examples
    --------
    >>> import numpy as np
    >>> both = Statistics.of(np.array([1, 2, 3])).merge(Statistics.of(np.array([10.0, np.nan])))
    >>> both.n, both.n_nan, both.mean, both.quantile(0.5)
    (4, 1, 4.0, 2.0)
    """

    n: int = 0
    n_nan: int = 0
    n_inf: int = 0
    mean: float = 0.0
    m2: float = 0.0
    minimum: float = math.nan
    maximum: float = math.nan
    n_at_maximum: int = 0
    keys: NDArray[np.uint32] = dataclasses.field(default_factory=lambda: np.empty(0, np.uint32), repr=False)
    counts: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64), repr=False)

    @classmethod
    def of(cls, values: ArrayLike) -> Statistics:
        """Statistics of an array of any shape; integers or floats."""
        flat = np.asarray(values).ravel()
        if flat.dtype.kind not in "buif":
            raise DataError(
                f"statistics: values of type {flat.dtype} are not numbers; give integers or floats."
            )
        n_nan = n_inf = 0
        if flat.dtype.kind == "f":
            n_nan = int(np.isnan(flat).sum())
            n_inf = int(np.isinf(flat).sum())
            flat = flat[np.isfinite(flat)] if n_nan or n_inf else flat
        if flat.size == 0:
            return cls(n_nan=n_nan, n_inf=n_inf)
        maximum = flat.max()
        if flat.dtype.kind in "bui" and flat.dtype.itemsize <= 2:
            values, counts = _count_integers(flat)
            mean = float(values @ counts / flat.size)
            m2 = float((values - mean) ** 2 @ counts)
            keys = _keys(values, exact=True)
        else:
            mean = float(flat.mean(dtype=np.float64))
            difference = flat - np.float64(mean)
            m2 = float(difference @ difference)
            keys, counts = np.unique(_keys(flat, exact=False), return_counts=True)
        return cls(
            n=flat.size,
            n_nan=n_nan,
            n_inf=n_inf,
            mean=mean,
            m2=m2,
            minimum=float(flat.min()),
            maximum=float(maximum),
            n_at_maximum=int((flat == maximum).sum()),
            keys=keys,
            counts=counts.astype(np.int64),
        )

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both sets together."""
        n_nan, n_inf = self.n_nan + other.n_nan, self.n_inf + other.n_inf
        if not self.n or not other.n:
            filled = self if self.n else other
            return dataclasses.replace(filled, n_nan=n_nan, n_inf=n_inf)
        n, step = self.n + other.n, other.mean - self.mean
        maximum = max(self.maximum, other.maximum)
        keys, inverse = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(keys.size, dtype=np.int64)
        np.add.at(counts, inverse, np.concatenate([self.counts, other.counts]))
        return Statistics(
            n=n,
            n_nan=n_nan,
            n_inf=n_inf,
            mean=self.mean + step * other.n / n,
            m2=self.m2 + other.m2 + step * step * self.n * other.n / n,
            minimum=min(self.minimum, other.minimum),
            maximum=maximum,
            n_at_maximum=sum(part.n_at_maximum for part in (self, other) if part.maximum == maximum),
            keys=keys,
            counts=counts,
        )

    @property
    def sd(self) -> float:
        """Standard deviation with divisor n; NaN for no voxels."""
        return math.sqrt(self.m2 / self.n) if self.n else math.nan

    @property
    def is_constant(self) -> bool:
        """Whether all finite voxels have one value (also when there is none)."""
        return self.n == 0 or self.minimum == self.maximum

    @property
    def saturated_fraction(self) -> float:
        """Share of the finite voxels that equal the maximum."""
        return self.n_at_maximum / self.n if self.n else math.nan

    def quantile(self, q: float) -> float:
        """Smallest value that at least a share `q` of the voxels does not exceed (numpy's ``inverted_cdf``).

        Exact for integers of up to 16 bits, else within a relative error of `QUANTILE_ERROR` = 2**-12
        (0.024 %); never outside minimum and maximum. NaN for no voxels.
        """
        if not 0 <= q <= 1:
            raise DataError(f"statistics: quantile {q} is outside 0..1.")
        if not self.n:
            return math.nan
        # The small tolerance keeps q * n, a product of floats, from stepping over an integer it equals.
        rank = max(1, math.ceil(q * self.n - 1e-9 * self.n))
        key = self.keys[int(np.searchsorted(np.cumsum(self.counts), rank))]
        return min(max(float(_values(np.array([key], dtype=np.uint32))[0]), self.minimum), self.maximum)

    def summary(self, quantiles: Sequence[float] = (0.01, 0.5, 0.99)) -> dict[str, float | int]:
        """Return plain numbers for a table or JSON, quantiles under ``q0.01`` and so on."""
        named: dict[str, float | int] = {"n": self.n, "n_nan": self.n_nan, "n_inf": self.n_inf}
        named |= {"mean": self.mean, "sd": self.sd, "min": self.minimum, "max": self.maximum}
        return named | {f"q{q:g}": self.quantile(q) for q in quantiles}


def _count_integers(flat: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct values, ascending, and how often each occurs; without sorting the voxels."""
    low = int(flat.min())
    counts = np.bincount(flat.astype(np.int64) - low)
    (present,) = np.nonzero(counts)
    return (present + low).astype(np.float64), counts[present]


def _keys(values: NDArray[Any], *, exact: bool) -> NDArray[np.uint32]:
    """Integers that sort as the values do: the bits of float32, flipped (-0 is 0), and cut unless `exact`."""
    with np.errstate(over="ignore"):
        limit = np.finfo(np.float32).max
        bits = np.clip(values.astype(np.float32) + np.float32(0), -limit, limit).view(np.uint32)
    if not exact:
        cut = np.uint32(23 - _MANTISSA_BITS)
        bits = bits >> cut << cut
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))


def _values(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    return np.where(keys >> 31, keys & np.uint32(0x7FFFFFFF), ~keys).astype(np.uint32).view(np.float32)


def channel_statistics(image: Image) -> dict[str, Statistics]:
    """Statistics of every channel over all other axes, piece by piece; a lazy image is not loaded.

    Returns
    -------
    dict of channel name to Statistics
        Channels of one name are merged.
    """
    found = dict.fromkeys(image.channels, Statistics())
    axis = image.axes.find("C")
    for box in pieces(image.shape, image.dtype, chunks_of(image.data)):
        values = np.asarray(image.data[box])
        first = box[axis].start if axis >= 0 else 0
        parts = np.moveaxis(values, axis, 0) if axis >= 0 else values[None]
        for offset, part in enumerate(parts):
            name = image.channels[first + offset]
            found[name] = found[name].merge(Statistics.of(part))
    return found
