"""Scores do not depend on the order of the rows, on their scale, or on blocks; probabilities and FDR behave"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_profiles import planted

from image2reg.retrieval import average_precision, false_discovery_rate
from image2reg.retrieval.calibration import probabilities
from image2reg.tables.aggregate import modz_weights

SEEDS = st.integers(0, 10_000)


@given(seed=SEEDS, coarse=st.booleans())
def test_average_precision_does_not_depend_on_the_order_of_the_rows(seed: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    table = planted(n_mechanisms=3, n_compounds=2, n_controls=0, noise=3.0, seed=seed)
    if coarse:  # many ties
        table = table.with_values(np.round(table.values / 4) + 0.5)
    order = rng.permutation(len(table))
    options = {"same": ["Metadata_moa"], "different": ["Metadata_Compound"], "n_threads": 1}
    first = average_precision(table, **options)["average_precision"].to_numpy()
    second = average_precision(table.rows(order), **options)["average_precision"].to_numpy()
    np.testing.assert_allclose(second, first[order], atol=1e-12)


@given(seed=SEEDS, scale=st.floats(1e-6, 1e6))
def test_average_precision_does_not_depend_on_the_scale_of_a_profile(seed: int, scale: float) -> None:
    table = planted(n_mechanisms=2, n_compounds=2, n_controls=0, seed=seed, noise=3.0)
    factors = np.random.default_rng(seed).uniform(0.1, 10, size=(len(table), 1)) * scale
    first = average_precision(table, same=["Metadata_moa"], n_threads=1)["average_precision"]
    second = average_precision(table.with_values(table.values * factors), same=["Metadata_moa"], n_threads=1)
    np.testing.assert_allclose(second["average_precision"], first, atol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_no_smaller_and_keep_the_order(p: list[float]) -> None:
    adjusted = false_discovery_rate(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    assert (adjusted <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= -1e-15).all()


@given(seed=SEEDS, temperature=st.floats(1e-3, 1e3), blend=st.floats(0, 1))
def test_probabilities_sum_to_one_and_keep_the_ranking(seed: int, temperature: float, blend: float) -> None:
    scores = np.random.default_rng(seed).normal(size=(5, 4))
    scores[0, 1:] = -np.inf
    scores[1] = -np.inf
    p = probabilities(scores, temperature, blend=blend)
    assert p[[0, 2, 3, 4]].sum(axis=1) == pytest.approx(1)
    assert p[1].sum() == 0
    assert p[0, 1:].sum() == 0
    assert (p[2:].max(axis=1) <= p[2:][np.arange(3), scores[2:].argmax(axis=1)] + 1e-12).all()


@given(seed=SEEDS, n=st.integers(1, 6))
def test_modz_weights_are_shares_that_follow_their_rows(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 8))
    weights = modz_weights(values)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    order = rng.permutation(n)
    np.testing.assert_allclose(modz_weights(values[order]), weights[order], atol=1e-12)
