"""Nested choice of every setting: a gene is scored with what was chosen without it.

Genes are put into outer folds. For each fold the settings compete by leave-one-out *inside the other genes*; the
fold's genes then get their held-out prediction under the winner. Both come from one inverse per setting: taking a
fold out of ``B = (K + ridge I)^-1`` is a block downdate, and permuting the sources permutes rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.linking.kernels import kernel_matrix
from image2reg.linking.regression import inverse
from image2reg.linking.scores import candidate_scores, ranks_of
from image2reg.linking.settings import Setting
from image2reg.randomness import generator

__all__ = ["Nested", "held_out_from_inverse", "inverses", "nested_scores"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Nested:
    """Outcome of a nested selection.

    Attributes
    ----------
    scores : (n, c) float64
        Candidate scores of each gene under the setting chosen without it; candidates as every target lists them.
    chosen : tuple of Setting
        Winner of each outer fold.
    folds : (n,) int
        Outer fold of each gene.
    """

    scores: Floats
    chosen: tuple[Setting, ...]
    folds: NDArray[np.intp]


def inverses(
    settings: Sequence[Setting], sources: Mapping[str, Floats]
) -> dict[tuple[str, str, int, float], Floats]:
    """Solve once per (source, kernel, depth, ridge)."""
    made: dict[tuple[str, str, int, float], Floats] = {}
    for s in settings:
        key = _key(s)
        if key not in made:
            kernel = kernel_matrix(torch.from_numpy(sources[s.source]), kind=s.kernel, depth=s.depth)
            made[key] = inverse(kernel, s.ridge).numpy()
    return made


def _key(s: Setting) -> tuple[str, str, int, float]:
    return s.source, s.kernel, s.depth if s.kernel == "ntk" else 1, s.ridge


def held_out_from_inverse(b: Floats, targets: Floats, *, centre: str = "fold") -> tuple[Floats, Floats]:
    """Leave-one-out predictions and fold means from an inverse; see `regression.held_out`."""
    n = len(b)
    mean = (targets.sum(axis=0) - targets) / (n - 1)
    offset = mean if centre == "fold" else np.zeros_like(mean)
    residual = b @ targets - b.sum(axis=1)[:, None] * offset
    return targets - residual / np.diag(b)[:, None], mean


def nested_scores(
    settings: Sequence[Setting],
    solved: Mapping[tuple[str, str, int, float], Floats],
    embeddings: Mapping[str, Floats],
    own: NDArray[np.intp],
    *,
    allowed: NDArray[np.bool_] | None = None,
    n_folds: int = 10,
    seed: int = 0,
    order: NDArray[np.intp] | None = None,
) -> Nested:
    """Choose among settings without the genes that are scored.

    Parameters
    ----------
    settings : sequence of Setting
        The first wins ties.
    solved : mapping
        From `inverses`.
    embeddings : mapping of name to (c, d)
        Candidate embeddings by the name that `Setting.target` uses, rows in one common order.
    own : (n,) int
        Candidate row of each source row's own gene.
    allowed : (n, c) bool, optional
        Candidates that compete.
    n_folds : int
    order : (n,) permutation, optional
        Sources are permuted by it: the null. The whole selection is repeated.

    Returns
    -------
    Nested

    Raises
    ------
    ConfigurationError
        No setting.
    DataError
        Fewer than four genes.
    """
    n = len(own)
    if not settings:
        raise ConfigurationError("nested selection was given no settings to choose from.")
    if n < 4:
        raise DataError(f"nested selection needs at least 4 genes, there are {n}. Fix the settings instead.")
    folds = generator(seed, "outer folds").permutation(np.arange(n) % min(n_folds, n))
    n_candidates = len(next(iter(embeddings.values())))
    scores = np.empty((n, n_candidates))
    best = np.full(folds.max() + 1, -np.inf)
    chosen = [settings[0]] * len(best)
    for s in settings:
        b = solved[_key(s)]
        b = b if order is None else b[np.ix_(order, order)]
        table = embeddings[s.target]
        targets = table[own]
        outer = candidate_scores(*held_out_from_inverse(b, targets, centre=s.centre), table, rule=s.rule)
        for fold in range(len(best)):
            out, rest = folds == fold, folds != fold
            inner = b[np.ix_(rest, rest)] - b[np.ix_(rest, out)] @ np.linalg.solve(
                b[np.ix_(out, out)], b[np.ix_(out, rest)]
            )
            inside = candidate_scores(
                *held_out_from_inverse(inner, targets[rest], centre=s.centre), table, rule=s.rule
            )
            compete = None if allowed is None else allowed[rest]
            value = -ranks_of(inside, own[rest], allowed=compete)[1].mean()
            if value > best[fold]:
                best[fold], chosen[fold] = value, s
                scores[out] = outer[out]
    return Nested(scores, tuple(chosen), folds)
