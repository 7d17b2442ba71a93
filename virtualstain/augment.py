"""Augmentation on whole batches: what differs between microscopes, and what does not change a cell.

Geometry (rotation, flip, magnification, shear) acts on input, target and mask alike, in Y and X only: light
travels along Z, so a stack turned over is not a stack anyone records. Images with a shear direction (DIC, oblique
light) should not be turned either: set ``rotate`` to a few degrees, and ``flip`` to false unless the shear is along Y
and the pairs are registered in X (a constant displacement cannot be learned from mirrored pairs). Photometry
(gamma, gain, offset, uneven illumination, filters, blur, noise) acts on the input alone. Inputs are standardised, so
strengths are in units of the image's standard deviation.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

__all__ = ["AugmentSettings", "augment_photometry", "warp_to_patch"]

Share = Annotated[float, Field(ge=0, le=1)]


class AugmentSettings(BaseModel):
    """Strengths; 0 switches a kind off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotate: Annotated[float, Field(ge=0, le=180)] = 180.0  # largest angle either way, degrees; 180 is any
    flip: bool = True  # left and right in half of the patches
    magnification: Annotated[float, Field(ge=1, le=3)] = 1.4  # drawn log-uniformly from 1/m to m
    shear: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.25  # standard deviation of log gamma
    gain: Annotated[float, Field(ge=0, le=1)] = 0.25  # standard deviation of log gain
    offset: Annotated[float, Field(ge=0, le=2)] = 0.2
    illumination: Annotated[float, Field(ge=0, le=2)] = 0.4  # slope from centre to edge
    blur_px: Annotated[float, Field(ge=0, le=5)] = 1.5  # largest Gaussian sigma
    noise: Annotated[float, Field(ge=0, le=2)] = 0.3  # largest standard deviation
    filtering: Share = (
        0.5  # largest part of a random 5 x 5 filter's output mixed in: another focus, another lens
    )
    share: Share = 0.5  # of batches that meet gamma, blur and noise

    @classmethod
    def none(cls) -> AugmentSettings:
        """No augmentation at all: the recipe of fnet."""
        return cls(
            rotate=0, flip=False, magnification=1, shear=0, gamma=0, gain=0, offset=0, illumination=0,
            blur_px=0, noise=0, filtering=0,
        )  # fmt: skip

    @property
    def reach(self) -> float:
        """How much wider than the patch the source window has to be for every geometry to find data."""
        angle = math.radians(min(self.rotate, 45))
        turn = math.cos(angle) + math.sin(angle)
        return turn * self.magnification * (1 + self.shear)


def warp_to_patch(
    source: Tensor, size: tuple[int, int], settings: AugmentSettings, rng: np.random.Generator
) -> Tensor:
    """Cut one randomly turned, flipped and magnified patch from the middle of a larger window.

    Parameters
    ----------
    source : (C, Z, Y, X) float32
        Everything that must stay registered, stacked along C.
    size : (y, x)
        Patch size in pixels.

    Returns
    -------
    (C, Z, y, x) float32; 0 where the patch leaves the window.
    """
    c, z, height, width = source.shape
    angle = math.radians(rng.uniform(-1, 1) * settings.rotate)
    zoom = math.exp(rng.uniform(-1, 1) * math.log(settings.magnification))
    shear = rng.uniform(-1, 1) * settings.shear
    mirror = -1.0 if settings.flip and rng.random() < 0.5 else 1.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([mirror, 1.0]) / zoom
    # affine_grid speaks in half-widths of the source window: x first, then y.
    scale_in, scale_out = np.array([width, height]) / 2, np.array([size[1], size[0]]) / 2
    theta = (matrix * scale_out[None, :]) / scale_in[:, None]
    grid = functional.affine_grid(
        torch.tensor(np.c_[theta, np.zeros(2)][None], dtype=torch.float32), [1, 1, *size], align_corners=False
    )
    flat = source.reshape(1, c * z, height, width)
    return functional.grid_sample(flat, grid, align_corners=False).reshape(c, z, *size)


def augment_photometry(x: Tensor, settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """Change how a batch of inputs was recorded.

    Parameters
    ----------
    x : (B, C, Z, Y, X) float32
        Standardised label-free input.
    """
    b = x.shape[0]
    one = (b, 1, 1, 1, 1)

    def normal(scale: float) -> Tensor:
        return torch.tensor(rng.normal(0, scale, one), dtype=x.dtype)

    if settings.gamma and rng.random() < settings.share:
        low, high = x.amin((1, 2, 3, 4), keepdim=True), x.amax((1, 2, 3, 4), keepdim=True)
        span = (high - low).clamp_min(1e-6)
        x = ((x - low) / span) ** normal(settings.gamma).exp() * span + low
    if settings.filtering and rng.random() < settings.share:
        x = _mixed_filter(x, settings.filtering, rng)
    if settings.illumination:
        y_slope, x_slope = normal(settings.illumination), normal(settings.illumination)
        y = torch.linspace(-1, 1, x.shape[-2]).view(1, 1, 1, -1, 1)
        x = x + y_slope * y + x_slope * torch.linspace(-1, 1, x.shape[-1]).view(1, 1, 1, 1, -1)
    if settings.gain or settings.offset:
        x = x * normal(settings.gain).exp() + normal(settings.offset)
    if settings.blur_px and rng.random() < settings.share:
        x = gaussian_blur(x, rng.uniform(0.3, max(0.3, settings.blur_px)))
    if settings.noise and rng.random() < settings.share:
        noise = rng.standard_normal(x.shape, dtype=np.float32) * rng.uniform(0, settings.noise)
        x = x + torch.from_numpy(noise)
    return x


def _mixed_filter(x: Tensor, most: float, rng: np.random.Generator) -> Tensor:
    """Mix every sample with itself under a random 5 x 5 filter of its own, keeping its standard deviation.

    Random convolution (Xu 2021, RandConv): texture and contrast change, shapes stay, so that a network has to rely
    on shapes. A change of focus or aperture is a change of filter too.
    """
    b, c, z, y_size, x_size = x.shape
    kernels = torch.tensor(rng.normal(0, 0.2, (b, 1, 5, 5)), dtype=x.dtype)
    share = torch.tensor(rng.uniform(0, most, (b, 1, 1, 1)), dtype=x.dtype)
    planes = x.reshape(b, c * z, y_size, x_size).transpose(0, 1)  # samples become groups, planes the batch
    padded = functional.pad(planes, (2, 2, 2, 2), mode="reflect")
    filtered = functional.conv2d(padded, kernels, groups=b).transpose(0, 1)
    plain = planes.transpose(0, 1)
    spread = filtered.std((1, 2, 3), keepdim=True).clamp_min(1e-6)
    mixed = (1 - share) * plain + share * filtered / spread * plain.std((1, 2, 3), keepdim=True)
    return mixed.reshape(x.shape)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, Z, Y, X) in Y and X, reflecting at the border."""
    radius = min(int(3 * sigma + 1), min(x.shape[-2:]) - 1)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1, dtype=x.dtype) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    flat = x.reshape(-1, 1, *x.shape[-2:])
    flat = functional.pad(flat, (radius, radius, radius, radius), mode="reflect")
    flat = functional.conv2d(flat, kernel.view(1, 1, -1, 1))
    return functional.conv2d(flat, kernel.view(1, 1, 1, -1)).reshape(x.shape)
