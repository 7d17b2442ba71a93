"""The command that runs a screen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from image2reg.commands.options import AsJson, Config, Device, Out, Overwrite, Settings, Workers
from image2reg.wording import counted

if TYPE_CHECKING:
    from image2reg.engine import Outcome
    from image2reg.screen.result import ScreenResult

_DATA = typer.Option("--data", help="A manifest or profiles (.csv, .parquet), or a folder of images.")
_CONTROL = typer.Option(
    "--control", help="Query for the negative control wells, e.g. 'Metadata_Perturbation == \"DMSO\"'."
)
_POSITIVE = typer.Option("--positive", help="Query for the positive control wells; Z' and SSMD need them.")
_NUCLEI = typer.Option("--nuclei", help="Channel with the nuclei, where its name does not say.")
_CHANNEL = typer.Option("--channel", help="For a folder: its channels, NAME=TEXT_IN_THE_FILE_NAME; repeat.")
_PATTERN = typer.Option("--pattern", help="For a folder: regular expression with groups Plate, Well, Site.")
_LAYOUT = typer.Option(
    "--layout",
    help="CSV with what was in which well (Well, Perturbation, Dose_uM, Control …); correcting it needs no "
    "new measuring.",
)
_MODEL = typer.Option("--model", help="Segmenter: nuclei (shipped), classical, a bundle's name or directory.")
_READOUT = typer.Option("--readout", help="Feature to judge; repeat. Default: count, area, nucleus to ring.")
_GROUP = typer.Option(
    "--group", help="Column that tells perturbations apart; repeat. Default: Metadata_Perturbation."
)
_DOSE = typer.Option("--dose", help="Column of doses. Default: Metadata_Dose_uM when filled.")
_GMT = typer.Option("--gmt", help="Gene sets (GMT) to test for an excess of hits.")
_ENGINE = typer.Option("--engine", help="local, or dask (with the extra of that name).")
_SHARD = typer.Option("--shard", help="I/N: measure this part only; a call without it finishes.")


def screen(
    data: Annotated[Path, _DATA],
    control: Annotated[str, _CONTROL],
    out: Out,
    *,
    positive: Annotated[str | None, _POSITIVE] = None,
    nuclei: Annotated[str | None, _NUCLEI] = None,
    channel: Annotated[list[str] | None, _CHANNEL] = None,
    pattern: Annotated[str | None, _PATTERN] = None,
    layout: Annotated[Path | None, _LAYOUT] = None,
    model: Annotated[str | None, _MODEL] = None,
    readout: Annotated[list[str] | None, _READOUT] = None,
    group: Annotated[list[str] | None, _GROUP] = None,
    dose: Annotated[str | None, _DOSE] = None,
    fdr: Annotated[float | None, typer.Option("--fdr", help="Level of the false discovery rate.")] = None,
    gmt: Annotated[Path | None, _GMT] = None,
    config: Config = "",
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the permutations.")] = None,
    engine: Annotated[str, _ENGINE] = "local",
    workers: Workers = 1,
    shard: Annotated[str | None, _SHARD] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Screen plates of nuclei: segment, measure, judge plates, call hits, report; run again to go on after a stop."""
    from image2reg.config import load_config
    from image2reg.console import progress_bar
    from image2reg.engine import Outcome, Shard
    from image2reg.screen.pipeline import run_screen
    from image2reg.screen.settings import ScreenSettings

    given = {
        "measure.nuclei": nuclei, "measure.model": model, "call.readouts": readout, "call.group_by": group,
        "call.dose": dose, "call.fdr": fdr, "call.seed": seed,
    }  # fmt: skip
    said = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    resolved = load_config(ScreenSettings, config or None, overrides=[*(settings or ()), *said])
    chosen: Any = engine
    with progress_bar("measuring fields", silent=as_json) as progress:
        result = run_screen(
            data, out, control=control, positive=positive, settings=resolved, channels=channel or (), pattern=pattern,
            layout=layout, gmt=gmt, engine=chosen, n_workers=workers, shard=Shard.parse(shard) if shard else None,
            device=device, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if isinstance(result, Outcome):
        _finish_shard(result, str(shard), out, as_json=as_json)
    else:
        _finish(result, resolved, out, overwrite=overwrite, as_json=as_json)


def _finish_shard(outcome: Outcome, shard: str, out: Path, *, as_json: bool) -> None:
    from image2reg.console import emit
    from image2reg.engine.runs import FAILURES

    n_failed = len(outcome.results.failed)
    n_left = len(outcome.results.missing(range(outcome.n_units))) - n_failed
    text = f"shard {shard}: {counted(outcome.n_run, 'field')} run; {n_left} of {outcome.n_units} left to other shards"
    if not n_left:
        text += ". Run the same command without --shard to finish."
    lines = [text, *(f"note: {note}" for note in outcome.notes)]
    if n_failed:
        lines.append(f"{counted(n_failed, 'field')} of all shards failed so far; see {out / FAILURES}")
    result = {"run": outcome.n_run, "left": n_left, "failed": n_failed, "notes": list(outcome.notes)}
    emit(result, "\n".join(lines), as_json=as_json)
    if n_failed:
        raise typer.Exit(5)


def _finish(result: ScreenResult, settings: Any, out: Path, *, overwrite: bool, as_json: bool) -> None:
    from image2reg.console import command_line, emit
    from image2reg.report.screening import screen_report

    command = command_line("image2reg")
    record = json.loads((out / "run.json").read_text())
    kept = {name: record[name] for name in ("started", "git", "versions", "machine")}
    report = screen_report(
        out / "report.html", result, settings.call, title="Screen", command=command, provenance=kept,
        overwrite=overwrite,
    )  # fmt: skip
    summary = summarise(result)
    lines = [
        f"{row['plate']}  {row['readout']}: Z' {row['z_prime']:.2f}, SSMD {row['ssmd']:.1f} {row['grade']}"
        for row in result.quality.to_dict("records")[:12]
        if math.isfinite(row["z_prime"])
    ]
    lines += [
        f"{row['series']}  {row['readout']}: EC50 {row['ec50']:.3g} ({row['low']:.3g} to {row['high']:.3g})"
        for row in summary["ec50"][:12]
    ]
    lines.append(
        f"{counted(summary['n_hits'], 'hit')} of {counted(summary['n_tested'], 'perturbation')}; "
        f"{summary['control_hits']} of {counted(summary['n_controls'], 'negative control well')} called"
    )
    lines += [f"note: {note}" for note in result.notes]
    if result.usual_px is not None:
        size = f"{result.usual_px:g} px"
        lines.append(f"nuclei of control fields measure {size} (--set measure.diameter_px=N says otherwise)")
    if summary["kept_out"]:
        lines.append(f"{counted(summary['kept_out'], 'field')} kept out by their flags: fields.csv")
    if result.failures:
        lines.append(f"{counted(len(result.failures), 'field')} failed; see {out / 'failures.csv'}")
    emit(summary | {"report": str(report)}, "\n".join([*lines, f"report  {report}"]), as_json=as_json)
    if result.failures:
        raise typer.Exit(5)


def summarise(result: ScreenResult) -> dict[str, Any]:
    """Give the main numbers of a screen as JSON values."""
    wells, hits = result.wells, result.hits
    control = wells["Metadata_Control"] == "negative"
    return {
        "quality": result.quality.to_dict("records"),
        "n_tested": int(hits.loc[~hits["is_control"], "name"].nunique()),
        "n_hits": int(hits.loc[hits["hit"] & ~hits["is_control"], "name"].nunique()),
        "hit_wells": wells.loc[wells["Hit"] == 1, ["Metadata_Plate", "Metadata_Well"]].to_numpy().tolist(),
        "control_hits": int(wells.loc[control, "Hit"].sum()),
        "n_controls": int(control.sum()),
        "ec50": [
            {"series": c.name, "readout": c.readout, **c.fit.as_dict()} for c in result.curves if not c.fit.reason
        ],
        "nuclei": result.n_nuclei, "usual_px": result.usual_px, "kept_out": result.n_kept_out,
        "failures": [list(failure) for failure in result.failures], "notes": list(result.notes),
        "seconds": result.seconds,
    }  # fmt: skip
