"""MONAI's residual U-Net behind the same interface as the networks of our own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from virtualstain.networks.interface import StainNetwork

__all__ = ["MonaiUNet"]


class MonaiUNet(StainNetwork):
    """`monai.networks.nets.UNet` with its divisor stated.

    Parameters
    ----------
    in_channels, out_channels : int
    dims : 2 or 3
    widths : tuple of int
        Features per level, finest first.
    strides : tuple of int or of tuple of int, optional
        Down-sampling between levels; 2 by default. ``(1, 2, 2)`` keeps thin stacks thick.
    units : int
        Residual units per level.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        dims: int = 3,
        widths: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[int | Sequence[int]] | None = None,
        units: int = 2,
    ) -> None:
        super().__init__()
        from monai.networks.nets import UNet

        steps = [
            (s,) * dims if isinstance(s, int) else tuple(s) for s in (strides or [2] * (len(widths) - 1))
        ]
        self.dims = dims
        divisor = [1] * dims
        for step in steps:
            divisor = [d * s for d, s in zip(divisor, step, strict=True)]
        self.divisor = tuple(divisor)
        self.network = UNet(
            spatial_dims=dims,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=tuple(widths),
            strides=tuple(steps),  # type: ignore[arg-type]
            num_res_units=units,
            norm="batch",
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *spatial) to (B, out_channels, *spatial)."""
        return self.network(x)
