"""The latent U-Net and its condition as one module: diffusers' `UNet2DConditionModel`, or MONAI's for stacks."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from image2reg.errors import ConfigurationError
from morphgen.condition import Condition, ConditionEncoder
from morphgen.recipe import DenoiserSettings

__all__ = ["ConditionalDenoiser"]


class ConditionalDenoiser(nn.Module):
    """Predict noise, v or velocity of noisy latents under a condition.

    The condition's tokens are attended to (cross-attention), and their pooled vector is added to the time embedding,
    as in SDXL (Podell et al. 2023): whole-nucleus effects such as size need not be gathered by attention.

    Parameters
    ----------
    latent_channels : int
    latent_size : tuple of int
        (Y, X) or (Z, Y, X).
    settings : mapping or DenoiserSettings
    condition : mapping
        Arguments of `ConditionEncoder`.
    """

    unet: Any

    def __init__(
        self,
        *,
        latent_channels: int,
        latent_size: tuple[int, ...],
        settings: DenoiserSettings | dict | None = None,
        condition: dict[str, Any],
    ) -> None:
        super().__init__()
        settings = DenoiserSettings.model_validate(settings or {})
        self.latent_shape = (latent_channels, *latent_size)
        self.condition = ConditionEncoder(**condition)
        build = _flat if len(latent_size) == 2 else _deep
        self.unet = build(latent_channels, latent_size[-1], settings, self.condition.width)

    def forward(self, z: Tensor, time: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        """Predict.

        Parameters
        ----------
        z : (B, latent_channels, *latent_size)
        time : (B,) float32
            0 to 1000.
        tokens, pooled
            From `condition`.
        """
        if z.ndim == 4:
            return self.unet(z, time, encoder_hidden_states=tokens, class_labels=pooled).sample
        return self.unet(z, time, context=torch.cat([tokens, pooled[:, None]], dim=1))

    def predict(
        self, z: Tensor, time: Tensor, condition: Condition | None, *, guidance: float = 1.0
    ) -> Tensor:
        """Predict with classifier-free guidance (Ho and Salimans 2022, equation 6, with w = guidance - 1).

        1 is the plain conditional prediction, 0 the unconditional one.
        """
        n = len(z)
        if condition is None or guidance == 0:
            return self(z, time, *self.condition(None, batch=n))
        tokens, pooled = self.condition(condition)
        if guidance == 1:
            return self(z, time, tokens, pooled)
        null_tokens, null_pooled = self.condition(None, batch=n)
        both = self(
            torch.cat([z, z]), torch.cat([time, time]), torch.cat([null_tokens, tokens]),
            torch.cat([null_pooled, pooled]),
        )  # fmt: skip
        without, having = both.chunk(2)
        return without + guidance * (having - without)


def _flat(channels: int, size: int, settings: DenoiserSettings, context: int) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=size, in_channels=channels, out_channels=channels, block_out_channels=settings.widths,
        layers_per_block=settings.blocks, norm_num_groups=settings.norm_groups, cross_attention_dim=context,
        attention_head_dim=settings.heads, resnet_time_scale_shift="scale_shift",
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in settings.attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(settings.attention)),
        class_embed_type="projection", projection_class_embeddings_input_dim=context,
    )  # fmt: skip


def _deep(channels: int, size: int, settings: DenoiserSettings, context: int) -> Any:
    from monai.networks.nets import DiffusionModelUNet

    if importlib.util.find_spec("einops") is None:
        raise ConfigurationError(
            "a generator of stacks needs the package einops (MONAI's attention does): "
            "pip install 'virtualstain[stacks]'."
        )

    del size  # MONAI's takes any
    heads = [
        w // settings.heads if a else 0 for w, a in zip(settings.widths, settings.attention, strict=True)
    ]
    return DiffusionModelUNet(
        spatial_dims=3, in_channels=channels, out_channels=channels, num_res_blocks=settings.blocks,
        channels=settings.widths, attention_levels=settings.attention, norm_num_groups=settings.norm_groups,
        num_head_channels=heads,
        with_conditioning=True, cross_attention_dim=context,
    )  # fmt: skip
