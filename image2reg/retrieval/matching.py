"""Percent replicating and percent matching: how many groups agree more than unrelated profiles do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.randomness import generator
from image2reg.retrieval.similarity import similarity_matrix

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.tables.profiles import Profiles

__all__ = ["percent_matching", "percent_replicating"]


def percent_replicating(
    profiles: Profiles,
    *,
    replicate: str,
    similarity: str = "pearson",
    percentile: float = 95.0,
    n_null: int = 1000,
    seed: int = 0,
) -> tuple[float, pd.DataFrame]:
    """Share of groups whose replicates agree more than most groups of unrelated profiles.

    Parameters
    ----------
    profiles : Profiles
        One row per replicate.
    replicate : str
        Column that names the group; rows empty in it are left out. Groups of one row take no part.
    similarity : {"pearson", "cosine", "spearman"}
    percentile : float
        Of the null: median similarity of as many profiles drawn from different groups, per group size.
    n_null, seed : int

    Returns
    -------
    share : float
        Between 0 and 1.
    groups : DataFrame
        ``group``, ``n``, ``similarity`` (median over pairs), ``threshold``, ``above``.

    Raises
    ------
    DataError
        No group has two rows, or fewer different groups than a group has rows.

    Notes
    -----
    Way et al. 2022, Cell Systems 13:911. The share depends on percentile, group size and plate layout.
    """
    return _share(profiles, profiles.column(replicate), replicate, similarity, percentile, n_null, seed, None)


def percent_matching(
    profiles: Profiles,
    *,
    label: str,
    different: str,
    similarity: str = "pearson",
    percentile: float = 95.0,
    n_null: int = 1000,
    seed: int = 0,
) -> tuple[float, pd.DataFrame]:
    """Share of mechanisms whose different compounds agree more than unrelated compounds do.

    As `percent_replicating`; pairs of one compound (`different`) do not count, and neither does a mechanism of one
    compound. A cell of several labels is a mechanism of its own.
    """
    units = profiles.column(different)
    return _share(profiles, profiles.column(label), label, similarity, percentile, n_null, seed, units)


def _share(
    profiles: Profiles,
    groups: NDArray[Any],
    name: str,
    similarity: str,
    percentile: float,
    n_null: int,
    seed: int,
    units: NDArray[Any] | None,
) -> tuple[float, pd.DataFrame]:
    import pandas as pd

    rows = np.flatnonzero(groups != "")
    groups = groups[rows]
    found = similarity_matrix(profiles.rows(rows), similarity)
    count = ~np.eye(len(rows), dtype=bool)
    if units is not None:
        count &= units[rows][:, None] != units[rows][None, :]
    names, member = np.unique(groups, return_inverse=True)
    order = np.argsort(member, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(member))[:-1])
    table = []
    thresholds: dict[int, float] = {}
    for group, places in zip(names, members, strict=True):
        pairs = count[np.ix_(places, places)] & np.tri(len(places), k=-1, dtype=bool)
        if not pairs.any():
            continue
        size = len(places) if units is None else len(set(units[rows][places]))
        if size > len(names):
            raise DataError(
                f"{profiles.source}: {name} {group!r} has {size} members but there are only {len(names)} different "
                "groups to draw unrelated profiles from."
            )
        if size not in thresholds:
            null = _null(found, members, size, n_null, generator(seed, "unrelated", size))
            thresholds[size] = float(np.percentile(null, percentile))
        median = float(np.median(found[np.ix_(places, places)][pairs]))
        table.append(
            {"group": group, "n": size, "similarity": median, "threshold": thresholds[size],
             "above": median > thresholds[size]}
        )  # fmt: skip
    if not table:
        raise DataError(
            f"{profiles.source}: no {name!r} has two {'rows' if units is None else 'compounds'}; nothing can replicate."
        )
    frame = pd.DataFrame(table)
    return float(frame["above"].mean()), frame


def _null(
    found: NDArray[np.floating], members: list[NDArray[np.intp]], size: int, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Median pairwise similarity of `size` profiles of different groups, n times."""
    groups = np.argsort(rng.random((n, len(members))), axis=1)[:, :size]
    counts = np.array([len(m) for m in members])
    flat = np.concatenate(members)
    starts = np.cumsum(counts) - counts
    drawn = flat[starts[groups] + (rng.random(groups.shape) * counts[groups]).astype(int)]
    low, high = np.tril_indices(size, -1)
    return np.asarray(np.median(found[drawn[:, low], drawn[:, high]], axis=1))
