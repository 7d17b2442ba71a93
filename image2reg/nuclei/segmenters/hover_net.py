"""HoVer-Net: nuclei, and in each the horizontal and vertical distance from its middle.

The network is MONAI's (`monai.networks.nets.HoVerNet`, fast mode) and takes windows of exactly 256 pixels. Targets,
losses and the reading of the maps follow the paper (Graham et al., Med. Image Anal. 58:101563, 2019): Sobel gradients
of the distances mark the borders between nuclei, what is left of the foreground are the seeds of a watershed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from image2reg.models.networks.interface import ImageNetwork
from image2reg.nuclei.size import without_small

__all__ = ["TURNS", "HoverNet", "build", "decode", "foreground", "loss", "targets"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

# Two of its maps point in directions of the image.
TURNS = False

_WINDOW = 256
_SEED = 0.4


class HoverNet(ImageNetwork):
    """MONAI's HoVer-Net on one channel, padded decoders, its two branches stacked."""

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets import HoVerNet

        self.dims, self.divisor = 2, (_WINDOW, _WINDOW)
        self.network = HoVerNet(mode="fast", in_channels=1, np_out_channels=2, decoder_padding=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2, Y, X), of which the first channel is used, to (B, 4, Y, X): two classes, two distances.

        Larger images are taken window by window.
        """
        b, _, height, width = x.shape
        rows, columns = height // _WINDOW, width // _WINDOW
        windows = x[:, :1].reshape(b, rows, _WINDOW, columns, _WINDOW).transpose(2, 3)
        made = self.network(windows.reshape(-1, 1, _WINDOW, _WINDOW))
        maps = torch.cat([made["nucleus_prediction"], made["horizontal_vertical"]], dim=1)
        return (
            maps.reshape(b, rows, columns, 4, _WINDOW, _WINDOW)
            .permute(0, 3, 1, 4, 2, 5)
            .reshape(b, 4, height, width)
        )


def build(**arguments: object) -> ImageNetwork:
    """Make the network."""
    return HoverNet(**arguments)


def targets(labels: Labels) -> Floats:
    """Give foreground, horizontal and vertical distance, (3, Y, X); distances run from -1 to 1 in each nucleus."""
    # A patch need not show every number up to the largest.
    area = np.maximum(np.bincount(labels.ravel()), 1)
    maps = [(labels > 0).astype(np.float32)]
    for grid in np.indices(labels.shape, dtype=np.float32)[::-1]:
        middle = np.bincount(labels.ravel(), grid.ravel()) / area
        offset = np.where(labels > 0, grid - middle[labels], 0)
        reach = np.ones((2, area.size))
        np.maximum.at(reach[0], labels.ravel(), offset.ravel())
        np.maximum.at(reach[1], labels.ravel(), -offset.ravel())
        maps.append(np.where(offset > 0, offset / reach[0][labels], offset / reach[1][labels]))
    return np.stack(maps).astype(np.float32)


def _slope(maps: Tensor) -> Tensor:
    """Sobel slope of the horizontal map along X and of the vertical one along Y."""
    ramp, smooth = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])
    kernels = torch.stack([torch.outer(smooth, ramp), torch.outer(ramp, smooth)])[:, None].to(maps)
    return functional.conv2d(maps, kernels, padding=1, groups=2)


def loss(maps: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Give the paper's terms: cross-entropy and Dice of the foreground, squared error of distances and slopes."""
    maps = maps.float()
    nucleus = wanted[:, :1]
    probability = maps[:, :2].softmax(1)[:, 1:]
    dice = 1 - (2 * (probability * nucleus).sum() + 1e-3) / (probability.sum() + nucleus.sum() + 1e-3)
    steep = (nucleus * (_slope(maps[:, 2:]) - _slope(wanted[:, 1:])) ** 2).sum() / (2 * nucleus.sum() + 1)
    terms = {
        "foreground": functional.cross_entropy(maps[:, :2], wanted[:, 0].long()),
        "dice": dice,
        "distance": functional.mse_loss(maps[:, 2:], wanted[:, 1:]),
        "slope": steep,
    }
    return {"loss": terms["foreground"] + dice + 2 * terms["distance"] + terms["slope"], **terms}


def foreground(maps: Floats) -> Floats:
    """Give a map that is positive in nuclei."""
    return maps[1] - maps[0]


def decode(maps: Floats, diameter_px: float) -> Labels:
    """Seeds are what of the foreground is no border; they grow over the energy of the borders."""
    from skimage.segmentation import watershed

    inside = foreground(maps) > 0
    slopes = [ndimage.sobel(maps[2], axis=1), ndimage.sobel(maps[3], axis=0)]
    border = np.zeros(inside.shape, dtype=np.float32)
    for slope in slopes:
        low, high = slope.min(), slope.max()
        border = np.maximum(border, 1 - (slope - low) / max(float(high - low), 1e-6))
    seeds, n_seeds = ndimage.label(ndimage.binary_opening(inside & (border < _SEED)))
    if n_seeds == 0:
        return np.zeros(inside.shape, dtype=np.int32)
    seeds = without_small(seeds, max(2.0, 0.01 * diameter_px**2))
    return np.asarray(watershed(ndimage.gaussian_filter(border, 1.0), seeds, mask=inside), dtype=np.int32)
