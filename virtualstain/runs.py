"""What the command `train` does: data in, a run directory out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from image2reg.atomic import atomic_file, make_folder
from image2reg.config import changed_settings, dump_config, load_config
from image2reg.errors import ConfigurationError, DataError
from image2reg.models.bundle import bundle_of_run
from image2reg.models.devices import refuse_device
from image2reg.models.settings import free_settings
from image2reg.models.spec import DataSource
from image2reg.provenance import run_record, write_run
from image2reg.report.staining import shown_fields
from virtualstain.bundling import Facts
from virtualstain.loading import open_manifest, split_fields, with_split
from virtualstain.model import from_bundle, roots
from virtualstain.recipe import Recipe, stack_defaults
from virtualstain.requirements import refuse_misfits
from virtualstain.staining_page import below_floor, write_report
from virtualstain.train import TrainedStain, member_folders, train

__all__ = ["find_recipe", "train_from"]


def find_recipe(config: str) -> Path | None:
    """Find a recipe: a YAML file, or the one of a shipped or local bundle by name; None for the defaults.

    Raises
    ------
    ConfigurationError
        Neither; the names there are are given.
    """
    if not config:
        return None
    if Path(config).is_file():
        return Path(config)
    shipped = {
        p.parent.name: p for root in roots() if root.is_dir() for p in sorted(root.glob("*/config.yaml"))
    }
    if config in shipped:
        return shipped[config]
    raise ConfigurationError(
        f"--config {config}: no such file, and no shipped recipe of that name; there are {', '.join(sorted(shipped))}. "
        "Without --config the defaults are used."
    )


def train_from(
    data: Path,
    out: Path,
    *,
    config: str = "",
    inputs: Sequence[str] = (),
    targets: Sequence[str] = (),
    overrides: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    command: str = "",
) -> TrainedStain:
    """Train from a manifest or folder into a run directory.

    Parameters
    ----------
    data : Path
        Manifest or folder.
    out : Path
        ``bundle/``, ``report.html``, ``manifest.csv``, ``config.yaml``, ``run.json``, ``metrics.jsonl``,
        ``checkpoints/``.
    config : str
        Recipe file or name; the defaults fit flat and stacked targets by themselves.
    inputs, targets : sequence of str
        Channels, when they are not the recipe's; ``Name=source`` as in `open_manifest`.
    overrides : sequence of str
        ``a.b=value``.
    resume : bool
        Continue the run in `out`, with the recipe, images and split it began with.

    Raises
    ------
    DataError, ConfigurationError, TrainingError
    """
    if out.exists() and not resume:
        raise DataError(
            f"{out}: already exists. Pass --resume to continue the training it holds, or choose another --out."
        )
    overrides = list(overrides)
    for role, given in (("inputs", inputs), ("targets", targets)):
        if given:
            overrides.append(f"{role}={json.dumps([_name(g) for g in given])}")  # quoted: a name may be 405
    if not any(o.startswith("name=") for o in overrides):
        overrides.append(f'name="{_slug(out.name)}"')
    found = find_recipe(config)
    if (
        found is not None
        and not Path(config).is_file()
        and not any(o.startswith("split.group=") for o in overrides)
    ):
        overrides.append("split.group=auto")  # a shipped recipe names the groups of its own data
    recipe = load_config(Recipe, found, overrides=overrides)
    # Refused before the images are read.
    bundle_of_run(out, resume=resume, parts=member_folders(recipe))
    refuse_device(recipe.training, device)
    if resume:
        _refuse_another_recipe(out, recipe, *([] if config else _of_stacks(out, overrides)))
    manifest = open_manifest(data, inputs=inputs or recipe.inputs, targets=targets or recipe.targets)
    manifest, group = with_split(manifest, recipe.split)
    rows = manifest.frame.to_csv(index=False)
    if resume:
        _refuse_other_data(out, rows)
    fields = split_fields(manifest, recipe, group=group)
    if not config and any(f.targets.shape[1] > 1 for f in fields["train"]):
        thinnest = min(int(f.inputs.shape[1]) for f in fields["train"])
        recipe = load_config(Recipe, None, overrides=[*stack_defaults(thinnest), *overrides])
    refuse_misfits(fields, recipe)
    if resume:
        _refuse_another_recipe(out, recipe)
    make_folder(out)
    with atomic_file(out / "manifest.csv", overwrite=True) as partial:
        partial.write_text(rows, encoding="utf-8")
    with atomic_file(out / "config.yaml", overwrite=True) as partial:
        partial.write_text(dump_config(recipe), encoding="utf-8")
    inputs_used = {"manifest.csv": out / "manifest.csv"}
    write_run(out, run_record(seed=recipe.training.seed, configuration=recipe, inputs=inputs_used))
    stained = {name: sum(bool(f.present.any()) for f in items) for name, items in fields.items()}
    counts = ", ".join(f"{name} {n} fields" for name, n in stained.items())
    facts = Facts(
        command=command or f"virtualstain train --data {data.name}",
        licence="unstated: the trainer's own",
        sources=(DataSource(name=data.name, licence="unstated", credit="the trainer"),),
        split=f"by {group}, seed {recipe.split.seed}: {counts}",
        limits=("Scores hold for data like the test split; whole groups of it were held out.",),
    )
    done = train(fields, recipe, out, facts=facts, resume=resume, device=device)
    if len(done.scores):
        with atomic_file(out / "scores.csv", overwrite=True) as partial:
            done.scores.to_csv(partial, index=False)
        ranks = done.scored.ranks
        shown = [done.scored[i] for i in shown_fields(ranks)]
        write_report(
            out / "report.html", from_bundle(done.bundle), shown, done.scores, command=facts.command,
            flags=below_floor(done.scores), n_fields=sum(map(math.isfinite, ranks)) or len(ranks),
            provenance={"data": str(data), "split": facts.split}, overwrite=True,
        )  # fmt: skip
    return done


def _of_stacks(out: Path, overrides: Sequence[str]) -> list[Recipe]:
    """Give the defaults of a run on stacks as thin as those `out` began with: its images are not read yet."""
    if not (out / "config.yaml").is_file():
        return []
    depth = load_config(Recipe, out / "config.yaml").patch[0]
    return [load_config(Recipe, None, overrides=[*stack_defaults(depth), *overrides])]


def _refuse_another_recipe(out: Path, *recipes: Recipe) -> None:
    """Refuse to continue a run with settings that none of `recipes` shares; what it has on record stays."""
    if not (out / "config.yaml").is_file():
        return
    began = load_config(Recipe, out / "config.yaml")
    changes = []
    for recipe in recipes:
        free = _FREE | {f"training.{name}" for name in free_settings(recipe.training)}
        changes.append([text for name, text in changed_settings(began, recipe).items() if name not in free])
    if changed := min(changes, key=len):
        raise ConfigurationError(
            f"{out}: was begun with another recipe ({'; '.join(changed[:5])}). Repeat --config, --set, --input and "
            f"--target of the first call (--config {out / 'config.yaml'} has them all), or choose another --out."
        )


def _refuse_other_data(out: Path, rows: str) -> None:
    if (out / "manifest.csv").is_file() and (out / "manifest.csv").read_text(encoding="utf-8") != rows:
        raise ConfigurationError(
            f"{out}: was begun with other images or another split (its manifest.csv is not what --data and the split "
            "give now). Give the data as they were, or choose another --out."
        )


# Besides what `fit` lets a continuation change: what only prediction and the bundle are told.
_FREE = {"name", "summary", "weights", "tile", "voxel_tolerance"}


def _name(given: str) -> str:
    return given.partition("=")[0]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64] or "stain"
