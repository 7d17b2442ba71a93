"""Kernels and ridge: symmetric, positive, of the right degree; interpolation; shortcuts for any data."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from image2reg.linking.kernels import kernel_matrix
from image2reg.linking.regression import held_out, predict
from image2reg.linking.scores import candidate_scores, k_auc, ranks_of

seeds = st.integers(0, 10_000)


def points(seed: int, n: int, d: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)) * 2)


@given(seeds, st.integers(2, 12), st.integers(1, 6), st.integers(1, 5))
def test_ntk_is_symmetric_and_positive(seed: int, n: int, d: int, depth: int) -> None:
    k = kernel_matrix(points(seed, n, d), depth=depth)
    assert torch.allclose(k, k.T)
    assert torch.linalg.eigvalsh(k).min() > -1e-8 * k.diagonal().max()


@given(seeds, st.integers(1, 5), st.floats(0.1, 10))
def test_ntk_has_degree_two_in_the_extended_input(seed: int, depth: int, factor: float) -> None:
    """Scaling (x, 1) by a factor scales the kernel by its square: the bias is scaled by leaving it out of x."""
    x = points(seed, 4, 3)
    # A constant coordinate so large that the bias of 1 is lost beside it.
    big = torch.cat([x, torch.full((4, 1), 1e3, dtype=x.dtype)], dim=1) * 1e3
    assert torch.allclose(
        kernel_matrix(big * factor, depth=depth), factor**2 * kernel_matrix(big, depth=depth), rtol=1e-6
    )


@given(seeds, st.integers(3, 10))
def test_small_ridge_interpolates(seed: int, n: int) -> None:
    x = points(seed, n, 5)
    y = points(seed + 1, n, 2)
    k = kernel_matrix(x)
    assert torch.allclose(predict(k, y, 1e-8, k), y, atol=1e-4)


@given(seeds, st.integers(4, 15), st.sampled_from(["none", "fold", "intercept"]), st.floats(0.05, 20))
def test_held_out_rows_do_not_depend_on_their_own_target(
    seed: int, n: int, centre: str, ridge: float
) -> None:
    k, y = kernel_matrix(points(seed, n, 3)), points(seed + 1, n, 2)
    changed = y.clone()
    changed[0] += 100
    before, after = (held_out(k, v, ridge, centre=centre)[0] for v in (y, changed))
    assert torch.allclose(before[0], after[0], atol=1e-6)
    assert not torch.allclose(before[1:], after[1:], atol=1e-6)


@given(seeds, st.integers(3, 10))
def test_ranks_survive_rotation_and_reordering(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    p, m, c = rng.normal(size=(n, 4)), rng.normal(size=(n, 4)) * 0.1, rng.normal(size=(n + 3, 4))
    own = np.arange(n)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    order = rng.permutation(n + 3)
    plain = ranks_of(candidate_scores(p, m, c), own)[0]
    assert (ranks_of(candidate_scores(p @ turn, m @ turn, c @ turn), own)[0] == plain).all()
    assert (ranks_of(candidate_scores(p, m, c[order]), np.argsort(order)[:n])[0] == plain).all()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 31))
def test_k_auc_is_the_mean_of_hits(ranks: list[int], k: int) -> None:
    values = np.array(ranks, float)
    assert np.isclose(k_auc(values, k), np.mean([(values < j).mean() for j in range(1, k + 1)]))
