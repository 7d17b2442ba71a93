"""What a training is told: one recipe per stage, defaults in the classes, a YAML file lists only what differs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from image2reg.models.settings import TrainingSettings

__all__ = [
    "SAMPLERS",
    "AutoencoderSettings",
    "ConditionSettings",
    "DenoiserSettings",
    "DiffusionRecipe",
    "PriorRecipe",
    "ReconstructionSettings",
    "VaeRecipe",
]

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]

SAMPLERS = {
    "flow": ("multistep", "heun", "euler"),
    "v": ("ddim", "dpm"),
    "epsilon": ("ddim", "dpm"),
}
"""Samplers of each process, the best first (`morphgen.samplers`)."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AutoencoderSettings(_Strict):
    """Size of the morphology autoencoder (MVAE).

    Attributes
    ----------
    widths : tuple of int
        Features per resolution; each but the last halves the image, so ``len(widths) - 1`` halvings.
    blocks : int
        Residual blocks per resolution.
    patch : int
        Pixels folded into channels along each axis before the first convolution: the cheapest halvings.
    latent_channels : int
    norm_groups : int
        Groups of the group normalisation; must divide every width.
    attention : bool
        Self-attention at the coarsest resolution.
    shortcut : bool
        Principal components of patches as the linear part, which the network refines (`morphgen.patch_components`).
    """

    widths: tuple[Count, ...] = (64, 64)
    patch: Annotated[int, Field(gt=0, le=8)] = 4
    blocks: Count = 1
    latent_channels: Count = 24
    norm_groups: Count = 8
    attention: bool = False
    shortcut: bool = True

    @model_validator(mode="after")
    def _divisible(self) -> AutoencoderSettings:
        if not self.widths or any(width % self.norm_groups for width in self.widths):
            raise ValueError(
                f"widths={self.widths}: each must be a multiple of norm_groups={self.norm_groups}"
            )
        return self


class ReconstructionSettings(_Strict):
    """Weights of the autoencoder's losses; 0 leaves a term out.

    Attributes
    ----------
    l1, pyramid, kl, perceptual, adversary : float
        Mean absolute error; the same over the bands of a Laplacian pyramid; Kullback-Leibler divergence to the unit
        Gaussian (sum over the latent, per image); perceptual distance; hinge adversary.
    noise : float
        Largest standard deviation of the noise added to latents before they are decoded (they have unit variance),
        drawn anew for each crop: the decoder learns to draw a clean crop from what a sampler leaves imperfect (noise-
        augmented decoding, Zheng et al. 2025, RAE, section 4.3).
    perceptual_by : "encoder" or "lpips"
        Features of a nucleus encoder of ours, or LPIPS on a backbone file the user gives.
    perceptual_model : str
        Name or directory of the encoder bundle, or the LPIPS backbone file.
    adversary_start : int
        First step of the adversary (MorphDiff: 50,001).
    adversary_width, adversary_layers : int
    """

    l1: Weight = 1.0
    pyramid: Weight = 1.0
    kl: Weight = 1e-7
    perceptual: Weight = 0.0
    noise: Weight = 0.0
    perceptual_by: Literal["encoder", "lpips"] = "encoder"
    perceptual_model: str = "nucleus-encoder"
    adversary: Weight = 0.0
    adversary_start: Annotated[int, Field(ge=0)] = 500
    adversary_width: Count = 16
    adversary_layers: Count = 2


class VaeRecipe(_Strict):
    """Everything that decides a morphology autoencoder besides the crops.

    Attributes
    ----------
    range_quantiles : (float, float)
        Quantiles of the training intensities, per channel, that become -1 and 1.
    """

    schema_version: Literal[1] = 1
    kind: Literal["morphgen-vae"] = "morphgen-vae"
    name: Slug = "vae"
    summary: str = ""
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    loss: ReconstructionSettings = ReconstructionSettings()
    range_quantiles: tuple[Share, Annotated[float, Field(gt=0, le=1)]] = (0.0, 1.0)
    training: TrainingSettings = TrainingSettings(
        steps=2000, batch_size=16, learning_rate=2e-3, warmup_steps=50, betas=(0.9, 0.99), ema_decay=0.995,
        gradient_clip=1.0, precision="bf16", validate_every=500, checkpoint_every=250,
    )  # fmt: skip


class ConditionSettings(_Strict):
    """Size of the condition encoder, and how it is kept from learning signatures by heart.

    Attributes
    ----------
    tokens : int
        Tokens of the expression signature, each from a network of its own.
    width : int
        Length of a token.
    hidden : int
        Hidden units of each token's network.
    programmes : int
        Learned sums of genes the networks see (`PriorRecipe.sparsity`); 0 hands over the genes themselves.
    noise : float
        Gaussian noise added to the standardised expression in training.
    gene_dropout : float
        Share of genes hidden (value 0, mask 0) in training.
    drop : float
        Probability that the whole condition is replaced by the learned null: what guidance needs. 0: no guidance.
    drop_each : float
        Probability that one part (signature, compound, dose, time, cell line) alone is replaced.
    """

    tokens: Count = 4
    width: Count = 64
    hidden: Count = 256
    programmes: Annotated[int, Field(ge=0)] = 0
    noise: Weight = 0.5
    gene_dropout: Share = 0.0
    drop: Share = 0.1
    drop_each: Share = 0.0


class DenoiserSettings(_Strict):
    """Size of the latent U-Net.

    Attributes
    ----------
    widths : tuple of int
        Features per resolution.
    attention : tuple of bool
        Cross-attention to the condition, per resolution.
    blocks : int
        Residual blocks per resolution.
    heads : int
        Attention heads.
    norm_groups : int
    """

    widths: tuple[Count, ...] = (128, 192)
    attention: tuple[bool, ...] = (False, True)
    blocks: Count = 1
    heads: Count = 4
    norm_groups: Count = 16

    @model_validator(mode="after")
    def _consistent(self) -> DenoiserSettings:
        if len(self.attention) != len(self.widths) or not any(self.attention):
            raise ValueError(
                f"attention={self.attention}: one value per width {self.widths}, and at least one true: without "
                "cross-attention the condition cannot reach the image"
            )
        if any(width % self.norm_groups for width in self.widths):
            raise ValueError(
                f"widths={self.widths}: each must be a multiple of norm_groups={self.norm_groups}"
            )
        return self


class PriorRecipe(_Strict):
    """Everything that decides what morphology is expected of a signature (`morphgen.prior`).

    Attributes
    ----------
    members : int
        Networks whose mean is taken; 0 leaves morphology out of the condition.
    condition : ConditionSettings
        Size of each, and its noise; nothing is dropped.
    sparsity : float
        What every standardised gene costs in a programme, times its absolute weight (Tibshirani 1996). Phenotypes
        depend on some dozens of genes each; without it, the other hundreds are learned by heart.
    """

    members: Annotated[int, Field(ge=0)] = 3
    condition: ConditionSettings = ConditionSettings(hidden=128, programmes=32, noise=0.0, drop=0.0)
    sparsity: Weight = 1e-3
    training: TrainingSettings = TrainingSettings(
        steps=3000, batch_size=128, learning_rate=3e-3, warmup_steps=100, weight_decay=0.05, betas=(0.9, 0.99),
        ema_decay=0.99, gradient_clip=1.0, validate_every=500, checkpoint_every=500,
    )  # fmt: skip


class DiffusionRecipe(_Strict):
    """Everything that decides a latent diffusion model besides crops and signatures.

    Attributes
    ----------
    process : "flow", "v" or "epsilon"
        Flow matching on the straight path (Lipman 2023), or the diffusion of DDPM with v- (Salimans 2022) or
        noise prediction.
    source : "noise" or "control"
        Where a flow begins: Gaussian noise, or the latent of a control nucleus plus noise.
    source_noise : float
        Standard deviation of the noise on a control latent.
    norm : "l2" or "l1"
        Of the prediction error (MorphDiff: l1).
    prior : PriorRecipe
    views : int
        How many of the eight turns and mirrorings of each crop, drawn at random, are trained on.
    steps, sampler, guidance, strength, residual, corrections
        What the model is sampled with when nothing else is asked for (`morphgen.sampling.Sampling`).
    """

    schema_version: Literal[1] = 1
    kind: Literal["morphgen-diffusion"] = "morphgen-diffusion"
    name: Slug = "diffusion"
    summary: str = ""
    denoiser: DenoiserSettings = DenoiserSettings()
    condition: ConditionSettings = ConditionSettings()
    process: Literal["flow", "v", "epsilon"] = "flow"
    source: Literal["noise", "control"] = "noise"
    source_noise: Weight = 0.5
    norm: Literal["l2", "l1"] = "l2"
    prior: PriorRecipe = PriorRecipe()
    views: Annotated[int, Field(gt=0, le=8)] = 1
    sampler: Literal["multistep", "heun", "euler", "ddim", "dpm"] = "multistep"
    steps: Count = 6
    guidance: Weight = 1.0
    strength: Annotated[float, Field(ge=0, le=1)] = 0.55
    residual: Weight = 0.0
    corrections: Annotated[int, Field(ge=0)] = 3
    training: TrainingSettings = TrainingSettings(
        steps=4000, batch_size=32, learning_rate=1e-3, warmup_steps=100, weight_decay=1e-2, betas=(0.9, 0.99),
        ema_decay=0.998, gradient_clip=1.0, precision="bf16", validate_every=500, checkpoint_every=250,
    )  # fmt: skip

    @model_validator(mode="after")
    def _consistent(self) -> DiffusionRecipe:
        fits = SAMPLERS[self.process]
        if self.sampler not in fits:
            raise ValueError(
                f"sampler={self.sampler!r} does not fit process={self.process!r}; choose {' or '.join(fits)}"
            )
        if self.source == "control" and self.process != "flow":
            raise ValueError("source='control' needs process='flow': diffusion begins at noise")
        return self
