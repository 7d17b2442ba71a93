"""Average precision: by hand, with ties, sets of labels, blocks, threads, and every table that cannot be scored"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_profiles import planted

from image2reg.errors import ConfigurationError, DataError
from image2reg.retrieval import average_precision, blocks, chance_level
from image2reg.retrieval.precision import normalised_average_precision
from image2reg.retrieval.similarity import unit_rows
from image2reg.tables import Profiles

MOA, COMPOUND = ["Metadata_moa"], ["Metadata_Compound"]


def profiles(angles: list[float], labels: list[str], **columns: list[str]) -> Profiles:
    """Points on the circle: the cosine of two is the cosine of the angle between them."""
    radians = np.deg2rad(angles)
    frame = pd.DataFrame({"Metadata_moa": labels, "x": np.cos(radians), "y": np.sin(radians)})
    for name, cells in columns.items():
        frame.insert(0, f"Metadata_{name}", cells)
    return Profiles(frame)


def brute_force(similarity: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Mean of i / (average rank of the i-th positive), a query at a time."""
    out = np.full(len(similarity), np.nan)
    for q, row in enumerate(similarity):
        seen = positive[q] | negative[q]
        ranks = [1 + np.sum(row[seen] > s) + (np.sum(row[seen] == s) - 1) / 2 for s in row[positive[q]]]
        if ranks:
            out[q] = np.mean(np.arange(1, len(ranks) + 1) / np.sort(ranks))
    return out


def test_a_ranking_done_by_hand() -> None:
    # Seen from 0: a at 10 (rank 1), b at 20 (2), a at 30 (3): AP = (1/1 + 2/3) / 2.
    scores = average_precision(profiles([0, 10, 20, 30], ["a", "a", "b", "a"]), same=MOA)
    first = scores.iloc[0]
    assert first["average_precision"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-12)
    assert (first["n_positives"], first["n_candidates"], first["first_hit"]) == (2, 3, 1)
    assert (first["hit@1"], first["precision@1"], first["precision@5"]) == (1, 1, 2 / 3)
    assert np.isnan(scores["average_precision"][2])
    assert scores.attrs == {"n_unlabelled": 0, "n_without_positive": 1}


def test_ties_share_their_average_rank_in_any_order() -> None:
    angles, labels = [0, 10, -10, 10, 50], ["a", "a", "b", "b", "b"]
    expected = 1 / 2  # one positive among three tied candidates: rank 2
    for order in ([0, 1, 2, 3, 4], [0, 3, 2, 1, 4], [4, 2, 0, 3, 1]):
        scores = average_precision(profiles([angles[i] for i in order], [labels[i] for i in order]), same=MOA)
        assert scores["average_precision"][order.index(0)] == pytest.approx(expected, abs=1e-12)


def test_pairs_that_must_differ_are_neither_positive_nor_negative() -> None:
    table = profiles([0, 5, 10, 20], ["a", "a", "b", "a"], Compound=["p", "p", "q", "r"])
    scores = average_precision(table, same=MOA, different=COMPOUND)
    assert scores["n_candidates"][0] == 2  # its own compound at 5 degrees is not ranked at all
    assert scores["average_precision"][0] == pytest.approx(1 / 2)


def test_label_sets_match_where_they_intersect() -> None:
    table = profiles([0, 10, 20, 30, 40], ["a|b", "c", "b|c", "b", "d"])
    found = average_precision(table, same=MOA, multilabel="any")
    assert found["average_precision"][0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    each = average_precision(table, same=MOA, multilabel="each")
    asked = each[each["row"] == 0].set_index("label")["average_precision"]
    assert asked["b"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert np.isnan(asked["a"])


@pytest.mark.parametrize("similarity", ["cosine", "pearson", "spearman"])
@pytest.mark.parametrize("neighbours", [0, 3])
def test_blocks_threads_and_brute_force_agree(
    similarity: str, neighbours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = planted(n_wells=1, noise=3.0)
    kind = {"similarity": similarity, "neighbours": neighbours, "same": MOA, "different": COMPOUND}
    whole = average_precision(table, n_threads=1, **kind)
    monkeypatch.setattr(blocks, "CELLS", 100)
    pieces = average_precision(table, n_threads=3, **kind)
    pd.testing.assert_frame_equal(whole, pieces)
    assert whole.attrs["n_unlabelled"] == 24
    kept = table.rows(table.column("Metadata_moa") != "")
    from image2reg.retrieval.similarity import local_scaling, similarity_matrix

    found = similarity_matrix(kept, similarity)
    moa, compound = kept.column("Metadata_moa"), kept.column("Metadata_Compound")
    apart = compound[:, None] != compound[None]
    if neighbours:
        hub = local_scaling(found, apart, neighbours=neighbours)
        found = 2 * found - hub[:, None] - hub[None]
    same = moa[:, None] == moa[None]
    expected = brute_force(np.round(found, 12), same & apart, ~same)
    np.testing.assert_allclose(whole["average_precision"], expected, atol=1e-9)


def test_single_precision_is_close() -> None:
    table = planted(noise=3.0)
    double = average_precision(table, same=MOA)["average_precision"]
    single = average_precision(table, same=MOA, precision="float32")["average_precision"]
    np.testing.assert_allclose(single, double, atol=1e-3)


def test_chance_is_the_mean_of_random_rankings_and_normalises_to_zero() -> None:
    assert chance_level(np.array([3, 7]), np.array([23, 100])) == pytest.approx([0.2385, 0.1093], abs=5e-5)
    assert normalised_average_precision(np.array([1.0, 0.2385]), np.array([3, 3]), np.array([23, 23])) == (
        pytest.approx([1, 0], abs=1e-4)
    )
    assert np.isnan(normalised_average_precision(np.array([1.0]), np.array([4]), np.array([4]))[0])


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (profiles([0, 10], ["", ""]), {}, "no row has a value in"),
        (profiles([0, 10, 20], ["a", "b", "c"]), {}, r"no positive pair among 3 labelled rows: 3 different values"),
        (profiles([0, 10, 20], ["a", "a", "a"]), {}, "no negative pair"),
        (
            profiles([0, 10, 20], ["a", "a", "b"], Compound=["p", "p", "q"]),
            {"different": COMPOUND},
            r"pairs had to differ in \['Metadata_Compound'\].*add compounds per label",
        ),
        (profiles([0, 10], ["a", "b"]), {"same": ["Metadata_x"]}, r"no metadata column 'Metadata_x'"),
    ],
)  # fmt: skip
def test_tables_without_a_pair_are_refused_in_words(table: Profiles, options: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        average_precision(table, **{"same": MOA, **options})


def test_profiles_without_direction_and_nan_are_refused_with_their_place() -> None:
    table = profiles([0, 10, 20], ["a", "a", "b"])
    values = table.values
    values[1] = 0
    with pytest.raises(DataError, match=r"1 of 3 profiles are all zero \(first: row 1\)"):
        average_precision(table.with_values(values), same=MOA)
    values[1, 1] = np.nan
    with pytest.raises(DataError, match=r"1 of 6 values are not finite, first at row 1, feature 1"):
        average_precision(table.with_values(values), same=MOA)
    flat = table.with_values(np.ones((3, 2)))
    with pytest.raises(DataError, match="all zero or constant"):
        average_precision(flat, same=MOA, similarity="pearson")


@pytest.mark.parametrize(
    "options",
    [{"same": []}, {"multilabel": "both"}, {"similarity": "l2"}, {"precision": "float16"},
     {"neighbours": 2, "multilabel": "each"}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(options: dict) -> None:
    with pytest.raises(ConfigurationError):
        average_precision(profiles([0, 10, 20], ["a", "a", "b"]), **{"same": MOA, **options})


@pytest.mark.parametrize("level", [0.1, 1234567.1])
def test_a_constant_profile_has_no_correlation_at_any_level(level: float) -> None:
    with pytest.raises(DataError, match="2 of 2 profiles are all zero or constant"):
        unit_rows(np.full((2, 7), level), "pearson")
