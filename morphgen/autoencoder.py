"""The morphology autoencoder (MVAE): diffusers' `AutoencoderKL` for planes and MONAI's for stacks, as one class.

A convolutional autoencoder spends its first thousands of steps on what principal components of small patches give at
once. So a linear shortcut from patches to latents and back is measured on the training crops, and the network learns
what that misses: residual autoencoding (Chen et al. 2024, DC-AE, section 3.2) with measured instead of fixed weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from image2reg.errors import ConfigurationError, DataError
from morphgen.patch_components import PatchComponents, fold, unfold
from morphgen.recipe import AutoencoderSettings

__all__ = ["MorphologyAutoencoder"]

_FIRST_LOG_VARIANCE = -4.0


class MorphologyAutoencoder(nn.Module):
    """Crops in [-1, 1] to a Gaussian over latents, and back.

    Parameters
    ----------
    channels : int
    dims : 2 or 3
        Spatial axes.
    settings : AutoencoderSettings, or a mapping of its fields

    Attributes
    ----------
    factor : int
        Crops must be a multiple of it along every spatial axis; latents are smaller by it.
    latent_scale : float
        What latents are multiplied by, so that they have unit variance over the training set (not over the first
        batch, as in stable diffusion); 1 until it is measured.
    """

    network: Any

    def __init__(
        self,
        *,
        channels: int,
        dims: int = 2,
        settings: AutoencoderSettings | dict | None = None,
        latent_scale: float = 1.0,
    ) -> None:
        super().__init__()
        settings = AutoencoderSettings.model_validate(settings or {})
        self.channels, self.dims, self.settings = channels, dims, settings
        self.factor = settings.patch * 2 ** (len(settings.widths) - 1)
        self.network = _flat(channels, settings) if dims == 2 else _deep(channels, settings)
        self.shortcut = (
            PatchComponents(channels, dims, self.factor, settings.latent_channels)
            if settings.shortcut
            else None
        )
        self.latent_scale = latent_scale

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Measure the shortcut on crops (N, C, *spatial); the network then begins by adding nothing to it."""
        if self.shortcut is None:
            return
        self.shortcut.fit(x)
        for layer in _last_layers(self.network, self.dims):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # Latents have unit variance from the start, so their noise begins small instead of as large as they are.
        if self.dims == 2:
            self.network.quant_conv.bias[self.settings.latent_channels :] = _FIRST_LOG_VARIANCE
        else:
            self.network.quant_conv_log_sigma.conv.bias.fill_(_FIRST_LOG_VARIANCE)

    def refuse(self, x: Any) -> None:
        """Refuse crops (N, C, *spatial) of another number of axes or channels, or of a size that does not fit.

        Raises
        ------
        DataError
        """
        wrong = [n for n in x.shape[2:] if n % self.factor]
        if x.ndim != 2 + self.dims or x.shape[1] != self.channels or wrong:
            raise DataError(
                f"crops {tuple(x.shape)}: the autoencoder takes (N, {self.channels}, {'Z, ' * (self.dims == 3)}Y, X) "
                f"with sizes that are multiples of {self.factor}. Cut the crops anew, or choose another model."
            )

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, z, *latent), before scaling, of crops (B, C, *spatial)."""
        self.refuse(x)
        folded = fold(x, self.settings.patch)
        if self.dims == 2:
            mean, log_variance = self.network.quant_conv(self.network.encoder(folded)).chunk(2, dim=1)
        else:
            mean, sigma = self.network.encode(folded)
            log_variance = 2 * sigma.log()
        if self.shortcut is not None:
            mean = mean + self.shortcut.encode(x)
        return mean, log_variance.clamp(-30, 20)

    def encode(self, x: Tensor) -> Tensor:
        """Scaled mean latents of crops."""
        return self.posterior(x)[0] * self.latent_scale

    def decode(self, z: Tensor) -> Tensor:
        """Crops of scaled latents; not clipped."""
        z = z / self.latent_scale
        made = self.network.decode(z)
        x = unfold(made.sample if self.dims == 2 else made, self.settings.patch)
        return x if self.shortcut is None else x + self.shortcut.decode(z)

    def forward(self, x: Tensor) -> Tensor:
        """Round trip through the mean latent."""
        return self.decode(self.encode(x))


def _last_layers(network: Any, dims: int) -> tuple[Any, ...]:
    """Convolutions that write mean (and log-variance) of the latents, and the image."""
    if dims == 2:
        return network.quant_conv, network.decoder.conv_out
    writes = [m for m in network.decoder.modules() if isinstance(m, nn.Conv3d)][-1]
    return network.quant_conv_mu.conv, network.quant_conv_log_sigma.conv, writes


def _flat(channels: int, settings: AutoencoderSettings) -> Any:
    from diffusers import AutoencoderKL

    n, folded = len(settings.widths), channels * settings.patch**2
    return AutoencoderKL(
        in_channels=folded, out_channels=folded, latent_channels=settings.latent_channels,
        block_out_channels=settings.widths, layers_per_block=settings.blocks, norm_num_groups=settings.norm_groups,
        down_block_types=("DownEncoderBlock2D",) * n, up_block_types=("UpDecoderBlock2D",) * n,
        mid_block_add_attention=settings.attention,
    )  # fmt: skip


def _deep(channels: int, settings: AutoencoderSettings) -> Any:
    from monai.networks.nets import AutoencoderKL

    folded = channels * settings.patch**3
    try:
        return AutoencoderKL(
            spatial_dims=3, in_channels=folded, out_channels=folded, num_res_blocks=settings.blocks,
            channels=settings.widths, attention_levels=(False,) * len(settings.widths),
            latent_channels=settings.latent_channels, norm_num_groups=settings.norm_groups,
            with_encoder_nonlocal_attn=settings.attention, with_decoder_nonlocal_attn=settings.attention,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigurationError(f"3D autoencoder: {error}. Change autoencoder in the recipe.") from error
