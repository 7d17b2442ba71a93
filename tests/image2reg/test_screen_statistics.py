"""Screen statistics: each number against its definition, its limit or a simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_screens import simulated_screen

from image2reg.errors import ConfigurationError, DataError
from image2reg.randomness import generator
from image2reg.screen import (
    b_score,
    benjamini_hochberg,
    call_by_rule,
    call_hits,
    fit_dose_response,
    fold_change,
    gene_scores,
    median_polish,
    over_representation,
    plate_quality,
    read_gmt,
    robust_z,
    ssmd,
    z_prime,
)
from image2reg.screen.plates import well_name
from image2reg.screen.significance import simes


@pytest.mark.parametrize("shape", [(8, 12), (16, 24), (3, 5)])
def test_median_polish_leaves_no_row_or_column_median(shape):
    rng = np.random.default_rng(0)
    grid = rng.normal(size=shape) + 3 * rng.normal(size=(shape[0], 1)) + 2 * rng.normal(size=shape[1])
    grid[0, 1] = np.nan
    fit = median_polish(grid)
    assert np.nanmax(np.abs(np.nanmedian(fit.residual, axis=0))) < 1e-6
    assert np.nanmax(np.abs(np.nanmedian(fit.residual, axis=1))) < 1e-6
    np.testing.assert_allclose(
        fit.overall + fit.row[:, None] + fit.column + fit.residual, grid, atol=1e-9, equal_nan=True
    )


def test_median_polish_finds_additive_effects_exactly():
    row, column = np.array([0.0, 2.0, -1.0]), np.array([1.0, 0.0, -3.0, 5.0, -0.5])
    fit = median_polish(7 + row[:, None] + column)
    assert np.abs(fit.residual).max() < 1e-9
    np.testing.assert_allclose(fit.row - fit.row[0], row, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1e9])
def test_b_scores_do_not_know_the_unit_of_a_readout(unit):
    rng = np.random.default_rng(1)
    rows, columns = (a.ravel() for a in np.indices((8, 12)))
    values, control = rng.normal(5, 1, 96) + 0.5 * rows + 0.3 * columns, np.arange(96) < 8
    expected = b_score(values, rows, columns, control)
    np.testing.assert_allclose(b_score(unit * values, rows, columns, control), expected, atol=1e-9)
    assert not median_polish(np.full((8, 12), unit)).residual.any()


def test_an_empty_grid_is_refused():
    with pytest.raises(DataError, match="no well has a finite value"):
        median_polish(np.full((3, 3), np.nan))


def test_the_b_score_removes_gradients_and_control_columns_do_not_bend_it():
    rng = np.random.default_rng(1)
    rows, columns = (a.ravel() for a in np.indices((16, 24)))
    control = columns < 2
    noise = rng.normal(size=384)
    values = noise + 0.5 * rows + 0.3 * columns - 40.0 * control
    score = b_score(values, rows, columns, control)
    assert np.corrcoef(score[~control], noise[~control])[0, 1] > 0.9
    assert np.corrcoef(values[~control], noise[~control])[0, 1] < 0.5
    unbent = b_score(values + 40.0 * control, rows, columns, control)
    np.testing.assert_array_equal(score[~control], unbent[~control])
    assert np.median(score[control]) < -20


def test_robust_z_and_fold_change_by_definition():
    values, control = np.array([1.0, 2.0, 3.0, 9.0, np.nan]), np.array([True, True, True, False, False])
    np.testing.assert_allclose(robust_z(values, control)[:4], (values[:4] - 2) / 1.4826)
    np.testing.assert_allclose(fold_change(values, control)[:4], values[:4] / 2)
    assert np.isnan(robust_z(values, control)[4])
    assert robust_z(values, control, leave_one_out=True)[0] == pytest.approx((1 - 2.5) / (1.4826 * 0.5))


def test_controls_without_spread_and_without_values():
    same = np.array([5.0, 5.0, 5.0, 6.0])
    control = np.array([True, True, True, False])
    z = robust_z(same, control)
    assert z[:3].tolist() == [0, 0, 0]
    assert z[3] == pytest.approx(1 / (1.2533 * 0.25))  # the spread of all wells
    spots = robust_z(np.array([0.0, 0, 0, 0, 7, 8, 9]), np.arange(7) < 4)
    assert (spots[4:] > 0.5).all()
    most = robust_z(np.array([100.0, 100, 100, 110, 97]), np.arange(5) < 4)
    assert most[4] == pytest.approx(
        -3 / (1.2533 * 2.5)
    )  # a MAD of 0 says that most are equal, not that all are
    assert np.isnan(robust_z(np.zeros(4), control)).all()
    with pytest.raises(DataError, match=r"no control well has a value \(3 control wells, 4 wells\)"):
        robust_z(np.where(control, np.nan, same), control)
    assert np.isnan(fold_change(np.array([0.0, 0.0, 1.0]), np.array([True, True, False]))).all()


def test_a_single_control_well_has_no_spread_of_its_own():
    values = np.array([10.0, 11, 9, 12, 8, 10.5])
    control = np.arange(6) == 0
    np.testing.assert_allclose(robust_z(values, control), (values - 10) / (1.4826 * 1.0))
    assert np.isnan(robust_z(values, control, leave_one_out=True)[0])


@pytest.mark.parametrize("estimator", ["mm", "umvue"])
def test_ssmd_of_two_normals_is_2_12_in_the_limit(estimator):
    rng = np.random.default_rng(2)
    value = ssmd(rng.normal(3, 1, 400_000), rng.normal(0, 1, 400_000), estimator=estimator)
    assert value == pytest.approx(3 / math.sqrt(2), abs=0.01)
    assert round(3 / math.sqrt(2), 2) == 2.12


def test_the_small_sample_ssmd_is_unbiased_and_moments_are_not():
    rng = np.random.default_rng(3)
    a, b = rng.normal(3, 1, (4_000, 3)), rng.normal(0, 1, (4_000, 4))
    unbiased = np.mean([ssmd(x, y) for x, y in zip(a, b, strict=True)])
    moments = np.mean([ssmd(x, y, estimator="mm") for x, y in zip(a, b, strict=True)])
    assert unbiased == pytest.approx(2.1213, abs=0.06)
    assert moments > 2.35


def test_ssmd_without_enough_wells_is_undefined():
    assert math.isnan(ssmd([1.0], [2.0]))
    assert math.isnan(ssmd([1.0, 1.0], [2.0, 2.0]))
    with pytest.raises(ConfigurationError, match="allowed are 'mm' and 'umvue'"):
        ssmd([1, 2], [3, 4], estimator="best")


@pytest.mark.parametrize("estimator", ["mm", "umvue"])
def test_ssmd_of_wells_that_do_not_differ_is_undefined(estimator):
    assert np.isnan(ssmd([-2.7] * 3, [0.1] * 7, estimator=estimator))
    assert np.isfinite(ssmd([1e9, 1e9 + 1], [0.0, 0.0], estimator=estimator))


def test_z_prime_by_definition():
    assert z_prime([10, 12], [0, 2]) == pytest.approx(1 - 3 * 2 * math.sqrt(2) / 10)
    assert math.isnan(z_prime([1.0], [0.0, 1.0]))


def test_plate_quality_sees_an_edge_and_grades_controls():
    rng = np.random.default_rng(4)
    places = [divmod(i, 12) for i in range(96)]
    edge = np.array([r in (0, 7) or c in (0, 11) for r, c in places])
    kinds = np.array(
        ["negative" if c == 5 else "positive" if c == 6 else "" for _, c in places], dtype=object
    )
    values = rng.normal(size=96) + 4.0 * edge + 30.0 * (kinds == "positive")
    frame = pd.DataFrame(
        {
            "Metadata_Plate": "p",
            "Metadata_Well": [well_name(*p) for p in places],
            "Metadata_Control": kinds,
            "v": values,
        }
    )
    (row,) = plate_quality(frame, ["v"]).to_dict("records")
    assert row["edge"] > 1
    assert row["grade"] == "excellent"
    assert (row["n_negative"], row["n_positive"], row["n_missing"]) == (8, 8, 0)


def test_the_edge_is_that_of_the_format_of_all_plates_not_of_the_wells_in_use():
    full = pd.DataFrame(
        {"Metadata_Plate": "1", "Metadata_Well": [well_name(r, c) for r in range(16) for c in range(24)]}
    )
    part = pd.DataFrame(
        {"Metadata_Plate": "2", "Metadata_Well": [well_name(r, c) for r in range(1, 8) for c in range(1, 12)]}
    )
    frame = pd.concat([full, part]).assign(Metadata_Control="")
    frame["v"] = np.random.default_rng(0).normal(size=len(frame))
    assert np.isnan(
        plate_quality(frame, ["v"]).set_index("plate")["edge"]["2"]
    )  # row H and column 12 lie inside
    inner = pd.DataFrame(
        {"Metadata_Plate": "1", "Metadata_Well": [well_name(r, c) for r in (1, 2, 3) for c in (1, 2, 3)]}
    )
    inner = inner.assign(Metadata_Control="", v=np.arange(9.0))
    assert np.isnan(plate_quality(inner, ["v"])["edge"][0])  # row D is the edge of a plate of 24


def test_false_discovery_rates_equal_scipys():
    p = np.random.default_rng(5).uniform(size=50) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))
    assert np.isnan(benjamini_hochberg([np.nan, 0.01])[0])
    assert benjamini_hochberg([np.nan, 0.01])[1] == 0.01
    assert simes([0.04, 0.03, np.nan]) == pytest.approx(0.04)


def share_of_false_calls(null, n_screens, **screen):
    """Mean false discovery proportion over null screens: every hit is false."""
    called = []
    for number in range(n_screens):
        wells = simulated_screen(generator(1, "null", number), **screen)
        hits = call_hits(wells, ["z"], ["Metadata_Perturbation"], null=null, seed=number)
        called.append(hits["hit"].any())
    return float(np.mean(called))


@pytest.mark.parametrize("null", ["controls", "plates"])
@pytest.mark.parametrize("n_screens", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_null_screens_keep_the_false_discovery_rate(null, n_screens):
    share = share_of_false_calls(null, n_screens, n_perturbations=40)
    # The nominal 5 %, and what chance adds to it in so many screens (99.9 % of a binomial).
    assert share <= stats.binom.ppf(0.999, n_screens, 0.05) / n_screens


@pytest.mark.parametrize("null", ["controls", "plates"])
def test_planted_hits_are_found(null):
    found, false = [], []
    for number in range(5):
        wells = simulated_screen(generator(2, "planted", number), planted=8, effect=5.0)
        hits = call_hits(wells, ["z"], ["Metadata_Perturbation"], null=null, seed=number)
        called = set(hits.loc[hits["hit"], "Metadata_Perturbation"])
        true = {f"drug{i}" for i in range(8)}
        found.append(len(called & true) / 8)
        false.append(len(called - true) / max(len(called), 1))
    assert np.mean(found) >= 0.9
    assert np.mean(false) <= 0.1


def test_hits_do_not_depend_on_the_order_of_wells():
    wells = simulated_screen(generator(3), planted=5, effect=4.0)
    one = call_hits(wells, ["z"], ["Metadata_Perturbation"])
    other = call_hits(wells.sample(frac=1, random_state=1), ["z"], ["Metadata_Perturbation"])
    key = ["Metadata_Perturbation"]
    merged = one.merge(other, on=key)
    np.testing.assert_allclose(merged["p_x"], merged["p_y"])
    assert len(merged) == len(one)


def test_control_wells_are_tested_too_and_single_wells_are_only_ranked():
    wells = simulated_screen(generator(4), n_plates=1, planted=3, effect=30.0)
    hits = call_hits(wells, ["z"], ["Metadata_Perturbation"])
    assert hits["is_control"].sum() == 16
    assert not hits["hit"].any()
    assert (hits["note"] == "fewer than 2 wells: ranked, not called").all()
    assert set(hits["Metadata_Perturbation"][:3]) == {"drug0", "drug1", "drug2"}
    three = call_hits(simulated_screen(generator(5)), ["z"], ["Metadata_Perturbation"])
    assert set(three.loc[three["is_control"], "n_replicates"]) == {3}


def test_an_exact_p_value_is_one_over_the_number_of_deals():
    z = [0.1, -0.2, 0.3, 0.0, -0.1, 50.0, 60.0]
    wells = pd.DataFrame(
        {
            "Metadata_Plate": "p", "Metadata_Well": [f"A{i:02d}" for i in range(1, 8)],
            "Metadata_Control": ["negative"] * 5 + [""] * 2,
            "Metadata_Perturbation": ["DMSO"] * 5 + ["drug"] * 2, "z": z,
        }
    )  # fmt: skip
    hits = call_hits(wells, ["z"], ["Metadata_Perturbation"]).set_index("Metadata_Perturbation")
    assert hits.loc["drug", "p"] == pytest.approx(1 / math.comb(7, 2))
    with pytest.raises(ConfigurationError, match=r"allowed are \['controls', 'plates'\]"):
        call_hits(wells, ["z"], ["Metadata_Perturbation"], null="none")


def test_the_published_rule_by_name():
    wells = pd.DataFrame(
        {
            "FoldChange_Nuclei_Count": [0.05, 0.4, 1.0, 0.3],
            "FoldChange_Nuclei_AreaShape_Area": [1.0, 1.0, 1.8, 2.0],
        }
    )
    assert list(call_by_rule(wells)) == [
        "strong loss of cells", "loss of cells", "large nuclei", "loss of cells; large nuclei",
    ]  # fmt: skip
    with pytest.raises(DataError, match="Ask for these readouts"):
        call_by_rule(wells[["FoldChange_Nuclei_Count"]])
    with pytest.raises(ConfigurationError, match="is not known"):
        call_by_rule(wells, "mine")


def test_genes_gather_their_reagents():
    hits = pd.DataFrame(
        {
            "Metadata_Gene": ["A", "A", "A", "B", "B", ""], "score": "z", "effect": [5.0, 4.0, -1.0, 0.2, -0.1, 9.0],
            "p": [0.001, 0.004, 0.5, 0.6, 0.9, 0.001], "hit": [True, True, False, False, False, True],
            "q": [0.004, 0.008, 0.6, 0.7, 0.9, 0.004], "is_control": [False] * 5 + [True],
        }
    )  # fmt: skip
    genes = gene_scores(hits).set_index("Metadata_Gene")
    assert list(genes.index) == ["A", "B"]
    assert genes.loc["A", ["n_reagents", "n_hits", "effect", "second_effect"]].tolist() == [3, 2, 4.0, 4.0]
    assert genes.loc["A", "p"] == pytest.approx(0.003)
    assert genes.loc["A", "hit"]
    assert not genes.loc["B", "hit"]
    with pytest.raises(DataError, match="no column 'Metadata_Symbol'"):
        gene_scores(hits, "Metadata_Symbol")


def test_a_gene_without_any_effect_is_ranked_last_and_no_error():
    """A readout that does not vary in the controls has no score, of no reagent."""
    hits = pd.DataFrame(
        {
            "Metadata_Gene": ["A", "A", "B"], "score": "z", "effect": [np.nan, np.nan, 0.2], "p": [np.nan, np.nan, 0.6],
            "hit": False, "q": [np.nan, np.nan, 0.6], "is_control": False,
        }
    )  # fmt: skip
    genes = gene_scores(hits).set_index("Metadata_Gene")
    assert list(genes.index) == ["B", "A"]
    assert genes.loc["A", "n_reagents"] == 0
    assert genes.loc["A", ["effect", "second_effect", "agreement", "p", "q"]].isna().all()
    assert not gene_scores(hits.iloc[:2])["hit"].any()


def test_pathways_with_too_many_hits(tmp_path):
    path = tmp_path / "sets.gmt"
    sets = {"good": range(10), "none": range(50, 60)}
    path.write_text(
        "".join("\t".join([name, "x", *(f"g{i}" for i in of)]) + "\n" for name, of in sets.items())
    )
    table = over_representation([f"g{i}" for i in range(8)], [f"g{i}" for i in range(100)], read_gmt(path))
    best = table.iloc[0]
    assert (best["pathway"], best["n_hits"], best["n_tested"]) == ("good", 8, 10)
    expected = stats.fisher_exact([[8, 2], [0, 90]], alternative="greater").pvalue
    assert best["p"] == pytest.approx(expected)
    assert table.iloc[1]["p"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("only one cell\n", "line 1 has 1 cells; needed are name, description and genes"),
        ("a\tx\tg1\na\tx\tg2\n", "line 2: set 'a' occurs a second time"),
        ("\n", "no gene set in it"),
    ],
)
def test_a_file_that_is_no_gmt_is_explained(tmp_path, text, message):
    (tmp_path / "x.gmt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_gmt(tmp_path / "x.gmt")


def test_pathways_of_other_identifiers_are_refused():
    with pytest.raises(DataError, match="no set shares a gene with the 2 tested ones"):
        over_representation(["TP53"], ["TP53", "MYC"], {"s": {"ENSG1"}})
    with pytest.raises(DataError, match="1 hits are not among the tested genes"):
        over_representation(["X"], ["TP53"], {"s": {"TP53"}})


DOSES = np.repeat([0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0], 3)


def curve(ec50=4.0, slope=1.5, bottom=1.0, top=6.0):
    return bottom + (top - bottom) / (1 + (ec50 / np.maximum(DOSES, 1e-12)) ** slope)


@pytest.mark.parametrize("truth", [{}, {"top": -3.0}, {"ec50": 0.5, "slope": 4.0}])
def test_a_planted_curve_is_recovered(truth):
    noise = np.random.default_rng(6).normal(0, 0.15, len(DOSES))
    fit = fit_dose_response(DOSES, curve(**truth) + noise)
    ec50 = truth.get("ec50", 4.0)
    assert fit.low < ec50 < fit.high
    assert fit.ec50 == pytest.approx(ec50, rel=0.25)
    assert fit.top == pytest.approx(truth.get("top", 6.0), abs=0.5)
    np.testing.assert_allclose(fit.predict(DOSES), curve(**truth), atol=0.4)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(7)
    fits = [fit_dose_response(DOSES, curve() + rng.normal(0, 0.4, len(DOSES))) for _ in range(60)]
    covered = np.mean([fit.low <= 4.0 <= fit.high for fit in fits])
    assert stats.binom.ppf(0.001, 60, 0.95) / 60 <= covered <= 1.0


def test_the_fit_is_the_least_squares_fit():
    from scipy.optimize import curve_fit

    y = curve() + np.random.default_rng(8).normal(0, 0.3, len(DOSES))
    fit = fit_dose_response(DOSES, y)

    def model(x, bottom, top, place, slope):
        return bottom + (top - bottom) / (1 + (np.exp(place) / np.maximum(x, 1e-12)) ** slope)

    (bottom, top, place, slope), _ = curve_fit(model, DOSES, y, p0=[1, 6, 1, 1])
    assert [fit.bottom, fit.top, fit.ec50, fit.slope] == pytest.approx(
        [bottom, top, np.exp(place), slope], rel=1e-3
    )


def test_no_effect_an_open_end_and_too_few_doses():
    rng = np.random.default_rng(9)
    flat = fit_dose_response(DOSES, rng.normal(size=len(DOSES)))
    assert math.isnan(flat.ec50)
    assert "a constant fits as well" in flat.reason
    rising = fit_dose_response(DOSES, DOSES / 100 + rng.normal(0, 0.02, len(DOSES)))
    assert rising.high == math.inf
    full = fit_dose_response(DOSES, (DOSES > 0) + rng.normal(0, 0.02, len(DOSES)))  # all doses do the same
    assert math.isnan(full.ec50)
    assert full.reason == "the EC50 is more than a decade below the doses"
    assert full.low == 0 < full.high < DOSES[DOSES > 0].min()
    counts = [
        345,
        270,
        257,
        214,
        229,
        242,
        219,
        208,
        207,
        183,
        205,
        212,
    ]  # they fall, wherever the middle is put
    falling = fit_dose_response([0, *range(11)], counts)
    assert math.isnan(falling.ec50)
    assert (falling.low, falling.high) == (0, math.inf)
    assert "fit any EC50" in falling.reason
    few = fit_dose_response([0, 1, 2], [0, 1, 2])
    assert few.reason.startswith("2 doses above 0 in 3 wells")
    with pytest.raises(DataError, match=r"a dose of -1; doses are 0 or more, not their logarithms"):
        fit_dose_response([-1, 2], [0, 0])
