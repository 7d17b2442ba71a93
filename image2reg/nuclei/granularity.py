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
    eroded = np.full(regions.padded.shape, np.inf, np.float32)
    eroded.reshape(-1)[regions.index] = above
    whole = regions.total(above)
    left, done, found = whole, 0, {}
    for radius in RADII:
        eroded = _sieve(eroded, radius - done, np.minimum)
        opened = _sieve(np.where(eroded < np.inf, eroded, 0), radius, np.maximum)
        kept = regions.total(np.minimum(opened.reshape(-1)[regions.index], above))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[str(radius)] = np.where(whole > 0, 100 * (left - kept) / whole, np.nan)
        left, done = kept, radius
    return found


def _sieve(picture: NDArray[np.float32], radius: int, extreme: Callable[..., Any]) -> NDArray[np.float32]:
    """Take the extreme of each pixel's square (cube) of half width `radius`, one axis after the other, by doubling.

    Pixels nearer than `radius` to the end of the array are left as they are: the margin of `Regions`.
    """
    width = 2 * radius + 1
    for axis in range(picture.ndim):
        made = picture.copy()
        reach, part = 1, np.moveaxis(picture, axis, 0)
        while reach < width:
            step = min(reach, width - reach)
            last = np.moveaxis(made, axis, 0)[radius:-radius] if reach + step == width else None
            part = extreme(part[:-step], part[step:], out=last)
            reach += step
        picture = made
    return picture
