"""Where in the nucleus brightness lies, from the rim inwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["measure_radial", "shell_of"]

Columns = dict[str, "NDArray[np.float64]"]


def shell_of(regions: Regions, depth: NDArray[np.float64], n_bins: int) -> NDArray[np.int64]:
    """Shell of each pixel, 0 at the rim: equal steps of depth from the rim to the nucleus's deepest pixel."""
    share = depth / regions.highest(depth)[regions.region]
    return np.minimum((share * n_bins).astype(np.int64), n_bins - 1)


def measure_radial(
    regions: Regions, depth: NDArray[np.float64], values: NDArray[np.float64], *, n_bins: int = 5
) -> Columns:
    """Distribution of brightness over shells of equal *distance* (not equal area), rim first.

    Parameters
    ----------
    regions : Regions
    depth : (pixels,) float64
        From `image2reg.nuclei.depth.depth_inside`.
    values : (pixels,) float64
        One channel, not negative for the fractions to mean anything.
    n_bins : int
        Shells.

    Returns
    -------
    dict of (n,) float64
        ``FracAtD_1of5`` (share of the brightness in the shell), ``MeanFrac_1of5`` (that share over the shell's share
        of the pixels: 1 when uniform; NaN for a shell without pixels) and ``RadialCV_1of5`` (spread over mean within
        the shell).

    Notes
    -----
    By distance transform, so elongated and off-centre nuclei are handled. CellProfiler counts shells from the centre
    and by another distance; its ``1of5`` is the other end.
    """
    key = regions.region * n_bins + shell_of(regions, depth, n_bins)
    size = regions.n * n_bins
    counts = np.bincount(key, minlength=size).reshape(-1, n_bins)
    sums = np.bincount(key, values, size).reshape(-1, n_bins)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / counts
        share = sums / sums.sum(axis=1, keepdims=True)
        away = (values - mean.reshape(-1)[key]) ** 2
        cv = np.sqrt(np.bincount(key, away, size).reshape(-1, n_bins) / counts) / mean
        relative = share / (counts / counts.sum(axis=1, keepdims=True))
    tables = {"FracAtD": share, "MeanFrac": relative, "RadialCV": cv}
    return {
        f"{name}_{shell + 1}of{n_bins}": np.where(np.isfinite(table[:, shell]), table[:, shell], np.nan)
        for name, table in tables.items()
        for shell in range(n_bins)
    }
