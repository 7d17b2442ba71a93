"""Arms of evidence in one table: the same compounds, the same retrieval, floors and ceilings beside the candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.intervals import bootstrap_interval, paired_difference_interval, paired_p_value
from image2reg.retrieval.fusion import aligned_arms
from image2reg.retrieval.labels import incidence
from image2reg.retrieval.significance import label_permutation_test
from image2reg.retrieval.similarity import local_scaling, unit_rows

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.tables.profiles import Profiles

__all__ = ["compare_arms"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def compare_arms(
    arms: Mapping[str, Profiles],
    *,
    label: str,
    key: Sequence[str],
    different: str = "",
    fused: Sequence[Sequence[str]] = (),
    against: str = "",
    similarity: str = "cosine",
    neighbours: int = 0,
    n_null: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Retrieve mechanisms within each arm and compare the arms on the same queries.

    Parameters
    ----------
    arms : mapping of name to Profiles
        One row per treatment, ready to be compared, for instance ``raw L1000``, ``generated``, ``real morphology``
        (ceiling), ``nearest training signature``, ``shuffled signatures``, ``mean image`` (floors). Rows that not
        all arms have are left out of all.
    label : str
        Column of mechanisms, read from the first arm; several separated by ``|``.
    key : column names
        What makes a row the same treatment in every arm.
    different : str
        Column of the compound: positives and candidates are of other compounds. Empty: of other rows.
    fused : sequence of arm names
        Each entry becomes an arm ``"A + B"``: the mean of the arms' similarities, each query's standardised first, so
        that no arm's scale decides.
    against : str
        Arm whose average precision is subtracted, query by query.
    similarity, neighbours
        As in `image2reg.retrieval.average_precision`.
    n_null : int
        Permutations of the labels among compounds.
    seed : int

    Returns
    -------
    DataFrame, one row per arm
        ``arm``, ``map``, ``low``, ``high`` (95 %, compounds resampled), ``null``, ``null_high``, ``p_value``,
        ``hit@1``, ``gain``, ``gain_low``, ``gain_high``, ``gain_p`` (against the arm named, paired by query, compounds
        kept together; NaN for itself), ``n_queries``, ``n_compounds``. An arm whose rows are all alike (a mean image)
        scores by average ranks: the chance level.

    Raises
    ------
    ConfigurationError
        `against` or `fused` names an arm that is not there.
    DataError
        Arms do not share rows, or no two compounds share a mechanism.

    Examples
    --------
    >>> compare_arms({"L1000": a, "generated": b}, label="Metadata_moa", key=["Metadata_Compound"],
    ...              fused=[("L1000", "generated")], against="L1000")  # doctest: +SKIP
    """
    import pandas as pd

    unknown = [n for n in (*[n for group in fused for n in group], *filter(None, [against])) if n not in arms]
    if unknown:
        raise ConfigurationError(f"arms {unknown} are not among {list(arms)}.")
    matched = aligned_arms(arms, key=key)
    first = next(iter(matched.values()))
    members, _ = incidence(first.column(label))
    labelled = np.asarray(members.any(axis=1))
    compound = first.column(different).astype(str) if different else np.arange(len(first)).astype(str)
    shared = np.asarray(members @ members.T > 0)
    candidate = (compound[:, None] != compound[None]) & labelled[:, None] & labelled[None]
    if not (shared & candidate).any() or not (~shared & candidate).any():
        raise DataError(
            f"{list(arms)}: among {int(labelled.sum())} labelled rows of {len(first)} common to all arms, no two "
            f"compounds {'share' if not (shared & candidate).any() else 'differ in'} a {label!r}."
        )
    # A row without a label is no candidate, and must not take one in the null either.
    matched = {name: p.rows(labelled) for name, p in matched.items()}
    compound = compound[labelled]
    shared, candidate = (mask[np.ix_(labelled, labelled)] for mask in (shared, candidate))
    found = {name: _similarity(p, name, similarity, candidate, neighbours) for name, p in matched.items()}
    for group in fused:
        found[" + ".join(group)] = np.mean([_standardised(found[name], candidate) for name in group], axis=0)
    scored = {name: _average_precision(s, shared & candidate, candidate) for name, s in found.items()}
    queries = (shared & candidate).any(axis=1)
    rows = []
    for name, (ap, first_hit) in scored.items():
        value = bootstrap_interval(ap[queries], seed=seed, groups=compound[queries])
        test = label_permutation_test(found[name], shared, candidate, n=n_null, seed=seed, units=compound)
        row = {
            "arm": name, "map": value.value, "low": value.low, "high": value.high, "null": test["null_mean"],
            "null_high": test["null_high"], "p_value": test["p_value"],
            "hit@1": float((first_hit[queries] <= 1).mean()), "gain": np.nan, "gain_low": np.nan, "gain_high": np.nan,
            "gain_p": np.nan,
            "n_queries": int(queries.sum()), "n_compounds": len(set(compound[queries])),
        }  # fmt: skip
        if against and name != against:
            pair = ap[queries], scored[against][0][queries]
            gain = paired_difference_interval(*pair, seed=seed, groups=compound[queries])
            row |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
            row["gain_p"] = paired_p_value(*pair, seed=seed, groups=compound[queries])
        rows.append(row)
    return pd.DataFrame(rows)


def _similarity(profiles: Profiles, name: str, similarity: str, candidate: Mask, neighbours: int) -> Floats:
    values = profiles.values
    if np.ptp(values, axis=0).max() == 0:  # every row alike, such as a mean image: nothing to rank by
        return np.zeros((len(values), len(values)))
    units = unit_rows(values, similarity, where=f"arm {name!r} ({profiles.source})")
    found = units @ units.T
    if neighbours:
        hub = local_scaling(found, candidate, neighbours=neighbours)
        found = 2 * found - hub[:, None] - hub[None]
    return np.asarray(np.round(found, 12))  # equal profiles tie exactly


def _standardised(similarity: Floats, candidate: Mask) -> Floats:
    """Each query's similarities with mean 0 and spread 1 over its candidates."""
    n = np.maximum(candidate.sum(axis=1, keepdims=True), 1)
    centred = similarity - np.where(candidate, similarity, 0).sum(axis=1, keepdims=True) / n
    spread = np.sqrt(np.where(candidate, centred, 0) ** 2 @ np.ones((len(similarity), 1)) / n)
    return np.asarray(centred / np.where(spread > 0, spread, 1))


def _average_precision(similarity: Floats, positive: Mask, candidate: Mask) -> tuple[Floats, Floats]:
    """AP and rank of the first hit per query, ties at their average rank; NaN without positives."""
    from scipy.stats import rankdata

    ranks = rankdata(np.where(candidate, -similarity, np.inf), axis=1)
    hits = np.sort(np.where(positive, ranks, np.inf), axis=1)
    counts = positive.sum(axis=1)
    order = np.arange(1, hits.shape[1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isfinite(hits), order / hits, 0).sum(axis=1) / counts, hits[:, 0]
