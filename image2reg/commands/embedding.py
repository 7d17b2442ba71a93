"""Commands that train encoders of nuclei, test them group by group, and embed crops."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from image2reg.commands.options import AsJson, Device, Out, Overwrite, Resume, Settings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from image2reg.embedding.recipe import EncoderRecipe
    from image2reg.nuclei.crops import Crops

_CROPS = typer.Argument(help="Crops of nuclei: a .zarr directory (image2reg crops).")


def train_encoder(
    crops: Annotated[Path, _CROPS],
    out: Out,
    *,
    label: Annotated[
        str, typer.Option("--label", help="Metadata column to tell apart, e.g. Metadata_Treatment.")
    ] = "",
    group: Annotated[
        str,
        typer.Option("--group", help="What is kept whole: field, well, plate, batch or a metadata column."),
    ] = "plate",
    config: Annotated[str, typer.Option("--config", help="Recipe: a YAML file.")] = "",
    settings: Settings = None,
    folds: Annotated[int, typer.Option("--folds", help="Cross-validation folds.", min=2)] = 3,
    levels: Annotated[
        bool, typer.Option("--levels/--no-levels", help="Score at every level the metadata tell apart.")
    ] = True,
    ablation: Annotated[
        bool,
        typer.Option("--ablation", help="Also score nucleus only, binarised, region only, matched nuclei."),
    ] = False,
    device: Device = "cpu",
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train an encoder of nuclei; cross-validate it with whole groups held out; write a bundle."""
    from image2reg.atomic import refuse_existing, refuse_inputs
    from image2reg.config import load_config
    from image2reg.console import command_line, emit
    from image2reg.embedding.encoder import save_encoder
    from image2reg.embedding.groups import group_of, known_levels, refuse_untestable
    from image2reg.embedding.recipe import EncoderRecipe
    from image2reg.embedding.training import train_encoder as run
    from image2reg.errors import DataError
    from image2reg.models.devices import refuse_device
    from image2reg.nuclei.crops import Crops

    run_folder = out.parent / f"{out.name}-run"
    refuse_inputs([out, run_folder], [crops])
    refuse_existing(out, overwrite=overwrite)
    if run_folder.exists() and not resume and not overwrite:
        raise DataError(
            f"{run_folder}: holds the training run of {out}. Pass --resume to continue it, --overwrite to begin again, "
            "or choose another --out."
        )
    recipe = load_config(EncoderRecipe, config or None, overrides=settings or ())
    refuse_device(recipe.training, device)
    cut = Crops.read(crops).load()
    labels, n_unlabelled = cut.column(label) if label else None, 0
    if labels is not None and (known := labels != "").any():
        n_unlabelled = int((~known).sum())
        cut, labels = cut.rows(known), labels[known]
    if labels is not None:
        refuse_untestable(labels, group_of(cut.metadata, group, cut.source), group=group, where=cut.source)
    if not resume:
        _clear(run_folder)
    # First the network that is kept: a run that cannot be resumed is refused before hours of cross-validation.
    made = run(
        cut,
        labels,
        recipe,
        out=run_folder,
        resume=resume,
        device=device,
        progress=not as_json,
    )
    tables: dict[str, pd.DataFrame] = {}
    if labels is not None:
        tried = [*known_levels(cut.metadata), group] if levels else [group]
        tables = _scored(
            cut, labels, recipe, run_folder, levels=list(dict.fromkeys(tried)), group=group, n_folds=folds,
            ablation=ablation, device=device, silent=as_json,
        )  # fmt: skip
    bundle = save_encoder(
        made, out, tables=tables, command=command_line("image2reg"), overwrite=overwrite,
        split=f"trained on all {len(cut)} nuclei; scores by {folds}-fold cross-validation, the group of each is named",
    )  # fmt: skip
    shown = [f"{name}\n{_text(table)}" for name, table in tables.items()]
    if n_unlabelled:
        shown.append(f"{n_unlabelled} nuclei without {label} left out")
    emit(
        {"bundle": str(bundle.directory), "n_unlabelled": n_unlabelled}
        | {name: _records(table) for name, table in tables.items()},
        "\n\n".join([*shown, f"bundle {bundle.directory}"]),
        as_json=as_json,
    )


def _clear(run_folder: Path) -> None:
    """Take away what an earlier run left, so that nothing of it is taken for this one's."""
    from image2reg.locking import run_lock

    if run_folder.exists():
        with run_lock(run_folder):
            for name in ("checkpoints", "folds"):
                shutil.rmtree(run_folder / name, ignore_errors=True)
            for name in ("metrics.jsonl", "levels.json", "ablation.json"):
                (run_folder / name).unlink(missing_ok=True)


def _scored(
    crops: Crops,
    labels: NDArray[Any],
    recipe: EncoderRecipe,
    run_folder: Path,
    *,
    levels: list[str],
    group: str,
    n_folds: int,
    ablation: bool,
    device: str,
    silent: bool,
) -> dict[str, pd.DataFrame]:
    """Cross-validate; rows that an earlier part of the same run has finished are taken from its folder."""
    from image2reg.console import progress_bar
    from image2reg.embedding.ablation import ablate
    from image2reg.embedding.kept import KeptRows, fingerprint
    from image2reg.embedding.levels import score_levels
    from image2reg.interruption import Interrupted
    from image2reg.locking import run_lock

    tables: dict[str, pd.DataFrame] = {}
    with run_lock(run_folder):
        made_from = fingerprint(crops, labels, recipe, n_folds=n_folds)
        kept = {"levels": KeptRows(run_folder / "levels.json", made_from)}
        if ablation:
            grouped = fingerprint(crops, labels, recipe, n_folds=n_folds, group=group)
            kept["ablation"] = KeptRows(run_folder / "ablation.json", grouped)
        folds = run_folder / "folds" / made_from[:12]  # of this recipe and these crops only
        for other in {*folds.parent.glob("*")} - {folds}:
            shutil.rmtree(other, ignore_errors=True)
        try:
            with progress_bar("levels", silent=silent, unit="fold") as report:
                tables["levels"] = score_levels(
                    crops, labels, recipe, levels=levels, n_folds=n_folds, device=device, kept=kept["levels"],
                    out=folds / "levels", report=report,
                )  # fmt: skip
            if ablation:
                with progress_bar("ablation", silent=silent, unit="fold") as report:
                    tables["ablation"] = ablate(
                        crops, labels, recipe, group=group, n_folds=n_folds, device=device, kept=kept["ablation"],
                        out=folds / "ablation", report=report,
                    )  # fmt: skip
        except (Interrupted, KeyboardInterrupt) as stop:
            number = stop.signal_number if isinstance(stop, Interrupted) else signal.SIGINT
            done = ", ".join(f"{len(rows)} of the {name}" for name, rows in kept.items())
            raise Interrupted(
                number,
                f"Interrupted in the cross-validation; finished are {done}, kept in {run_folder}. "
                "Continue with --resume.",
            ) from None
        shutil.rmtree(folds.parent, ignore_errors=True)
    return tables


def embed(
    crops: Annotated[Path, _CROPS],
    *,
    model: Annotated[Path, typer.Option("--model", help="Directory of an encoder's bundle.")],
    out: Out,
    origin: Annotated[
        str, typer.Option("--origin", help="What the crops show: real, predicted or generated stain.")
    ] = "real",
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Embed nuclei: one row of numbers per crop, with its metadata."""
    from image2reg.atomic import refuse_existing, refuse_inputs
    from image2reg.console import emit, progress_bar
    from image2reg.embedding.encoder import embed as run
    from image2reg.embedding.encoder import load_encoder
    from image2reg.nuclei.crops import Crops
    from image2reg.tables.profiles import refuse_format

    refuse_inputs([out], [crops, model])
    refuse_format(out)
    refuse_existing(out, overwrite=overwrite)
    encoder = load_encoder(model)
    with progress_bar("nuclei", silent=as_json) as report:
        profiles = run(Crops.read(crops), encoder, origin=origin, report=report)
    profiles.write(out, overwrite=overwrite)
    emit(
        {"written": str(out), "nuclei": len(profiles), "features": len(profiles.features)},
        f"{len(profiles)} nuclei, {len(profiles.features)} numbers each: {out}",
        as_json=as_json,
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _text(table: pd.DataFrame) -> str:
    return str(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
