"""The patch discriminator of the GAN: MONAI's, seeing the label-free input beside the stain (Isola 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ConditionalPatchDiscriminator", "feature_matching"]


class ConditionalPatchDiscriminator(nn.Module):
    """`monai.networks.nets.PatchDiscriminator` on the concatenation of input and stain.

    Parameters
    ----------
    in_channels : int
        Channels of the label-free input (x planes for a 2.5D model).
    out_channels : int
        Channels of the stain.
    dims : 2 or 3
    width : int
        Features of the first layer.
    layers : int
        Strided layers; the patch each score sees grows with it.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, dims: int = 3, width: int = 32, layers: int = 3
    ) -> None:
        super().__init__()
        from monai.networks.nets import PatchDiscriminator

        self.network = PatchDiscriminator(
            spatial_dims=dims,
            channels=width,
            in_channels=in_channels + out_channels,
            out_channels=1,
            num_layers_d=layers,
            norm="INSTANCE",
        )

    def forward(self, label_free: Tensor, stain: Tensor) -> list[Tensor]:
        """Map (B, C, ...) and (B, K, ...) to the features of every layer, the patch scores last."""
        return list(self.network(torch.cat([label_free, stain], dim=1)))


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's features, scores excluded (Wang 2018, pix2pixHD, eq. 3)."""
    terms = [(f - r.detach()).abs().mean() for f, r in zip(fake[:-1], real[:-1], strict=True)]
    return torch.stack(terms).mean()
