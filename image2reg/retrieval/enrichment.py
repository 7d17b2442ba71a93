"""Fold of enrichment of mechanism matches among the most similar profiles, published and corrected definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError

__all__ = ["Enrichment", "fold_of_enrichment", "interpolated_precision"]


@dataclass(frozen=True)
class Enrichment:
    """Fold of enrichment of each query and its summaries.

    Attributes
    ----------
    published : (q,) float64
        Odds ratio; where it is infinite, the number of true negatives (the published rule).
    haldane : (q,) float64
        ``((a + 1/2)(d + 1/2)) / ((b + 1/2)(c + 1/2))``, always finite.
    infinite : (q,) bool
        Queries whose odds ratio is infinite; the published mean is driven by them.
    p_value : (q,) float64
        Fisher's exact test, greater.
    queries : (q,) intp
        Rows that had at least one other profile of their label.
    """

    published: NDArray[np.float64]
    haldane: NDArray[np.float64]
    infinite: NDArray[np.bool_]
    p_value: NDArray[np.float64]
    queries: NDArray[np.intp]

    @property
    def summary(self) -> dict[str, float]:
        """Published mean, Haldane mean and median, share of infinite ratios."""
        return {
            "published_mean": float(self.published.mean()),
            "haldane_mean": float(self.haldane.mean()),
            "haldane_median": float(np.median(self.haldane)),
            "infinite_share": float(self.infinite.mean()),
            "n_queries": len(self.queries),
        }


def fold_of_enrichment(
    similarity: NDArray[np.floating], match: NDArray[np.bool_], *, percentile: float = 99.0
) -> Enrichment:
    """Odds of a label match among a query's most similar profiles against all others.

    Parameters
    ----------
    similarity : (n, n) float
        Treatment-level similarities.
    match : (n, n) bool
        Whether two treatments share a label; the diagonal is ignored.
    percentile : float
        A candidate counts as similar when it is strictly above this percentile of the query's similarities to
        all others (linear interpolation).

    Returns
    -------
    Enrichment

    Raises
    ------
    DataError
        No treatment shares its label with another.

    Notes
    -----
    The definition of Moshkov et al. 2024 (Nature Communications 15:1594), whose code replaces an infinite odds
    ratio by the number of true negatives and takes the plain mean. Haldane 1956 (Ann. Hum. Genet. 20:309).
    """
    from scipy.stats import hypergeom

    n = len(similarity)
    other = ~np.eye(n, dtype=bool)
    match = match & other
    queries = np.flatnonzero(match.any(axis=1))
    if not len(queries):
        raise DataError(f"fold of enrichment: none of {n} treatments shares its label with another one.")
    seen = similarity[queries][other[queries]].reshape(len(queries), n - 1)
    hit = match[queries][other[queries]].reshape(len(queries), n - 1)
    near = seen > np.percentile(seen, percentile, axis=1, keepdims=True)
    a = (near & hit).sum(axis=1).astype(float)
    b = (near & ~hit).sum(axis=1).astype(float)
    c = (~near & hit).sum(axis=1).astype(float)
    d = (~near & ~hit).sum(axis=1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = a * d / (b * c)
    infinite = np.isinf(odds)
    # 0/0: nothing is above the threshold, or everything matches; no enrichment can be seen.
    published = np.where(infinite, d, np.where(np.isnan(odds), 0.0, odds))
    return Enrichment(
        published=published,
        haldane=(a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)),
        infinite=infinite,
        p_value=hypergeom.sf(a - 1, n - 1, a + c, a + b),
        queries=queries,
    )


def interpolated_precision(
    similarity: NDArray[np.floating], match: NDArray[np.bool_], *, n_recall: int = 101
) -> float:
    """Average interpolated precision-recall curves: the "mAP" of DeepProfiler's experiments, not average precision.

    Each query's precision is replaced by its running maximum from high to low recall, read on a common recall
    axis of `n_recall` points, averaged over queries and then over the axis. Only queries with at least two other
    profiles of their label count, as in the published code. Ties keep the order of the rows.
    """
    n = len(similarity)
    match = match & ~np.eye(n, dtype=bool)
    queries = np.flatnonzero(match.sum(axis=1) >= 2)
    if not len(queries):
        raise DataError(f"interpolated precision: none of {n} treatments shares its label with two others.")
    seen = similarity[queries].astype(float).copy()
    seen[np.arange(len(queries)), queries] = -np.inf
    order = np.argsort(-seen, axis=1, kind="stable")[:, : n - 1]
    hit = np.take_along_axis(match[queries], order, axis=1)
    found = np.cumsum(hit, axis=1)
    precision = np.maximum.accumulate((found / np.arange(1, n))[:, ::-1], axis=1)[:, ::-1]
    # The first place at which each recall is reached.
    wanted = np.ceil(np.linspace(0, 1, n_recall)[None] * found[:, -1:] - 1e-12).clip(1)
    place = (found[:, None, :] < wanted[:, :, None]).sum(axis=2)
    return float(np.take_along_axis(precision, place, axis=1).mean())
