"""What the commands do: files in, a run directory, crops or a table out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from image2reg.atomic import atomic_file, make_folder, refuse_existing, refuse_unmakeable
from image2reg.config import changed_settings, dump_config, load_config
from image2reg.errors import ConfigurationError, DataError, ProjectError
from image2reg.expression.signatures import SIGNATURE, Signatures, read_signatures
from image2reg.models.bundle import Bundle, bundle_of_run
from image2reg.models.devices import refuse_device
from image2reg.models.registry import find_bundle
from image2reg.models.spec import DataSource
from image2reg.models.train import refuse_other_settings
from image2reg.nuclei.crops import Crops
from image2reg.provenance import run_record, write_run
from image2reg.tables.profiles import Profiles
from morphgen.bundling import DIFFUSION_KIND, VAE, VAE_KIND, Facts, refuse_kind
from morphgen.crop_loading import crop_set, open_crops, refuse_unlike, split_crops
from morphgen.fidelity import evaluate, floors, measure_cells, one_each, shuffled
from morphgen.halves import comparable, halves
from morphgen.presets import diffusion_recipe, vae_recipe
from morphgen.recipe import DiffusionRecipe
from morphgen.report import arm_lines, arm_rows, write_report
from morphgen.sample import roots

__all__ = ["evaluate_files", "open_signatures", "train_diffusion_from", "train_vae_from"]

_NAMES_AND_SAMPLING = {
    "name", "summary", "sampler", "steps", "guidance", "strength", "residual", "corrections",
}  # fmt: skip


def open_signatures(
    path: Path, *, genes: list[str] | None = None, fill: bool = False, key: str = ""
) -> Signatures:
    """Read signatures in the order of `genes` (the 978 landmarks by default).

    Parameters
    ----------
    path : Path
        GCT, GCTX, CSV or Parquet.
    fill : bool
        Fill missing genes with 0 ("unchanged") instead of refusing.
    key : str
        Column that names the perturbation; where the table lacks it, the signature's own id is used.

    Returns
    -------
    Signatures
        What was filled stands in its notes.

    Raises
    ------
    DataError
        As `image2reg.expression.read_signatures`.
    """
    found = read_signatures(path, genes=genes, missing="zero" if fill else "refuse")
    frame = found.profiles.frame
    if key and key not in frame:
        named = Profiles(frame.assign(**{key: frame[SIGNATURE]}), source=str(path))
        return dataclasses.replace(found, profiles=named)
    return found


def _facts(data: Path, command: str, split: str, notes: tuple[str, ...] = ()) -> Facts:
    return Facts(
        command=command,
        sources=(DataSource(name=data.name, licence="unstated", credit="the trainer"),),
        split=split,
        intended_use="Crops and signatures like those it was trained on.",
        limits=("Not scored against held-out perturbations yet: run `morphgen evaluate`.", *notes),
    )


def _refuse_run(out: Path, recipe: Any, *, resume: bool, inputs: Mapping[str, Path]) -> None:
    """Refuse, before any crop is read, what cannot become or continue a run of this recipe.

    Raises
    ------
    DataError
        There is a run, or a complete one, where none may be.
    ConfigurationError
        The run to be resumed began with another recipe, other inputs, or other settings of training.
    """
    if out.exists() and not resume:
        raise DataError(
            f"{out}: already exists. Pass --resume to continue the run in it, or choose another --out."
        )
    bundle_of_run(out, resume=resume)
    if (out / "config.yaml").is_file():
        _refuse_other(out, recipe, run_record(seed=recipe.training.seed, inputs=inputs)["inputs"])
    refuse_other_settings(out, recipe.training, {})
    if isinstance(recipe, DiffusionRecipe):
        refuse_other_settings(out / "prior", recipe.prior.training, {})


@contextlib.contextmanager
def _run_folder(out: Path, recipe: Any, *, resume: bool, inputs: Mapping[str, Path]) -> Iterator[None]:
    """Make the folder of a run and say in it what is trained; what is refused before the first step leaves none."""
    made, continued = not out.exists(), resume and (out / "config.yaml").is_file()
    record = run_record(seed=recipe.training.seed, configuration=recipe, inputs=inputs)
    if not continued:
        _describe(out, recipe, record)
    try:
        yield
    except ProjectError:
        if made and not any(out.rglob("metrics.jsonl")):
            shutil.rmtree(out, ignore_errors=True)
        raise
    # What may change (more steps, say) is written down once the continuation was not refused.
    if continued:
        _describe(out, recipe, record)


def _describe(out: Path, recipe: Any, record: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with atomic_file(out / "config.yaml", overwrite=True) as partial:
        partial.write_text(dump_config(recipe), encoding="utf-8")
    write_run(out, record)


def _refuse_other(out: Path, recipe: Any, inputs: Mapping[str, Any]) -> None:
    """Refuse to continue a run under another recipe: one half would be trained for one thing, one for another.

    Settings of the training loop are compared by the loop itself, and what only names or samples may differ.
    """
    told = changed_settings(load_config(type(recipe), out / "config.yaml"), recipe)
    changed = [text for name, text in told.items() if not _may_change(name)]
    run = out / "run.json"
    began = json.loads(run.read_text("utf-8")).get("inputs", {}) if run.is_file() else {}
    changed += [
        f"{k}: {began[k]['path']} -> {inputs[k]['path']}"
        for k in inputs
        if k in began and began[k]["sha256"] != inputs[k]["sha256"]
    ]
    if changed:
        raise ConfigurationError(
            f"{out}: was begun with another recipe ({', '.join(changed)}). Restore it, or choose another --out."
        )


def _may_change(name: str) -> bool:
    return name in _NAMES_AND_SAMPLING or name.rpartition(".")[0].endswith("training")


def train_vae_from(
    data: Path,
    out: Path,
    *,
    config: str,
    overrides: list[str],
    hold_out: str,
    resume: bool,
    device: str,
    command: str,
) -> Bundle:
    """Train an autoencoder on files; a tenth of the groups named by column `hold_out` validates."""
    from morphgen.perceptual import perceptual_of
    from morphgen.train import train_vae

    recipe = vae_recipe(config, [*overrides, *_named(out, overrides)])
    _refuse_run(out, recipe, resume=resume, inputs={})
    refuse_device(recipe.training, device)
    crops = open_crops(data)
    perceptual = perceptual_of(recipe.loss)
    training, validation = _split(crop_set(crops, None), crops, hold_out, recipe.training.seed)
    split = f"by {hold_out or 'nothing'}: {len(training)} crops trained on, {len(validation or ())} for validation"
    with _run_folder(out, recipe, resume=resume, inputs={}):
        return train_vae(
            training, validation, recipe, out, facts=_facts(data, command, split), perceptual=perceptual,
            resume=resume, device=device,
        )  # fmt: skip


def train_diffusion_from(
    data: Path, signatures: Path, vae: str, out: Path, *, config: str, overrides: list[str], match: str, fill: bool,
    hold_out: str, resume: bool, device: str, command: str,
) -> Bundle:  # fmt: skip
    """Train a generator on files; a tenth of the perturbations validates."""
    from morphgen.train import train_diffusion

    recipe = diffusion_recipe(config, [*overrides, *_named(out, overrides)])
    bundle = find_bundle(vae, roots())
    refuse_kind(bundle, VAE_KIND, DIFFUSION_KIND)
    inputs = {"vae": bundle.file(VAE)}
    _refuse_run(out, recipe, resume=resume, inputs=inputs)
    refuse_device(recipe.training, device)
    crops, found = open_crops(data), open_signatures(signatures, fill=fill, key=match)
    table = found.profiles
    joined = crop_set(crops, table, key=match)
    kept = crops.rows(joined_rows(crops, table, match)) if len(joined) < len(crops) else crops
    training, validation = _split(joined, kept, hold_out or match, recipe.training.seed)
    split = (
        f"by {hold_out or match}: {len(training)} crops trained on, {len(validation or ())} for validation"
    )
    facts = _facts(data, command, split, found.notes)
    with _run_folder(out, recipe, resume=resume, inputs=inputs):
        return train_diffusion(
            training, validation, bundle, recipe, out, facts=facts, resume=resume, device=device
        )


def joined_rows(crops: Crops, signatures: Profiles, key: str) -> Any:
    """Mask of the crops whose perturbation has a signature."""
    known = set(signatures.column(key))
    return [name in known for name in crops.column(key)]


def _split(joined: Any, crops: Crops, column: str, seed: int) -> Any:
    if not column:
        return joined, None
    groups = crops.column(column)
    if len(groups) != len(joined):
        raise DataError(f"{crops.source}: {len(groups)} rows of {column} for {len(joined)} crops.")
    return split_crops(joined, groups, share=0.1, seed=seed)


def _named(out: Path, overrides: list[str]) -> list[str]:
    if any(o.startswith("name=") for o in overrides):
        return []
    slug = "".join(c if c.isalnum() else "-" for c in out.name.lower()).strip("-")
    if not slug:
        raise ConfigurationError(f"--out {out}: has no name to call the model by; add --set name=NAME.")
    return [f"name={slug}"]


def evaluate_files(
    real: Path, generated: Path, *, signatures: Path | None, training: Path | None, match: str, out: Path | None,
    overwrite: bool,
) -> dict[str, Any]:  # fmt: skip
    """Score generated crops against half of the real ones of the same perturbations; the other half is the ceiling.

    Every arm has the same number of nuclei of each perturbation. The halves share no well where `halves` finds several.
    Generated crops without the column `match` are named by their signature's own id, as `open_signatures` does it.
    Genes that the signatures lack are equal in all of them, and change nothing.

    Returns
    -------
    dict
        ``scores`` (one row per arm), ``notes`` (what was filled or left out) and ``text``; with `out`, ``scores.csv``
        and ``report.html`` are there.

    Raises
    ------
    DataError
        Crops that do not fit each other, no perturbation with enough cells on both sides, or one with no signature or
        several.
    """
    if out is not None:
        refuse_existing(out, overwrite=overwrite)
        refuse_unmakeable(out / "scores.csv")
    truth, made = open_crops(real), open_crops(generated)
    known = None if training is None else open_crops(training)
    size, voxel = truth.images.shape[2:], truth.voxel_um
    for crops in (made, *([] if known is None else [known])):
        refuse_unlike(crops, channels=truth.channels, size_px=size, voxel_um=voxel, of="the real ones")
    groups = truth.column(match)
    drawn = made.column(match if match in made.metadata or SIGNATURE not in made.metadata else SIGNATURE)
    names, notes = comparable(groups, drawn)
    chosen = halves(truth.metadata, groups, drawn, names)
    table = None
    if signatures is not None:
        found = open_signatures(signatures, fill=True, key=match)
        table = pd.DataFrame(found.profiles.values, index=found.profiles.column(match))
        one_each(table, names)  # refused before anything is measured
        notes += found.notes
    notes += chosen.notes
    reference, second, own = (
        measure_cells(crops.rows(rows).images, called[rows], channels=crops.channels)
        for crops, called, rows in (
            (truth, groups, chosen.first), (truth, groups, chosen.second), (made, drawn, chosen.drawn),
        )
    )  # fmt: skip
    arms = {"second real sample (ceiling)": second, "generated": own}
    trained = None
    if known is None:
        arms |= {"shuffled signatures": shuffled(own)} if len(names) > 1 else {}
    else:
        trained = measure_cells(known.images, known.column(match), channels=known.channels)
        arms |= floors(own, reference, trained, known.images, signatures=table, training_signatures=table)
    scored = evaluate(reference, arms, signatures=table, training=trained)
    rows = arm_rows(scored)
    if out is not None:
        make_folder(out)
        with atomic_file(out / "scores.csv", overwrite=True) as partial:
            pd.DataFrame(rows).to_csv(partial, index=False)
        said = ". ".join([f"{generated} against {real}", *notes])
        write_report(out / "report.html", "Generated nuclei against real ones", rows, note=said)
    text = "\n".join([arm_lines(rows), *(f"note: {note}" for note in notes)])
    return {"scores": rows, "notes": notes, "text": text}
