"""Training autoencoder and generator: data in, the one training loop, a bundle out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from image2reg.errors import DataError
from image2reg.models.bundle import Bundle, bundle_of_run
from image2reg.models.devices import refuse_device
from image2reg.models.train import fit
from image2reg.randomness import generator, integer_seed
from image2reg.tables.profiles import Profiles
from morphgen.autoencoder import MorphologyAutoencoder
from morphgen.bundling import (
    VAE,
    Facts,
    load_autoencoder,
    part_files,
    recipe_file,
    specification,
)
from morphgen.condition import Condition
from morphgen.crop_loading import refuse_unlike
from morphgen.crops import CropSet, IntensityRange, refuse_thin_perturbations
from morphgen.denoiser import ConditionalDenoiser
from morphgen.diffusion import SCHEDULE, DiffusionTask, LatentTable, descriptors_of, encode_all
from morphgen.domain import SignatureDomain
from morphgen.prior import MorphologyPrior, PriorTask, means_of
from morphgen.recipe import DiffusionRecipe, PriorRecipe, VaeRecipe
from morphgen.reconstruction import AutoencoderTask, Perceptual
from morphgen.residual import ResidualTexture
from morphgen.saving import save_autoencoder, save_generator
from morphgen.signature_condition import condition_of

__all__ = ["train_diffusion", "train_vae"]

MAX_REFERENCES, MAX_SCALED, MAX_RESIDUALS = 500, 4096, 1000


def train_vae(
    training: CropSet,
    validation: CropSet | None,
    recipe: VaeRecipe,
    out: Path,
    *,
    facts: Facts,
    perceptual: Perceptual | None = None,
    resume: bool = False,
    device: str = "auto",
) -> Bundle:
    """Train a morphology autoencoder and write it to ``out/bundle``.

    Parameters
    ----------
    training, validation : CropSet
        Signatures are not needed. Validation decides which weights are kept; without it the last are.
    recipe : VaeRecipe
    out : Path
        Run directory: checkpoints, ``metrics.jsonl``, ``bundle/``.
    facts : Facts
    perceptual : callable, optional
        Needed when the recipe gives it weight.
    resume : bool
        Continue from the newest checkpoint; a finished run is packed again without a step.

    Raises
    ------
    DataError
        Crops the autoencoder cannot take, a constant channel.
    """
    target = bundle_of_run(out, resume=resume)
    refuse_device(recipe.training, device)
    intensity = IntensityRange.of(training.images, recipe.range_quantiles)
    basis, x = _basis(training, validation), intensity.apply(training.images)
    held_out = x[:0] if validation is None else intensity.apply(validation.images)
    torch.manual_seed(recipe.training.seed)
    arguments = {
        "channels": len(training.channels),
        "dims": training.dims,
        "settings": recipe.autoencoder.model_dump(mode="json"),
    }
    network = MorphologyAutoencoder(**arguments)  # type: ignore[arg-type]
    network.refuse(x)
    network.fit(torch.from_numpy(x))
    result = fit(
        AutoencoderTask(network, recipe, x, held_out, perceptual=perceptual), recipe.training, out, basis=basis,
        resume=resume, device=device,
    )  # fmt: skip
    network.cpu().load_state_dict(result.best_state or result.last_state)
    network.eval()
    network.latent_scale = _latent_scale(network, x)
    arguments["latent_scale"] = network.latent_scale
    domain = {"residual": _residual(network, x)} if training.dims == 2 else {}
    spec = specification(
        recipe, {"vae": arguments}, channels=training.channels, dims=training.dims, voxel_um=training.voxel_um,
        intensity=intensity, facts=facts, steps=result.best_step or result.steps_done, minutes=result.seconds / 60,
        domain=domain,
    )  # fmt: skip
    files = {**part_files(network, None, {"vae": arguments}), **recipe_file(recipe, result.history_path)}
    return save_autoencoder(
        target,
        spec,
        files,
        (held_out if len(held_out) else x)[:4],
        training.channels,
        overwrite=resume,
    )


def _basis(training: CropSet, validation: CropSet | None) -> dict[str, str]:
    """Say what must stay when a run is resumed; also the split: the best weights were chosen on its validation."""
    return {
        f"{name} crops": "none" if crops is None else f"{len(crops)}, sha256 {crops.digest()[:12]}"
        for name, crops in (("training", training), ("validation", validation))
    }


@torch.no_grad()
def _residual(network: MorphologyAutoencoder, x: NDArray[np.float32]) -> dict[str, Any]:
    chosen = x[np.sort(generator(0, "residual").permutation(len(x))[:MAX_RESIDUALS])]
    decoded = torch.cat([network(part) for part in torch.from_numpy(chosen).split(64)]).numpy()
    return ResidualTexture.fit(chosen, decoded).as_dict()


def _latent_scale(network: MorphologyAutoencoder, x: NDArray[np.float32]) -> float:
    rows = generator(0, "latent scale").permutation(len(x))[:MAX_SCALED]
    return float(1 / encode_all(network, x[np.sort(rows)]).float().std())


def train_diffusion(
    training: CropSet,
    validation: CropSet | None,
    vae: Bundle,
    recipe: DiffusionRecipe,
    out: Path,
    *,
    facts: Facts,
    resume: bool = False,
    device: str = "auto",
) -> Bundle:
    """Train a generator on crops and their signatures and write it to ``out/bundle``.

    Parameters
    ----------
    training, validation : CropSet
        With signatures; the validation's should be other perturbations. Crops without a signature, and signatures
        without crops, are left out: the scale of genes and the range a signature may lie in are those of the training.
    vae : Bundle
        Autoencoder; becomes part of the bundle.
    recipe : DiffusionRecipe
    out, facts, resume, device
        As in `train_vae`.

    Raises
    ------
    DataError
        No signatures, one cell per perturbation, crops of other pixels or channels than the autoencoder's.
    """
    target = bundle_of_run(out, resume=resume)
    refuse_device(recipe.training, device)
    began, training = time.monotonic(), training.matched()
    refuse_thin_perturbations(training)
    signatures = training.signatures
    assert signatures is not None
    genes, seed = tuple(signatures.features), recipe.training.seed
    autoencoder, intensity = load_autoencoder(vae), IntensityRange.stored(vae.spec.normalisation.output)
    port, size = vae.spec.outputs[0], training.images.shape[2:]
    refuse_unlike(
        training, channels=port.channels, size_px=size, voxel_um=port.voxel_um, of="the autoencoder's"
    )
    cell_lines = _cell_lines(signatures)
    condition = condition_of(signatures, genes, cell_lines)
    table = _table(training, condition, autoencoder, intensity, recipe, views=recipe.views)
    held_out = None
    if validation is not None and validation.signatures is not None:
        validation = validation.matched()
        assert validation.signatures is not None
        other = condition_of(validation.signatures, genes, cell_lines)
        held_out = _table(validation, other, autoencoder, intensity, recipe, views=0)
    basis = _basis(training, validation if held_out is not None else None) | {"vae": vae.spec.files[VAE]}
    known: dict[str, Any] = {
        "genes": list(genes), "cell_lines": list(cell_lines),
        "dose": condition.dose is not None, "time": condition.time is not None,
    }  # fmt: skip
    arguments: dict[str, Any] = {
        "vae": vae.spec.architecture.arguments["vae"],
        "unet": {
            "latent_channels": int(table.latents.shape[2]),
            "latent_size": list(table.latents.shape[3:]),
            "settings": recipe.denoiser.model_dump(mode="json"),
        },
        "condition": {
            **known, **recipe.condition.model_dump(mode="json", exclude={"drop"}),
            "descriptors": table.descriptors.shape[1] if table.descriptors is not None else 0,
        },
        "sampling": recipe.model_dump(
            mode="json",
            include={
                "process", "source", "source_noise", "sampler", "steps", "guidance", "strength", "residual",
                "corrections",
            },
        ) | {"dropout": recipe.condition.drop},
        "crop_size": list(training.images.shape[2:]),
    }  # fmt: skip
    assert condition.expression is not None
    prior = None
    if table.descriptors is not None:
        arguments["prior"] = {
            "descriptors": table.descriptors.shape[1], "members": recipe.prior.members,
            "condition": {**known, **recipe.prior.condition.model_dump(mode="json", exclude={"drop"})},
        }  # fmt: skip
        prior = _trained_prior(
            arguments["prior"], recipe.prior, table, held_out, out / "prior", basis=basis, resume=resume,
            device=device,
        )  # fmt: skip
    torch.manual_seed(integer_seed(seed, "denoiser"))
    model = ConditionalDenoiser(**arguments["unet"], condition=arguments["condition"])
    model.condition.fit(condition.expression)
    prepared = time.monotonic() - began  # crops encoded, the prior trained
    task = DiffusionTask(model, recipe, table, held_out)
    result = fit(task, recipe.training, out, basis=basis, resume=resume, device=device)
    model.cpu().load_state_dict(result.best_state or result.last_state)
    domain, references = _domain(model, condition.expression, signatures, seed)
    spec = specification(
        recipe, arguments, channels=training.channels, dims=training.dims, voxel_um=training.voxel_um,
        intensity=intensity, facts=facts, steps=result.best_step or result.steps_done,
        minutes=(prepared + result.seconds) / 60,
        domain={**vae.spec.domain, "signature_quantiles": domain.quantiles.tolist()},
    )  # fmt: skip
    schedule = {"process": recipe.process, **(SCHEDULE if recipe.process != "flow" else {})}
    files: dict[str, Any] = {
        **part_files(autoencoder, model, arguments, prior=prior, scheduler=schedule),
        **recipe_file(recipe, result.history_path),
        "condition/references.safetensors": references,
    }
    if prior is not None:
        files["prior/training.jsonl"] = out / "prior" / "metrics.jsonl"
    begin = training.controls[:4] if recipe.source == "control" and training.controls is not None else None
    return save_generator(target, spec, files, signatures.rows(np.arange(1)), begin, overwrite=resume)


def _trained_prior(
    arguments: dict[str, Any],
    recipe: PriorRecipe,
    training: LatentTable,
    validation: LatentTable | None,
    out: Path,
    *,
    basis: dict[str, str],
    resume: bool,
    device: str,
) -> MorphologyPrior:
    """Train the prior on the tables' measurements; standardise those in place with what it calls usual."""
    assert training.descriptors is not None
    assert training.condition.expression is not None
    torch.manual_seed(integer_seed(recipe.training.seed, "prior"))
    prior = MorphologyPrior(**arguments)
    prior.fit(training.condition.expression, training.descriptors)
    means = []
    for table in (training, *([validation] if validation is not None else [])):
        assert table.descriptors is not None
        table.descriptors = prior.standardise(table.descriptors)
        shown, place = table.index.unique(return_inverse=True)  # a signature may have no crops
        means.append((table.condition.rows(shown), means_of(table.descriptors, place, len(shown))))
    task = PriorTask(prior, recipe, *means)
    result = fit(task, recipe.training, out, basis=basis, resume=resume, device=device)
    prior.cpu().load_state_dict(result.best_state or result.last_state)
    prior.eval()
    prior.keep_deviations(training.condition, training.index, training.descriptors)
    return prior


def _cell_lines(signatures: Profiles) -> tuple[str, ...]:
    if "Metadata_CellLine" not in signatures.frame:
        return ()
    return tuple(sorted(set(signatures.column("Metadata_CellLine")) - {""}))


def _table(
    crops: CropSet,
    condition: Condition,
    autoencoder: MorphologyAutoencoder,
    intensity: IntensityRange,
    recipe: DiffusionRecipe,
    *,
    views: int,
) -> LatentTable:
    intensity.refuse(crops.images, crops.channels, name=crops.name)
    autoencoder.refuse(x := intensity.apply(crops.images))
    latents = encode_all(autoencoder, x, views=views, seed=recipe.training.seed) * autoencoder.latent_scale
    descriptors = descriptors_of(x) if recipe.prior.members else None
    controls = None
    if recipe.source == "control":
        if crops.controls is None:
            raise DataError(
                f"{crops.name}: no control crops, which source='control' begins at. Use source='noise'."
            )
        controls = encode_all(autoencoder, intensity.apply(crops.controls)) * autoencoder.latent_scale
    rows = torch.from_numpy(crops.signature_index)
    return LatentTable(latents, rows, condition, descriptors=descriptors, controls=controls)


def _domain(
    model: ConditionalDenoiser, expression: Tensor, signatures: Profiles, seed: int
) -> tuple[SignatureDomain, bytes]:
    from safetensors.torch import save

    column = "Metadata_Perturbation" if "Metadata_Perturbation" in signatures.frame else None
    groups = signatures.column(column) if column else np.arange(len(signatures)).astype(str)
    rows = np.arange(n := len(signatures))
    if n > MAX_REFERENCES:
        rows = np.sort(generator(seed, "references").choice(n, MAX_REFERENCES, replace=False))
    standardised = model.condition.standardise(expression[rows])[0].numpy()
    domain = SignatureDomain.of(standardised, np.asarray(groups, str)[rows])
    return domain, save({"references": torch.from_numpy(domain.references).half()})
