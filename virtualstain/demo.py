"""The first thing a newcomer runs: the shipped model on a shipped real stack, next to the real stain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from image2reg.atomic import atomic_file, make_folder
from image2reg.images.readers import read
from virtualstain.evaluate import score_table
from virtualstain.model import load
from virtualstain.patches import StainField
from virtualstain.predict import predict
from virtualstain.scoring import scored_channels, with_target_scale
from virtualstain.staining_page import write_report

__all__ = ["SAMPLE", "run_demo"]

SAMPLE = Path(__file__).parent / "samples" / "neuron-well"
MODEL = "phase-neuron"


def run_demo(out: Path, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Predict the sample, score it, write ``predicted.ome.tif``, ``scores.csv`` and ``report.html`` into `out`.

    Files of an earlier demo in `out` are replaced.

    Returns
    -------
    dict
        ``scores`` (DataFrame), ``report``, ``predicted`` (paths), ``flags``.
    """
    make_folder(out)
    model = load(MODEL)
    phase = read(SAMPLE / "phase.ome.tif")
    stains = read(SAMPLE / "stains.ome.tif").to_axes("CZYX").load()
    done = predict(model, phase, progress=progress)
    truth = StainField(
        name="neuron-well rows 816-1024",
        group="test strip",
        inputs=phase.to_axes("CZYX").load().data,
        targets=np.stack([stains.data[stains.channel_index(name)] for name in model.outputs]),
        present=np.ones(len(model.outputs), bool),
    )
    scored = [scored_channels(model, with_target_scale(model, truth), done.image.data)]
    scores = score_table(scored[0])
    done.image.write(out / "predicted.ome.tif", overwrite=True)
    with atomic_file(out / "scores.csv", overwrite=True) as partial:
        scores.to_csv(partial, index=False)
    write_report(
        out / "report.html", model, scored, scores, command="virtualstain demo", flags=done.flags,
        provenance={"sample": "Christiansen et al. 2018, condition B, well A4 (Apache-2.0); never trained on"},
        overwrite=True,
    )  # fmt: skip
    return {
        "scores": scores,
        "report": out / "report.html",
        "predicted": out / "predicted.ome.tif",
        "flags": done.flags,
    }
