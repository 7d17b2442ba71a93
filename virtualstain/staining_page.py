"""The report of predicted fields: what `demo`, `train` and `evaluate` show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from image2reg.provenance import installed_versions
from image2reg.report.figures import FieldPanel
from image2reg.report.staining import Flag, staining_report
from image2reg.wording import counted_level
from virtualstain.evaluate import ScoredField
from virtualstain.metrics import pearson
from virtualstain.model import StainModel

__all__ = ["below_floor", "score_lines", "write_report"]


def write_report(
    path: Path,
    model: StainModel | None,
    scored: Sequence[Sequence[ScoredField]],
    scores: pd.DataFrame,
    *,
    command: str,
    flags: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
    voxel_um: tuple[float | None, float | None, float | None] | None = None,
    unit: str = "",
    n_fields: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write input | predicted | real | error of every field with its scores as one HTML page.

    Parameters
    ----------
    path : Path
    model : StainModel or None
        None for predictions of which only the files are known.
    scored : sequence of sequence of ScoredField
        Per field, its channels.
    scores : DataFrame
        From `virtualstain.evaluate.score_table`.
    command : str
        What remakes the page.
    flags : sequence of str
        What the reader must know first; the bundle's own limits are added.
    voxel_um, unit
        Of the predictions, where there is no model that says so.
    n_fields : int, optional
        As `image2reg.report.staining.staining_report`.
    """
    spec = None if model is None else model.bundle.spec
    if model is not None:
        voxel_um, unit = model.voxel_um, model.unit
    panels = [
        FieldPanel(
            name=channels[0].name,
            input=channels[0].inputs[0] if len(channels[0].inputs) else None,
            predicted={c.channel: np.where(c.mask, c.prediction, np.nan) for c in channels},
            real={c.channel: np.where(c.mask, c.truth, np.nan) for c in channels},
            voxel_um=voxel_um,
            input_name="label-free" if model is None else model.inputs[0].lower(),
            units=unit.split(",")[0],
            score=sum(pearson(c.truth, c.prediction, mask=c.mask) for c in channels) / len(channels),
        )
        for channels in scored
        if channels
    ]
    notes = [Flag(message) for message in flags]
    about = {}
    if spec is not None:
        notes += [Flag(text, "info") for text in spec.limits]
        about = {"model": f"{spec.name} {spec.version}", "trained by": spec.training.command}
    return staining_report(
        path,
        title="Predicted against real" if spec is None else f"{spec.name}: predicted against real",
        subtitle="" if spec is None else spec.summary,
        command=command,
        fields=panels,
        scores=scores,
        flags=notes,
        provenance={**about, **(provenance or {}), "versions": installed_versions()},
        n_fields=n_fields,
        overwrite=overwrite,
    )


def below_floor(scores: pd.DataFrame) -> list[str]:
    """Say which channels are predicted worse than an input plane shows them for nothing."""
    rows = scores[(scores["metric"] == "pearson") & (scores["value"] < scores["floor"])]
    return [
        f"{row.channel}: Pearson {row.value:.3f} is below its floor, {row.floor:.3f}: one plane of the input shows "
        "this stain better than the prediction does"
        for row in rows.itertuples()
    ]


def score_lines(scores: pd.DataFrame, metrics: Sequence[str] = ("pearson", "ssim", "psnr")) -> str:
    """Print a score table for a terminal: one line per channel and metric, between floor and ceiling."""
    lines = [f"{'channel':<12}{'score':<18}{'value':>8}  {'95 % interval':<18}{'floor':>8}{'ceiling':>9}  n"]
    for row in scores[scores["metric"].isin(metrics)].itertuples():
        interval = f"{row.low:.3f} to {row.high:.3f}" if pd.notna(row.low) else "-"
        ceiling = f"{row.ceiling:.3f}" if pd.notna(row.ceiling) else "-"
        floor = f"{row.floor:.3f}" if pd.notna(row.floor) else "-"
        lines.append(
            f"{row.channel:<12}{row.metric:<18}{row.value:>8.3f}  {interval:<18}{floor:>8}{ceiling:>9}  "
            f"{counted_level(row.n, row.level)}"
        )
    return "\n".join(lines)
