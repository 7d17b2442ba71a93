"""The first thing a newcomer runs: signatures of three held-out genes to nuclei, and whether to believe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from image2reg.atomic import refuse_existing
from image2reg.nuclei.crops import write_crops
from morphgen import planted
from morphgen.fidelity import evaluate, measure_cells, shuffled
from morphgen.report import arm_lines, arm_rows, mosaic, write_report
from morphgen.sample import load
from morphgen.sampling import FROM_CONTROL

__all__ = ["GENES", "run_demo"]

MODEL = "planted-nuclei"
# Three of the test genes are shown; the follow test needs more perturbations than three.
GENES, N_FOLLOWED, N_CELLS, N_SHOWN = 3, 16, 16, 10


def run_demo(out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Draw nuclei under held-out signatures, beside controls and real (planted) nuclei; score and report.

    Parameters
    ----------
    out : Path
        Folder of ``crops.zarr``, ``scores.csv`` and ``report.html``.
    overwrite : bool
        Replace those three in a folder that is there.

    Returns
    -------
    dict
        ``scores``, ``report`` (path), ``genes`` (symbols of those shown), ``text``.

    Raises
    ------
    DataError
        `out` exists.
    """
    refuse_existing(out, overwrite=overwrite)
    every = planted.dataset("unseen", n_per_signature=1)
    names = every.signatures.column("Metadata_Perturbation")
    # The three genes whose phenotypes differ most from a control's come first: they show what following looks like.
    low, high = np.array(list(planted.RANGES.values())).T
    strength = np.abs(every.parameters / (high - low)).sum(axis=1)
    chosen = names[np.argsort(-strength, kind="stable")[:N_FOLLOWED]]
    real, second = (
        planted.dataset("unseen", n_per_signature=N_CELLS, signatures=list(chosen), seed=seed)
        for seed in (21, 22)
    )
    model = load(MODEL, device="cpu")
    crops = model.generate(real.signatures, n=N_CELLS, seed=0)
    groups = real.signatures.column("Metadata_Perturbation")
    truth = measure_cells(real.images, groups[real.signature_index])
    made = measure_cells(np.asarray(crops.images), crops.column("Metadata_Perturbation"))
    arms = {
        "generated": made,
        "floor: control nuclei": measure_cells(real.controls, groups[real.signature_index]),
        "floor: shuffled signatures": shuffled(made),
        "ceiling: second real sample": measure_cells(second.images, groups[second.signature_index]),
    }
    signatures = pd.DataFrame(real.signatures.values, index=groups)
    rows = arm_rows(evaluate(truth, arms, signatures=signatures, permutations=999))
    out.mkdir(parents=True, exist_ok=True)
    write_crops(out / "crops.zarr", [crops], n=len(crops), overwrite=True)
    pd.DataFrame(rows).to_csv(out / "scores.csv", index=False)
    top = float(np.quantile(real.images, 0.999))
    pictures, symbols = {}, dict(zip(groups, real.signatures.column("Metadata_Gene"), strict=True))
    shown: dict[str, str] = {}
    for name in chosen:  # of each gene the reading frame that changes most
        shown.setdefault(symbols[name], name)
    for gene, name in list(shown.items())[:GENES]:
        own = np.flatnonzero(groups[real.signature_index] == name)[:N_SHOWN]
        drawn = np.flatnonzero(crops.column("Metadata_Perturbation") == name)[:N_SHOWN]
        same = model.generate(
            real.signatures.rows(groups == name),
            n=len(own),
            control=real.controls[own],
            seed=0,
            **FROM_CONTROL,
        )
        pictures[f"{gene} over-expressed (signature {name}, never trained on)"] = [
            ("control nuclei", mosaic(real.controls[own, 0], top=top)),
            ("the same nuclei with the planted phenotype", mosaic(real.images[own, 0], top=top)),
            (
                "generated from these control nuclei and the signature",
                mosaic(np.asarray(same.images)[:, 0], top=top),
            ),
            ("generated from noise and the signature", mosaic(np.asarray(crops.images)[drawn, 0], top=top)),
        ]
    report = write_report(
        out / "report.html",
        "Nuclei generated from expression signatures",
        rows,
        note="PLANTED benchmark: real U2OS nuclei (BBBC039) deformed by known functions of real L1000 "
        "signatures. It shows that the method works, and says nothing of what these genes do.",
        pictures=pictures,
    )
    text = (
        f"{len(chosen)} signatures of genes the model never saw, {N_CELLS} nuclei each "
        "(planted phenotypes, not biology)\n\n"
        f"{arm_lines(rows)}\n\ncrops   {out / 'crops.zarr'}\nreport  {report}  (open it in a browser)"
    )
    return {"scores": rows, "genes": list(shown)[:GENES], "report": report, "text": text}
