"""Rotation-invariant measurements of crops in one pass, with gradients: what is told, predicted and corrected.

They answer to the families of nucleus features (size, shape, brightness, radial distribution, texture, placement), with
soft outlines, so that a drawn crop can be pulled towards what it was told to be (`morphgen.correction`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["DESCRIPTORS", "describe", "descriptor_names"]

DESCRIPTORS = (
    "log_total", "log_area", "log_axis_ratio", "log_mean", "ring_1", "ring_2", "ring_3", "ring_4", "log_extent",
    "log_form_factor", "fine", "middle", "coarse", "fine_skewness", "middle_skewness", "coarse_skewness",
    "fine_kurtosis", "middle_kurtosis", "brightest",
)  # fmt: skip
"""Of each channel. Each channel's place on every other comes after them (`descriptor_names`)."""

_OUTLINE, _SOFTNESS = 0.35, 0.06
_TEXTURE_PX = (0.8, 1.6, 3.2)
_BRIGHTEST_PX, _RING_PX = 12, 3.0


def descriptor_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns of `describe` for these channels."""
    own = [f"{channel}_{name}" for channel in channels for name in DESCRIPTORS]
    return (*own, *(f"{a}_in_to_around_{b}" for a in channels for b in channels if a != b))


def describe(crops: Tensor) -> Tensor:
    """Measure each channel of each crop.

    Parameters
    ----------
    crops : (N, C, Y, X) or (N, C, Z, Y, X) float32
        Background at -1. Stacks are measured in their maximum projection along Z.

    Returns
    -------
    (N, C * len(DESCRIPTORS) + C * (C - 1)) float32
        In the order of `descriptor_names`. By channel: logarithms of total, of the area within the outline (about a
        third of the typical brightness), of the axis ratio (second moments of the outline), of the mean brightness;
        mean brightness in four elliptic rings relative to that mean; logarithms of extent (second moments over area)
        and form factor (perimeter squared over area): dents and pieces; logarithm of the root mean square of three
        bands of texture away from the outline, their skewness (bright spots against dark gaps), peakedness of the finer
        two; the brightest places. Then, for each pair of channels, the logarithm of the first's brightness inside the
        second's outline relative to around it, the nearer the more.
    """
    if crops.ndim == 5:
        crops = crops.amax(2)
    n, c, height, width = crops.shape
    x = (crops.reshape(n * c, 1, height, width) + 1).clamp_min(0)
    total = x.sum((1, 2, 3)) + 1e-3
    typical = (x.square().sum((1, 2, 3)) / total).clamp_min(1e-3)
    inside = torch.sigmoid((_blurred(x / _wide(typical), 0.7) - _OUTLINE) / _SOFTNESS)
    area = inside.sum((1, 2, 3)) + 1
    log_axis_ratio, log_extent, radius = _ellipse(inside, area)
    mean = ((x * inside).sum((1, 2, 3)) / area).clamp_min(1e-3)
    relative = x / _wide(mean)
    rings = [
        _mean_of(relative, inside * _between(radius, (ring - 1) / 4, ring / 4, 0.03)) for ring in range(1, 5)
    ]
    core = inside * torch.sigmoid((0.85 - radius) / 0.05)
    bands = [_Moments(band, core) for band in _bands(relative, inside)]
    brightest = (relative * inside).flatten(1).topk(_BRIGHTEST_PX, dim=1).values.mean(1)
    columns = [
        total.log(), area.log(), log_axis_ratio, mean.log(), *rings, log_extent, _log_form_factor(inside, area),
        *(0.5 * band.second.log() for band in bands), *(band.standardised(3) for band in bands),
        *(band.standardised(4).clamp_min(1).log() for band in bands[:2]), brightest,
    ]  # fmt: skip
    own = torch.stack(columns, 1).reshape(n, c * len(DESCRIPTORS))
    if c == 1:
        return own
    shape = (n, c, height, width)
    return torch.cat([own, _placement(x.reshape(shape), inside.reshape(shape))], 1)


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _mean_of(x: Tensor, weight: Tensor) -> Tensor:
    return (x * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) + 1)


def _between(x: Tensor, low: float, high: float, softness: float) -> Tensor:
    return torch.sigmoid((x - low) / softness) * torch.sigmoid((high - x) / softness)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    # As products with banded matrices: one-channel convolutions are slow on a processor, and so are their gradients.
    down, across = (_band(size, sigma, x) for size in x.shape[2:])
    return down @ x @ across.T


def _band(size: int, sigma: float, like: Tensor) -> Tensor:
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype)
    distance = place[:, None] - place
    return (
        torch.exp(-0.5 * (distance / sigma) ** 2)
        * (distance.abs() <= reach)
        / torch.exp(-0.5 * (steps / sigma) ** 2).sum()
    )


def _ellipse(inside: Tensor, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of axis ratio and extent; squared radius of each pixel, 1 on the ellipse of equal moments."""
    height, width = inside.shape[2:]
    weight = (inside / _wide(area))[:, 0]
    y_axis = torch.arange(height, device=inside.device, dtype=inside.dtype)[:, None]
    x_axis = torch.arange(width, device=inside.device, dtype=inside.dtype)[None]
    dy = y_axis - (weight * y_axis).sum((1, 2))[:, None, None]
    dx = x_axis - (weight * x_axis).sum((1, 2))[:, None, None]
    yy, xx, xy = (
        (weight * dy * dy).sum((1, 2)),
        (weight * dx * dx).sum((1, 2)),
        (weight * dy * dx).sum((1, 2)),
    )
    spread = ((yy - xx).square() + 4 * xy.square() + 1e-6).sqrt()
    trace = yy + xx + 1e-3
    ratio = 0.5 * ((trace + spread) / (trace - spread).clamp_min(1e-3)).log()
    determinant = (yy * xx - xy.square()).clamp_min(1e-3)[:, None, None]
    along = (
        dx.square() * yy[:, None, None] + dy.square() * xx[:, None, None] - 2 * dx * dy * xy[:, None, None]
    )
    # A filled ellipse has second moments of a quarter of its squared axes.
    return ratio, (2 * math.pi * trace / area).log(), (along / determinant / 4)[:, None]


def _log_form_factor(inside: Tensor, area: Tensor) -> Tensor:
    down = inside[:, :, 1:, :-1] - inside[:, :, :-1, :-1]
    right = inside[:, :, :-1, 1:] - inside[:, :, :-1, :-1]
    perimeter = ((down.square() + right.square() + 1e-6).sqrt() - 1e-3).sum((1, 2, 3)).clamp_min(1)
    return (perimeter.square() / (4 * math.pi * area)).log()


def _bands(relative: Tensor, inside: Tensor) -> list[Tensor]:
    """Differences of smoothings that do not look across the outline: finer than 0.8, 0.8 to 1.6, 1.6 to 3.2 pixels."""
    levels = [relative]
    levels += [_blurred(relative * inside, s) / _blurred(inside, s).clamp_min(1e-3) for s in _TEXTURE_PX]
    return [finer - coarser for finer, coarser in pairwise(levels)]


class _Moments:
    """Moments of a band about 0, under a weight."""

    def __init__(self, band: Tensor, weight: Tensor) -> None:
        self.band, self.weight = band, weight
        self.second = _mean_of(band.square(), weight) + 1e-6

    def standardised(self, order: int) -> Tensor:
        return _mean_of(self.band**order, self.weight) / self.second ** (order / 2)


def _placement(x: Tensor, inside: Tensor) -> Tensor:
    """(N, C * (C - 1)): brightness of one channel inside another's outline against around it, logarithmic."""
    around = _blurred(inside, _RING_PX) * (1 - inside)
    within, beside = (
        torch.einsum("nayx,nbyx->nab", x, mask) / (mask.sum((2, 3)) + 1)[:, None] for mask in (inside, around)
    )
    ratio = within.clamp_min(1e-3).log() - beside.clamp_min(1e-3).log()
    others = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return ratio[:, others]
