"""Null distributions, false discovery rate, enrichment, nearest neighbours, replicating and matching"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_profiles import planted

from image2reg.errors import ConfigurationError, DataError
from image2reg.retrieval import (
    average_precision,
    blocks,
    chance_level,
    choose_processing,
    false_discovery_rate,
    fold_of_enrichment,
    interpolated_precision,
    label_permutation_test,
    mean_average_precision,
    nearest_neighbours,
    percent_matching,
    percent_replicating,
)
from image2reg.retrieval.labels import normalised, unlike_spellings
from image2reg.retrieval.significance import null_average_precision
from image2reg.retrieval.similarity import similarity_matrix
from image2reg.tables import Profiles
from image2reg.tables.aggregate import aggregate

TREATMENT = ["Metadata_Compound", "Metadata_Dose"]


def treated(**settings: float) -> Profiles:
    wells = planted(**settings)
    return aggregate(wells.rows(wells.column("Metadata_moa") != ""), TREATMENT, method="mean")


def matches(table: Profiles) -> tuple[np.ndarray, np.ndarray]:
    moa, compound = table.column("Metadata_moa"), table.column("Metadata_Compound")
    return moa[:, None] == moa[None], compound[:, None] != compound[None]


def test_random_rankings_have_the_chance_level() -> None:
    for m, n in ((3, 23), (1, 9), (5, 5)):
        null = null_average_precision(m, n, n=20_000, rng=np.random.default_rng(0))
        assert null.mean() == pytest.approx(
            float(chance_level(m, n)), abs=4 * max(null.std(), 1e-12) / 141 + 1e-12
        )


def test_false_discovery_rate_by_hand_and_with_gaps() -> None:
    p = np.array([0.04, np.nan, 0.01, 0.03, 0.9])
    np.testing.assert_allclose(false_discovery_rate(p), [0.04 * 4 / 3, np.nan, 0.04, 0.04 * 4 / 3, 0.9])


def test_planted_mechanisms_are_significant_and_noise_is_not() -> None:
    real = mean_average_precision(
        average_precision(treated(), same=["Metadata_moa"], different=["Metadata_Compound"])
    )
    noise = mean_average_precision(
        average_precision(treated(effect=0.0), same=["Metadata_moa"], different=["Metadata_Compound"])
    )
    assert real["significant"].all()
    assert (real["mean_average_precision"] > real["chance"]).all()
    assert not noise["significant"].any()
    assert (noise["p_value"] >= 1 / 10_001).all()


def test_a_group_without_a_positive_is_said_not_averaged() -> None:
    empty = pd.DataFrame(
        {"label": ["a"], "average_precision": [np.nan], "n_positives": [0], "n_candidates": [3]}
    )
    with pytest.raises(DataError, match="none of the 1 queries has a positive"):
        mean_average_precision(empty)


def test_a_ranking_that_chance_often_reaches_is_not_significant() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(6, 4)), columns=list("abcd")).assign(
        Metadata_moa=list("xxyyzz"), Metadata_Plate=list("112222")
    )
    frame.loc[3, list("abcd")] = (
        frame.loc[2, list("abcd")] + 0.01
    )  # y is found at once, among three candidates
    scores = average_precision(Profiles(frame), same=["Metadata_moa"], negative_same=["Metadata_Plate"])
    table = mean_average_precision(scores, n_null=2000).set_index("group")
    assert table["mean_average_precision"][["x", "y"]].tolist() == [1, 1]
    assert table["p_value"]["x"] == 1  # alone on its plate: nothing but positives to rank
    assert table["p_value"]["y"] == pytest.approx(1 / 3, abs=0.05)


def test_permutations_that_leave_no_pair_say_nothing() -> None:
    unit = np.array(["A", "A", "B", "C"])
    label = np.array(["x", "y", "y", "z"])  # A is moved by its first label, which no other compound has
    found = label_permutation_test(
        np.eye(4), label[:, None] == label[None], unit[:, None] != unit[None], n=20, units=unit
    )
    assert found["p_value"] == 1
    assert np.isnan(found["null_mean"])


def test_permuted_labels_tell_signal_from_noise() -> None:
    for effect, low, high in ((6.0, 0.0, 0.011), (0.0, 0.02, 1.0)):
        table = treated(effect=effect)
        same, apart = matches(table)
        test = label_permutation_test(
            similarity_matrix(table), same, apart, n=99, units=table.column("Metadata_Compound")
        )
        assert low <= test["p_value"] <= high
        assert test["n_queries"] == len(table)
    with pytest.raises(ConfigurationError, match="all three are"):
        label_permutation_test(np.eye(3), np.eye(2, dtype=bool), np.eye(3, dtype=bool))


def test_enrichment_keeps_the_published_rule_and_bounds_it_beside() -> None:
    # Query 0: its one match is the one candidate above the 99th percentile: the odds ratio is infinite.
    similarity = np.array([[0, 0.9, 0.1, 0.2], [0.9, 0, 0.3, 0.1], [0.1, 0.3, 0, 0.2], [0.2, 0.1, 0.2, 0]])
    match = np.zeros((4, 4), bool)
    match[0, 1] = match[1, 0] = match[2, 3] = match[3, 2] = True
    found = fold_of_enrichment(similarity, match | np.eye(4, dtype=bool))
    assert found.infinite.tolist() == [True, True, False, False]
    assert found.published[:3].tolist() == [2, 2, 0]  # two true negatives stand in for infinity
    assert found.haldane[0] == pytest.approx(1.5 * 2.5 / (0.5 * 0.5))
    assert found.p_value[0] == pytest.approx(1 / 3)
    assert np.isfinite(list(found.summary.values())).all()
    with pytest.raises(DataError, match="none of 3 treatments"):
        fold_of_enrichment(np.eye(3), np.eye(3, dtype=bool))


def test_interpolated_precision_is_another_number_than_average_precision() -> None:
    similarity = np.array([[0, 0.9, 0.8, 0.7], [0.9, 0, 0.1, 0.2], [0.8, 0.1, 0, 0.3], [0.7, 0.2, 0.3, 0]])
    match = np.zeros((4, 4), bool)
    match[0, [2, 3]] = True  # ranks 2 and 3: precision 1/2, 2/3, running maximum 2/3 everywhere
    assert interpolated_precision(similarity, match) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="two others"):
        interpolated_precision(similarity, np.eye(4, dtype=bool))


def test_nearest_neighbours_leave_compound_and_batch_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = treated()
    options = {"label": "Metadata_moa", "different": ["Metadata_Compound"], "neighbours": 4}
    whole = nearest_neighbours(table, **options)
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "CELLS", 100)
        pieces = nearest_neighbours(table, **options)
    assert [near.tolist() for near in whole["nearest"]] == [near.tolist() for near in pieces["nearest"]]
    found = nearest_neighbours(table, label="Metadata_moa", different=["Metadata_Compound"])
    assert found["correct"].mean() > 0.9
    compounds = table.column("Metadata_Compound")
    assert all(
        compounds[row] not in compounds[near]
        for row, near in zip(found["row"], found["nearest"], strict=True)
    )
    batched = nearest_neighbours(
        table, label="Metadata_moa", different=["Metadata_Compound", "Metadata_Batch"]
    )
    batches = table.column("Metadata_Batch")
    assert all(batches[r] != batches[n[0]] for r, n in zip(batched["row"], batched["nearest"], strict=True))
    with pytest.raises(DataError, match="no two of 32 profiles share"):
        nearest_neighbours(table, label="Metadata_moa", different=["Metadata_moa"])


def test_profiles_that_are_not_allowed_are_no_neighbours() -> None:
    table = treated(n_mechanisms=2, n_compounds=2)  # 8 treatments, 6 of another compound
    found = nearest_neighbours(table, label="Metadata_moa", different=["Metadata_Compound"], k=7)
    compound = table.column("Metadata_Compound")
    for row, near, similarity in zip(found["row"], found["nearest"], found["similarity"], strict=True):
        assert len(near) == len(similarity) == 6
        assert (compound[near] != compound[row]).all()


def test_percent_replicating_and_matching_see_what_was_planted() -> None:
    wells = planted()
    wells = wells.rows(wells.column("Metadata_moa") != "")
    assert percent_replicating(wells, replicate="Metadata_Compound")[0] > 0.9
    share, table = percent_matching(wells, label="Metadata_moa", different="Metadata_Compound")
    assert share == 1
    assert set(table.columns) == {"group", "n", "similarity", "threshold", "above"}
    noise = planted(effect=0.0, n_compounds=8)
    noise = noise.rows(noise.column("Metadata_moa") != "")
    assert percent_replicating(noise, replicate="Metadata_Compound")[0] < 0.25
    with pytest.raises(DataError, match="has two rows"):
        percent_replicating(treated().rows(np.arange(0, 32, 2)), replicate="Metadata_Compound")


def test_spellings_are_merged_only_when_asked() -> None:
    assert normalised("MEK Inhibitor") == normalised("mek  antagonists") == "mek inhibitor"
    assert unlike_spellings(["MEK inhibitor", "mek inhibitor|DMSO"]) == {
        "mek inhibitor": ["MEK inhibitor", "mek inhibitor"]
    }


def test_processing_is_settled_without_looking_at_mechanisms() -> None:
    wells = planted(noise=2.0)
    controls = wells.column("Metadata_Compound") == "DMSO"
    options = {"controls": controls, "by": TREATMENT, "compound": "Metadata_Compound"}
    chosen, grid = choose_processing(wells, **options)
    best = grid.loc[grid["criterion"].idxmax()]
    assert (best["arcsinh"], best["sphering"]) == (chosen.arcsinh, chosen.sphering)
    blind, _ = choose_processing(wells.replace(wells.frame.assign(Metadata_moa="")), **options)
    assert blind == chosen
