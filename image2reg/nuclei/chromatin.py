"""How condensed the chromatin is, how much of it lies at the lamina, and how the nuclear outline bends."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["measure_condensation", "measure_outline"]

Columns = dict[str, "NDArray[np.float64]"]
# Radius, in pixels, of the disc that measures how the outline bends.
_REACH = 5
# Bent inwards by more than the pixel grid does to a straight line, 1 / pixel.
_CONCAVE = -0.05


def measure_condensation(
    regions: Regions,
    values: NDArray[np.float64],
    ordered: NDArray[np.float32],
    edge: NDArray[np.bool_],
    *,
    background: float = 0.0,
) -> Columns:
    """Ratios of bright to dim chromatin.

    Parameters
    ----------
    regions, values, ordered, edge
        As for `image2reg.nuclei.intensity.measure_intensity`; a DNA stain.
    background : float
        Level of the empty field, subtracted for the ratios to be comparable between exposures.

    Returns
    -------
    dict of (n,) float64
        ``P80P20Ratio`` (intensity at the 80th over that at the 20th percentile), ``P80P20AreaRatio`` (pixels at or
        above the one over pixels at or below the other), and for heterochromatin (HC, brighter than mean + 1 sd;
        the rest is EC): ``HCtoECAreaRatio``, ``HCAreaFraction``, ``HCtoECContentRatio``, ``HCContentFraction``;
        ``EdgeToInteriorRatio`` of the mean intensities; ``CoefficientOfVariation``. NaN where the divisor is 0.

    Notes
    -----
    Definitions of Venkatachalapathy, Jokhun & Shivashankar (Molecular Biology of the Cell 31:1392, 2020) and the
    chromatin features after it.
    """
    # counted before the subtraction, as float32 like the sorted values, so that equal pixels compare equal
    rounded = values.astype(np.float32)
    low, high = (regions.quantile(ordered, share).astype(np.float32) for share in (0.2, 0.8))
    at_least, at_most = rounded >= high[regions.region], rounded <= low[regions.region]
    values, ordered = values - background, ordered - background
    mean = regions.mean(values)
    spread = np.sqrt(regions.mean((values - mean[regions.region]) ** 2))
    bright = values > (mean + spread)[regions.region]
    area, content = regions.total(bright), regions.total(values * bright)
    total = regions.total(values)
    size = regions.counts.astype(np.float64)
    rim, rim_size = regions.total(values * edge), regions.total(edge)
    return {
        "P80P20Ratio": _ratio(regions.quantile(ordered, 0.8), regions.quantile(ordered, 0.2)),
        "P80P20AreaRatio": _ratio(regions.total(at_least), regions.total(at_most)),
        "HCtoECAreaRatio": _ratio(area, size - area),
        "HCAreaFraction": area / size,
        "HCtoECContentRatio": _ratio(content, total - content),
        "HCContentFraction": _ratio(content, total),
        "EdgeToInteriorRatio": _ratio(rim / rim_size, _ratio(total - rim, size - rim_size)),
        "CoefficientOfVariation": _ratio(spread, mean),
    }


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below != 0)


def measure_outline(regions: Regions) -> Columns:
    """Curvature along the outline: mean, spread, extremes and the share that is concave.

    Returns
    -------
    dict of (n,) float64
        ``CurvatureMean``, ``CurvatureStd``, ``CurvatureMin``, ``CurvatureMax`` in 1 / X pixel, positive where convex
        (1 / radius for a circle much larger than 5 px); ``ConcaveFraction``, the outline's pixels below -0.05.

    Notes
    -----
    Integral invariant (Manay et al., IEEE Transactions on Pattern Analysis and Machine Intelligence 28:1602, 2006):
    what part of a small disc around an outline pixel lies inside tells the curvature there, with no need to walk along
    contours. Pixel centres lie half a pixel inside the outline; the disc's half is corrected for that. In a volume,
    planes are measured one by one.
    """
    steps = [
        s
        for s in itertools.product(range(-_REACH, _REACH + 1), repeat=2)
        if s[0] ** 2 + s[1] ** 2 <= _REACH**2
    ]
    edge = regions.edge(in_plane=True)
    label = regions.region[edge].astype(np.int32) + 1
    table, chosen = regions.padded.reshape(-1), regions.index[edge]
    flat = (0,) * (regions.ndim - 2)
    covered = np.zeros(len(chosen))
    for step in steps:
        covered += table[chosen + regions.offset((*flat, *step))] == label
    covered *= math.pi * _REACH**2 / len(steps)
    half = math.pi * _REACH**2 / 2 + _REACH
    curvature = 3 * (half - covered) / _REACH**3
    region = regions.region[edge]
    counts = np.bincount(region, minlength=regions.n)
    starts = np.cumsum(counts) - counts
    mean = np.bincount(region, curvature, regions.n) / counts
    return {
        "CurvatureMean": mean,
        "CurvatureStd": np.sqrt(np.bincount(region, (curvature - mean[region]) ** 2, regions.n) / counts),
        "CurvatureMin": np.minimum.reduceat(curvature, starts),
        "CurvatureMax": np.maximum.reduceat(curvature, starts),
        "ConcaveFraction": np.bincount(region, curvature < _CONCAVE, regions.n) / counts,
    }
