"""Training a staining network: the task that the one training loop runs, and the run that ends in a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from image2reg.atomic import atomic_file
from image2reg.errors import DataError
from image2reg.models.bundle import Bundle, bundle_of_run
from image2reg.models.devices import refuse_device
from image2reg.models.perceptual import lpips_distance
from image2reg.models.spec import Metric
from image2reg.models.train import FitResult, fit
from virtualstain.bundling import Facts, pack
from virtualstain.evaluate import ScoredField
from virtualstain.fields import fields_digest, standardise
from virtualstain.losses import StainLoss
from virtualstain.metrics import pearson
from virtualstain.networks import build_network
from virtualstain.networks.discriminator import ConditionalPatchDiscriminator, feature_matching
from virtualstain.networks.ensemble import joined_states
from virtualstain.networks.interface import StainNetwork
from virtualstain.patches import PatchSampler, StainField
from virtualstain.recipe import Recipe
from virtualstain.registration import find_shift, register, typical_shift
from virtualstain.requirements import refuse_misfits
from virtualstain.scoring import StainedFields
from virtualstain.staining import forward, stain_array

__all__ = ["StainTask", "TrainedStain", "member_folders", "network_arguments", "train"]


@dataclass(frozen=True)
class TrainedStain:
    """What `train` leaves behind: the bundle, its score table, the test fields to predict and the loop's own result."""

    bundle: Bundle
    scores: pd.DataFrame
    scored: StainedFields
    fit: FitResult


def train(
    splits: Mapping[str, Sequence[StainField]],
    recipe: Recipe,
    out: Path,
    *,
    facts: Facts,
    resume: bool = False,
    device: str = "auto",
    extra: Callable[[Sequence[list[ScoredField]]], Sequence[Metric]] | None = None,
    golden: NDArray[Any] | None = None,
) -> TrainedStain:
    """Train, test on fields that neither training nor model choice saw, and write a bundle to ``out/bundle``.

    Parameters
    ----------
    splits : mapping
        ``train``, ``validation`` and ``test`` to fields with unset scales; those without any stain are left out.
        Without validation the last weights are
        kept; without test the bundle holds no score. ``also-1``: fields that only member 1 of an ensemble trains on
        besides, so that members differ in more than their seed.
    recipe : Recipe
    out : Path
        Run directory: checkpoints, ``metrics.jsonl``, ``config.yaml``, ``bundle/``.
    facts : Facts
    resume : bool
        Continue from the newest checkpoint; a finished run is packed again without a step, and refused where its
        checkpoints are gone.
    extra : callable
        Scores of the predicted test fields that the table has no column for.
    golden : (C, Z, Y, X) array, optional
        Input of the golden sample (`virtualstain.bundling.pack`).

    Raises
    ------
    DataError
        Nothing to train on, a constant or non-finite channel, a stack thinner than the patch, fields that do not
        fit each other or the network (`virtualstain.requirements`).
    ConfigurationError
        A patch that does not fit the network or the adversary.
    """
    if not splits["train"]:
        raise DataError(
            "the training split is empty: nothing to train on. Check the split column of the manifest."
        )
    target = bundle_of_run(out, resume=resume, parts=member_folders(recipe))
    refuse_device(recipe.training, device)
    refuse_misfits(splits, recipe)
    splits = {name: [item for item in fields if item.present.any()] for name, fields in splits.items()}
    basis = {f"{k} fields": f"{len(v)}, sha256 {fields_digest(v)[:12]}" for k, v in splits.items()}
    training, reference = standardise(splits["train"], recipe)
    validation, _ = standardise(splits.get("validation", ()), recipe, reference=reference)
    test, _ = standardise(splits.get("test", ()), recipe, reference=reference)
    arguments = network_arguments(recipe, planes=int(training[0].inputs.shape[1]))
    offset = (0, 0)
    if recipe.registration:
        training, offset = _registered(
            training, recipe, arguments, out / "registration", basis=basis, device=device
        )
        validation = [register(item, offset) for item in validation]
    chosen = []
    for i, name in enumerate(member_folders(recipe)):
        own = standardise(splits.get(f"also-{i}", ()), recipe, reference=reference)[0]
        seed = recipe.training.seed + (0 if own else i)  # fields of its own set a member apart already
        settings = recipe.training.model_copy(update={"seed": seed})
        torch.manual_seed(seed)
        task = StainTask(build_network(**arguments), recipe, [*training, *own], validation)
        chosen.append(fit(task, settings, out / name, basis=basis, resume=resume, device=device))
    result, states = chosen[0], [r.best_state or r.last_state for r in chosen]
    if recipe.members > 1:
        shared = {k: arguments.pop(k) for k in ("in_channels", "out_channels")}
        arguments = {"name": "ensemble", "members": recipe.members, "member": arguments, **shared}
    logs = {f"training{f'-{i}' if i else ''}.jsonl": r.history_path for i, r in enumerate(chosen)}
    bundle, scores, scored = pack(
        target, recipe, arguments, joined_states(states) if recipe.members > 1 else states[0], reference,
        example=(test or validation or training)[0], golden=golden, test=test, facts=facts,
        steps=result.best_step or result.steps_done, minutes=sum(r.seconds for r in chosen) / 60, offset_px=offset,
        extra=extra, files=logs, overwrite=resume,
    )  # fmt: skip
    return TrainedStain(bundle, scores, scored, result)


def member_folders(recipe: Recipe) -> list[str]:
    """Folders in a run's that each member of an ensemble is trained in; a single network has the run's own."""
    return [f"member-{i}" for i in range(recipe.members)] if recipe.members > 1 else [""]


def network_arguments(recipe: Recipe, *, planes: int) -> dict[str, Any]:
    """Name and arguments of the recipe's network, as a bundle records them.

    A 2D network takes the planes of a stack as channels, and one with privileged information gives one output
    more than there are targets.
    """
    arguments = {"name": recipe.network.name, **recipe.network.arguments}
    with torch.device("meta"):
        flat = build_network(**arguments).dims == 2
    return {
        **arguments,
        "in_channels": len(recipe.inputs) * (planes if flat else 1),
        "out_channels": len(recipe.targets) + (recipe.loss.nuclei > 0),
    }


def _registered(
    training: Sequence[StainField],
    recipe: Recipe,
    arguments: dict[str, Any],
    out: Path,
    *,
    basis: dict[str, str],
    device: str,
) -> tuple[list[StainField], tuple[int, int]]:
    """Find each training pair's displacement with a short first training; give registered pairs and the median."""
    assert recipe.registration is not None
    first = recipe.training.model_copy(update={"steps": recipe.registration.steps})
    torch.manual_seed(first.seed)
    displaced = [item for item in training if not item.aligned]
    task = StainTask(build_network(**arguments), recipe, displaced, ())
    state = fit(task, first, out, basis=basis, resume=out.exists(), device=device).last_state
    network = task.network.cpu()
    network.load_state_dict(state)
    network.eval()
    found = []
    for item in displaced:
        whole = tuple(slice(0, n) for n in item.inputs.shape[1:])
        predicted = stain_array(
            network, item.read_input, tuple(item.inputs.shape[1:]), n_outputs=1, tile=recipe.tile
        )
        _, real, mask = item.read(whole)
        middle = predicted.shape[1] // 2
        found.append(
            find_shift(
                predicted[0, middle],
                real[0, middle].numpy(),
                mask[0, middle].numpy() > 0,
                reach=recipe.registration.reach_px,
            )
        )
    offset = typical_shift(found, trust=recipe.registration.trust)
    shifts = [shift if r >= recipe.registration.trust else offset for shift, r in found]
    table = pd.DataFrame(
        [
            (item.name, *shift, r, *used)
            for item, (shift, r), used in zip(displaced, found, shifts, strict=True)
        ],
        columns=["field", "shift_y_px", "shift_x_px", "pearson", "used_y_px", "used_x_px"],
    )
    with atomic_file(out / "shifts.csv", overwrite=True) as partial:
        table.to_csv(partial, index=False)
    set_right = [register(item, shift) for item, shift in zip(displaced, shifts, strict=True)]
    return [*set_right, *(item for item in training if item.aligned)], offset


class StainTask:
    """Regression, or regression with an adversary, from label-free patches to stained ones.

    Parameters
    ----------
    network : StainNetwork
    recipe : Recipe
    training : sequence of StainField
    validation : sequence of StainField
        Predicted whole; their mean Pearson correlation is the score.
    """

    def __init__(
        self,
        network: StainNetwork,
        recipe: Recipe,
        training: Sequence[StainField],
        validation: Sequence[StainField],
    ) -> None:
        flat = network.dims == 2
        if flat:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Not channels_last_3d: on a CPU its bfloat16 gradients of small maps (fnet3d's coarsest level) are garbage.
        self.recipe, self.validation, self.flat = recipe, list(validation), flat
        self.network = network
        self.phases: dict[str, nn.Module] = {"generator": network}
        planes = training[0].inputs.shape[1] if flat else recipe.patch[0]
        self.sampler = PatchSampler(
            training, (planes, *recipe.patch[1:]), recipe.augment, privileged=recipe.loss.privileged
        )
        perceptual = (
            lpips_distance(recipe.lpips_backbone) if recipe.loss.lpips and recipe.lpips_backbone else None
        )
        self.criterion = StainLoss(recipe.loss, perceptual=perceptual)
        if recipe.adversary:
            from monai.losses.adversarial_loss import PatchAdversarialLoss

            channels = len(recipe.inputs) * (planes if flat else 1)
            judge = ConditionalPatchDiscriminator(
                channels, len(recipe.targets), dims=network.dims, width=recipe.adversary.width,
                layers=recipe.adversary.layers,
            )  # fmt: skip
            judge.refuse_patch(recipe.patch)
            self.phases["discriminator"] = judge
            self.least_squares = PatchAdversarialLoss(criterion="least_squares")

    def batch(self, step: int, rng: np.random.Generator) -> dict[str, Any]:
        """Draw one augmented batch (`PatchSampler.draw`)."""
        del step  # what is drawn depends on the generator alone
        drawn = self.sampler.draw(self.recipe.training.batch_size, rng)
        stains = drawn["target"][:, : len(self.recipe.targets)]
        stains[:] = self.criterion.asked(stains)
        return drawn

    def loss(self, phase: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Terms of the generator's or of the discriminator's loss."""
        if phase == "discriminator":
            return self._discriminator_loss(batch)
        out = forward(self.network, batch["input"]).float()
        k = len(self.recipe.targets)
        fake, target, mask = out[:, :k], batch["target"][:, :k], batch["mask"][:, :k]
        nuclei, annotated = batch["target"][:, k:], batch["mask"][:, k:]
        weights = self.criterion.emphasised(mask, nuclei, annotated) if self.recipe.loss.emphasis else mask
        terms = self.criterion(fake, target, mask, weights)
        if self.recipe.loss.nuclei:
            terms["nuclei"] = self.criterion.nuclei(out[:, k:], nuclei, annotated)
            terms["loss"] = terms["loss"] + terms["nuclei"]
        if self.recipe.adversary:
            batch["fake"] = fake.detach()  # the discriminator judges what the generator was judged for
            judged, real = self._judge(batch, fake), self._judge(batch, target)
            settings = self.recipe.adversary
            terms["adversarial"] = settings.weight * self.least_squares(
                judged[-1], target_is_real=True, for_discriminator=False
            )
            terms["features"] = settings.weight * settings.feature_matching * feature_matching(judged, real)
            terms["loss"] = terms["loss"] + terms["adversarial"] + terms["features"]
        return terms

    def _judge(self, batch: dict[str, Any], stain: Tensor) -> list[Tensor]:
        x, masked = batch["input"], stain * batch["mask"][:, : stain.shape[1]]
        if self.flat:
            x, masked = x.flatten(1, 2), masked.squeeze(2)
        return self.phases["discriminator"](x, masked)

    def _discriminator_loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        target = batch["target"][:, : len(self.recipe.targets)]
        real, fake = self._judge(batch, target)[-1], self._judge(batch, batch["fake"])[-1]
        on_real = self.least_squares(real, target_is_real=True, for_discriminator=True)
        on_fake = self.least_squares(fake, target_is_real=False, for_discriminator=True)
        return {"loss": 0.5 * (on_real + on_fake)}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean over fields and present channels of Pearson's r in whole validation fields."""
        assert isinstance(module, StainNetwork)
        per_channel: dict[str, list[float]] = {name: [] for name in self.recipe.targets}
        for item in self.validation:
            shape = tuple(item.inputs.shape[1:])
            predicted = stain_array(
                module, lambda box, item=item: item.read_input(box), shape,  # type: ignore[misc]
                n_outputs=len(self.recipe.targets), tile=self.recipe.tile,
            )  # fmt: skip
            _, truth, mask = item.read(tuple(slice(0, n) for n in shape))
            for k, name in enumerate(self.recipe.targets):
                if item.present[k]:
                    inside = mask[k].numpy() > 0
                    per_channel[name].append(float(pearson(truth[k].numpy()[inside], predicted[k][inside])))
        scores = {name: float(np.nanmean(values)) for name, values in per_channel.items() if values}
        return {**scores, "score": float(np.mean(list(scores.values())))} if scores else {}
