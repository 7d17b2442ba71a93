"""What every staining network states about itself."""

from __future__ import annotations

from torch import nn

__all__ = ["StainNetwork"]


class StainNetwork(nn.Module):
    """Maps (B, C, *spatial) to (B, K, *spatial).

    Attributes
    ----------
    dims : 2 or 3
        Spatial axes. A 2D network takes the planes of a stack as channels (2.5D).
    divisor : tuple of int
        What the length of each spatial axis must be a multiple of.
    """

    dims: int
    divisor: tuple[int, ...]
