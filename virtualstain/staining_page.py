"""The report of predicted fields: what `demo`, `train` and `evaluate` show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from image2reg.provenance import installed_versions
from image2reg.report.figures import FieldPanel
from image2reg.report.staining import Flag, staining_report
from virtualstain.evaluate import ScoredField
from virtualstain.metrics import pearson
from virtualstain.model import StainModel

__all__ = ["score_lines", "write_report"]


def write_report(
    path: Path,
    model: StainModel,
    scored: Sequence[Sequence[ScoredField]],
    scores: pd.DataFrame,
    *,
    command: str,
    flags: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write input | predicted | real | error of every field with its scores as one HTML page.

    Parameters
    ----------
    path : Path
    model : StainModel
    scored : sequence of sequence of ScoredField
        Per field, its channels.
    scores : DataFrame
        From `virtualstain.evaluate.score_table`.
    command : str
        What remakes the page.
    flags : sequence of str
        What the reader must know first; the bundle's own limits are added.
    """
    spec = model.bundle.spec
    panels = [
        FieldPanel(
            name=channels[0].name,
            input=channels[0].inputs[0],
            predicted={c.channel: np.where(c.mask, c.prediction, np.nan) for c in channels},
            real={c.channel: np.where(c.mask, c.truth, np.nan) for c in channels},
            voxel_um=model.voxel_um,
            input_name=model.inputs[0].lower(),
            units=spec.outputs[0].transform.split(",")[0],
            score=sum(pearson(c.truth, c.prediction, mask=c.mask) for c in channels) / len(channels),
        )
        for channels in scored
        if channels
    ]
    notes = [Flag(message) for message in flags] + [Flag(text, "info") for text in spec.limits]
    return staining_report(
        path,
        title=f"{model.name}: predicted against real",
        subtitle=spec.summary,
        command=command,
        fields=panels,
        scores=scores,
        flags=notes,
        provenance={
            "model": f"{spec.name} {spec.version}",
            "trained by": spec.training.command,
            **(provenance or {}),
            "versions": installed_versions(),
        },
        overwrite=overwrite,
    )


def score_lines(scores: pd.DataFrame, metrics: Sequence[str] = ("pearson", "ssim", "psnr")) -> str:
    """Print a score table for a terminal: one line per channel and metric, between floor and ceiling."""
    lines = [f"{'channel':<12}{'score':<18}{'value':>8}  {'95 % interval':<18}{'floor':>8}{'ceiling':>9}  n"]
    for row in scores[scores["metric"].isin(metrics)].itertuples():
        interval = f"{row.low:.3f} to {row.high:.3f}" if pd.notna(row.low) else "-"
        ceiling = f"{row.ceiling:.3f}" if pd.notna(row.ceiling) else "-"
        floor = f"{row.floor:.3f}" if pd.notna(row.floor) else "-"
        lines.append(
            f"{row.channel:<12}{row.metric:<18}{row.value:>8.3f}  {interval:<18}{floor:>8}{ceiling:>9}  "
            f"{row.n} {row.level}{'s' if row.n != 1 and row.level in ('field', 'block') else ''}"
        )
    return "\n".join(lines)
