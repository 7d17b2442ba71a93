"""The same nuclei as another stain, lens and camera would have shown them: what training patches are changed by."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from image2reg.nuclei.segmenters.scaling import WORKING_DIAMETER_PX

__all__ = ["AugmentSettings", "change_appearance"]

Labels = NDArray[np.int32]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

# How far a nucleus's own factor reaches beyond its outline, px at the working size.
_GLOW_PX = 6.0


class AugmentSettings(BaseModel):
    """How strongly patches differ from the field they are cut from; 0 (magnification: 1) switches a kind off.

    Attributes
    ----------
    magnification : float
        Nucleus size is drawn log-uniformly from 1/m to m times the working size; for a fifth of the
        patches from 1/m² to m².
    aligned : float
        Share of patches that are only turned by right angles and mirrored: outlines to the pixel are learned from
        pixels that were never interpolated.
    nucleus_gain : float
        Standard deviation of the logarithm of each nucleus's own brightness; one in ten is a bright, mitotic one.
    cytoplasm : float
        Largest brightness of a stained cell body around each nucleus, share of the nucleus's own.
    gamma, gain : float
        Standard deviations of the logarithm.
    offset : float
        Largest background level, as a share of the nuclei's brightness.
    illumination : float
        Largest relative fall of light across a patch.
    blur_px, noise : float
        Largest Gaussian blur, pixels at the working size, and largest noise, share of the nuclei's brightness.
    saturation : float
        Share of patches clipped below their brightest values.
    eight_bit : float
        Share of patches rounded to at most 256 levels.
    share : float
        Share of patches that meet nucleus gain, cytoplasm, gamma, blur, offset or noise, each for itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    magnification: Annotated[float, Field(ge=1, le=3)] = 1.35
    aligned: Share = 0.3
    nucleus_gain: NonNegative = 0.0
    cytoplasm: NonNegative = 0.0
    gamma: NonNegative = 0.3
    gain: NonNegative = 0.3
    offset: NonNegative = 0.3
    illumination: Share = 0.5
    blur_px: NonNegative = 2.5
    noise: NonNegative = 0.12
    saturation: Share = 0.2
    eight_bit: Share = 0.2
    share: Share = 0.5


def change_appearance(
    x: Tensor, labels: Labels, settings: AugmentSettings, rng: np.random.Generator
) -> Tensor:
    """Give another stain, another lens, another camera: in the order in which light meets them.

    Parameters
    ----------
    x : (Y, X) float32
        Standardised brightness at the working size.
    labels : (Y, X)
        The nuclei in it.
    """

    def meets(amount: float) -> bool:
        return amount > 0 and rng.random() < settings.share

    if labels.any() and (settings.nucleus_gain or settings.cytoplasm):
        gains, bodies = meets(settings.nucleus_gain), meets(settings.cytoplasm)
        x = _stain(x, labels, settings, rng, gains=gains, bodies=bodies)
    low = float(x.min())
    if meets(settings.gamma):
        span = max(float(x.max()) - low, 1e-6)
        x = ((x - low) / span) ** math.exp(rng.normal(0, settings.gamma)) * span + low
    if meets(settings.blur_px):
        x = _blur(x, rng.uniform(0.3, max(0.3, settings.blur_px)))
    if settings.illumination:
        y, z = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in x.shape], indexing="ij")
        slope, angle = rng.uniform(0, settings.illumination), rng.uniform(0, 2 * math.pi)
        x = x * (1 + slope * (math.cos(angle) * y + math.sin(angle) * z))
    x = x * math.exp(rng.normal(0, settings.gain))
    if meets(settings.offset):
        x = x + rng.uniform(-0.3, 1.0) * settings.offset
    if meets(settings.noise):
        sigma = rng.uniform(0, settings.noise)
        noise = torch.from_numpy(rng.standard_normal(tuple(x.shape), dtype=np.float32))
        if rng.random() < 0.3:  # binned or resampled images have noise of some width
            noise = 1.8 * _blur(noise, 0.7)
        x = x + sigma * noise * (0.5 + x.clamp_min(0).sqrt())
    if rng.random() < settings.saturation:
        x = x.clamp_max(float(torch.quantile(x, rng.uniform(0.9, 1.0))))
    if rng.random() < settings.eight_bit:
        levels = float(rng.integers(24, 256)) / max(float(x.max()), 1e-3)
        x = (x * levels).round() / levels
    return x


def _stain(
    x: Tensor,
    labels: Labels,
    settings: AugmentSettings,
    rng: np.random.Generator,
    *,
    gains: bool,
    bodies: bool,
) -> Tensor:
    """Give each nucleus a brightness of its own, and each, and a few places without one, a stained cell body."""
    if not (gains or bodies):
        return x
    places = labels.copy()
    n_nuclei = int(labels.max())
    n_bare = rng.poisson(1.0)  # cells whose nucleus is out of focus or of view
    places[rng.integers(labels.shape[0], size=n_bare), rng.integers(labels.shape[1], size=n_bare)] = (
        n_nuclei + 1 + np.arange(n_bare)
    )
    found = ndimage.distance_transform_edt(places == 0, return_indices=True)
    distance, owner = found[0].astype(np.float32), places[tuple(found[1])]
    values = x.numpy()
    dark = float(np.median(values[labels == 0])) if (labels == 0).any() else float(values.min())
    if gains:
        own = rng.normal(0, settings.nucleus_gain, n_nuclei + n_bare + 1)
        own += (rng.random(own.size) < 0.1) * rng.uniform(0.5, 1.3, own.size)
        own[n_nuclei + 1 :] = 0
        values = dark + (values - dark) * np.exp(own[owner] * np.exp(-((distance / _GLOW_PX) ** 2)))
    if bodies:
        area = np.maximum(np.bincount(labels.ravel(), minlength=n_nuclei + n_bare + 1), 1)
        bright = np.bincount(labels.ravel(), (values - dark).ravel(), minlength=area.size) / area
        bright[n_nuclei + 1 :] = np.median(bright[1 : n_nuclei + 1])
        level = bright * settings.cytoplasm * rng.uniform(0, 1) * rng.uniform(0.3, 1, bright.size)
        reach = WORKING_DIAMETER_PX * np.exp(rng.uniform(np.log(0.25), np.log(1.5), bright.size))
        n = max(4, round(min(x.shape) / (WORKING_DIAMETER_PX * rng.uniform(0.4, 1.2))))
        coarse = torch.from_numpy(rng.standard_normal((1, 1, n, n), dtype=np.float32))
        lobes = functional.interpolate(coarse, x.shape, mode="bicubic", align_corners=False)[0, 0].numpy()
        inside = reach[owner] * (1 + rng.uniform(0.3, 1.0) * lobes) - distance
        inside[labels > 0] = reach.max()  # the body passes above and below its nucleus
        body = 1 / (1 + np.exp(np.clip(-inside / np.exp(rng.uniform(-0.7, 1.4)), -30, 30)))
        fall = np.exp(-distance / (reach[owner] * np.exp(rng.uniform(-0.5, 1.5))))
        glow = ndimage.gaussian_filter(level[owner] * body * fall, rng.uniform(0.5, 2.5))
        values = values + glow
    return torch.from_numpy(values.astype(np.float32))


def _blur(x: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(2.5 * sigma)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1, dtype=x.dtype) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = functional.pad(x[None, None], (radius,) * 4, mode="reflect")
    return functional.conv2d(
        functional.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :]
    )[0, 0]
