"""From recorded units to the network's and back, per channel.

``x_hat = (transform(x) - centre) / scale``. The scope says over what `centre` and `scale` were measured: the
training set ("dataset"), so that physical units come back, or each image by itself ("image"), which no change of
gain or offset can upset but which forfeits absolute units. A bundle states both and prediction obeys them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.images.checks import refuse_beyond_float32

__all__ = ["ChannelScale", "Method", "Scope", "Transform", "measure_image_scale", "merge_scales"]

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
        """Turn recorded units into network units, float32."""
        x = np.asarray(values, dtype=np.float32)
        if self.transform == "log1p":
            x = np.log1p(np.maximum(x, 0))
        return (x - np.float32(self.centre)) / np.float32(self.scale)

    def invert(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Turn network units into recorded units, float32."""
        x = np.asarray(values, dtype=np.float32) * np.float32(self.scale) + np.float32(self.centre)
        return np.expm1(x) if self.transform == "log1p" else x


def _checked_scale(centre: float, scale: float, transform: Transform, where: str) -> ChannelScale:
    if not scale > 1e-6 * max(1e-6, abs(centre)):
        raise DataError(
            f"{where}: constant image (every voxel is about {centre:g}); there is nothing to predict from. "
            "Check the channel (--channel) and the file."
        )
    return ChannelScale(centre, float(scale), transform)


def merge_scales(scales: Sequence[ChannelScale], *, scope: Scope) -> ChannelScale:
    """Pool the scales of equally sized fields: mean of the centres, root of the pooled variance.

    Under scope "dataset" the variance between fields counts too (law of total variance), as it would on all voxels
    at once; under "image" it was taken out of every field, so only the variance within counts.
    """
    centres = np.array([s.centre for s in scales])
    variance = float((np.array([s.scale for s in scales]) ** 2).mean())
    between = float(centres.var()) if scope == "dataset" else 0.0
    return ChannelScale(float(centres.mean()), math.sqrt(variance + between), scales[0].transform)


def measure_image_scale(
    stack: Any,
    channel: int,
    *,
    method: Method,
    transform: Transform = "identity",
    where: str,
    valid: NDArray[np.bool_] | None = None,
) -> ChannelScale:
    """Measure one channel of a (C, Z, Y, X) stack plane by plane, in bounded memory.

    "zscore" is mean and standard deviation, exact (moments of every plane are merged). "robust" is median and
    inter-quartile range / 1.349 (a normal distribution's standard deviation), from at most about four million voxels
    spread over every plane. "none" is 0 and 1, of whatever is finite.

    Raises
    ------
    DataError
        A value that is not finite (count and first position are given) or beyond float32; a constant channel, unless
        the method is "none".
    """
    z, height, width = stack.shape[1:]
    step = 1 if method == "zscore" else max(1, int(np.ceil(np.sqrt(z * height * width / 4_000_000))))
    to_values = ChannelScale(transform=transform)
    n, mean, spread, kept = 0, 0.0, 0.0, [np.empty(0, np.float32)]
    for index in range(z):
        plane = np.asarray(stack[channel, index])
        bad = ~np.isfinite(plane)
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            raise DataError(
                f"{where}: {int(bad.sum())} voxels of plane {index} are NaN or infinite, the first at (Y, X) = "
                f"{first}. Repair or crop the image; nothing is filled in silently."
            )
        refuse_beyond_float32(plane, where)
        if method == "none":
            continue
        values = to_values.apply(plane if valid is None else plane[valid]).ravel()
        if method == "robust":
            kept.append(values[:: step * step])
        elif values.size:
            m, total = float(values.mean(dtype=np.float64)), n + values.size
            spread += (
                float(values.var(dtype=np.float64)) * values.size + (m - mean) ** 2 * n * values.size / total
            )
            mean += (m - mean) * values.size / total
            n = total
    if method == "none":
        return to_values
    if method == "zscore":
        return _checked_scale(mean, math.sqrt(spread / n) if n else 0.0, transform, where)
    low, centre, high = (float(v) for v in np.percentile(np.concatenate(kept), (25, 50, 75)))
    return _checked_scale(centre, (high - low) / 1.349, transform, where)
