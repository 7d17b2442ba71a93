"""Scores of a link: where each gene's own embedding lands among the candidates, with intervals over genes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.intervals import Interval, bootstrap_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["RULES", "LinkScores", "candidate_scores", "k_auc", "link_scores", "permutation_p", "ranks_of"]

RULES = ("cosine", "euclidean")
HIT_AT = (1, 10, 50)

Floats = NDArray[np.float64]


def candidate_scores(predicted: Floats, mean: Floats, candidates: Floats, *, rule: str = "cosine") -> Floats:
    """Score every candidate for every prediction; higher is nearer.

    Parameters
    ----------
    predicted, mean : (n, d)
        Predictions, and the mean of the training targets of each one's fold.
    candidates : (c, d)
    rule : {"cosine", "euclidean"}
        ``cos(c - mean, predicted - mean)``, or ``-|c - predicted|`` as published.

    Returns
    -------
    (n, c) float64
        A prediction equal to the mean has no direction: its cosines are all 0.
    """
    if rule not in RULES:
        raise ConfigurationError(f"ranking rule {rule!r} is not known; allowed are {', '.join(RULES)}.")
    if rule == "euclidean":
        squared = (candidates**2).sum(1)[None] - 2 * predicted @ candidates.T + (predicted**2).sum(1)[:, None]
        return -np.sqrt(np.maximum(squared, 0.0))
    direction = predicted - mean
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 1e-12)
    away = (candidates**2).sum(1)[None] - 2 * mean @ candidates.T + (mean**2).sum(1)[:, None]
    away = np.sqrt(np.maximum(away, 0.0))
    along = direction @ candidates.T - (direction * mean).sum(1)[:, None]
    return np.divide(along, away, out=np.zeros_like(along), where=away > 1e-12)


def ranks_of(
    scores: Floats, own: NDArray[np.intp], *, allowed: NDArray[np.bool_] | None = None
) -> tuple[Floats, Floats]:
    """Rank each row's own candidate, 0 for the best.

    Parameters
    ----------
    scores : (n, c)
    own : (n,) position of the row's own candidate
    allowed : (n, c), optional
        Candidates that compete in each row; the own one always does.

    Returns
    -------
    strict, average : (n,) float64
        Candidates strictly better; and the same with ties counted half.
    """
    rows = np.arange(len(scores))
    mine = scores[rows, own][:, None]
    compete = np.ones(scores.shape, bool) if allowed is None else allowed.copy()
    compete[rows, own] = False
    better = ((scores > mine) & compete).sum(axis=1).astype(np.float64)
    return better, better + ((scores == mine) & compete).sum(axis=1) / 2


def k_auc(ranks: Floats, k: int) -> float:
    """Area under hit@j for j = 1 … k, over k: the published selection score.

    >>> float(k_auc(np.array([0.0, 4.0]), 4))
    0.5
    """
    return float(np.mean(np.clip((k - ranks) / k, 0.0, 1.0)))


@dataclass(frozen=True)
class LinkScores:
    """What one way of linking scored, ties counted half: what cannot be told apart is no find.

    Attributes
    ----------
    ranks : (n,) strict ranks, 0 is best, for lists; `average_ranks` with ties counted half, for scores
    n_candidates : (n,) competitors and the own candidate
    seed : int
        Of the intervals.
    """

    ranks: Floats
    average_ranks: Floats
    n_candidates: NDArray[np.intp]
    seed: int = 0

    @property
    def areas(self) -> Floats:
        """Each gene's ``1 - rank / (candidates - 1)``: 1 is found, 0.5 is chance."""
        return 1 - self.average_ranks / (self.n_candidates - 1)

    @cached_property
    def auc(self) -> Interval:
        """Mean of `areas`, with its interval over genes."""
        return bootstrap_interval(self.areas, seed=self.seed)

    def hit(self, k: int) -> float:
        """Share of genes with fewer than k candidates better."""
        return float((self.average_ranks < k).mean())

    @property
    def median_rank(self) -> float:
        """Median rank, 1 for the best."""
        return float(np.median(self.average_ranks)) + 1

    def row(self, name: str, **more: Any) -> dict[str, Any]:
        """Give one line of the table of a result."""
        return {
            "method": name, "auc": self.auc.value, "low": self.auc.low, "high": self.auc.high, "n": self.auc.n,
            **{f"hit@{k}": self.hit(k) for k in HIT_AT}, "median_rank": self.median_rank,
            **more,
        }  # fmt: skip

    def curve(self, name: str, *, seed: int, n: int = 500) -> pd.DataFrame:
        """Give hit@k and k-AUC for every k, with 95 % intervals over genes.

        Returns
        -------
        DataFrame
            ``method, k, hit, hit_low, hit_high, k_auc, k_auc_low, k_auc_high``.
        """
        import pandas as pd

        ks = np.arange(1, int(self.n_candidates.max()) + 1)
        hits = (self.average_ranks[:, None] < ks).astype(np.float64)
        areas = np.cumsum(hits, axis=1) / ks
        draws = np.random.default_rng(seed).multinomial(len(hits), np.full(len(hits), 1 / len(hits)), size=n)
        columns: dict[str, Any] = {"method": name, "k": ks}
        for what, values in (("hit", hits), ("k_auc", areas)):
            low, high = np.quantile(draws @ values / len(hits), [0.025, 0.975], axis=0)
            columns |= {what: values.mean(axis=0), f"{what}_low": low, f"{what}_high": high}
        return pd.DataFrame(columns)


def link_scores(
    scores: Floats, own: NDArray[np.intp], *, allowed: NDArray[np.bool_] | None = None, seed: int = 0
) -> LinkScores:
    """Rank every row's own candidate and sum up; parameters as in `ranks_of`.

    Raises
    ------
    DataError
        A row has no competitor.
    """
    strict, average = ranks_of(scores, own, allowed=allowed)
    n = np.full(len(scores), scores.shape[1])
    if allowed is not None:
        competing = allowed.copy()
        competing[np.arange(len(own)), own] = True
        n = competing.sum(axis=1)
    if n.min() < 2:
        raise DataError(
            f"{int((n < 2).sum())} of {len(n)} genes have no other candidate to be ranked against. Give more "
            "candidates, or keep the training genes among them."
        )
    return LinkScores(strict, average, n, seed)


def permutation_p(value: float, permuted: Sequence[float] | Floats) -> float:
    """``(1 + permutations at least as good) / (1 + permutations)``.

    >>> permutation_p(0.6, [0.5, 0.7, 0.4])
    0.5
    """
    null = np.asarray(permuted, dtype=np.float64)
    return float((1 + (null >= value).sum()) / (1 + len(null)))
