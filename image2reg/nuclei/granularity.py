"""Granularity spectrum: how much brightness sits in grains of each size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["RADII", "measure_granularity"]

# Half widths, in pixels, of the squares (cubes) that sieve the grains.
RADII = (1, 2, 4)

Columns = dict[str, "NDArray[np.float64]"]


def measure_granularity(regions: Regions, values: NDArray[np.float64]) -> Columns:
    """Share of the brightness that an opening by each size removes, in per cent.

    Parameters
    ----------
    regions : Regions
    values : (pixels,) float64
        One channel.

    Returns
    -------
    dict of (n,) float64
        ``1``, ``2``, ``4``: by half width of the structuring element, in pixels; NaN for a nucleus without
        brightness above its darkest pixel.

    Notes
    -----
    Pattern spectrum (Maragos, IEEE Transactions on Pattern Analysis and Machine Intelligence 11:701, 1989) of openings
    by squares, where CellProfiler reconstructs after subsampling the field: the numbers are not CellProfiler's. Only
    pixels of nuclei take part, brightness counts from the darkest pixel of each nucleus.
    """
    above = (values - regions.lowest(values)[regions.region]).astype(np.float32)
    box = tuple(slice(None) for _ in range(regions.ndim))
    picture = np.full(regions.padded.shape, np.inf, np.float32)
    picture.reshape(-1)[regions.index] = above
    outside = regions.padded == 0
    whole = regions.total(above)
    left, eroded, done, found = whole, picture[box], 0, {}
    for radius in RADII:
        for _ in range(radius - done):
            eroded = _sieve(eroded, np.minimum)
        done = radius
        opened = np.where(np.isfinite(eroded), eroded, 0)
        for _ in range(radius):
            opened = _sieve(opened, np.maximum)
        opened[outside] = 0
        kept = regions.total(np.minimum(opened.reshape(-1)[regions.index], above))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[str(radius)] = np.where(whole > 0, 100 * (left - kept) / whole, np.nan)
        left = kept
    return found


def _sieve(picture: NDArray[np.float32], extreme: Callable[..., Any]) -> NDArray[np.float32]:
    """Take the extreme of each pixel and its neighbours along all axes, one axis after the other."""
    for axis in range(picture.ndim):
        made = picture.copy()
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(picture.ndim))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(picture.ndim))
        extreme(made[low], picture[high], out=made[low])
        extreme(made[high], picture[low], out=made[high])
        picture = made
    return picture
