"""Ranks, hit curves and sources, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import ConfigurationError, DataError
from image2reg.linking.own_ranks import OwnRanks
from image2reg.linking.scores import candidate_scores, k_auc, link_scores, permutation_p, ranks_of
from image2reg.linking.selection import held_out_from_inverse, inverses, nested_scores
from image2reg.linking.settings import Setting, grid
from image2reg.linking.sources import Scale, gene_means, replicate_whitened, scaled
from image2reg.tables import Profiles


def test_ranks_count_what_is_strictly_better_and_halve_ties() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    strict, average = ranks_of(scores, np.array([1, 2]))
    assert strict.tolist() == [1, 0]
    assert average.tolist() == [1, 1]
    allowed = np.array([[False, False, True], [True, True, False]])
    assert ranks_of(scores, np.array([1, 2]), allowed=allowed)[0].tolist() == [0, 0]


def test_auc_and_hits() -> None:
    result = link_scores(np.array([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]]), np.array([0, 2]))
    assert result.auc.value == pytest.approx(1 - (0 + 2) / 2 / 3)
    assert result.hit(1) == 0.5
    assert result.median_rank == 2.0
    curve = result.curve("a", seed=0)
    assert curve["hit"].tolist() == [0.5, 0.5, 1.0, 1.0]
    assert curve["k_auc"].iloc[2] == pytest.approx(k_auc(result.ranks, 3))


def test_a_gene_without_competitor_is_refused() -> None:
    with pytest.raises(DataError, match="2 of 2 genes have no other candidate"):
        link_scores(np.eye(2), np.array([0, 1]), allowed=np.zeros((2, 2), bool))


def test_cosine_is_taken_from_the_mean_and_euclid_is_a_distance() -> None:
    mean = np.array([[1.0, 0.0]])
    candidates = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    made = candidate_scores(np.array([[1.5, 0.0]]), mean, candidates)
    assert made[0].tolist() == pytest.approx([1.0, 0.0, -1.0])
    assert candidate_scores(mean, mean, candidates)[0].tolist() == [
        0.0,
        0.0,
        0.0,
    ]  # the mean has no direction
    euclid = candidate_scores(np.array([[1.5, 0.0]]), mean, candidates, rule="euclidean")
    assert euclid[0, 0] == pytest.approx(-0.5)
    with pytest.raises(
        ConfigurationError, match="ranking rule 'manhattan' is not known; allowed are cosine, euclidean"
    ):
        candidate_scores(mean, mean, candidates, rule="manhattan")


def test_p_counts_ties_against_us() -> None:
    assert permutation_p(0.6, [0.6, 0.5, 0.5]) == 0.5
    assert permutation_p(0.6, []) == 1.0


def test_nested_scores_never_see_the_held_out_gene() -> None:
    """Changing one gene's own embedding changes neither what is chosen for its fold nor its prediction's direction."""
    rng = np.random.default_rng(0)
    x = scaled(rng.normal(size=(30, 6)))
    settings = grid(kernels=(("ntk", 1), ("linear", 1)), ridges=(0.1, 10.0))
    solved = inverses(settings, {"source": x})
    table = rng.normal(size=(40, 5))
    own = np.arange(30)
    before = nested_scores(settings, solved, {"target": table}, own, n_folds=5)
    changed = table.copy()
    changed[7] = rng.normal(size=5)
    after = nested_scores(settings, solved, {"target": changed}, own, n_folds=5)
    fold = before.folds[7]
    others = np.setdiff1d(np.arange(40), [7])
    # Gene 7 competes as a candidate of the others, so its embedding may sway a choice; its prediction may not change.
    assert before.chosen[fold] == after.chosen[fold]
    assert np.allclose(before.scores[7, others], after.scores[7, others])


def test_nested_inner_loop_equals_refitting_without_the_fold() -> None:
    rng = np.random.default_rng(1)
    x, table = scaled(rng.normal(size=(20, 4))), rng.normal(size=(25, 3))
    own = np.arange(20)
    setting = Setting(ridge=0.5)
    solved = inverses([setting], {"source": x})
    nested = nested_scores([setting], solved, {"target": table}, own, n_folds=4)
    b = next(iter(solved.values()))
    direct = candidate_scores(*held_out_from_inverse(b, table[own]), table)
    assert np.allclose(nested.scores, direct)
    assert set(nested.chosen) == {setting}


@pytest.mark.parametrize("columns", [3, 60], ids=["few columns", "more columns than candidates"])
@pytest.mark.parametrize("setting", [Setting(), Setting(centre="none", rule="euclidean")], ids=str)
def test_a_shuffle_ranks_as_a_fit_of_the_shuffled_sources_does(setting: Setting, columns: int) -> None:
    rng = np.random.default_rng(1)
    x, table, own = rng.normal(size=(30, 8)) / 3, rng.normal(size=(45, columns)), rng.permutation(45)[:30]
    table[7] = table[8]  # candidates that nothing tells apart
    b, ranks = inverses([setting], {"source": x}).popitem()[1], OwnRanks(table, own)
    for _ in range(3):
        order = rng.permutation(30)
        refitted = inverses([setting], {"source": x[order]}).popitem()[1]
        fitted = held_out_from_inverse(refitted, table[own], centre=setting.centre)
        expected = ranks_of(candidate_scores(*fitted, table, rule=setting.rule), own)
        assert np.array_equal(next(ranks.ranks(b[np.ix_(order, order)], setting)), expected)


@pytest.mark.parametrize("columns", [3, 60])
def test_a_shuffle_that_predicts_the_mean_ranks_nobody(columns: int) -> None:
    table = np.random.default_rng(0).normal(size=(12, columns))
    strict, average = next(OwnRanks(table, np.arange(10)).ranks(np.eye(10), Setting()))  # nothing in common
    assert not strict.any()
    assert (average == 11 / 2).all()


def test_nested_selection_needs_genes_settings_and_folds() -> None:
    with pytest.raises(ConfigurationError, match="no settings"):
        nested_scores([], {}, {"target": np.eye(4)}, np.arange(4))
    with pytest.raises(DataError, match="at least 4 genes, there are 3"):
        nested_scores([Setting()], {}, {"target": np.eye(3)}, np.arange(3))
    with pytest.raises(ConfigurationError, match="n_folds is 1; allowed is 2 or above"):
        nested_scores([Setting()], {}, {"target": np.eye(9)}, np.arange(9), n_folds=1)


def test_scale_is_learnt_once_and_applied_to_others() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 5.0, size=(50, 4))
    values[:, 1] = 2.0
    scale = Scale.fit(values)
    made = scale.apply(values)
    assert scale.n_flat == 1
    assert (made[:, 1] == 0).all()
    assert (made**2).sum(1).mean() == pytest.approx(1.0)
    assert np.allclose(scale.apply(values[:3]), made[:3])


def wells(rng: np.random.Generator, n_constructs: int = 30, n_replicates: int = 3, d: int = 12) -> Profiles:
    """Synthetic wells: construct effect plus noise that is strong along one direction."""
    effect = np.repeat(rng.normal(size=(n_constructs, d)), n_replicates, axis=0)
    noise = rng.normal(size=effect.shape)
    noise[:, 0] *= 20
    named = pd.DataFrame({
        "Metadata_Gene": np.repeat([f"G{i // 2}" for i in range(n_constructs)], n_replicates),
        "Metadata_Construct": np.repeat([f"C{i}" for i in range(n_constructs)], n_replicates),
        "Metadata_Plate": np.tile(["P1", "P2", "P3"][:n_replicates], n_constructs),
    })  # fmt: skip
    return Profiles(pd.concat([named, pd.DataFrame(effect + noise).add_prefix("f")], axis=1), source="wells")


def test_whitening_makes_replicate_noise_round() -> None:
    table = wells(np.random.default_rng(0), n_constructs=100)
    white = replicate_whitened(table, "Metadata_Construct", batch="Metadata_Plate", clip=None)
    frame = (
        pd.DataFrame(white.values)
        .groupby(white.column("Metadata_Construct"))
        .transform(lambda c: c - c.mean())
    )
    spread = frame.to_numpy().std(0) * np.sqrt(3 / 2)
    assert spread == pytest.approx(np.ones(12), abs=0.35)
    assert pd.DataFrame(table.values).groupby(table.column("Metadata_Construct")).std().mean()[0] > 10


def test_whitening_needs_replicates() -> None:
    table = wells(np.random.default_rng(0), n_replicates=1)
    with pytest.raises(
        DataError, match="'Metadata_Construct' has 0 rows with a replicate; whitening needs at least 4"
    ):
        replicate_whitened(table, "Metadata_Construct")
    with pytest.raises(DataError, match="no metadata column 'Metadata_Batch'; there are"):
        replicate_whitened(wells(np.random.default_rng(0)), "Metadata_Construct", batch="Metadata_Batch")


def test_gene_means_count_rows_and_keep_what_is_missing() -> None:
    table = wells(np.random.default_rng(0), n_constructs=4)
    values = table.values
    values[0, 3] = np.nan
    means = gene_means(table.with_values(values))
    assert means.column("Metadata_Gene").tolist() == ["G0", "G1"]
    assert means.column("Metadata_Count").tolist() == ["6", "6"]
    assert np.isnan(means.values[0, 3])
    assert means.values[1] == pytest.approx(values[6:].mean(0))
