"""Commands that find nuclei, score what was found, and train what finds them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from image2reg.commands.options import (
    AsJson,
    Device,
    DiameterPx,
    DiameterUm,
    NucleusChannel,
    Out,
    Overwrite,
    PixelUm,
    Resume,
    Settings,
    Tta,
)
from image2reg.wording import counted

_MODEL = typer.Option(
    "--model", help="nuclei (shipped), classical, texture (phase contrast), a bundle's name or its directory."
)

# Flagged fields that are named on stdout; all are in the table.
_SHOWN = 20


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images, folders of images, or an OME-Zarr plate.")],
    out: Out,
    *,
    model: Annotated[str, _MODEL] = "nuclei",
    channel: NucleusChannel = None,
    diameter_px: DiameterPx = None,
    diameter_um: DiameterUm = None,
    voxel_um: PixelUm = None,
    tta: Tta = False,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find nuclei: label images, and of a folder or plate a table of counts and quality flags (fields.csv)."""
    from image2reg.console import emit, progress_bar
    from image2reg.nuclei.segmenters.batch import segment_many
    from image2reg.nuclei.segmenters.catalogue import load_segmenter
    from image2reg.tables.side_tables import failures_path, write_failures

    failures_path(out)  # refused before any work
    with progress_bar("segmenting", silent=as_json) as progress:
        done = segment_many(
            inputs, out, segmenter=load_segmenter(model, device=device, tta=tta), channel=channel,
            diameter_px=diameter_px, diameter_um=diameter_um,
            voxel_um=None if voxel_um is None else (None, voxel_um, voxel_um),
            overwrite=overwrite, resume=resume, progress=progress,
        )  # fmt: skip
    failures = write_failures(done.failures, out)
    n_objects = sum(row["n_objects"] for row in done.written)
    flagged = [row for row in done.written if row.get("flags") or row.get("note")]
    lines = [f"{counted(n_objects, 'object')} in {counted(len(done.written), 'field')}: {out}"]
    if done.n_other:
        lines.append(f"{counted(done.n_other, 'file')} of other channels left out")
    if done.n_present:
        lines = lines if done.written else []
        lines += [f"{counted(done.n_present, 'field')} already there: {out}"]
    lines += [f"{row['source']}: {_remarks(row)}" for row in flagged[:_SHOWN]]
    if len(flagged) > _SHOWN:
        lines += [f"and {counted(len(flagged) - _SHOWN, 'more flagged field')}; see {done.table}"]
    lines += [f"{len(done.failures)} failed; see {failures}"] if failures else []
    result = {
        "model": model, "objects": n_objects, "fields": done.written, "failures": done.failures,
        "already_there": done.n_present, "other_channels": done.n_other,
        "table": None if done.table is None else str(done.table),
    }  # fmt: skip
    emit(result, "\n".join(lines), as_json=as_json)
    if done.failures:
        raise typer.Exit(5)


def _remarks(row: dict[str, Any]) -> str:
    """Join the flags and the note of a field."""
    return "; ".join(filter(None, [", ".join(row.get("flags", ())), row.get("note", "")]))


def match(
    labels: Annotated[Path, typer.Argument(help="A label image or a folder of them.")],
    truth: Annotated[
        Path, typer.Argument(help="The true labels: an image, or a folder with the same names.")
    ],
    *,
    threshold: Annotated[
        list[float] | None,
        typer.Option("--threshold", help="IoU that counts as found; repeat. 0.5 to 0.9 when not given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score labels against the truth: F1, AP, PQ per IoU, pooled and by image, AJI and pixel Jaccard."""
    from image2reg.console import emit
    from image2reg.nuclei.comparison import compare_labels, comparison_lines

    found = compare_labels(labels, truth, thresholds=threshold)
    emit(found, comparison_lines(found), as_json=as_json)


def train_segmenter(
    data: Annotated[Path, typer.Option("--data", help="Images: a folder, or a manifest (.csv, .parquet).")],
    out: Out,
    *,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", help="Folder of label images named like the images, without a manifest."),
    ] = None,
    config: Annotated[str, typer.Option("--config", help="Recipe: a YAML file.")] = "",
    settings: Settings = None,
    group: Annotated[
        str,
        typer.Option(
            "--group", help="What must not be in two splits: field, well, plate or a manifest column."
        ),
    ] = "field",
    channel: Annotated[
        str | None, typer.Option("--channel", help="Channel of the nuclei in multi-channel images.")
    ] = None,
    device: Device = "auto",
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train a segmenter on your own images and masks, test it on held-out groups, write a bundle."""
    from image2reg.config import load_config
    from image2reg.console import command_line, emit
    from image2reg.models.devices import refuse_device
    from image2reg.nuclei.segmenters.own_data import split_fields
    from image2reg.nuclei.segmenters.recipe import SegmenterRecipe
    from image2reg.nuclei.segmenters.training import Facts, refuse_run
    from image2reg.nuclei.segmenters.training import train_segmenter as run

    recipe = load_config(SegmenterRecipe, config or None, overrides=settings or ())
    refuse_run(out, recipe, resume=resume)
    refuse_device(recipe.training, device)
    splits, said = split_fields(data, masks, recipe, group=group, channel=channel)
    facts = Facts(
        command=command_line("image2reg"), licence="that of the training images", split=said,
        limits=("Trained on one user's images; how far it carries to others was not measured.",),
    )  # fmt: skip
    made = run(splits, recipe, out, facts=facts, resume=resume, device=device)
    scores: list[dict[str, Any]] = [metric.model_dump(mode="json") for metric in made.bundle.spec.metrics]
    lines = [
        f"{m['name']}: {m['value']:.3f} (classical {m['floor']:.3f}), {counted(m['n'], 'field')}"
        for m in scores
    ]
    emit(
        {"bundle": str(made.bundle.directory), "split": said, "scores": scores, "steps": made.fit.steps_done},
        "\n".join([f"bundle {made.bundle.directory}", said, *(lines or ["no test field: no score"])]),
        as_json=as_json,
    )


def models(
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Check hashes and rerun golden samples.")] = False,
    as_json: AsJson = False,
) -> None:
    """List shipped and own models of image2reg."""
    from image2reg.console import emit
    from image2reg.nuclei.segmenters.catalogue import list_segmenters

    rows = list_segmenters(check=verify)
    state = {True: "  [verified]", False: "  [FAILED]", None: ""}
    lines = [
        f"{row['name']}{state[row['verified']]}\n  {row['problem'] or row['summary']}\n  {row['path']}"
        for row in rows
    ]
    emit({"models": rows}, "\n".join(lines) or "no model found", as_json=as_json)
    if any(row["problem"] for row in rows):
        sys.exit(4)
