"""From wells to calls: which wells are one perturbation, what may be called, and what may not."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from image2reg.screen import call_hits, gene_scores
from image2reg.screen.curves import fit_curves
from image2reg.screen.hits import called_wells, controls_apart, out_of_reach
from image2reg.screen.permutations import control_p_values
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


@pytest.mark.parametrize(("null", "offset"), [("controls", 20.0), ("plates", 0.0)])
def test_wells_of_a_hit_are_called_in_the_score_that_was_tested(null, offset):
    # A gradient over the plate hides from robust z, where the controls vary with it, what the B-score sees.
    idle = [{PERTURBATION: f"idle {i}"} for i in range(20)]
    wells = screened([{PERTURBATION: "active"}, *idle], [9.0] + [0.0] * 20, n_controls=20)
    wells = wells.assign(BScore_x=wells["RobustZ_x"] + offset, RobustZ_x=0.1, OwnZ_x=0.1)
    by = [PERTURBATION]
    hits = call_hits(wells, ["BScore_x"], by, min_effect=3.0, null=null)
    called = called_wells(wells, hits, by, {"BScore_x": "x"}, min_score=3.0, null=null)
    assert hits.loc[hits["hit"], "name"].tolist() == ["active"]
    assert called.loc[called["Hit"] == 1, PERTURBATION].tolist() == ["active"] * 3


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


def with_positive_wells(n_positive, seed):
    """Three plates of 96: 12 negative wells, strong positive ones, and samples of which five are shifted by 6."""
    rng, plates = np.random.default_rng(seed), []
    names = ["DMSO"] * 12 + ["strong"] * n_positive + [f"drug{i}" for i in range(84 - n_positive)]
    shift = np.array([{"DMSO": 0.0, "strong": 15.0}.get(name, 6.0 * (name in PLANTED)) for name in names])
    for plate in ("p1", "p2", "p3"):
        known = {"Metadata_Plate": plate, "Metadata_Well": [well_name(*divmod(i, 12)) for i in range(96)]}
        kinds = ["negative"] * 12 + ["positive"] * n_positive + [""] * (84 - n_positive)
        frame = {**known, PERTURBATION: names, "Metadata_Control": kinds, "z": rng.normal(size=96) + shift}
        plates.append(pd.DataFrame(frame))
    return pd.concat(plates, ignore_index=True)


PLANTED = {f"drug{i}" for i in range(5)}


def test_strong_control_wells_do_not_hide_hits_of_permuted_plates():
    for n_positive in (0, 8):
        hits = call_hits(with_positive_wells(n_positive, 0), ["z"], [PERTURBATION], null="plates")
        called = set(hits.loc[hits["hit"], "name"])
        assert called >= (PLANTED | {"strong"} if n_positive else PLANTED)
        assert len(called - PLANTED - {"strong"}) <= 1


def test_a_group_of_controls_larger_than_the_samples_of_its_plate_has_no_p_of_permuted_plates():
    wells = screened([{PERTURBATION: "A"}, {PERTURBATION: "B"}], [0.0, 9.0], n_each=2)
    wells["Metadata_Control"] = np.where(wells[PERTURBATION] == "B", "positive", wells["Metadata_Control"])
    extra = wells[wells[PERTURBATION] == "B"].assign(Metadata_Well=["H01", "H02"])
    hits = call_hits(pd.concat([wells, extra]), ["RobustZ_x"], [PERTURBATION], null="plates")
    assert hits.set_index("name")["p"].isna().to_dict()["B"]
    assert not hits.set_index("name").loc["B", "hit"]


def test_drawn_deals_need_the_memory_of_one_plate_however_many_there_are():
    def peak(n_plates):
        kinds = np.repeat([0, 1], [8, 16])
        plates, groups = np.repeat(np.arange(n_plates), 24), np.tile(kinds, n_plates)
        rng = np.random.default_rng(0)
        tracemalloc.start()
        p, _ = control_p_values(
            rng.normal(size=len(plates)), plates, groups, 2, groups == 1, rng, max_ways=5000
        )
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 0 < p[0] <= 1
        return used

    assert peak(40) < 1.5 * peak(4)


def test_a_gene_is_no_hit_where_none_of_its_reagents_may_be_one():
    reagents = [{PERTURBATION: f"si{i}", "Metadata_Gene": f"G{i // 2}"} for i in range(4)]
    by = [PERTURBATION, "Metadata_Gene"]
    single = call_hits(screened(reagents, [9.0] * 4, n_each=1, n_controls=60), ["RobustZ_x"], by)
    genes = gene_scores(single)
    assert genes[["p", "q"]].isna().all(axis=None)
    assert not genes["hit"].any()
    small = call_hits(
        screened(reagents, [1.6] * 4, n_each=8, n_controls=48), ["RobustZ_x"], by, min_effect=3.0
    )
    assert gene_scores(small)["hit"].any()  # beyond chance, but below the least effect
    assert not gene_scores(small, min_effect=3.0)["hit"].any()


def test_too_few_controls_for_any_hit_are_said():
    samples = [{PERTURBATION: f"drug {n}"} for n in range(12)]
    few = call_hits(screened(samples, [30.0] * 2 + [0.0] * 10, n_controls=4), ["RobustZ_x"], [PERTURBATION])
    assert not few["hit"].any()
    assert few["smallest_p"].min() == 1 / 35  # three of seven wells, dealt out in all ways
    assert "smallest p that these control wells and replicates allow is 0.029" in out_of_reach(few, 0.05)
    assert "at 5% FDR, 8 of 13 tests would have to reach it" in out_of_reach(few, 0.05)
    assert "at 0.1% FDR, none is called even if all 13 tests reach it" in out_of_reach(few, 0.001)
    many = call_hits(screened(samples, [30.0] * 2 + [0.0] * 10, n_controls=24), ["RobustZ_x"], [PERTURBATION])
    assert many["hit"].sum() == 2
    assert out_of_reach(many, 0.05) == ""


def test_an_effect_has_the_sign_of_what_was_tested():
    wells = screened([{PERTURBATION: "low"}, {PERTURBATION: "high"}], [-9.0, 9.0])
    shifted = wells.assign(RobustZ_x=wells["RobustZ_x"] + 20)  # as B-scores of controls may be
    hits = call_hits(shifted, ["RobustZ_x"], [PERTURBATION]).set_index("name")
    assert np.sign(hits.loc[["low", "high"], "effect"]).tolist() == [-1, 1]
    assert np.sign(hits.loc[["low", "high"], "ssmd"]).tolist() == [-1, 1]


def test_a_series_on_plates_of_different_gain_is_one_curve():
    samples = [{PERTURBATION: "drug", DOSE: str(dose)} for dose in (1, 2, 4, 8, 16)]
    rise = [10 / (1 + (4 / dose) ** 2) for dose in (1, 2, 4, 8, 16)]
    one = screened(samples, rise, n_each=2).assign(x=lambda wells: 100 + 10 * wells["x"])
    other = one.assign(Metadata_Plate="q", x=4 * one["x"])
    (alone,) = fit_curves(one, ["x"], [PERTURBATION, DOSE], DOSE)
    (both,) = fit_curves(pd.concat([one, other]), ["x"], [PERTURBATION, DOSE], DOSE)
    assert both.fit.ec50 == pytest.approx(alone.fit.ec50, rel=0.02)
    blind = other.assign(Metadata_Plate="r", x=other["x"].where(other["Metadata_Control"] == ""))
    (same,) = fit_curves(pd.concat([one, other, blind]), ["x"], [PERTURBATION, DOSE], DOSE)
    assert (same.fit.ec50, same.fit.n_wells) == (both.fit.ec50, both.fit.n_wells)
    assert both.fit.r2 > 0.9
    logs = pd.concat([one, other.assign(x=one["x"] - 500)])  # what may be negative is shifted
    assert fit_curves(logs, ["x"], [PERTURBATION, DOSE], DOSE)[0].fit.r2 > 0.9


@pytest.mark.parametrize("spread", [False, True])
def test_most_samples_called_against_controls_in_one_column_is_said(spread):
    """Synthetic: no compound does anything, each column is 2 higher than the one before."""
    rng = np.random.default_rng(0)
    places = [(row, column) for column in range(12) for row in range(8)]
    control = np.array([(row == column % 8) if spread else column == 0 for row, column in places])
    score = np.array([2.0 * column for _, column in places]) + rng.normal(size=96)
    score -= np.median(score[control])
    wells = pd.DataFrame(
        {
            "Metadata_Plate": "p",
            "Metadata_Well": [well_name(*place) for place in places],
            PERTURBATION: np.where(control, "DMSO", [f"c{row} {column % 3}" for row, column in places]),
            "Metadata_Control": np.where(control, "negative", ""),
            "z": score,
        }
    )
    said = controls_apart(wells, call_hits(wells, ["z"], [PERTURBATION], min_effect=3.0))
    assert (
        said == ""
        if spread
        else said.startswith("24 of 24 perturbations are hits, and the negative controls of 1 plate (p)")
    )
