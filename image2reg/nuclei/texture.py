"""Haralick's texture features of all nuclei at once, without building a co-occurrence matrix per nucleus."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ConfigurationError
from image2reg.nuclei.regions import sort_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["GREY_LEVELS", "grey_levels", "measure_texture"]

GREY_LEVELS = 256

Columns = dict[str, "NDArray[np.float64]"]


def grey_levels(regions: Regions, values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Give each pixel one of 256 levels between its own nucleus's darkest and brightest pixel.

    Texture then says how brightness is arranged, whatever the exposure; the intensity features say how bright it is.
    A nucleus of one value is level 0 throughout.
    """
    low, high = regions.lowest(values), regions.highest(values)
    scale = np.divide(GREY_LEVELS - 1, high - low, out=np.zeros(regions.n), where=high > low)
    return np.rint((values - low[regions.region]) * scale[regions.region]).astype(np.uint8)


def measure_texture(
    regions: Regions, levels: NDArray[np.uint8], *, scales: Sequence[int] = (1, 3)
) -> Columns:
    """Measure the thirteen features per direction and scale.

    Parameters
    ----------
    regions : Regions
    levels : (pixels,) uint8
        From `grey_levels`.
    scales : sequence of int
        Distances between the two pixels of a pair, in pixels, 1 to the margin of `regions`.

    Returns
    -------
    dict of (n,) float64
        ``Contrast_{scale}_{direction}_256`` and so on, without ``Nuclei_Texture_`` and the channel (which
        goes before the scale); directions 00 … 03 in a plane, 00 … 12 in a volume. NaN for a nucleus with no pair.

    Raises
    ------
    ConfigurationError
        A scale outside these.

    Notes
    -----
    Haralick, Shanmugam & Dinstein, IEEE Transactions on Systems, Man and Cybernetics 3:610 (1973), symmetric matrices;
    logarithms to base 2, as CellProfiler has them. Pairs leave no nucleus. Sums over pairs give the moments; entropies
    come from counts of equal pairs after one sort.
    """
    if not all(1 <= scale <= regions.margin for scale in scales):
        raise ConfigurationError(
            f"texture scales are {list(scales)} pixels; allowed are 1 to {regions.margin}, the regions' margin. "
            "Leave the others out, or pass margin= to Regions."
        )
    table = regions.map(levels).reshape(-1)
    found: Columns = {}
    for scale in scales:
        for direction, step in enumerate(_directions(regions.ndim, scale)):
            inside = regions.same(step)
            first, region = levels[inside], regions.region[inside]
            second = table[regions.index[inside] + regions.offset(step)]
            for name, column in _haralick(first, second, region, regions.n):
                found[f"{name}_{scale}_{direction:02d}_{GREY_LEVELS}"] = column
    return found


def _directions(ndim: int, scale: int) -> list[tuple[int, ...]]:
    """One of each pair of opposite neighbours, times the scale."""
    steps = [s for s in itertools.product((-1, 0, 1), repeat=ndim) if s > (0,) * ndim]
    return [tuple(scale * part for part in step) for step in steps]


def _haralick(
    first: NDArray[np.uint8], second: NDArray[np.uint8], region: NDArray[np.int64], n: int
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    a, b = first.astype(np.int64), second.astype(np.int64)
    differences = _histograms(np.abs(a - b), region, n, GREY_LEVELS)
    # of one pixel of a pair: the same for both, because pairs count both ways
    single = _histograms(a, region, n, GREY_LEVELS) + _histograms(b, region, n, GREY_LEVELS)
    sums = _histograms(a + b, region, n, 2 * GREY_LEVELS)
    number = differences.sum(axis=1)
    pairs = np.where(number > 0, number, np.nan)
    level = np.arange(2 * GREY_LEVELS, dtype=np.float64)
    sum_mean, sum_square = (sums @ np.stack([level, level**2], axis=1)).T / pairs
    level = level[:GREY_LEVELS]
    distance, square, near = (differences @ np.stack([level, level**2, 1 / (1 + level**2)], axis=1)).T / pairs
    variance = single @ level**2 / (2 * pairs) - (sum_mean / 2) ** 2
    marginal = _entropy(single, 2 * pairs)
    squares, joint = _joint(a, b, region, number, differences[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        yield "AngularSecondMoment", squares
        yield "Contrast", square
        yield "Correlation", np.where(variance > 0, 1 - square / (2 * variance), 1 + 0 * pairs)
        yield "Variance", variance
        yield "InverseDifferenceMoment", near
        yield "SumAverage", sum_mean
        yield "SumVariance", sum_square - sum_mean**2
        yield "SumEntropy", _entropy(sums, pairs)
        yield "Entropy", joint
        yield "DifferenceVariance", square - distance**2
        yield "DifferenceEntropy", _entropy(differences, pairs)
        # the entropy of independent pixels is twice the marginal one
        yield "InfoMeas1", np.where(marginal > 0, (joint - 2 * marginal) / marginal, 0 * pairs)
        yield "InfoMeas2", np.sqrt(np.clip(1 - np.exp(-2 * (2 * marginal - joint)), 0, None))


def _histograms(
    values: NDArray[np.int64], region: NDArray[np.int64], n: int, width: int
) -> NDArray[np.int64]:
    """Count the values 0 … width - 1 of each region, (n, width)."""
    return np.bincount(region * width + values, minlength=n * width).reshape(n, width)


def _entropy(counts: NDArray[np.int64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy in bits of each row of a histogram."""
    return np.abs(np.log2(totals) - _times_log(counts).sum(axis=1) / totals)  # never -0


def _joint(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    region: NDArray[np.int64],
    number: NDArray[np.int64],
    alike: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of squares and entropy of the symmetric co-occurrence matrix, of `number` pairs, `alike` on its diagonal.

    A pair of different levels is two cells of half the count each. Most cells hold one pair; those are summed without
    being looked at, and only cells of more are.
    """
    keys = sort_pieces(((np.minimum(a, b) << 8) | np.maximum(a, b)).astype(np.uint16), number)
    begins = np.ones(len(keys) + 1, bool)
    begins[1:-1] = (keys[1:] != keys[:-1]) | (region[1:] != region[:-1])
    begins = np.flatnonzero(begins)
    counts = np.diff(begins)
    several = np.flatnonzero(counts > 1)
    first, counts = begins[several], counts[several]
    owner, key = region[first], keys[first]
    weight = np.where((key >> 8) != (key & 255), 0.5, 1.0)
    pairs = np.where(number > 0, number, np.nan)
    squares = (number + alike) / 2 + np.bincount(owner, counts * (counts - 1) * weight, len(number))
    logs = np.bincount(owner, _times_log(counts), len(number)) - (number - alike)
    return squares / pairs**2, np.abs(np.log2(pairs) - logs / pairs)


def _times_log(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Multiply each count by its logarithm, looked up: counts are small and many."""
    numbers = np.arange(int(counts.max(initial=0)) + 1, dtype=np.float64)
    return (numbers * np.log2(np.maximum(numbers, 1)))[counts]
