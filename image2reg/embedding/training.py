"""Training an encoder of nuclei, through the project's one training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from image2reg.config import settings_by_name
from image2reg.embedding.inputs import Scale, measure_scale, prepare
from image2reg.embedding.networks import EncoderNetwork, build_encoder
from image2reg.embedding.objectives import supervised_contrast, variance_invariance_covariance
from image2reg.errors import DataError
from image2reg.models.train import fit, fit_unkept
from image2reg.nuclei.voxels import PIXEL_TOLERANCE, other_pixels
from image2reg.provenance import json_sha256
from image2reg.randomness import integer_seed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from image2reg.embedding.recipe import EncoderRecipe, Variant
    from image2reg.nuclei.crops import Crops

__all__ = ["TrainedEncoder", "run_network", "train_encoder"]

# Spread of the brightness that augmentation makes up, in log units; and of pixel noise, in typical brightness.
_GAIN, _NOISE = 0.1, 0.05


class TrainedEncoder:
    """A network with what it needs to be run on crops.

    Attributes
    ----------
    network : EncoderNetwork, in evaluation mode
    scale : Scale
    recipe : EncoderRecipe
        With `channels` filled in.
    classes : tuple of str
        What the logits are for; empty where no classification was trained.
    crop_channels : tuple of str
        Channels that `scale` lists.
    crop_px : int
        Edge length of the training crops, 0 where unknown.
    voxel_um : (y, x)
        Of the training crops, None where unknown.
    trained_on : str
        `Crops.digest` of the training crops, empty where unknown.
    seconds : float
        Training time.
    steps : int
        Steps that were taken; None where the network was trained elsewhere: those of the recipe.
    log : bytes
        Training log (``metrics.jsonl``), empty where unknown.
    """

    def __init__(
        self,
        network: EncoderNetwork,
        scale: Scale,
        recipe: EncoderRecipe,
        classes: Sequence[str],
        *,
        crop_channels: Sequence[str] = (),
        crop_px: int = 0,
        voxel_um: tuple[float | None, float | None] = (None, None),
        trained_on: str = "",
        seconds: float = 0.0,
        steps: int | None = None,
        log: bytes = b"",
    ) -> None:
        self.network, self.scale, self.recipe = network.eval(), scale, recipe
        self.classes, self.seconds, self.log = tuple(classes), seconds, log
        self.steps = recipe.training.steps if steps is None else steps
        self.crop_channels = tuple(crop_channels or recipe.channels)
        self.crop_px, self.voxel_um, self.trained_on = crop_px, voxel_um, trained_on

    def embed(self, crops: Crops) -> NDArray[np.float32]:
        """Embed crops, (N, D) float32."""
        return run_network(self.network.embed, self.inputs(crops))

    def inputs(self, crops: Crops) -> dict[str, NDArray[np.float16]]:
        """Prepare crops for the network; their channels may be more, and in another order, than in training.

        Raises
        ------
        DataError
            Channels are missing, or crops at another scale than in training: their numbers would be no comparison.
        """
        self._refuse_other_scale(crops)
        scale = self.scale
        if crops.channels != self.crop_channels:
            level = {
                name: (b, n)
                for name, b, n in zip(self.crop_channels, scale.background, scale.nuclear, strict=True)
            }
            pairs = [level.get(name, (0.0, 1.0)) for name in crops.channels]
            scale = Scale(tuple(b for b, _ in pairs), tuple(n for _, n in pairs))
        return prepare(crops, scale, self.recipe)

    def _refuse_other_scale(self, crops: Crops) -> None:
        # the region is the whole crop, averaged down; the nucleus is a window of pixels whatever the crop's size
        if self.crop_px and crops.size_px != self.crop_px and "context" in self.network.branches:
            raise DataError(
                f"{crops.source}: crops of {crops.size_px} px, but encoder {self.recipe.name!r} was trained on crops "
                f"of {self.crop_px} px. Cut them alike (image2reg crops --size {self.crop_px})."
            )
        if other_pixels(crops.voxel_um, self.voxel_um):
            raise DataError(
                f"{crops.source}: pixels of {crops.voxel_um} um (y, x), but encoder {self.recipe.name!r} was trained "
                f"on pixels of {self.voxel_um} um (within {PIXEL_TOLERANCE:.0%}). Resample the images before cutting "
                "crops, or train an encoder on such images."
            )

    def probabilities(self, crops: Crops) -> NDArray[np.float32]:
        """Probability of each class, (N, classes) float32."""
        logits = run_network(self.network, self.inputs(crops))
        return functional.softmax(torch.from_numpy(logits), dim=1).numpy()


def run_network(
    call: Any, inputs: dict[str, NDArray[np.float16]], *, batch: int = 512
) -> NDArray[np.float32]:
    """Run a network over prepared inputs in batches, without gradients."""
    n = len(next(iter(inputs.values())))
    found = []
    with torch.inference_mode():
        for start in range(0, n, batch):
            part = {
                k: torch.from_numpy(v[start : start + batch].astype(np.float32)) for k, v in inputs.items()
            }
            found.append(call(part).float().numpy())
    return np.concatenate(found)


class EncoderTask:
    """Batches with equally many nuclei per class, turned, mirrored and dimmed at random."""

    def __init__(
        self, network: EncoderNetwork, inputs: dict[str, NDArray[np.float16]], labels: NDArray[np.int64],
        recipe: EncoderRecipe,
    ) -> None:  # fmt: skip
        self.phases: dict[str, nn.Module] = {"encoder": network}
        self.inputs, self.labels, self.recipe = inputs, labels, recipe
        self.members = [np.flatnonzero(labels == c) for c in np.unique(labels)]

    def batch(self, step: int, rng: np.random.Generator) -> dict[str, Any]:
        """Draw one batch; contrast and self-supervision get two views of each nucleus."""
        classes = rng.integers(0, len(self.members), self.recipe.training.batch_size)
        drawn = np.array([rng.choice(self.members[c]) for c in classes])
        if self.recipe.objective == "self_supervised":  # labels must not decide even who is drawn
            drawn = rng.integers(0, len(self.labels), self.recipe.training.batch_size)
        views = 1 if self.recipe.objective == "classification" else 2
        batch: dict[str, Any] = {"ids": drawn, "labels": torch.from_numpy(self.labels[drawn])}
        for view in range(views):
            turn, gain = rng.integers(0, 8, len(drawn)), np.exp(rng.normal(0, _GAIN, (len(drawn), 1, 1, 1)))
            for name, values in self.inputs.items():
                shown = values[drawn].astype(np.float32) * gain.astype(np.float32)
                shown += rng.normal(0, _NOISE, shown.shape).astype(np.float32) * (shown != 0)
                batch[f"{name}{view}"] = torch.from_numpy(_turned(shown, turn))
        return batch

    def loss(self, phase: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Give the objective's loss."""
        network: Any = self.phases[phase]
        views = [
            {name: batch[f"{name}{v}"] for name in self.inputs}
            for v in range(2)
            if f"{next(iter(self.inputs))}{v}" in batch
        ]
        if self.recipe.objective == "classification":
            logits = network(views[0])
            return {"loss": functional.cross_entropy(logits.float(), batch["labels"], label_smoothing=0.05)}
        # the head is not part of these objectives, but every weight must have a gradient
        unused = 0.0 * sum(p.sum() for p in network.head.parameters())
        first, second = (network.embed(view) for view in views)
        if self.recipe.objective == "self_supervised":
            return {"loss": variance_invariance_covariance(first, second) + unused}
        both = torch.cat([first, second])
        return {"loss": supervised_contrast(both, batch["labels"].repeat(2)) + unused}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """No validation: settings are fixed before, scores come from cross-validation."""
        return {}


def _turned(images: NDArray[np.float32], turn: NDArray[np.int64]) -> NDArray[np.float32]:
    made = np.empty_like(images)
    for number in range(8):
        chosen = np.flatnonzero(turn == number)
        shown = np.rot90(images[chosen], number % 4, axes=(2, 3))
        made[chosen] = shown[..., ::-1] if number >= 4 else shown
    return made


def train_encoder(
    crops: Crops,
    labels: NDArray[Any] | None,
    recipe: EncoderRecipe,
    *,
    variant: Variant | None = None,
    out: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> TrainedEncoder:
    """Train an encoder on crops.

    Parameters
    ----------
    crops : Crops
        With masks; read into memory.
    labels : (N,) str, or None
        Class of each nucleus, none of them empty; None with the self-supervised objective only.
    recipe : EncoderRecipe
    variant : str, optional
        Instead of the recipe's.
    out : Path, optional
        Directory of the run (log, checkpoints); a temporary one when not given.
    resume : bool
    device, progress
        As for `image2reg.models.fit`.

    Returns
    -------
    TrainedEncoder

    Raises
    ------
    DataError
        Fewer than two classes, or crops that the recipe cannot use.
    ConfigurationError
        The run to be resumed began with another recipe, other crops or other labels.
    """
    crops = crops.load()
    recipe = recipe.model_copy(
        update={"variant": variant or recipe.variant, "channels": recipe.channels or crops.channels}
    )
    if labels is None and recipe.objective != "self_supervised":
        raise DataError(f"{crops.source}: the objective {recipe.objective!r} needs a label per nucleus.")
    given = np.asarray(labels, str) if labels is not None else np.zeros(len(crops), str)
    classes, numbers = np.unique(given, return_inverse=True)
    if labels is not None and len(classes) < 2:
        raise DataError(
            f"{crops.source}: all {len(crops)} nuclei have the label {classes[0]!r}; two are needed."
        )
    if labels is not None and "" in classes:
        raise DataError(
            f"{crops.source}: {int((given == '').sum())} of {len(crops)} nuclei have no label; leave them out first."
        )
    # Only classification trains the head: the logits of another objective mean nothing.
    known = classes.tolist() if recipe.objective == "classification" else []
    scale = measure_scale(crops)
    inputs = prepare(crops, scale, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(recipe.training.seed, "encoder"))
        network = build_encoder(recipe.design, **network_arguments(recipe, tuple(inputs), max(2, len(known))))
    task = EncoderTask(network, inputs, numbers.astype(np.int64), recipe)
    digest = crops.digest()
    basis = settings_by_name(recipe, without=("training", "name")) | {
        "crops": f"{len(crops)}, sha256 {digest[:12]}",
        "labels": f"{len(classes)}, sha256 {json_sha256(given.tolist())[:12]}",
    }
    if out is None:
        result, log = fit_unkept(task, recipe.training, device=device, progress=progress), b""
    else:
        result = fit(task, recipe.training, out, basis=basis, resume=resume, device=device, progress=progress)
        log = result.history_path.read_bytes()
    network.cpu().load_state_dict(result.last_state)
    return TrainedEncoder(
        network, scale, recipe, known, crop_channels=crops.channels, crop_px=crops.size_px, voxel_um=crops.voxel_um,
        trained_on=digest, seconds=result.seconds, steps=result.steps_done, log=log,
    )  # fmt: skip


def network_arguments(recipe: EncoderRecipe, branches: tuple[str, ...], n_classes: int) -> dict[str, Any]:
    """Arguments of the network, as a bundle stores them."""
    n_features = 1024 if recipe.design == "two_branch_resnet18" else recipe.n_features
    return {
        "branches": list(branches), "n_channels": len(recipe.channels), "n_features": n_features,
        "n_classes": n_classes,
    }  # fmt: skip
