"""The command that follows growth over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Workers,
)
from image2reg.wording import counted

if TYPE_CHECKING:
    import pandas as pd

# Series that are named on stdout; all are in the table.
_SHOWN = 12


def growth(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="A folder of frames, files, or files with a T axis; also predicted stains."),
    ],
    out: Out,
    *,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", help="From one frame number to the next; not where names say 00d04h30m, 24h, day3."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="nuclei counts stained or predicted nuclei, texture sees cells in phase contrast; or a bundle.",
        ),
    ] = "nuclei",
    channel: NucleusChannel = None,
    diameter_px: DiameterPx = None,
    diameter_um: DiameterUm = None,
    voxel_um: PixelUm = None,
    workers: Workers = 1,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Follow nuclei or confluence over time: curves, growth rates, doubling times; run again to go on after a stop."""
    from image2reg.console import command_line, emit, progress_bar
    from image2reg.growth.timelapse import run_growth
    from image2reg.report.growth import growth_report

    with progress_bar("measuring frames", silent=as_json) as progress:
        found = run_growth(
            inputs, out, minutes=minutes, model=model, channel=channel, diameter_px=diameter_px,
            diameter_um=diameter_um, voxel_um=voxel_um, device=device, workers=workers, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    page = growth_report(out / "report.html", found, command=command_line("image2reg"))
    frames, n_series = found.frames, found.frames["series"].nunique()
    lines = [
        f"{counted(len(frames), 'frame')} of {counted(n_series, 'series', 'series')}, up to "
        f"{frames['hours'].max():g} h",
        *_rate_lines(found.rates),
    ]
    if found.diameter_px is not None:
        lines.append(f"nuclei measure {found.diameter_px:g} px (--diameter-px N says otherwise)")
    if found.failures:
        lines.append(f"{counted(len(found.failures), 'frame')} failed; see {out / 'failures.csv'}")
    result: dict[str, Any] = {
        "rates": found.rates.to_dict("records"), "frames": len(frames), "failures": found.failures,
        "diameter_px": found.diameter_px, "report": str(page),
    }  # fmt: skip
    emit(result, "\n".join([*lines, f"report  {page}"]), as_json=as_json)
    if found.failures:
        raise typer.Exit(5)


def _rate_lines(rates: pd.DataFrame) -> list[str]:
    """Say the main measure of each series: nuclei where they were counted, else what is covered."""
    from image2reg.growth.rates import in_words

    main = rates[rates["measure"] == rates["measure"].iloc[0]]
    lines = []
    for row in main.head(_SHOWN).to_dict("records"):
        counts = row["measure"] == "n_objects"
        ends = "{first:g} to {last:g} objects" if counts else "confluence {first:.3f} to {last:.3f}"
        note = f"  [{row['note']}]" if row["note"] else ""
        lines.append(f"{row['series']}  {ends.format(**row)}; {in_words(row)}{note}")
    more = len(main) - len(lines)
    return [*lines, *([f"and {more} more; see rates.csv"] if more else [])]
