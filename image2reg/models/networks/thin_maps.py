"""Convolutions of maps thinner than their kernel, kept out of bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["convolved"]

KERNEL = 3


def convolved(block: nn.Module, x: Tensor) -> Tensor:
    """Apply a block of 3 x 3 x 3 convolutions, in full precision where the map is thinner than they are.

    On a CPU, torch 2.13's bfloat16 weight gradients of such maps (two planes, as at the coarsest levels of a 3D U-Net)
    hold uninitialised memory: 1e33 or NaN in some steps, plausible numbers in others.
    """
    if x.ndim < 5 or min(x.shape[2:]) >= KERNEL:
        return block(x)
    with torch.autocast(x.device.type, enabled=False):
        return block(x.float())
