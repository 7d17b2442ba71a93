"""How good a mean average precision would be by chance: permutation p-values and the false discovery rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.intervals import Interval, bootstrap_interval
from image2reg.randomness import generator

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "compound_interval",
    "false_discovery_rate",
    "label_permutation_test",
    "mean_average_precision",
    "mechanism_p_values",
    "null_average_precision",
]

_BLOCK_CELLS = 8_000_000
# Means of the same numbers in another order differ by less; two different rankings differ by more.
_EQUAL = 1e-9


def false_discovery_rate(p_values: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Benjamini-Hochberg adjusted p-values; NaN stays NaN and does not count.

    Notes
    -----
    Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57:289.

    Examples
    --------
    >>> false_discovery_rate([0.01, 0.02, 0.5]).round(3).tolist()
    [0.03, 0.03, 0.5]
    """
    p = np.asarray(p_values, np.float64)
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    if len(known):
        order = known[np.argsort(p[known], kind="stable")]
        scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
        out[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return out


def null_average_precision(
    n_positives: int, n_candidates: int, *, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """AP of `n` random rankings of so many positives among so many candidates, (n,) float64."""
    found = np.empty(n)
    step = max(1, _BLOCK_CELLS // n_candidates)
    order = np.arange(1, n_positives + 1)
    for start in range(0, n, step):
        size = min(step, n - start)
        draws = rng.random((size, n_candidates), dtype=np.float32)
        ranks = np.argpartition(draws, n_positives - 1, axis=1)[:, :n_positives] if n_positives < n_candidates else (
            np.tile(np.arange(n_candidates), (size, 1))
        )  # fmt: skip
        found[start : start + size] = (order / (np.sort(ranks, axis=1) + 1)).mean(axis=1)
    return found


def mechanism_p_values(
    similarity: NDArray[np.float64], members: NDArray[np.bool_], n_null: int, seed: int
) -> NDArray[np.float64]:
    """(q, k): AP of each mechanism's compounds in each query's ranking against random rankings; 1 without compounds.

    Compounds of equal similarity share their average rank, so that their names decide nothing.
    """
    from scipy.stats import rankdata

    c, k = members.shape
    out = np.ones((len(similarity), k))
    rank = rankdata(-np.round(similarity, 12), axis=1)
    for m in np.unique(members.sum(axis=0)):
        if m == 0:
            continue
        null = np.sort(
            null_average_precision(int(m), c, n=n_null, rng=generator(seed, "mechanism", int(m), c))
        )
        for column in np.flatnonzero(members.sum(axis=0) == m):
            ap = (np.arange(1, m + 1) / np.sort(rank[:, members[:, column]], axis=1)).mean(axis=1)
            above = n_null - np.searchsorted(null, ap - 1e-9, side="left")
            out[:, column] = (1 + above) / (1 + n_null)
    return out


def mean_average_precision(
    scores: pd.DataFrame, *, by: str = "label", n_null: int = 10_000, seed: int = 0, threshold: float = 0.05
) -> pd.DataFrame:
    """Mean AP per group, with a p-value against random rankings and its false discovery rate.

    Parameters
    ----------
    scores : DataFrame
        As `average_precision` gives; queries without positives are left out.
    by : str
        Column to group by: ``label``, or a metadata column.
    n_null : int
        Random rankings per number of positives and candidates; the smallest possible p is 1 / (n_null + 1).
    seed : int
    threshold : float
        False discovery rate below which a group is called significant.

    Returns
    -------
    DataFrame, one row per group
        ``group``, ``mean_average_precision``, ``mean_normalised_average_precision``, ``chance``, ``n_queries``,
        ``p_value``, ``corrected_p_value``, ``significant``.

    Raises
    ------
    DataError
        No query has a positive.

    Notes
    -----
    p = (1 + #{null >= mAP}) / (1 + n_null): with few candidates chance often reaches the same ranking, and where all
    are positives always (copairs counts only what is above). Queries with the same numbers of positives and
    candidates share their null draws, as copairs does: their ranks are correlated in truth (similarity is symmetric),
    and independent draws would make the null too narrow. `label_permutation_test` keeps that correlation instead of
    bounding it.
    """
    import pandas as pd

    used = scores[scores["average_precision"].notna() & (scores["n_positives"] > 0)]
    if used.empty:
        raise DataError(f"mean average precision: none of the {len(scores)} queries has a positive.")
    kinds, which = np.unique(used[["n_positives", "n_candidates"]].to_numpy(), axis=0, return_inverse=True)
    null = np.stack(
        [
            null_average_precision(int(m), int(k), n=n_null, rng=generator(seed, "null", int(m), int(k)))
            for m, k in kinds
        ]
    )
    rows = []
    for group, places in used.groupby(by, sort=True).indices.items():
        share = np.bincount(which.ravel()[places], minlength=len(kinds)) / len(places)
        value = float(used["average_precision"].to_numpy()[places].mean())
        kept = share > 0
        expected = share[kept] @ null[kept]
        rows.append(
            {
                "group": group,
                "mean_average_precision": value,
                "mean_normalised_average_precision": float(
                    used["normalised_average_precision"].to_numpy()[places].mean()
                ),
                "chance": float(expected.mean()),
                "n_queries": len(places),
                "p_value": (1 + int((expected >= value - _EQUAL).sum())) / (1 + n_null),
            }
        )
    table = pd.DataFrame(rows)
    table["corrected_p_value"] = false_discovery_rate(table["p_value"].to_numpy())
    table["significant"] = table["corrected_p_value"] < threshold
    return table


def label_permutation_test(
    similarity: NDArray[np.floating],
    relevant: NDArray[np.bool_],
    candidate: NDArray[np.bool_],
    *,
    n: int = 1000,
    seed: int = 0,
    units: NDArray[Any] | None = None,
) -> dict[str, float]:
    """Mean AP against permuted labels: all labels permuted once per draw, so queries stay as correlated as they are.

    Parameters
    ----------
    similarity : (n, n) float
        For tables that fit in memory (a few thousand profiles).
    relevant, candidate : (n, n) bool
        Who shares a label; who may be ranked at all (not oneself, not the same compound).
    n : int
        Permutations.
    seed : int
    units : (n,) labels, optional
        Profiles of one unit (compound) move together, by the labels of its first row.

    Returns
    -------
    dict
        ``value``, ``null_mean``, ``null_high`` (95th percentile), ``p_value`` = (1 + #{null >= value}) / (1 + n),
        ``n_queries``. Permutations without one positive pair do not count; where none has one, p is 1.

    Raises
    ------
    ConfigurationError
        The three are not of one shape.
    """
    from scipy.stats import rankdata

    size = len(similarity)
    if relevant.shape != (size, size) or candidate.shape != (size, size):
        raise ConfigurationError(
            f"permutation test: similarity {similarity.shape}, relevant {relevant.shape}, candidate {candidate.shape}; "
            "all three are (n, n)."
        )
    distance = np.where(candidate, -similarity, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    seen = np.take_along_axis(candidate, order, axis=1)
    # Tied candidates share their average rank, as in `average_precision`.
    rank = np.take_along_axis(rankdata(distance, axis=1), order, axis=1)
    rng = generator(seed, "label permutation")
    first = None
    if units is not None:
        names, first, member = np.unique(units, return_index=True, return_inverse=True)

    def score(share: NDArray[np.bool_]) -> tuple[float, int]:
        hit = np.take_along_axis(share, order, axis=1) & seen
        m = hit.sum(axis=1)
        above = np.cumsum(hit, axis=1)
        value = np.where(hit, above / rank, 0).sum(axis=1)[m > 0] / m[m > 0]
        return (float(value.mean()) if len(value) else float("nan")), len(value)

    value, n_queries = score(relevant)
    null = np.empty(n)
    for i in range(n):
        # Each unit takes the label of another unit.
        p = rng.permutation(size) if first is None else first[rng.permutation(len(names))][member]
        null[i] = score(relevant[np.ix_(p, p)])[0]
    null = null[~np.isnan(null)]
    return {
        "value": value,
        "null_mean": float(null.mean()) if len(null) else float("nan"),
        "null_high": float(np.quantile(null, 0.95)) if len(null) else float("nan"),
        "p_value": (1 + int((~(null < value - _EQUAL)).sum())) / (1 + len(null)),
        "n_queries": n_queries,
    }


def compound_interval(
    scores: pd.DataFrame, *, compound: str | None, column: str = "average_precision", seed: int = 0
) -> Interval:
    """Bootstrap interval of a mean score over compounds (all doses of a compound are drawn together)."""
    groups = None if compound is None else scores[compound].to_numpy()
    return bootstrap_interval(scores[column].to_numpy(np.float64), seed=seed, groups=groups)
