"""Nested choice of every setting: a gene is scored with what was chosen without it.

Genes are put into outer folds. For each fold the settings compete by leave-one-out *inside the other genes*; the
fold's genes then get their held-out prediction under the winner. Both come from one inverse per setting: taking a
fold out of ``B = (K + ridge I)^-1`` is a block downdate (`OwnRanks` has the equations), and permuting the sources
permutes rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.linking.kernels import kernel_matrix
from image2reg.linking.own_ranks import OwnRanks
from image2reg.linking.regression import inverse
from image2reg.linking.scores import candidate_scores
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


def held_out_from_inverse(
    b: Floats, targets: Floats, *, centre: str = "fold", rows: NDArray[Any] | slice = slice(None)
) -> tuple[Floats, Floats]:
    """Leave-one-out predictions and fold means of `rows` from an inverse of all; see `regression.held_out`."""
    mean = (targets.sum(axis=0) - targets[rows]) / (len(b) - 1)
    residual = b[rows] @ targets
    if centre == "fold":
        residual -= b[rows].sum(axis=1)[:, None] * mean
    return targets[rows] - residual / np.diag(b)[rows][:, None], mean


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
        2 or above.
    order : (n,) permutation, optional
        Sources are permuted by it: the null. The whole selection is repeated.

    Returns
    -------
    Nested

    Raises
    ------
    ConfigurationError
        No setting, or fewer than two folds.
    DataError
        Fewer than four genes.
    """
    n = len(own)
    if not settings:
        raise ConfigurationError("nested selection was given no settings to choose from.")
    if n_folds < 2:
        raise ConfigurationError(f"n_folds is {n_folds}; allowed is 2 or above, usual is 10.")
    if n < 4:
        raise DataError(f"nested selection needs at least 4 genes, there are {n}. Fix the settings instead.")
    folds = generator(seed, "outer folds").permutation(np.arange(n) % min(n_folds, n))
    by_fold = np.argsort(folds, kind="stable")
    ends = np.cumsum(np.bincount(folds)).tolist()
    outer = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    compete = None if allowed is None else allowed[by_fold]
    inside = {
        name: OwnRanks(embeddings[name], own[by_fold], folds=outer, allowed=compete)
        for name in dict.fromkeys(s.target for s in settings)
    }
    sources = by_fold if order is None else order[by_fold]
    best = np.full(len(outer), -np.inf)
    chosen = [settings[0]] * len(outer)
    for s in settings:
        b = solved[_key(s)][np.ix_(sources, sources)]
        for fold, (_, ranks) in enumerate(inside[s.target].ranks(b, s)):
            if -ranks.mean() > best[fold]:
                best[fold], chosen[fold] = -ranks.mean(), s
    scores = np.empty((n, len(embeddings[settings[0].target])))
    for s in dict.fromkeys(chosen):
        b, table = solved[_key(s)], embeddings[s.target]
        b = b if order is None else b[np.ix_(order, order)]
        rows = np.isin(folds, [fold for fold, winner in enumerate(chosen) if winner == s])
        made = held_out_from_inverse(b, table[own], centre=s.centre, rows=rows)
        scores[rows] = candidate_scores(*made, table, rule=s.rule)
    return Nested(scores, tuple(chosen), folds)
