"""Command line of virtualstain: thin over the Python functions of the same names."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from image2reg.commands.options import AsJson, Device, Out, Overwrite, Settings, Tta
from image2reg.console import application, command_line, emit, progress_bar, run
from image2reg.errors import ConfigurationError
from image2reg.wording import counted

app = application("virtualstain", "Label-free stacks (brightfield, phase) to predicted fluorescence.")

Model = Annotated[
    str, typer.Option("--model", help="Name of a model (`virtualstain models`) or its directory.")
]
Channel = Annotated[
    list[str] | None,
    typer.Option(
        "--channel",
        help="Input channel by name (of files of one channel: in theirs) or position; once per input of the model.",
    ),
]
VoxelUm = Annotated[
    str | None,
    typer.Option(
        "--voxel-um",
        help="Voxel size Z,Y,X in um instead of the file's; '-' leaves an axis as it is: -,0.65,0.65.",
    ),
]
UnsaidVoxelUm = Annotated[
    str | None,
    typer.Option(
        "--voxel-um",
        help="Voxel size Z,Y,X in um where the file says none; '-' leaves an axis as it is: -,0.65,0.65.",
    ),
]
_VOXELS = ("--voxel-um", "-,0.65,0.65 (a plane)")
Resample = Annotated[
    bool, typer.Option("--resample", help="Bring other voxel sizes to the model's, and back.")
]
Tile = Annotated[str | None, typer.Option("--tile", help="Largest window Z,Y,X in voxels, to bound memory.")]


@app.command()
def demo(out: Out = Path("virtualstain-demo"), as_json: AsJson = False) -> None:
    """Predict a shipped real stack with a shipped model; write the prediction, its scores and a report."""
    from virtualstain.demo import run_demo
    from virtualstain.staining_page import score_lines

    with progress_bar("predicting", silent=as_json) as progress:
        done = run_demo(out, progress=progress)
    text = (
        "13 phase planes of human neurons (a strip the model never saw) to DAPI, MAP2 and NFH.\n"
        "floor: best single input plane (pearson) or the training mean; ceiling: camera noise of the real stain.\n\n"
        f"{score_lines(done['scores'])}\n\n"
        f"prediction  {done['predicted']}\nreport      {done['report']}  (open it in a browser)"
    )
    emit({"scores": done["scores"].to_dict("records"), "report": str(done["report"]),
          "predicted": str(done["predicted"]), "flags": list(done["flags"])}, text, as_json=as_json)  # fmt: skip


@app.command()
def models(
    verify: Annotated[bool, typer.Option("--verify", help="Rerun each model's golden sample.")] = False,
    as_json: AsJson = False,
) -> None:
    """List shipped and local models with what they take, give and score."""
    from virtualstain.catalogue import catalogue, catalogue_lines

    rows = catalogue(verify=verify)
    emit({"models": rows}, catalogue_lines(rows), as_json=as_json)
    failed = [row for row in rows if row["problem"]]
    if failed:
        sys.exit(4)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="An image, a folder of images or a manifest.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the manifest of a folder here (.csv).")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="Input channel of a folder's images.")
    ] = None,
    targets: Annotated[
        list[str] | None, typer.Option("--target", help="Target channel of a folder's images.")
    ] = None,
    split_by: Annotated[
        str, typer.Option("--split-by", help="Draw a split: auto, plate, well, field or a column.")
    ] = "",
    voxel_um: UnsaidVoxelUm = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Say what would be used and what is wrong; turn a folder into a manifest."""
    from virtualstain.check import check_lines, check_path

    report = check_path(
        path, out=out, inputs=inputs or (), targets=targets or (), split_by=split_by,
        voxel_um=_numbers(voxel_um, *_VOXELS), overwrite=overwrite,
    )  # fmt: skip
    emit(report, check_lines(report), as_json=as_json)
    if report["problems"]:
        sys.exit(3)


@app.command()
def train(
    data: Annotated[Path, typer.Option("--data", help="A manifest (.csv, .parquet) or a folder.")],
    out: Out,
    config: Annotated[
        str, typer.Option("--config", help="Recipe: a YAML file, or the name of a shipped one.")
    ] = "",
    settings: Settings = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of split, batches and augmentation.")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="Input channel, when not the recipe's.")
    ] = None,
    targets: Annotated[
        list[str] | None, typer.Option("--target", help="Target channel, or Hoechst=DAPI.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train on a folder or manifest, test on held-out groups, end in a bundle and a report."""
    from virtualstain.runs import train_from
    from virtualstain.staining_page import below_floor, score_lines

    command = command_line("virtualstain")
    overrides = [
        *(settings or []),
        *([f"training.seed={seed}", f"split.seed={seed}"] if seed is not None else []),
    ]
    done = train_from(
        data, out, config=config, inputs=inputs or (), targets=targets or (), overrides=overrides, resume=resume,
        device=device, command=command,
    )  # fmt: skip
    table = score_lines(done.scores) if len(done.scores) else "no test split: nothing was scored"
    table += "".join(f"\nnote: {note}" for note in (below_floor(done.scores) if len(done.scores) else ()))
    emit({"bundle": str(done.bundle.directory), "scores": done.scores.to_dict("records"),
          "steps": done.fit.steps_done, "seconds": done.fit.seconds},
         f"{table}\n\nmodel   {done.bundle.directory}\nreport  {out / 'report.html'}", as_json=as_json)  # fmt: skip


@app.command()
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Images, folders of images, or OME-Zarr plates.")],
    model: Model,
    out: Annotated[
        Path, typer.Option("--out", help="A file for one image, else a folder (or .zarr for a plate).")
    ],
    channel: Channel = None,
    voxel_um: VoxelUm = None,
    resample: Resample = False,
    tile: Tile = None,
    tta: Tta = False,
    input_frame: Annotated[
        bool,
        typer.Option(
            "--input-frame",
            help="Register the stain to the input, not to where the training microscope's stain camera records it.",
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out what is there; go on with an interrupted plate.")
    ] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Predict fluorescence for one image, many, or a plate."""
    from virtualstain.batch import predict_many

    with progress_bar("predicting", silent=as_json) as progress:
        done = predict_many(
            inputs, out, model=model, channels=channel or (),
            voxel_um=_numbers(voxel_um, *_VOXELS),
            resample=resample, tile=_tile(tile), tta=tta, input_frame=input_frame, device=device,
            overwrite=overwrite, resume=resume, progress=progress,
        )  # fmt: skip
    shared = [f for f in done.written[0]["flags"] if _in_all(done.written, f)] if done.written else []
    lines = [
        f"{row['source']}  ->  {row['output']}"
        + "".join(f"\n  note: {f}" for f in row["flags"] if f not in shared)
        for row in done.written
    ]
    lines += [f"note on all {len(done.written)}: {note}" for note in shared]
    if done.written:
        lines.append(f"values: {done.unit}")
    if done.n_other:
        lines.append(f"{counted(done.n_other, 'file')} of other channels left out")
    if done.n_present:
        lines.append(f"{counted(done.n_present, 'result')} already there, left as they are")
    lines += [f"note: {note}" for note in done.notes]
    if done.failures:
        lines.append(f"{len(done.failures)} failed; see {done.failures_path}")
    result = {
        "written": done.written, "failures": done.failures, "unit": done.unit, "notes": done.notes,
        "already_there": done.n_present, "other_channels": done.n_other,
    }  # fmt: skip
    emit(result, "\n".join(lines), as_json=as_json)
    if done.failures:
        sys.exit(5)


@app.command()
def evaluate(
    prediction: Annotated[Path | None, typer.Option("--prediction", help="A predicted image ...")] = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="... and the real one, registered to it.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Or a model ...")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="... and a manifest with real stains.")] = None,
    split: Annotated[
        str,
        typer.Option("--split", help="Which split of the manifest; one without splits is scored whole."),
    ] = "test",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for scores.csv and report.html.")] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score a prediction against the real stain, beside floor, ceiling and interval."""
    from virtualstain.scored_runs import evaluate_model, evaluate_pair
    from virtualstain.staining_page import score_lines

    command = command_line("virtualstain")
    if prediction and truth and not (model or data):
        done = evaluate_pair(prediction, truth, out=out, overwrite=overwrite, command=command)
    elif model and data and not (prediction or truth):
        done = evaluate_model(
            model, data, split=split, out=out, device=device, overwrite=overwrite, command=command
        )
    else:
        raise ConfigurationError("evaluate: give either --prediction with --truth, or --model with --data.")
    lines = [score_lines(done.scores, tuple(done.scores["metric"].unique()))]
    lines += [f"note: {note}" for note in done.notes]
    emit(
        {"scores": done.scores.to_dict("records"), "notes": list(done.notes)},
        "\n".join(lines),
        as_json=as_json,
    )


def _in_all(written: list[dict[str, Any]], flag: str) -> bool:
    return len(written) > 1 and all(flag in row["flags"] for row in written)


def _numbers(
    text: str | None, option: str, example: str
) -> tuple[float | None, float | None, float | None] | None:
    """Read ``Z,Y,X``; an empty place or '-' leaves that axis as the file has it."""
    if text is None:
        return None
    parts = text.split(",")
    try:
        values = tuple(None if p.strip() in ("", "-") else float(p) for p in parts)
    except ValueError as error:
        raise ConfigurationError(
            f"{option} {text!r}: not numbers. Write three (Z,Y,X), as in {option} {example}."
        ) from error
    if len(values) != 3:
        raise ConfigurationError(
            f"{option} {text!r}: {len(values)} values; write three (Z,Y,X), as in {option} {example}."
        )
    return values[0], values[1], values[2]


def _tile(text: str | None) -> Any:
    values = _numbers(text, "--tile", "1,512,512")
    if values is None:
        return None
    if not all(v is not None and 1 <= v < math.inf for v in values):
        raise ConfigurationError(
            f"--tile {text!r}: every length must be at least 1 voxel, as in --tile 32,256,256."
        )
    return tuple(int(v) for v in values if v is not None)


def main() -> None:
    """Entry point of the command ``virtualstain``."""
    run(app)
