"""Rotation-invariant measurements of crops in one pass: what the condition alone can be asked to predict."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["DESCRIPTORS", "describe"]

DESCRIPTORS = (
    "log_total", "log_area", "log_axis_ratio", "mean", "rim_to_centre", "fine", "middle", "coarse", "brightest",
    "fine_kurtosis", "fine_skewness", "middle_skewness",
)  # fmt: skip


def describe(crops: Tensor) -> Tensor:
    """Measure each channel of each crop.

    Parameters
    ----------
    crops : (N, C, Y, X) or (N, C, Z, Y, X) float32
        Background at -1. Stacks are measured in their maximum projection along Z.

    Returns
    -------
    (N, C * len(DESCRIPTORS)) float32
        Logarithms of total, of the area above half of the mean signal and of the axis ratio (second moments); mean
        signal, brightness at the rim against the centre; root-mean-square of three band-pass filtered images inside,
        relative to the mean; the brightest place; peakedness of the fine band (spots); skewness of the
        fine and the middle band (bright spots against dark gaps).
    """
    if crops.ndim == 5:
        crops = crops.amax(2)
    n, c, height, width = crops.shape
    x = (crops.reshape(n * c, 1, height, width) + 1).clamp_min(0)
    total = x.sum((1, 2, 3)) + 1e-3
    y_axis = torch.arange(height, device=x.device, dtype=x.dtype)[:, None]
    x_axis = torch.arange(width, device=x.device, dtype=x.dtype)[None]
    weight = x[:, 0] / total[:, None, None]
    dy = y_axis - (weight * y_axis).sum((1, 2))[:, None, None]
    dx = x_axis - (weight * x_axis).sum((1, 2))[:, None, None]
    yy, xx, xy = (
        (weight * dy * dy).sum((1, 2)),
        (weight * dx * dx).sum((1, 2)),
        (weight * dy * dx).sum((1, 2)),
    )
    spread = ((yy - xx).square() + 4 * xy.square() + 1e-6).sqrt()
    trace = yy + xx + 1e-3
    inside = (x > 0.25 * x.amax((2, 3), keepdim=True)).to(x.dtype)
    area = inside.sum((1, 2, 3)) + 1
    mean = (x * inside).sum((1, 2, 3)) / area
    radius = ((dy.square() + dx.square()) / trace[:, None, None])[:, None]
    rim = (x * inside * (radius > 0.9)).sum((1, 2, 3)) / ((inside * (radius > 0.9)).sum((1, 2, 3)) + 1)
    centre = (x * (radius < 0.5)).sum((1, 2, 3)) / ((radius < 0.5).sum((1, 2, 3)) + 1)
    relative = x / mean[:, None, None, None].clamp_min(1e-3)
    bands = _bands(relative)
    energy = [((band.square() * inside).sum((1, 2, 3)) / area).sqrt() for band in bands]
    fine = bands[0] * inside
    kurtosis = (fine**4).sum((1, 2, 3)) * area / (fine.square().sum((1, 2, 3)).square() + 1e-6)
    skewness = [_skewness(band, inside, area) for band in bands[:2]]
    columns = [
        total.log(), area.log(), 0.5 * ((trace + spread) / (trace - spread).clamp_min(1e-3)).log(), mean,
        (rim - centre) / mean.clamp_min(1e-3), *energy, relative.amax((1, 2, 3)),
        kurtosis.clamp_min(1).log(), *skewness,
    ]  # fmt: skip
    return torch.stack(columns, 1).reshape(n, c * len(DESCRIPTORS))


def _skewness(band: Tensor, inside: Tensor, area: Tensor) -> Tensor:
    band = band * inside
    second = band.square().sum((1, 2, 3)) / area
    return (band**3).sum((1, 2, 3)) / area / (second + 1e-8) ** 1.5


def _bands(x: Tensor) -> list[Tensor]:
    """Differences of box-smoothed images: details of about 1 to 3, 3 to 7 and 7 to 13 pixels."""
    smooth = [
        functional.avg_pool2d(x, k, stride=1, padding=k // 2, count_include_pad=False) for k in (3, 7, 13)
    ]
    return [x - smooth[0], smooth[0] - smooth[1], smooth[1] - smooth[2]]
