"""Properties of screens: statistics do not depend on units or order, results not on how units were dealt out."""

from __future__ import annotations

import numpy as np
import pytest
from engine_work import squares
from hypothesis import given, settings
from hypothesis import strategies as st

from image2reg.engine import Shard, make_plan, run_plan
from image2reg.screen import benjamini_hochberg, median_polish, robust_z, ssmd, z_prime
from image2reg.screen.permutations import control_p_values

SCALES = st.floats(0.01, 1000)
SHIFTS = st.floats(-1000, 1000)
SEEDS = st.integers(0, 10_000)


@given(SEEDS, SCALES, SHIFTS)
def test_scores_do_not_know_the_unit_of_a_readout(seed, scale, shift):
    rng = np.random.default_rng(seed)
    values, control = rng.normal(size=20), np.arange(20) < 8
    changed = scale * values + shift
    np.testing.assert_allclose(robust_z(changed, control), robust_z(values, control), rtol=1e-6, atol=1e-6)
    a, b = values[:6], values[6:] + 3
    assert ssmd(scale * a + shift, scale * b + shift) == pytest.approx(ssmd(a, b), rel=1e-6)
    assert z_prime(scale * a + shift, scale * b + shift) == pytest.approx(z_prime(a, b), rel=1e-5, abs=1e-5)
    assert ssmd(a, b) == pytest.approx(-ssmd(b, a))


@given(SEEDS, st.integers(2, 9), st.integers(2, 9))
def test_median_polish_is_additive_and_converged_on_any_plate(seed, n_rows, n_columns):
    grid = np.random.default_rng(seed).normal(size=(n_rows, n_columns)).round(1)
    fit = median_polish(grid)
    np.testing.assert_allclose(fit.overall + fit.row[:, None] + fit.column + fit.residual, grid, atol=1e-9)
    assert np.abs(np.median(fit.residual, axis=0)).max() < 1e-6
    assert np.abs(np.median(fit.residual, axis=1)).max() < 1e-6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), SEEDS)
def test_q_values_keep_the_order_of_p_and_are_never_smaller(p, seed):
    q = benjamini_hochberg(p)
    assert (q >= np.array(p) - 1e-15).all()
    assert (np.diff(q[np.argsort(p, kind="stable")]) >= 0).all()
    order = np.random.default_rng(seed).permutation(len(p))
    np.testing.assert_array_equal(benjamini_hochberg(np.array(p)[order]), q[order])


@given(SEEDS, st.integers(1, 3), st.integers(2, 6))
def test_an_exact_p_counts_deals_that_are_as_far_or_further(seed, n_own, n_controls):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n_own + n_controls)
    groups = np.r_[np.zeros(n_own, int), np.ones(n_controls, int)]
    plates = np.zeros(n_own + n_controls, int)
    p = control_p_values(scores, plates, groups, 2, groups == 1, rng)[0][0]
    from itertools import combinations

    def distance(chosen):
        inside = np.isin(np.arange(len(scores)), chosen)
        return abs(scores[inside].mean() - scores[~inside].mean())

    every = [distance(c) for c in combinations(range(len(scores)), n_own)]
    assert p == pytest.approx(np.mean(np.array(every) >= distance(range(n_own)) - 1e-9))


@settings(max_examples=6)
@given(st.permutations([1, 2, 3]), st.integers(0, 3))
def test_any_order_of_shards_gives_the_same_bytes(tmp_path_factory, order, n_failing):
    from functools import partial

    folder = tmp_path_factory.mktemp("any")
    plan = make_plan("test", [{"name": f"u{i}", "seed": i} for i in range(11)], {})
    first = partial(squares, fail=[f"u{i}" for i in range(n_failing)])
    for index in order:
        run_plan(plan, first, folder / "parts", shard=Shard(index, 3))
    parts, whole = run_plan(plan, squares, folder / "parts"), run_plan(plan, squares, folder / "whole")
    assert parts.n_run == n_failing
    for name, outcome in (("parts", parts), ("whole", whole)):
        outcome.results.write("rows", folder / f"{name}.parquet", range(11))
    assert (folder / "parts.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
