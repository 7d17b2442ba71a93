"""What an encoder is trained with: one class, all defaults in it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from image2reg.models.settings import TrainingSettings

__all__ = ["VARIANTS", "EncoderRecipe", "Variant"]

Variant = Literal["both", "nucleus", "binary", "region", "context", "binary_both"]
VARIANTS: tuple[Variant, ...] = ("both", "nucleus", "binary", "region", "context", "binary_both")


class EncoderRecipe(BaseModel):
    """Settings of an encoder of nuclei.

    Attributes
    ----------
    name : str
    design : "small", "resnet9" or "two_branch_resnet18"
        Our fast default; the nine-convolution classifier of the SoRa epigenetic-profiling study with a pooled head; or
        Image2Reg's published design, a ResNet18 each for nucleus and region and a latent of 1024.
    objective : "classification", "supervised_contrast" or "self_supervised"
        Cross-entropy; Khosla et al. (2020); VICReg, Bardes et al. (2022), which sees no label.
    variant : str
        What the encoder is shown: ``both`` (the nucleus alone, and the region around it with it), ``nucleus`` (alone),
        ``binary`` (its mask), ``region`` (the region with the nucleus in it), ``context`` (the region with the nucleus
        blanked), ``binary_both`` (nucleus and region as masks).
    channels : tuple of str
        Of the crops; all when empty.
    nucleus_px : int
        Window around the nucleus, at most the crops' size.
    context_px : int
        The whole crop is averaged down to this.
    n_features : int
        Length of the embedding; fixed in the published two-branch design.
    training : TrainingSettings
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str = Field(default="nucleus-encoder", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    design: Literal["small", "resnet9", "two_branch_resnet18"] = "small"
    objective: Literal["classification", "supervised_contrast", "self_supervised"] = "classification"
    variant: Variant = "both"
    channels: tuple[str, ...] = ()
    nucleus_px: int = Field(default=32, ge=8, multiple_of=2)
    context_px: int = Field(default=32, ge=8)
    n_features: int = Field(default=128, ge=2)
    training: TrainingSettings = TrainingSettings(
        steps=300, batch_size=128, learning_rate=3e-3, weight_decay=0.02, warmup_steps=20, precision="bf16",
        workers=0, validate_every=300, checkpoint_every=300, gradient_clip=5.0,
    )  # fmt: skip

    @model_validator(mode="after")
    def _published_width(self) -> EncoderRecipe:
        if self.design == "two_branch_resnet18" and "n_features" in self.model_fields_set:
            raise ValueError("n_features: the published design has 1024; leave it out")
        return self
