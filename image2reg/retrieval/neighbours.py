"""The nearest profile that is not of the same compound (NSC), and not of the same compound or batch (NSCB)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.retrieval.blocks import in_blocks
from image2reg.retrieval.labels import incidence
from image2reg.retrieval.pairs import Pairing
from image2reg.retrieval.similarity import local_scaling, unit_rows

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.tables.profiles import Profiles

__all__ = ["nearest_neighbours"]


def nearest_neighbours(
    profiles: Profiles,
    *,
    label: str,
    different: Sequence[str],
    similarity: str = "cosine",
    neighbours: int = 0,
    k: int = 5,
) -> pd.DataFrame:
    """Find the `k` nearest profiles that differ in each column of `different`, the first of which should match.

    Parameters
    ----------
    profiles : Profiles
        One row per treatment.
    label : str
        Column of mechanisms, several separated by ``|``; rows without one take no part.
    different : column names
        ``["Metadata_Compound"]`` is not-same-compound; with the batch beside it, not-same-compound-and-batch.
        Cells may list several values (batches) separated by ``|``: a pair differs when no value is shared.
    similarity : {"cosine", "pearson", "spearman"}
    neighbours : int
        Above 0: local scaling against hubs (`local_scaling`).
    k : int

    Returns
    -------
    DataFrame, one row per labelled profile
        ``row``, ``label``, ``possible`` (a profile of the same label is among the allowed ones; only such queries
        belong in an accuracy), ``correct`` (of the nearest), ``nearest`` and ``similarity`` (lists of k, nearest
        first; shorter where fewer profiles are allowed) and the metadata.

    Raises
    ------
    DataError
        No pair shares a label and differs, or as `unit_rows`.

    Notes
    -----
    Ljosa et al. 2013 (J. Biomol. Screen. 18:1321) for NSC, Ando et al. 2017 (bioRxiv 161422) for NSCB.
    """
    import pandas as pd

    rows = np.flatnonzero(profiles.column(label) != "")
    pairing = Pairing.of(profiles, same=[label], multilabel="any")
    units = unit_rows(profiles.values[rows], similarity, where=profiles.source)
    values = [incidence(profiles.column(name)[rows])[0] for name in different]
    size = len(rows), len(rows)
    k = min(k, len(rows) - 1)

    def apart(block: slice) -> NDArray[np.bool_]:
        here = np.arange(len(rows))[block]
        allowed = here[:, None] != np.arange(len(rows))[None]
        for of in values:
            allowed &= ~(of[block] @ of.T > 0)
        return allowed

    hub = np.zeros(len(rows))
    if neighbours:
        hub = np.concatenate(
            in_blocks(
                lambda block: local_scaling(units[block] @ units.T, apart(block), neighbours=neighbours),
                *size,
            )
        )

    def nearest(block: slice) -> tuple[NDArray[Any], ...]:
        allowed, (shared, _) = apart(block), pairing.block(block)
        found = units[block] @ units.T
        if neighbours:
            found = 2 * found - hub[block][:, None] - hub[None, :]
        found = np.where(allowed, found, -np.inf)
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        near = np.take_along_axis(found, order, axis=1)
        right = np.take_along_axis(shared, order[:, :1], axis=1)[:, 0] & np.isfinite(near[:, 0])
        return order, near, right, np.asarray((shared & allowed).any(axis=1))

    order, near, correct, possible = map(np.concatenate, zip(*in_blocks(nearest, *size), strict=True))
    if not possible.any():
        raise DataError(
            f"{profiles.source}: no two of {len(rows)} profiles share a {label!r} and differ in {list(different)}; a "
            "nearest neighbour could never be right. Add compounds per label."
        )
    table = pd.DataFrame(
        {
            "row": rows,
            "label": profiles.column(label)[rows],
            "possible": possible,
            "correct": correct,
            "nearest": [rows[some[far]] for some, far in zip(order, np.isfinite(near), strict=True)],
            "similarity": [some[np.isfinite(some)] for some in near],
        }
    )
    return pd.concat([table, profiles.metadata.iloc[rows].reset_index(drop=True)], axis=1)
