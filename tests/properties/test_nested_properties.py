"""Nested choice of settings: every shortcut together is the plain way, which refits for every gene of every fold."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from image2reg.linking.kernels import kernel_matrix
from image2reg.linking.regression import predict
from image2reg.linking.scores import candidate_scores, ranks_of
from image2reg.linking.selection import inverses, nested_scores
from image2reg.linking.settings import Setting

SETTINGS = [
    Setting(ridge=0.1),
    Setting(kernel="linear", ridge=3.0, target="other"),
    Setting(kernel="laplace", centre="none"),
    Setting(centre="none", rule="euclidean", target="other"),
    Setting(depth=2, rule="euclidean"),
]


def refitted(
    x: np.ndarray, table: np.ndarray, own: np.ndarray, s: Setting, genes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of `genes`, each from a fit of all others among them, and their own candidates."""
    kernel = kernel_matrix(torch.from_numpy(x), kind=s.kernel, depth=s.depth)
    scores = []
    for gene in genes:
        others = genes[genes != gene]
        y = torch.from_numpy(table[own[others]])
        inner, cross = kernel[others][:, others], kernel[[gene]][:, others]
        made = predict(inner, y, s.ridge, cross, centre=s.centre).numpy()
        scores.append(candidate_scores(made, y.numpy().mean(axis=0, keepdims=True), table, rule=s.rule)[0])
    return np.array(scores), own[genes]


@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(2, 5), st.sampled_from([2, 40]), st.booleans())
def test_a_nested_choice_is_the_one_that_refits_for_every_gene(
    seed: int, n: int, n_folds: int, columns: int, shuffled: bool
) -> None:
    rng = np.random.default_rng(seed)
    c, x = n + 5, rng.normal(size=(n, 3)) / 2
    tables = {"target": rng.normal(size=(c, columns)) + 1, "other": rng.normal(size=(c, 3))}
    for table in tables.values():
        table[1] = table[0]  # candidates that nothing tells apart
    own, allowed = rng.permutation(c)[:n], rng.random((n, c)) < 0.8
    order = rng.permutation(n) if shuffled else np.arange(n)
    made = nested_scores(
        SETTINGS, inverses(SETTINGS, {"source": x}), tables, own, allowed=allowed, n_folds=n_folds, seed=seed,
        order=order if shuffled else None,
    )  # fmt: skip
    x = x[order]
    for fold in range(made.folds.max() + 1):
        rest = np.flatnonzero(made.folds != fold)
        inside = [refitted(x, tables[s.target], own, s, rest) for s in SETTINGS]
        ranks = [ranks_of(*scores, allowed=allowed[rest])[1].mean() for scores in inside]
        assert made.chosen[fold] == SETTINGS[int(np.argmin(ranks))]
        out = made.folds == fold
        winner = made.chosen[fold]
        expected = refitted(x, tables[winner.target], own, winner, np.arange(n))[0][out]
        assert np.abs(made.scores[out] - expected).max() < 1e-9
