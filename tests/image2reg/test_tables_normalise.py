"""Profiles to comparable profiles: aggregation, normalisation with its floors, sphering, selection, batches"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from planted_profiles import planted

from image2reg.errors import ConfigurationError, DataError
from image2reg.tables import Profiles, controls_of, correct_batches, select_features
from image2reg.tables.aggregate import aggregate, modz, modz_weights
from image2reg.tables.normalise import fit_sphering, normalise, sphere


def wells(values: np.ndarray, **columns: list[str]) -> Profiles:
    frame = pd.DataFrame(values, columns=[f"f{i}" for i in range(values.shape[1])])
    for name, cells in columns.items():
        frame.insert(0, f"Metadata_{name}", cells)
    return Profiles(frame)


def test_modz_by_hand() -> None:
    # Replicates 0 and 1 rank alike, 2 the other way round: weights 1/2, 1/2 and the least 0.01, then to sum 1.
    replicates = np.array([[1.0, 2, 3], [2, 4, 6], [3, 2, 1]])
    np.testing.assert_allclose(modz_weights(replicates), np.array([0.5, 0.5, 0.01]) / 1.01)
    np.testing.assert_allclose(modz(replicates), np.array([0.5, 0.5, 0.01]) / 1.01 @ replicates)
    assert modz(replicates[:1]).tolist() == [1, 2, 3]
    np.testing.assert_allclose(modz_weights(np.ones((3, 4))), 1 / 3)  # no spread, no correlation, no NaN
    with pytest.raises(DataError, match="1 of 9 values are not finite"):
        modz(np.where(replicates == 6, np.nan, replicates))
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        modz(np.arange(3.0))


@pytest.mark.parametrize(("method", "expected"), [("mean", [[2, 10], [5, 0]]), ("median", [[1, 10], [5, 0]])])
def test_rows_that_agree_become_one(method: str, expected: list) -> None:
    table = wells(
        np.array([[0, 10], [1, np.nan], [5, 10], [5, 0]]),
        Compound=["a", "a", "a", "b"], Plate=["p2", "p1", "p1", "p1"], Object=["1", "2", "3", "4"],
    )  # fmt: skip
    found = aggregate(table, ["Metadata_Compound"], method=method)
    np.testing.assert_array_equal(found.values, expected)
    assert found.column("Metadata_Count").tolist() == ["3", "1"]
    assert found.column("Metadata_Plate").tolist() == ["p1|p2", "p1"]
    assert "Metadata_Object" not in found.frame


def test_lists_that_are_joined_again_stay_lists_of_single_values() -> None:
    table = wells(np.eye(3), Compound=["a"] * 3, Plate=["p1|p2", "p1", ""], moa=["b|a"] * 3)
    found = aggregate(table, ["Metadata_Compound"])
    assert found.column("Metadata_Plate").tolist() == ["p1|p2"]
    assert found.column("Metadata_moa").tolist() == ["b|a"]  # the same in all rows: kept as it is


def test_modz_leaves_features_with_gaps_out_of_the_weights() -> None:
    table = wells(np.array([[1, 2, 3, np.nan], [2, 4, 6, 1.0], [3, 2, 1, 1]]), Compound=["a", "a", "a"])
    found = aggregate(table, ["Metadata_Compound"], method="modz").values[0]
    np.testing.assert_allclose(found[:3], modz(table.values[:, :3]))
    assert np.isnan(found[3])
    with pytest.raises(DataError, match="no feature that is finite in all its 2 rows"):
        aggregate(
            wells(np.array([[np.nan], [1.0]]), Compound=["a", "a"]), ["Metadata_Compound"], method="modz"
        )
    with pytest.raises(ConfigurationError, match="allowed are mean, median, modz"):
        aggregate(table, ["Metadata_Compound"], method="mode")


@pytest.mark.parametrize("method", ["robust", "standard", "centre"])
def test_controls_come_to_level_zero_and_spread_one_on_each_plate(method: str) -> None:
    table = planted(n_controls=40)
    controls = controls_of(table, "Metadata_Compound=DMSO")
    shifted = table.values * 3 + np.where(table.column("Metadata_Plate") == "plate 1", 100, 0)[:, None]
    done = normalise(table.with_values(shifted), controls=controls, by=["Metadata_Plate"], method=method)
    assert done.groups == {"plate 0": 20, "plate 1": 20}
    for plate in ("plate 0", "plate 1"):
        rows = done.profiles.values[controls & (table.column("Metadata_Plate") == plate)]
        level = rows.mean(axis=0) if method == "standard" else np.median(rows, axis=0)
        np.testing.assert_allclose(level, 0, atol=1e-9)
        if method == "standard":
            np.testing.assert_allclose(rows.std(axis=0, ddof=1), 1)
        if method == "robust":
            np.testing.assert_allclose(1.4826 * np.median(np.abs(rows), axis=0), 1)


@pytest.mark.parametrize("level", [0.0, 5.0, 1e9])
def test_a_feature_constant_among_controls_is_flagged_and_never_explodes(level: float) -> None:
    values = np.random.default_rng(0).normal(size=(12, 3))
    values[:8, 1] = level
    values[8:, 1] = level + 1
    values[:8, 2] *= 1e-3
    table = wells(values)
    done = normalise(table, controls=np.arange(12) < 8, floor=0.05)
    assert done.constant == ("f1",)
    assert done.floored == ("f2",)
    assert np.abs(done.profiles.values[:, 1]).max() <= 1  # centred, not divided
    assert np.abs(done.profiles.values).max() < 100


def test_a_feature_in_which_most_controls_agree_is_scaled_by_their_deviation() -> None:
    values = np.random.default_rng(0).normal(size=(10, 2))
    values[:, 1] = [0, 0, 0, 0, 0, 300, 0, 500, 0, 900]  # MAD 0 on this plate, in raw units otherwise
    done = normalise(wells(values))
    assert done.constant == ()
    np.testing.assert_allclose(done.profiles.values[:, 1], values[:, 1] / values[:, 1].std(ddof=1))


def test_groups_whose_names_read_alike_are_both_normalised() -> None:
    table = wells(
        np.random.default_rng(0).normal(5, 2, size=(20, 2)), Batch=["1"] * 10 + ["1/2"] * 10,
        Plate=["2/3"] * 10 + ["3"] * 10,
    )  # fmt: skip
    done = normalise(table, by=["Metadata_Batch", "Metadata_Plate"], method="standard").profiles.values
    for rows in (slice(10), slice(10, 20)):
        np.testing.assert_allclose(done[rows].mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(done[rows].std(axis=0, ddof=1), 1)


def test_groups_without_enough_controls_are_named() -> None:
    table = planted(n_controls=5)
    with pytest.raises(
        DataError, match=r"1 of 2 groups by \['Metadata_Plate'\] have fewer than 3 controls: 'plate 1' \(2\)"
    ):
        normalise(table, controls=controls_of(table, "Metadata_Compound=DMSO"), by=["Metadata_Plate"])
    with pytest.raises(ConfigurationError, match="floor -1"):
        normalise(table, floor=-1)
    with pytest.raises(ConfigurationError, match="write Metadata_Column=value"):
        controls_of(table, "DMSO")
    blank = table.replace(table.frame.assign(Metadata_Compound=table.column("Metadata_Compound") + " "))
    dmso = "Metadata_Compound=DMSO"
    np.testing.assert_array_equal(controls_of(blank, dmso), controls_of(table, dmso))
    with pytest.raises(DataError, match=r"no row has Metadata_Compound in \['water'\]; there are \['DMSO'"):
        controls_of(table, "Metadata_Compound=water")
    with pytest.raises(DataError, match=r"no row has Metadata_Compound in \['DMS0'\]"):
        controls_of(table, "Metadata_Compound=DMSO,DMS0")
    assert controls_of(table, "Metadata_Compound=DMSO,DMS0", every=False).any()


def test_sphered_controls_have_the_identity_as_covariance() -> None:
    rng = np.random.default_rng(0)
    controls = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    done = fit_sphering(controls, regularisation=0, rank=6).apply(controls)
    np.testing.assert_allclose(np.cov(done.T), np.eye(6), atol=1e-9)
    # Fewer controls than features: the regularisation keeps what they do not span in bounds.
    few = fit_sphering(controls[:4], regularisation=0.1)
    assert np.isfinite(few.apply(controls)).all()
    low = fit_sphering(controls, regularisation=0, rank=2).apply(controls)
    assert np.linalg.matrix_rank(low, tol=1e-6) == 2


def test_sphering_by_many_controls_needs_no_square_of_them() -> None:
    controls = np.random.default_rng(0).normal(size=(3000, 5))
    tracemalloc.start()
    fit_sphering(controls)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 3000  # a byte for each pair


def test_sphering_says_what_the_controls_do_not_support() -> None:
    controls = np.random.default_rng(0).normal(size=(4, 6))
    with pytest.raises(ConfigurationError, match="a rank of at most 3 without one"):
        fit_sphering(controls, regularisation=0)
    flat = np.repeat(controls[:, :1], 6, axis=1)
    with pytest.raises(ConfigurationError, match="span only 1 directions"):
        fit_sphering(np.vstack([flat, flat[:3]]), regularisation=0, rank=3)
    with pytest.raises(DataError, match="do not differ in any feature"):
        fit_sphering(np.ones((4, 6)))
    with pytest.raises(DataError, match="there are 1 controls and 0 values"):
        fit_sphering(controls[:1])
    table = planted()
    done = sphere(table, controls=controls_of(table, "Metadata_Compound=DMSO"), by=["Metadata_Batch"])
    assert done.features == table.features


def test_features_are_dropped_for_stated_reasons() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 6))
    values[0, 0] = np.nan
    values[:, 1] = 1e9
    values[3, 2] = 1e6
    values[:, 4] = values[:, 3] + 0.01 * rng.normal(size=50)
    found = select_features(wells(values), largest=100)
    assert (found.missing, found.constant, found.extreme) == (("f0",), ("f1",), ("f2",))
    assert len(found.correlated) == 1
    assert set(found.correlated) < {"f3", "f4"}
    assert len(found.profiles.features) == 2
    with pytest.raises(DataError, match="no feature is left of 1"):
        select_features(wells(np.ones((5, 1))))
    with pytest.raises(ConfigurationError, match="most_correlated 0"):
        select_features(wells(values), most_correlated=0)


def test_an_infinite_value_counts_as_missing() -> None:
    values = np.random.default_rng(0).normal(size=(20, 4))
    values[0, 0], values[:, 1] = -np.inf, np.nan
    found = select_features(wells(values))
    assert found.missing == ("f0", "f1")
    kept = select_features(wells(values), most_missing=1).profiles
    assert kept.features == ["f0", "f2", "f3"]
    assert np.isnan(kept.values[0, 0])


def test_batch_correction_refuses_gaps() -> None:
    table = planted(n_controls=60)
    values = table.values
    values[0, 0] = np.nan
    with pytest.raises(DataError, match=r"1 of 12 features have 1 missing or infinite values"):
        correct_batches(
            table.with_values(values), batch="Metadata_Batch",
            controls=controls_of(table, "Metadata_Compound=DMSO"),
        )  # fmt: skip


def test_batch_correction_is_checked_on_controls_it_has_not_seen() -> None:
    table = planted(n_controls=60)
    controls = controls_of(table, "Metadata_Compound=DMSO")
    batch = table.column("Metadata_Batch") == "batch 1"
    shifted = table.with_values(table.values + np.where(batch, 4, 0)[:, None])
    corrected, check = correct_batches(shifted, batch="Metadata_Batch", controls=controls)
    assert check.before > 0.95
    assert check.helped
    assert abs(check.after - check.chance) < 0.25
    assert check.n == 30
    assert np.abs(np.median(corrected.values[controls & batch], axis=0)).max() < 1e-9
    with pytest.raises(DataError, match="needs at least two batches with 6 controls each"):
        correct_batches(
            planted(n_controls=8),
            batch="Metadata_Batch",
            controls=controls_of(planted(n_controls=8), "Metadata_Compound=DMSO"),
        )
