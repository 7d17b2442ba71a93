"""Average precision of every profile as a query, block by block: memory grows with n, not with its square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError
from image2reg.retrieval.blocks import in_blocks
from image2reg.retrieval.pairs import Pairing
from image2reg.retrieval.similarity import local_scaling, unit_rows

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.tables.profiles import Profiles

__all__ = ["average_precision", "chance_level", "normalised_average_precision"]

# float32 keeps 24 bits of a cosine, float64 52; the grids are coarser, so that equal profiles tie exactly.
_GRID: dict[str, tuple[Any, Any, float]] = {
    "float32": (np.float32, np.int32, 2.0**22),
    "float64": (np.float64, np.int64, 2.0**44),
}


def average_precision(
    profiles: Profiles,
    *,
    same: Sequence[str],
    different: Sequence[str] = (),
    negative_same: Sequence[str] = (),
    negative_different: Sequence[str] | None = None,
    multilabel: str = "",
    similarity: str = "cosine",
    neighbours: int = 0,
    top: Sequence[int] = (1, 5, 10),
    precision: str = "float64",
    n_threads: int | None = None,
) -> pd.DataFrame:
    """Rank all candidates of each profile and score where its positives come.

    Parameters
    ----------
    profiles : Profiles
        Finite features, no all-zero row.
    same, different, negative_same, negative_different, multilabel
        Who is positive and who negative; see `image2reg.retrieval.pairs.Pairing.of`.
    similarity : {"cosine", "pearson", "spearman"}
    neighbours : int
        Above 0: local scaling against hubs with so many neighbours (`local_scaling`), fitted without labels.
    top : sequence of int
        The k of hit@k and precision@k.
    precision : {"float64", "float32"}
        Arithmetic of the similarities; float32 halves time and memory, and ties similarities nearer than 2e-7.
    n_threads : int, optional
        Blocks at work at once (default: the machine's cores).

    Returns
    -------
    DataFrame, one row per query
        ``row`` (position in `profiles`), ``label``, ``average_precision``, ``normalised_average_precision`` (0 at
        chance, 1 perfect), ``n_positives``, ``n_candidates``, ``first_hit`` (rank of the best positive),
        ``hit@k``, ``precision@k`` and the metadata. A query without positives has NaN scores. ``.attrs`` counts
        ``n_unlabelled`` and ``n_without_positive``.

    Raises
    ------
    ConfigurationError, DataError
        As `Pairing.of` and `unit_rows`.

    Notes
    -----
    AP = (1/m) sum_i i/r_i over the ranks r_1 < ... < r_m of the positives among positives and negatives. Tied
    candidates share their average rank, so no score depends on the order of the rows. copairs breaks ties in
    favour of positives; without ties both agree. Kalinin et al. 2025, Nature Communications 16:5181.

    Examples
    --------
    >>> scores = average_precision(profiles, same=["Metadata_moa"], different=["Metadata_Compound"])  # doctest: +SKIP
    """
    if precision not in _GRID:
        raise ConfigurationError(f"precision {precision!r} is unknown; allowed are {', '.join(_GRID)}.")
    pairing = Pairing.of(
        profiles, same=same, different=different, negative_same=negative_same,
        negative_different=negative_different, multilabel=multilabel,
    )  # fmt: skip
    kind, whole, scale = _GRID[precision]
    units = unit_rows(profiles.values[pairing.rows], similarity, where=profiles.source).astype(kind)
    ks = [k for k in top if k > 0]
    size = len(pairing.queries), len(pairing.rows)
    hubness = None
    if neighbours:

        def hub(block: slice) -> NDArray[Any]:
            return local_scaling(
                units[pairing.queries[block]] @ units.T, pairing.apart(block), neighbours=neighbours
            )

        if multilabel == "each":
            raise ConfigurationError("local scaling needs one query per profile; use multilabel 'any'.")
        hubness = np.concatenate(in_blocks(hub, *size, n_threads=n_threads)).astype(kind)
        scale /= 4  # the scaled similarity lies within -4 and 4

    def score(block: slice) -> NDArray[np.float64]:
        found = units[pairing.queries[block]] @ units.T
        if hubness is not None:
            found *= 2
            found -= hubness[pairing.queries[block]][:, None]
            found -= hubness[None, :]
        positive, negative = pairing.block(block)
        return _scores(_keys(found, positive, negative, whole, scale), positive, ks)

    scores = np.concatenate(in_blocks(score, *size, n_threads=n_threads))
    return _table(profiles, pairing, scores, ks)


def _keys(
    found: NDArray[Any], positive: NDArray[np.bool_], negative: NDArray[np.bool_], whole: Any, scale: float
) -> NDArray[Any]:
    """Integers that sort as the similarities do, descending, with the positive's mark in the lowest bit.

    Excluded pairs sort to the end. Sorting integers with the mark inside needs no second array and no index.
    """
    found *= -scale
    np.rint(found, out=found)
    keys = found.astype(whole)
    keys <<= 1
    keys |= positive
    keys[~(positive | negative)] = np.iinfo(whole).max - 1
    keys.sort(axis=1)
    return keys


def _scores(keys: NDArray[Any], positive: NDArray[np.bool_], ks: list[int]) -> NDArray[np.float64]:
    """(b, 4 + 2 k): AP, first hit, positives, candidates, hit@k, precision@k of sorted keys."""
    n_queries = len(keys)
    counts = np.count_nonzero(keys != np.iinfo(keys.dtype).max - 1, axis=1)
    query, place = np.nonzero(keys & 1)
    m = np.bincount(query, minlength=n_queries)
    rank = _average_ranks(keys, query, place, counts)
    first = np.concatenate([[0], np.cumsum(m)[:-1]])
    order = np.arange(len(query)) - first[query] + 1  # 1st, 2nd, ... positive of its query
    out = np.full((n_queries, 4 + 2 * len(ks)), np.nan)
    some = m > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        out[:, 0] = np.bincount(query, order / rank, minlength=n_queries) / m
    out[some, 1] = rank[first[some]]
    out[:, 2], out[:, 3] = m, counts
    for i, k in enumerate(ks):
        hits = np.bincount(query, rank <= k, minlength=n_queries)
        out[some, 4 + 2 * i] = hits[some] > 0
        out[some, 5 + 2 * i] = hits[some] / np.minimum(k, counts[some])
    return out


def _average_ranks(
    keys: NDArray[Any], query: NDArray[np.intp], place: NDArray[np.intp], counts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Average rank of each positive among candidates of equal similarity, from 1."""
    rank = place + 1.0
    value = keys[query, place] >> 1
    before = (keys[query, np.maximum(place - 1, 0)] >> 1 == value) & (place > 0)
    after = (keys[query, np.minimum(place + 1, keys.shape[1] - 1)] >> 1 == value) & (
        place + 1 < counts[query]
    )
    tied = before | after
    if tied.any():
        q, v = query[tied], value[tied]
        low = _search(keys, q, v, counts)  # candidates strictly better
        high = _search(keys, q, v + 1, counts)
        rank[tied] = (low + 1 + high) / 2
    return np.asarray(rank, np.float64)


def _search(
    keys: NDArray[Any], query: NDArray[np.intp], value: NDArray[Any], counts: NDArray[np.intp]
) -> NDArray[np.intp]:
    """First place in each query's sorted keys whose similarity code is not below `value`."""
    low, high = np.zeros(len(query), np.intp), counts[query].astype(np.intp)
    while (low < high).any():
        middle = (low + high) // 2
        below = (keys[query, np.minimum(middle, keys.shape[1] - 1)] >> 1 < value) & (low < high)
        low, high = np.where(below, middle + 1, low), np.where(below, high, np.minimum(middle, high))
    return low


def _table(profiles: Profiles, pairing: Pairing, scores: NDArray[np.float64], ks: list[int]) -> pd.DataFrame:
    import pandas as pd

    row = pairing.rows[pairing.queries]
    found: dict[str, Any] = {
        "row": row,
        "label": pairing.query_labels,
        "average_precision": scores[:, 0],
        "normalised_average_precision": normalised_average_precision(
            scores[:, 0], scores[:, 2], scores[:, 3]
        ),
        "n_positives": scores[:, 2].astype(int),
        "n_candidates": scores[:, 3].astype(int),
        "first_hit": scores[:, 1],
    }
    for i, k in enumerate(ks):
        found[f"hit@{k}"], found[f"precision@{k}"] = scores[:, 4 + 2 * i], scores[:, 5 + 2 * i]
    table = pd.concat([pd.DataFrame(found), profiles.metadata.iloc[row].reset_index(drop=True)], axis=1)
    table.attrs = {
        "n_unlabelled": pairing.n_unlabelled,
        "n_without_positive": int(np.count_nonzero(scores[:, 2] == 0)),
    }
    return table


def chance_level(n_positives: NDArray[Any], n_candidates: NDArray[Any]) -> NDArray[np.float64]:
    """Give the expected AP of a random ranking: ``(1/n) [H_n + (m-1)/(n-1) (n - H_n)]``, exactly.

    Parameters
    ----------
    n_positives, n_candidates : array-like of int
        m and n.

    Returns
    -------
    array of float64
        NaN where there is no positive.

    Examples
    --------
    >>> chance_level(3, 23).round(4).item(), chance_level(7, 100).round(4).item()
    (0.2385, 0.1093)
    """
    m, n = np.asarray(n_positives, np.float64), np.asarray(n_candidates, np.float64)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, max(2, int(np.max(n, initial=1)) + 1)))])
    h = harmonic[n.astype(int)]
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = np.where(n > 1, (m - 1) / (n - 1) * (n - h), 0)
        return np.asarray(np.where(m > 0, (h + rest) / n, np.nan))


def normalised_average_precision(
    ap: NDArray[Any], n_positives: NDArray[Any], n_candidates: NDArray[Any]
) -> NDArray[np.float64]:
    """``(AP - chance) / (1 - chance)``: comparable across numbers of positives; 1 where all are positive."""
    chance = chance_level(n_positives, n_candidates)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (np.asarray(ap) - chance) / (1 - chance)
    # No negative at all: every ranking is perfect and the score says nothing.
    return np.where(np.asarray(n_positives) == np.asarray(n_candidates), np.nan, found)
