"""Chromatin condensation spots: small bright foci inside nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["measure_spots"]


def measure_spots(
    regions: Regions,
    values: NDArray[np.float64],
    *,
    sigma_px: float = 1.0,
    contrast: float = 0.05,
) -> dict[str, NDArray[np.float64]]:
    """Count bright spots of each nucleus and what they hold.

    Parameters
    ----------
    regions : Regions
    values : (pixels,) float64
        A DNA stain above its background.
    sigma_px : float
        Scale of the spots: their radius is about 1.4 times it.
    contrast : float
        How strongly a spot must curve, in mean nuclear intensities per squared pixel, times ``sigma_px`` squared.

    Returns
    -------
    dict of (n,) float64
        ``SpotCount``; ``SpotAreaFraction`` (RCA: spots' area over the nucleus's); ``SpotIntensityRatio`` (RCI: mean
        brightness in spots over that outside; NaN without a spot). All NaN where a nucleus is not above the background.

    Notes
    -----
    A pixel is part of a spot where the largest eigenvalue of the Hessian at `sigma_px` is below minus the contrast: the
    image curves down in every direction (the SoRa epigenetic-profiling study segments condensed chromatin by the same
    eigenvalue). Spots are counted by their lowest points, so that touching ones count apart. Outside nuclei the image
    is continued by each nucleus's mean, which keeps the outline from looking like an edge.
    """
    mean = regions.mean(values)
    lit = mean > 0
    unit = np.where(lit, mean, np.inf)  # a nucleus no brighter than the background is flat, and has NaN
    picture = regions.map(values / unit[regions.region])
    picture[regions.padded == 0] = 1.0
    eigen = _largest_eigenvalue(picture, sigma_px) * sigma_px**2
    deep = (eigen < -contrast) & (regions.padded > 0)
    lowest = (eigen == ndimage.minimum_filter(eigen, size=3)) & deep
    inside, peak = (mask.reshape(-1)[regions.index].astype(float) for mask in (deep, lowest))
    area, bright = regions.total(inside), regions.total(values * inside)
    rest = regions.counts - area
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (bright / area) / ((regions.total(values) - bright) / rest)
    return {
        "SpotCount": np.where(lit, regions.total(peak), np.nan),
        "SpotAreaFraction": np.where(lit, area / regions.counts, np.nan),
        "SpotIntensityRatio": np.where(lit & (area > 0) & (rest > 0), ratio, np.nan),
    }


def _largest_eigenvalue(picture: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    if picture.ndim == 2:
        yy, yx, xx = (ndimage.gaussian_filter(picture, sigma, order=o) for o in ((2, 0), (1, 1), (0, 2)))
        found: NDArray[np.float64] = (yy + xx) / 2 + np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
        return found
    matrix = np.empty((*picture.shape, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            order = [int(axis == i) + int(axis == j) for axis in range(3)]
            matrix[..., i, j] = matrix[..., j, i] = ndimage.gaussian_filter(picture, sigma, order=order)
    largest: NDArray[np.float64] = np.linalg.eigvalsh(matrix)[..., -1]
    return largest
