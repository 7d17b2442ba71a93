"""What a training is told: one recipe, defaults in the classes, a YAML file lists only what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from image2reg.models.rounding import Precision
from image2reg.models.settings import TrainingSettings
from virtualstain.augment import AugmentSettings
from virtualstain.losses import StainLossSettings
from virtualstain.normalise import Method, Scope, Transform

__all__ = [
    "AdversarySettings",
    "NetworkSettings",
    "NormalisationSettings",
    "Recipe",
    "RegistrationSettings",
    "SplitSettings",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkSettings(_Strict):
    """A network by name (`virtualstain.networks`) and its arguments; channels are filled in from the data."""

    name: Literal["shuffle_unet", "fnet3d", "monai_unet"] = "shuffle_unet"
    arguments: dict[str, Any] = Field(default_factory=dict)


class NormalisationSettings(_Strict):
    """How a channel becomes network units (`virtualstain.normalise`)."""

    method: Method = "zscore"
    scope: Scope = "image"
    transform: Transform = "identity"


class AdversarySettings(_Strict):
    """The GAN's second player: MONAI's patch discriminator, least squares, feature matching."""

    weight: Annotated[float, Field(gt=0)] = 0.05
    feature_matching: Annotated[float, Field(ge=0)] = 1.0
    width: Annotated[int, Field(gt=0)] = 32
    layers: Annotated[int, Field(gt=0)] = 3


class SplitSettings(_Strict):
    """Which unit must not be in two splits ("auto": the coarsest there are enough of), and its shares."""

    group: str = "auto"
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSettings:
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"fractions={self.fractions}: train, validation and test shares must sum to 1")
        return self


class RegistrationSettings(_Strict):
    """Setting displaced training pairs right with a first, short training (`virtualstain.registration`)."""

    steps: Annotated[int, Field(gt=0)] = 1500
    reach_px: Annotated[int, Field(gt=0, le=64)] = 12
    trust: Annotated[float, Field(ge=-1, le=1)] = 0.3


class Recipe(_Strict):
    """Everything that decides a staining model besides the data.

    Attributes
    ----------
    inputs, targets : tuple of str
        Channel names in the manifest. A target may be missing for some fields.
    members : int
        Networks trained from seeds of their own and averaged; cost and size grow with them.
    weights : str
        What the bundle's weights are rounded to (`image2reg.models.rounding`).
    patch : (z, y, x)
        Voxels of a training patch.
    tile : (z, y, x)
        Largest window prediction hands to the network at once.
    lpips_backbone : Path, optional
        AlexNet weights (`image2reg.models.perceptual`), needed when ``loss.lpips`` is not 0.
    voxel_tolerance : float
        Relative difference of voxel size a bundle accepts without resampling.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")] = "stain"
    summary: str = ""
    inputs: tuple[str, ...] = ("Brightfield",)
    targets: tuple[str, ...] = ("Hoechst",)
    network: NetworkSettings = NetworkSettings()
    members: Annotated[int, Field(gt=0, le=16)] = 1
    weights: Precision = "float16"
    adversary: AdversarySettings | None = None
    input_normalisation: NormalisationSettings = NormalisationSettings()
    target_normalisation: NormalisationSettings = NormalisationSettings(scope="dataset")
    registration: RegistrationSettings | None = None
    patch: tuple[int, int, int] = (1, 192, 192)
    tile: tuple[int, int, int] = (32, 512, 512)
    voxel_tolerance: Annotated[float, Field(gt=0, le=1)] = 0.1
    augment: AugmentSettings = AugmentSettings()
    loss: StainLossSettings = StainLossSettings()
    lpips_backbone: Path | None = None
    training: TrainingSettings = TrainingSettings(
        steps=4000, batch_size=8, learning_rate=2e-3, weight_decay=1e-2, warmup_steps=100, betas=(0.9, 0.99),
        ema_decay=0.998, gradient_clip=1.0, precision="bf16", validate_every=500, checkpoint_every=500,
    )  # fmt: skip
    split: SplitSettings = SplitSettings()

    @model_validator(mode="after")
    def _names_once(self) -> Recipe:
        for role in ("inputs", "targets"):
            names = getattr(self, role)
            if not names or len(set(names)) != len(names):
                raise ValueError(f"{role}={names}: name at least one channel, each once")
        return self


def stack_defaults(thinnest: int) -> tuple[str, ...]:
    """Give what differs from the defaults where the target is a stack: the thin 3D network, and gentler augmentation.

    Parameters
    ----------
    thinnest : int
        Planes of the thinnest stack; a patch has at most as many, in multiples of what the network halves.
    """
    depth = min(16, max(4, thinnest // 4 * 4))
    return (
        "network.arguments={dims: 3, patch: [1, 4, 4], widths: [32, 96, 128], down: [[2, 2, 2], [2, 2, 2]]}",
        f"patch=[{depth}, 96, 96]",
        "tile=[32, 256, 256]",
        "training.batch_size=4",
        "augment={magnification: 1.2, blur_px: 0.8, noise: 0.1, illumination: 0.1}",
    )
