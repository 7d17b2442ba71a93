"""How bright nuclei are, where the brightness lies, and how bright the ring around each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["measure_intensity", "measure_ring"]

Columns = dict[str, "NDArray[np.float64]"]


def measure_intensity(
    regions: Regions, values: NDArray[np.float64], ordered: NDArray[np.float32], edge: NDArray[np.bool_]
) -> Columns:
    """Measure sums, spread, quantiles and the centre of brightness.

    Parameters
    ----------
    regions : Regions
    values : (pixels,) float64
        One channel, in the image's units.
    ordered : (pixels,) float32
        ``regions.sort_within(values)``.
    edge : (pixels,) bool
        ``regions.edge()``.

    Returns
    -------
    dict of (n,) float64
        CellProfiler names without ``Nuclei_Intensity_`` and the channel. Standard deviations are of the population;
        `MassDisplacement` is the distance of the centre of brightness from that of the mask, in X pixels (NaN where
        the brightness sums to zero).
    """
    mean, total = regions.mean(values), regions.total(values)
    median = regions.quantile(ordered, 0.5)
    away = np.abs(values - median[regions.region])
    found = {
        "IntegratedIntensity": total,
        "MeanIntensity": mean,
        "StdIntensity": np.sqrt(regions.mean((values - mean[regions.region]) ** 2)),
        "MinIntensity": regions.lowest(values),
        "MaxIntensity": regions.highest(values),
        "MedianIntensity": median,
        "MADIntensity": regions.quantile(regions.sort_within(away), 0.5),
        "LowerQuartileIntensity": regions.quantile(ordered, 0.25),
        "UpperQuartileIntensity": regions.quantile(ordered, 0.75),
    }
    shift = np.zeros(regions.n)
    for axis, length in zip(regions.local, regions.aspect, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            weighted = regions.total(axis * values) / total
        shift += ((weighted - regions.mean(axis)) * length) ** 2
    found["MassDisplacement"] = np.sqrt(np.where(np.isfinite(shift), shift, np.nan))
    return found | {
        f"{name}IntensityEdge": column for name, column in _of_edge(regions, values, edge).items()
    }


def _of_edge(regions: Regions, values: NDArray[np.float64], edge: NDArray[np.bool_]) -> Columns:
    chosen, region = values[edge], regions.region[edge]
    counts = np.bincount(region, minlength=regions.n)  # every region has an edge
    starts = np.cumsum(counts) - counts
    mean = np.bincount(region, chosen, regions.n) / counts
    return {
        "Integrated": mean * counts,
        "Mean": mean,
        "Std": np.sqrt(np.bincount(region, (chosen - mean[region]) ** 2, regions.n) / counts),
        "Min": np.minimum.reduceat(chosen, starts),
        "Max": np.maximum.reduceat(chosen, starts),
    }


def measure_ring(
    regions: Regions,
    plane: NDArray[np.float64],
    ring: tuple[NDArray[np.int64], NDArray[np.int64]],
    background: float,
) -> Columns:
    """Brightness of the ring around each nucleus, and of the nucleus in terms of it.

    Parameters
    ----------
    regions : Regions
    plane : image of one channel, as large as the labels
    ring : (pixels in rings,) positions in the image and region of each, as `image2reg.nuclei.rings.rings_around` gives
    background : float
        Level of the empty field, subtracted on both sides of the ratio.

    Returns
    -------
    dict of (n,) float64
        `MeanIntensity`, `StdIntensity` of the ring (NaN where a nucleus has no free pixel around it) and
        `NucleusToRing`, the ratio of the means above `background`; NaN where the ring is not brighter than that.
    """
    where, region = ring
    values = plane.reshape(-1)[where].astype(np.float64)
    counts = np.bincount(region, minlength=regions.n)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(region, values, regions.n) / counts
        spread = np.sqrt(np.bincount(region, (values - mean[region]) ** 2, regions.n) / counts)
        nucleus = regions.mean(plane.reshape(-1)[regions.inside].astype(np.float64))
        ratio = np.where(mean > background, (nucleus - background) / (mean - background), np.nan)
    return {"MeanIntensity": mean, "StdIntensity": spread, "NucleusToRing": ratio}
