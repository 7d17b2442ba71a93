"""What the training of a segmenter is told: defaults in the classes, a YAML file lists only what differs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from image2reg.models.settings import TrainingSettings
from image2reg.nuclei.segmenters.appearance import AugmentSettings

__all__ = ["DesignSettings", "SegmenterRecipe", "SplitSettings"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DesignSettings(_Strict):
    """A design by name (`image2reg.nuclei.segmenters.designs`) and the arguments of its network."""

    name: Literal["distance_unet", "three_class_unet", "hover_net", "mask_rcnn"] = "distance_unet"
    arguments: dict[str, Any] = Field(default_factory=dict)


class SplitSettings(_Strict):
    """Shares of groups that validate and test where the manifest does not say; the group is named at the command."""

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    test: Annotated[float, Field(ge=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0


class SegmenterRecipe(_Strict):
    """Everything that decides a segmenter besides its data.

    Attributes
    ----------
    start : str
        Bundle whose weights training starts from (a name or a directory); empty: from random weights.
    patch : int
        Side of a training patch in pixels at the working nucleus size of 28 pixels.
    diameter_px : float, optional
        Typical nucleus diameter of all images; measured on each image's labels when None.
    """

    schema_version: Literal[1] = 1
    kind: Literal["segmenter"] = "segmenter"
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] = "segmenter"
    summary: str = ""
    channel: str = "Hoechst"
    design: DesignSettings = DesignSettings()
    start: str = ""
    diameter_px: Annotated[float, Field(ge=3)] | None = None
    patch: Annotated[int, Field(ge=64, le=1024, multiple_of=32)] = 192
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings(
        steps=4000, batch_size=8, learning_rate=3e-3, weight_decay=1e-2, warmup_steps=100, betas=(0.9, 0.99),
        ema_decay=0.998, gradient_clip=1.0, precision="bf16", validate_every=250, checkpoint_every=250, log_every=50,
    )  # fmt: skip
    split: SplitSettings = SplitSettings()
