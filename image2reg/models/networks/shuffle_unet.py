"""The fast default: a residual U-Net that works on pixel-unshuffled patches, in 2D, 2.5D or thin 3D.

Most of an image-to-image U-Net's time goes into its full-resolution levels. Here the input is first folded
(space to depth, Shi 2016) by `patch`, the U-Net runs on the folded grid, and the output is unfolded again, so
that the same receptive field costs a fraction of the operations. A z-stack with a 2D target enters with its
planes as channels (2.5D); a z-stack with a z-stack target is folded less in Z than in Y and X.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from image2reg.models.networks.interface import ImageNetwork
from image2reg.models.networks.thin_maps import convolved

__all__ = ["ShuffleUNet", "fold", "unfold"]


def fold(x: Tensor, patch: Sequence[int]) -> Tensor:
    """Space to depth: (B, C, *spatial) to (B, C * prod(patch), *spatial / patch).

    Equal to `torch.nn.functional.pixel_unshuffle` in 2D; written for any number of axes because torch has no 3D one.
    """
    b, c, *sizes = x.shape
    split = [v for n, p in zip(sizes, patch, strict=True) for v in (n // p, p)]
    n = len(sizes)
    order = [0, 1, *range(3, 2 * n + 2, 2), *range(2, 2 * n + 2, 2)]
    return (
        x.reshape(b, c, *split)
        .permute(order)
        .reshape(b, -1, *(v // p for v, p in zip(sizes, patch, strict=True)))
    )


def unfold(x: Tensor, patch: Sequence[int]) -> Tensor:
    """Depth to space, the inverse of `fold`."""
    b, c, *sizes = x.shape
    n = len(sizes)
    folded = math.prod(patch)
    x = x.reshape(b, c // folded, *patch, *sizes)
    order = [0, 1, *(v for i in range(n) for v in (2 + n + i, 2 + i))]
    return x.permute(order).reshape(b, c // folded, *(v * p for v, p in zip(sizes, patch, strict=True)))


class _Residual(nn.Module):
    """Two convolutions with batch normalisation and a shortcut (He 2016)."""

    def __init__(self, dims: int, n_in: int, n_out: int) -> None:
        super().__init__()
        conv: Any
        norm: Any
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv1 = conv(n_in, n_out, 3, padding=1, bias=False)
        self.norm1 = norm(n_out)
        self.conv2 = conv(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = norm(n_out)
        self.shortcut = conv(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.activation = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, ...) to (B, n_out, ...)."""
        y = self.activation(self.norm1(convolved(self.conv1, x)))
        y = self.norm2(convolved(self.conv2, y))
        y += self.shortcut(x)  # in place: a large map less to write
        return self.activation(y)


class ShuffleUNet(ImageNetwork):
    """Residual U-Net on folded patches.

    Parameters
    ----------
    in_channels, out_channels : int
        For a 2.5D model `in_channels` is channels x planes.
    dims : 2 or 3
        2: (B, C, Y, X). 3: (B, C, Z, Y, X).
    patch : tuple of int
        Fold factor per spatial axis.
    widths : tuple of int
        Features per level, finest first.
    down : tuple of tuple of int, optional
        Down-sampling factor per level change and axis; default 2 everywhere.
    dropout : float
        Share of whole feature maps dropped in training, at the coarsest level and after every way up.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        dims: int = 2,
        patch: Sequence[int] = (2, 2),
        widths: Sequence[int] = (32, 64, 96, 128, 160),
        down: Sequence[Sequence[int]] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(patch) != dims:
            raise ValueError(f"patch {tuple(patch)} names {len(patch)} axes; a {dims}D network needs {dims}")
        conv: Any = nn.Conv2d if dims == 2 else nn.Conv3d
        transposed: Any = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
        steps = [tuple(s) for s in down] if down is not None else [(2,) * dims] * (len(widths) - 1)
        self.dims, self.patch = dims, tuple(patch)
        folded = math.prod(patch)
        self.divisor = tuple(p * math.prod(s[axis] for s in steps) for axis, p in enumerate(self.patch))
        self.stem = conv(in_channels * folded, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList([_Residual(dims, widths[0], widths[0])])
        self.shrink, self.grow, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for step, fine, coarse in zip(steps, widths[:-1], widths[1:], strict=True):
            self.shrink.append(conv(fine, coarse, step, stride=step))
            self.encoder.append(_Residual(dims, coarse, coarse))
            self.grow.append(transposed(coarse, fine, step, stride=step))
            self.decoder.append(_Residual(dims, 2 * fine, fine))
        self.dropout = nn.Dropout2d(dropout) if dims == 2 else nn.Dropout3d(dropout)
        self.head = conv(widths[0], out_channels * folded, 3, padding=1)
        if (
            not self.head.weight.is_meta
        ):  # there is nothing to fill, and torch would load its compiler for it: a second
            nn.init.normal_(self.head.weight, std=1e-3)  # start near zero, the mean of a standardised target
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *spatial) to (B, out_channels, *spatial); sizes are multiples of `divisor`."""
        x = self.encoder[0](self.stem(fold(x, self.patch)))
        skips = []
        for shrink, block in zip(self.shrink, self.encoder[1:], strict=True):
            skips.append(x)
            x = block(shrink(x))
        x = self.dropout(x)
        for grow, block, skip in zip(
            reversed(self.grow), reversed(self.decoder), reversed(skips), strict=True
        ):
            x = self.dropout(block(torch.cat([grow(x), skip], dim=1)))
        return unfold(self.head(x), self.patch)
