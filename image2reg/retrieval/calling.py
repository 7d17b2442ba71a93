"""Calling a mechanism: held-out scores, calibrated probabilities, p-values, and no call where evidence is thin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.randomness import generator
from image2reg.retrieval import calibration
from image2reg.retrieval.arms import Arm, prepared_arms
from image2reg.retrieval.fusion import fuse_log_probabilities
from image2reg.retrieval.moved import moved_features
from image2reg.retrieval.notes import compound_column, place_notes
from image2reg.retrieval.scores import (
    compound_members,
    compound_similarity,
    group_out_ridge,
    neighbour_scores,
    other_compounds,
    ridge_grid,
)
from image2reg.retrieval.settings import CallSettings
from image2reg.retrieval.significance import mechanism_p_values
from image2reg.tables.profiles import Profiles

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["Retrieval", "retrieve"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
_SHOWN = 5
_ONE_BY_ONE = 60


@dataclass(frozen=True)
class Retrieval:
    """Mechanisms called for every row of a table.

    Attributes
    ----------
    calls : DataFrame, one row per query
        Metadata, ``known`` (the label in the table), ``mechanism`` (most probable), ``activity_p`` (of differing from
        the controls; missing where not tested), ``probability``, ``p_value``,
        ``similarity_p`` (share of known compounds less similar to their own mechanism than this one is to its
        nearest compound), ``novel``, ``called``, ``reason`` (why not), ``possible`` (its mechanism has another
        compound) and ``correct`` (missing where unknown).
    ranking : DataFrame
        ``row`` (of `calls`), ``rank``, ``mechanism``, ``probability``, ``p_value``, ``n_compounds``: the 5 most
        probable.
    evidence : DataFrame
        ``row``, ``rank``, ``compound``, ``mechanism``, ``similarity``, ``reference`` (row of its nearest profile):
        the 5 nearest compounds.
    moved : DataFrame
        ``row``, ``rank``, ``feature``, ``z``: features furthest from the controls (or from all rows without any).
    summary : dict
        Scores over held-out compounds; see `image2reg.retrieval.summary.held_out_summary`.
    profiles : Profiles
        The rows that were compared, in the order of `calls`, before any processing.
    settings : CallSettings
    compound : str
        Column of compounds, each called from others; empty: every row was called from all other rows.
    by : tuple of str
        Columns that make one treatment.
    notes : tuple of str
        What a reader should know: spellings that look alike, labels of one compound, rows that look like controls.
    """

    calls: pd.DataFrame
    ranking: pd.DataFrame
    evidence: pd.DataFrame
    moved: pd.DataFrame
    summary: dict[str, Any]
    profiles: Profiles
    settings: CallSettings
    compound: str = ""
    by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def retrieve(
    profiles: Profiles | Mapping[str, Profiles],
    *,
    label: str,
    different: str | None = None,
    batch: str = "",
    controls: str = "",
    by: Sequence[str] = (),
    settings: CallSettings | None = None,
    seed: int = 0,
) -> Retrieval:
    """Rank mechanisms for every profile, by compounds other than its own.

    Parameters
    ----------
    profiles : Profiles, or mapping of arm name to Profiles
        Replicates or treatments. Rows without a label are called from all labelled ones; rows with one are called
        as if their compound were unknown. Several arms (real, generated, expression) are fused;
        mechanisms, compounds and batches are read in the first.
    label : str
        Column of mechanisms, several per compound separated by ``|``.
    different : str, optional
        Column of the compound; evidence always comes from other compounds. Default: ``Metadata_Compound`` where every
        table has it. Empty: every row is its own compound.
    batch : str
        Column of batches; a batch that equals a mechanism is refused.
    controls : str
        ``Metadata_Column=value``: rows that the sphering is fitted on; they are no queries.
    by : column names
        Replicates that agree here become one profile (compound and dose). Arms are matched by them.
    settings : CallSettings, optional
    seed : int

    Returns
    -------
    Retrieval

    Raises
    ------
    ConfigurationError
        Settings that exclude each other.
    DataError
        Columns or controls are missing, features differ between arms that are to be compared, no two compounds
        share a mechanism, a batch equals a mechanism, or profiles cannot be compared (NaN, all zero).
    ResourceError
        More than 10,000 treatments.

    Notes
    -----
    Probabilities: per method and arm a softmax with a temperature fitted on the labelled compounds, each scored
    without itself; fused by mean log-probability and calibrated again. The calibration of a query never sees its
    compound. p-value of a mechanism: average precision of its compounds in the query's ranking of all other
    compounds, against random rankings. A call needs a treatment that differs from the controls (p at most ``alpha``;
    `image2reg.retrieval.activity`), a probability of at least ``threshold``, p at most ``alpha``, no sign of novelty,
    and a table whose labels beat permuted ones (mean average precision, p at most ``alpha``).

    Examples
    --------
    >>> found = retrieve(profiles, label="Metadata_moa", different="Metadata_Compound")  # doctest: +SKIP
    """
    settings = settings or CallSettings()
    given: Mapping[str, Profiles] = profiles if isinstance(profiles, Mapping) else {"profiles": profiles}
    Profiles.refuse_others(**given)
    compound, taken = compound_column(given, different)
    arms, shown, reference, activity, notes = prepared_arms(
        given,
        label=label,
        different=compound,
        batch=batch,
        controls=controls,
        by=by,
        settings=settings,
        seed=seed,
    )
    first = arms[0].gallery
    labelled = np.flatnonzero(first.members.any(axis=1))
    n, k = first.members.shape
    found = _Found(
        activity, np.zeros((n, k)), np.ones((n, k)), np.ones(n), [np.empty(0, int)] * n, [np.empty(0)] * n
    )
    for queries, references in _folds(first.compounds, labelled, settings, seed):
        _call(arms, queries, references, found, settings, seed)
    moved = moved_features(shown, reference)
    notes = (*notes, *taken, *place_notes(given))
    return _retrieval(arms, shown, found, labelled, label, compound, tuple(by), settings, notes, moved, seed)


@dataclass
class _Found:
    """Filled fold by fold; the activity is known before."""

    activity: Floats
    probability: Floats
    p_value: Floats
    similarity_p: Floats
    near: list[Places]
    near_similarity: list[Floats]


def _folds(
    compounds: Places, labelled: Places, settings: CallSettings, seed: int
) -> list[tuple[Places, Places]]:
    """Pairs (queries, references): compounds with a label held out whole, in turn, then the rows of all others."""
    codes = generator(seed, "compound folds").permutation(np.unique(compounds[labelled]))
    n_folds = settings.n_folds or (len(codes) if len(codes) <= _ONE_BY_ONE else 10)
    folds = []
    for held in np.array_split(codes, min(n_folds, len(codes))):
        # A row without a label goes out with its compound: it is no evidence for itself.
        references = labelled[~np.isin(compounds[labelled], held)]
        folds.append((np.flatnonzero(np.isin(compounds, held)), references))
    rest = np.flatnonzero(~np.isin(compounds, codes))
    return [*folds, (rest, labelled)] if len(rest) else folds


def _call(
    arms: Sequence[Arm], queries: Places, references: Places, found: _Found, settings: CallSettings, seed: int
) -> None:
    members = arms[0].gallery.members[references]
    for_queries, for_references = [], []
    for arm in arms:
        for method in settings.methods:
            q, r = _scored(arm, method, queries, references)
            temperature, blend, _ = calibration.fit_temperature(r, members)
            for_queries.append(calibration.probabilities(q, temperature, blend=blend))
            for_references.append(calibration.probabilities(r, temperature, blend=blend))
    q, r = fuse_log_probabilities(for_queries), fuse_log_probabilities(for_references)
    temperature, blend, _ = calibration.fit_temperature(r, members)
    found.probability[queries] = calibration.probabilities(q, temperature, blend=blend)
    own = [_own_similarity(arm, references) for arm in arms]
    best = [neighbour_scores(arm.gallery, queries, references).max(axis=1) for arm in arms]
    ranks = [(1 + (o[None] <= b[:, None]).sum(axis=1)) / (1 + len(o)) for o, b in zip(own, best, strict=True)]
    found.similarity_p[queries] = np.max(ranks, axis=0)  # novel only where no arm knows it
    seen = np.mean([compound_similarity(arm.gallery, queries, references)[0] for arm in arms], axis=0)
    _, (_, first_rows) = compound_similarity(arms[0].gallery, queries[:1], references)
    per_compound = compound_members(arms[0].gallery, references)
    order = np.argsort(-seen, axis=1, kind="stable")
    found.p_value[queries] = mechanism_p_values(seen, per_compound, settings.n_null, seed)
    for i, query in enumerate(queries):
        top = order[i, :_SHOWN]
        found.near[query], found.near_similarity[query] = first_rows[top], seen[i, top]


def _scored(arm: Arm, method: str, queries: Places, references: Places) -> tuple[Floats, Floats]:
    """Scores of the queries, and of each reference without its compound; the ridge is chosen on the latter."""
    if method == "neighbours":
        return (
            neighbour_scores(arm.gallery, queries, references),
            neighbour_scores(arm.gallery, references, references),
        )
    kernel = arm.kernel(method)
    members = arm.gallery.members[references]
    tried = []
    for ridge in ridge_grid(kernel):
        q, r = group_out_ridge(kernel, arm.gallery, queries, references, ridge=ridge)
        tried.append((calibration.fit_temperature(r, members)[2], q, r))
    _, q, r = min(tried, key=lambda one: one[0])
    return q, r


def _own_similarity(arm: Arm, references: Places) -> Floats:
    """Each reference's similarity to the nearest other compound of its own mechanism, where there is one."""
    scores = neighbour_scores(arm.gallery, references, references)
    own = np.where(arm.gallery.members[references], scores, -np.inf).max(axis=1)
    return np.asarray(own[np.isfinite(own)])


def _retrieval(
    arms: Sequence[Arm], shown: Profiles, found: _Found, labelled: Places, label: str, different: str,
    by: tuple[str, ...], settings: CallSettings, notes: tuple[str, ...], moved: pd.DataFrame, seed: int,
) -> Retrieval:  # fmt: skip
    import pandas as pd

    from image2reg.retrieval.summary import held_out_summary, table_test

    gallery = arms[0].gallery
    names = np.array(gallery.labels, dtype=object)
    order = np.argsort(-found.probability, axis=1, kind="stable")[:, : min(_SHOWN, len(names))]
    rows = np.arange(len(order))
    top = order[:, 0]
    probability, p_value = found.probability[rows, top], found.p_value[rows, top]
    inactive = found.activity > settings.alpha
    novel = (found.similarity_p <= settings.novelty) & ~inactive
    test = table_test(gallery, seed=seed)
    no_signal = np.full(len(rows), test["p_value"] > settings.alpha)
    reasons = np.select(
        [no_signal, inactive, novel, probability < settings.threshold, p_value > settings.alpha],
        [
            "labels of this table are not better than permuted ones",
            "not different from the controls",
            "novel: less similar to its nearest compound than known compounds are to their own mechanism",
            "probability below the threshold",
            "p-value above alpha",
        ],
        default="",
    )
    others = other_compounds(gallery, labelled)
    possible = (others > 0) & gallery.members
    known = np.asarray(gallery.members.any(axis=1))
    right: Any = np.asarray(gallery.members[rows, top]).astype(object)
    calls = shown.metadata.assign(
        known=shown.column(label),
        mechanism=names[top],
        activity_p=found.activity,
        probability=probability,
        p_value=p_value,
        similarity_p=found.similarity_p,
        novel=novel,
        called=reasons == "",
        reason=reasons,
        possible=possible.any(axis=1),
        correct=[bool(hit) if labelled_row else None for hit, labelled_row in zip(right, known, strict=True)],
    )
    repeat = np.repeat(rows, order.shape[1])
    ranking = pd.DataFrame(
        {
            "row": repeat,
            "rank": np.tile(np.arange(1, order.shape[1] + 1), len(rows)),
            "mechanism": names[order.ravel()],
            "probability": found.probability[repeat, order.ravel()],
            "p_value": found.p_value[repeat, order.ravel()],
            "n_compounds": others[repeat, order.ravel()],
        }
    )
    near = np.concatenate(found.near)
    lengths = [len(places) for places in found.near]
    compound = shown.column(different) if different else np.arange(len(shown)).astype(str)
    evidence = pd.DataFrame(
        {
            "row": np.repeat(rows, lengths),
            "rank": np.concatenate([np.arange(1, size + 1) for size in lengths]),
            "compound": compound[near],
            "mechanism": shown.column(label)[near],
            "similarity": np.concatenate(found.near_similarity),
            "reference": near,
        }
    )
    if not calls["possible"].any():
        raise DataError("no query's mechanism has another compound; nothing could be called right.")
    summary = held_out_summary(calls, gallery, compound, test, alpha=settings.alpha, seed=seed)
    return Retrieval(calls, ranking, evidence, moved, summary, shown, settings, different, by, notes)
