"""Drawn nuclei (synthetic) and a network that needs no training, for the tests of segmenters."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from image2reg.nuclei.segmenters.distance import MIDDLE
from image2reg.nuclei.segmenters.examples import NucleusField
from image2reg.nuclei.segmenters.joining import JoiningRule
from image2reg.nuclei.segmenters.network import NetworkSegmenter


def discs(
    shape: tuple[int, int],
    centres: list[tuple[float, float]],
    diameter: float = 28,
    *,
    blur: float = 1.0,
    noise: float = 2.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Discs of brightness 500 on a ground of 100 counts: image (float32) and labels."""
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (row, column) in enumerate(centres, start=1):
        labels[(y - row) ** 2 + (x - column) ** 2 <= diameter**2 / 4] = number
    image = ndimage.gaussian_filter(100 + 500.0 * (labels > 0), blur)
    return (image + np.random.default_rng(0).normal(0, noise, shape)).astype(np.float32), labels


def grid(n: int, spacing: float = 48, first: float = 30) -> list[tuple[float, float]]:
    """Centres of n x n nuclei."""
    return [(first + spacing * i, first + spacing * j) for i in range(n) for j in range(n)]


def field(seed: int, *, source: str = "") -> NucleusField:
    """A field with twelve nuclei somewhere, never touching."""
    rng = np.random.default_rng(seed)
    centres = [(r + rng.uniform(-8, 8), c + rng.uniform(-8, 8)) for r, c in grid(4)][:12]
    image, labels = discs((210, 210), centres, float(rng.uniform(22, 32)))
    return NucleusField(f"field {seed}", f"well {seed % 4}", image.astype(np.uint16), labels, source=source)


class Brightness(nn.Module):
    """Bright is nucleus, and all of a nucleus is its middle: right for nuclei that do not touch."""

    def __init__(self) -> None:
        super().__init__()
        self.dims, self.divisor = 2, (16, 16)
        self.slope = nn.Parameter(torch.tensor(10.0))
        self.rule = JoiningRule(MIDDLE)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(x.shape[-2:]))
        bright = x[:, 0] - 0.5
        return torch.stack([self.slope * bright, torch.full_like(bright, -9.0), (bright > 0).float()], dim=1)


def bright_segmenter() -> NetworkSegmenter:
    """A segmenter around `Brightness`."""
    return NetworkSegmenter("brightness", "distance_unet", Brightness().eval())
