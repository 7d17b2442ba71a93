"""From recorded units to the network's and back, per channel.

``x_hat = (transform(x) - centre) / scale``. The scope says over what `centre` and `scale` were measured: the
training set ("dataset"), so that physical units come back, or each image by itself ("image"), which no change of
gain or offset can upset but which forfeits absolute units. A bundle states both and prediction obeys them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError

__all__ = ["ChannelScale", "Method", "Scope", "Transform", "measure_scale"]

Method = Literal["zscore", "robust", "none"]
Scope = Literal["image", "dataset"]
Transform = Literal["identity", "log1p"]


@dataclass(frozen=True)
class ChannelScale:
    """Centre and scale of one channel, in units of the transformed values."""

    centre: float = 0.0
    scale: float = 1.0
    transform: Transform = "identity"

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Recorded units to network units, float32."""
        x = np.asarray(values, dtype=np.float32)
        if self.transform == "log1p":
            x = np.log1p(np.maximum(x, 0))
        return (x - np.float32(self.centre)) / np.float32(self.scale)

    def invert(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Network units to recorded units, float32."""
        x = np.asarray(values, dtype=np.float32) * np.float32(self.scale) + np.float32(self.centre)
        return np.expm1(x) if self.transform == "log1p" else x


def measure_scale(
    values: NDArray[Any], *, method: Method, transform: Transform = "identity", where: str, mask: NDArray[np.bool_] | None = None
) -> ChannelScale:
    """Measure centre and scale on a sample of one channel.

    Parameters
    ----------
    values : array of any shape
        Recorded units.
    method : "zscore", "robust" or "none"
        Mean and standard deviation; median and inter-quartile range / 1.349 (a normal distribution's standard
        deviation); 0 and 1.
    where : str
        File and channel, for the error.
    mask : bool array of the same shape, optional
        True where values count.

    Raises
    ------
    DataError
        Nothing finite to measure on, or a constant channel.
    """
    if method == "none":
        return ChannelScale(transform=transform)
    sample = ChannelScale(transform=transform).apply(values if mask is None else values[mask]).ravel()
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise DataError(f"{where}: no finite value to normalise with ({np.size(values)} voxels, all NaN, Inf or masked).")
    if method == "zscore":
        centre, scale = float(sample.mean(dtype=np.float64)), float(sample.std(dtype=np.float64))
    else:
        low, centre, high = (float(v) for v in np.percentile(sample, (25, 50, 75)))
        scale = (high - low) / 1.349
    if not scale > 1e-12 * max(1.0, abs(centre)):
        raise DataError(
            f"{where}: every voxel is {centre:g}; a constant image has nothing to predict from. "
            "Check the channel (--channel) and the file."
        )
    return ChannelScale(centre, scale, transform)


def merge_scales(scales: Sequence[ChannelScale]) -> ChannelScale:
    """Pool the scales of equally sized fields: mean of the means, root of the pooled variance.

    The variance between fields counts too (law of total variance), as it would on all voxels at once.
    """
    centres = np.array([s.centre for s in scales])
    variances = np.array([s.scale for s in scales]) ** 2
    return ChannelScale(
        float(centres.mean()), float(np.sqrt(variances.mean() + centres.var())), scales[0].transform
    )
