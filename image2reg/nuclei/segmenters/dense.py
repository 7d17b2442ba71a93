"""From an image to labels: to the working size, through a network, back to the grid of the image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from image2reg.nuclei.segmenters.scaling import (
    WORKING_DIAMETER_PX,
    brightness_range,
    resize,
    resize_labels,
    standardise,
    working_factor,
)
from image2reg.nuclei.size import without_small

if TYPE_CHECKING:
    from torch import Tensor, nn

    from image2reg.nuclei.segmenters.designs import Design, Read

__all__ = ["foreground_map", "label_standardised", "network_input", "predict_labels", "two_channels"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

# Objects below this share of a typical nucleus are noise.
_SMALLEST = 0.03


def two_channels(x: Tensor) -> Tensor:
    """Give standardised brightness as it is and as a logarithm, in which dim nuclei stand beside bright ones.

    Parameters
    ----------
    x : (B, Y, X)

    Returns
    -------
    (B, 2, Y, X)
    """
    return torch.stack([x.clamp(-0.5, 3.0), torch.log1p(30 * x.clamp(0, 30)) / math.log(31)], dim=1)


def predict_labels(network: nn.Module, design: Design, image: NDArray[Any], diameter_px: float) -> Labels:
    """Label the nuclei of an image that fits into memory at once.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    design : Design
    image : (Y, X), any real dtype
    diameter_px : float
        Typical nucleus diameter; NaN: taken for the working size.

    Returns
    -------
    (Y, X) int32
    """
    return label_standardised(network, design, standardise(image, *brightness_range(image)), diameter_px)


def label_standardised(
    network: nn.Module, design: Design, image: Floats, diameter_px: float, *, roughly: bool = False
) -> Labels:
    """Do the same for an image whose brightness is standardised already, for instance by that of a larger one.

    Roughly: outlines stay as the maps draw them, which is faster.
    """
    labels, foreground = _read(network, design.draw if roughly else design.read, image, diameter_px)
    return fit_to_grid(labels, foreground, image.shape, diameter_px)


def foreground_map(network: nn.Module, design: Design, image: NDArray[Any], diameter_px: float) -> Floats:
    """Give the map whose zero line is the outline, at the working size, between -1 and 1."""
    standard = standardise(image, *brightness_range(image))
    return np.tanh(_read(network, design.read, standard, diameter_px)[1] / 4)


def _read(network: nn.Module, read: Read, image: Floats, diameter_px: float) -> tuple[Labels, Floats]:
    factor = working_factor(diameter_px)
    height, width = (max(16, round(n * factor)) for n in image.shape)
    return read(network, network_input(network, torch.from_numpy(resize(image, (height, width)))))


def network_input(network: nn.Module, image: Tensor) -> Tensor:
    """Give what a network reads of standardised brightness (Y, X) at the working size: (1, 2, Y, X), on its device."""
    return two_channels(image[None]).to(next(network.parameters()).device)


def fit_to_grid(labels: Labels, foreground: Floats, shape: tuple[int, int], diameter_px: float) -> Labels:
    """Bring labels to the image's grid, outlined where the interpolated foreground crosses zero; drop specks."""
    if labels.shape != shape:
        grown = np.where(labels > 0, labels, ndimage.maximum_filter(labels, 3))
        labels = np.where(resize(foreground, shape) > 0, resize_labels(grown, shape), 0)
    typical = diameter_px if math.isfinite(diameter_px) else WORKING_DIAMETER_PX
    return without_small(labels, _SMALLEST * math.pi / 4 * typical**2)
