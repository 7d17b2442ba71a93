"""From wells to calls: which wells are one perturbation, what may be called, and what may not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from image2reg.screen import call_hits
from image2reg.screen.curves import fit_curves
from image2reg.screen.hits import called_wells
from image2reg.screen.plates import well_name

PERTURBATION, DOSE = "Metadata_Perturbation", "Metadata_Dose_uM"


def screened(samples, shifts, *, n_each=3, n_controls=12):
    """One plate of control wells and of `n_each` wells of each sample, a row of metadata."""
    rng = np.random.default_rng(0)
    rows = [dict(sample) for sample in samples for _ in range(n_each)] + [{PERTURBATION: "DMSO"}] * n_controls
    n_samples = len(rows) - n_controls
    score = rng.normal(size=len(rows)) + np.r_[np.repeat(shifts, n_each), np.zeros(n_controls)]
    known = {
        "Metadata_Plate": "p",
        "Metadata_Well": [well_name(*divmod(i, 12)) for i in range(len(rows))],
        "Metadata_Control": np.where(np.arange(len(rows)) < n_samples, "", "negative"),
    }
    return pd.DataFrame(rows).fillna("").assign(**known, RobustZ_x=score, OwnZ_x=score, x=score)


def test_two_perturbations_whose_names_join_to_one_are_told_apart():
    wells = screened([{PERTURBATION: "A", DOSE: "1"}, {PERTURBATION: "A 1", DOSE: ""}], [9.0, 0.0])
    by = [PERTURBATION, DOSE]
    hits = call_hits(wells, ["RobustZ_x"], by, min_effect=3.0)
    names = {"Perturbation='A', Dose_uM='1'", "Perturbation='A 1', Dose_uM=''"}
    assert names <= set(hits["name"])
    called = called_wells(wells, hits, by, {"RobustZ_x": "x"}, min_score=3.0)
    assert called.groupby(PERTURBATION)["Hit"].sum().to_dict() == {"A": 3, "A 1": 0, "DMSO": 0}
    assert set(called.loc[called[PERTURBATION] != "DMSO", "Metadata_Group"]) == names


def test_two_series_whose_names_join_to_one_have_a_curve_each():
    cells = [("drug", "a b"), ("drug a", "b")]
    samples = [
        {PERTURBATION: drug, "Metadata_CellLine": cell, DOSE: str(dose)}
        for drug, cell in cells
        for dose in (1, 2)
    ]
    curves = fit_curves(screened(samples, [0.0] * 4), ["x"], [PERTURBATION, "Metadata_CellLine", DOSE], DOSE)
    assert [curve.name for curve in curves] == [
        "Perturbation='drug', CellLine='a b'", "Perturbation='drug a', CellLine='b'",
    ]  # fmt: skip
    assert [len(curve.doses) for curve in curves] == [18, 18]
