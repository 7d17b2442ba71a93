"""The three-class U-Net of the genome-wide screen: background, interior, boundary, at every pixel.

Re-implemented from the published description (Caicedo et al., Cytometry A 95:952, 2019; used by Kazemi Rashed et al.
for the siRNA screen of U2OS cells): 64, 128, 256 and 512 features, two 3 x 3 convolutions with batch normalisation
per level, max pooling, concatenation on the way up; 646 thousand multiply-adds per pixel, 787 billion per frame of
1104 x 1104.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from image2reg.models.networks.interface import ImageNetwork
from image2reg.nuclei.segmenters.nearness import edges
from image2reg.nuclei.size import without_small

__all__ = ["TURNS", "ThreeClassUNet", "build", "decode", "foreground", "loss", "targets"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

# No map holds a direction.
TURNS = True

_BACKGROUND, _INTERIOR, _BOUNDARY = range(3)
# The paper's weights: a boundary pixel counts ten times.
_WEIGHTS = (1.0, 1.0, 10.0)


def _pair(n_in: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first in (n_in, n_out):
        layers += [
            nn.Conv2d(first, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class ThreeClassUNet(ImageNetwork):
    """U-Net from plain brightness to three class scores.

    Parameters
    ----------
    widths : sequence of int
        Features per level, finest first.
    """

    def __init__(self, *, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.dims, self.divisor = 2, (2 ** (len(widths) - 1),) * 2
        ways = list(pairwise(widths))
        self.down = nn.ModuleList([_pair(1, widths[0]), *(_pair(fine, coarse) for fine, coarse in ways)])
        self.up = nn.ModuleList([_pair(coarse + fine, fine) for fine, coarse in reversed(ways)])
        self.head = nn.Conv2d(widths[0], 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2, Y, X), of which the first channel is used, to (B, 3, Y, X)."""
        x = self.down[0](x[:, :1])
        skips = []
        for block in self.down[1:]:
            skips.append(x)
            x = block(functional.max_pool2d(x, 2))
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), skip], dim=1))
        return self.head(x)


def build(**arguments: object) -> ImageNetwork:
    """Make the network."""
    return ThreeClassUNet(**arguments)  # type: ignore[arg-type]


def targets(labels: Labels) -> Floats:
    """Give the class of each pixel, (1, Y, X): the outermost pixels of a nucleus are its boundary."""
    classes = np.where(edges(labels)[0], _BOUNDARY, np.where(labels > 0, _INTERIOR, _BACKGROUND))
    return classes[None].astype(np.float32)


def loss(maps: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Give the weighted cross-entropy of (B, 3, Y, X) with the classes (B, 1, Y, X)."""
    weights = torch.tensor(_WEIGHTS, device=maps.device)
    return {"loss": functional.cross_entropy(maps.float(), wanted[:, 0].long(), weight=weights)}


def foreground(maps: Floats) -> Floats:
    """Give a map that is positive in nuclei, boundary included."""
    return np.maximum(maps[_INTERIOR], maps[_BOUNDARY]) - maps[_BACKGROUND]


def decode(maps: Floats, diameter_px: float) -> Labels:
    """Label the connected interiors and give each its boundary back by a 3 x 3 dilation, as published."""
    pieces, n_pieces = ndimage.label(maps.argmax(axis=0) == _INTERIOR)
    if n_pieces == 0:
        return pieces.astype(np.int32)
    labels = without_small(pieces, 0.02 * diameter_px**2)
    return np.where(labels > 0, labels, ndimage.maximum_filter(labels, 3)).astype(np.int32)
