"""The published baseline: the recursive 3D U-Net of Ounkomol et al. 2018, written from its description.

Nat. Methods 15:917 (2018). Depth 4, 32 features doubling to 512, 3 x 3 x 3 convolutions with batch
normalisation and ReLU, strided 2 x 2 x 2 convolutions down, transposed ones up, concatenated skips, a linear
head: 23,280,769 trainable parameters for one channel in and one out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from image2reg.models.networks.thin_maps import convolved
from virtualstain.networks.interface import StainNetwork

__all__ = ["FNet3D"]


def _block(*layers: tuple[nn.Module, int]) -> nn.Sequential:
    return nn.Sequential(
        *(m for layer, n in layers for m in (layer, nn.BatchNorm3d(n), nn.ReLU(inplace=True)))
    )


def _double(n_in: int, n_out: int) -> nn.Sequential:
    return _block(
        (nn.Conv3d(n_in, n_out, 3, padding=1), n_out), (nn.Conv3d(n_out, n_out, 3, padding=1), n_out)
    )


class _Level(nn.Module):
    """R(i, o, d): two convolutions, and below depth 0 a coarser level between a way down and a way up."""

    def __init__(self, n_in: int, n_out: int, depth: int) -> None:
        super().__init__()
        self.enter = _double(n_in, n_out)
        self.depth = depth
        if depth > 0:
            self.down = _block((nn.Conv3d(n_out, n_out, 2, stride=2), n_out))
            self.coarser = _Level(n_out, 2 * n_out, depth - 1)
            self.up = _block((nn.ConvTranspose3d(2 * n_out, n_out, 2, stride=2), n_out))
            self.leave = _double(2 * n_out, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, Z, Y, X) to (B, n_out, Z, Y, X)."""
        x = convolved(self.enter, x)
        if self.depth == 0:
            return x
        return convolved(self.leave, torch.cat([x, self.up(self.coarser(self.down(x)))], dim=1))


class FNet3D(StainNetwork):
    """Ounkomol's 3D U-Net.

    Parameters
    ----------
    in_channels, out_channels : int
        1 and 1 in the paper.
    depth : int
        Number of halvings; every axis must be a multiple of ``2 ** depth``.
    width : int
        Features of the finest level.
    """

    dims = 3

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, *, depth: int = 4, width: int = 32
    ) -> None:
        super().__init__()
        self.divisor = (2**depth,) * 3
        self.levels = _Level(in_channels, width, depth)
        self.head = nn.Conv3d(width, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, Z, Y, X) to (B, out_channels, Z, Y, X)."""
        return self.head(self.levels(x))
