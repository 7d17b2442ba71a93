"""The patch discriminator of the GAN: MONAI's, seeing the label-free input beside the stain (Isola 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from image2reg.errors import ConfigurationError

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

        self.channels, self.dims, self.layers = (in_channels, out_channels), dims, layers
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

    def refuse_patch(self, patch: tuple[int, int, int]) -> None:
        """Raise `ConfigurationError` where nothing of a (z, y, x) patch is left after the strided layers."""
        size = patch[-self.dims :]
        try:
            with torch.no_grad():
                self(*(torch.zeros(1, n, *size) for n in self.channels))
        except (RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f"adversary.layers={self.layers}: a patch of {list(size)} is too small for a discriminator of so many "
                "layers. Lower adversary.layers, or enlarge patch."
            ) from error


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's features, scores excluded (Wang 2018, pix2pixHD, eq. 3)."""
    terms = [(f - r.detach()).abs().mean() for f, r in zip(fake[:-1], real[:-1], strict=True)]
    return torch.stack(terms).mean()
