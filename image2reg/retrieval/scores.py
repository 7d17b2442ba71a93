"""Scores of every mechanism for a query, always from other compounds: nearest neighbour and kernel ridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Gallery",
    "compound_members",
    "group_out_ridge",
    "neighbour_scores",
    "other_compounds",
    "ridge_grid",
]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

# Ridge penalties tried, as shares of the kernel's mean eigenvalue.
_RIDGES = (0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class Gallery:
    """What every method needs to know about the rows of a table.

    Attributes
    ----------
    similarity : (n, n) float64
        Similarity, hubs corrected where asked for.
    members : (n, k) bool
        Labels of each row; a row without any is only ever a query.
    compounds : (n,) intp
        Code of the compound; a row is never scored by rows of its own compound.
    labels : k str
    """

    similarity: Floats
    members: NDArray[np.bool_]
    compounds: Places
    labels: Sequence[str]

    def apart(self, queries: Places, references: Places) -> NDArray[np.bool_]:
        """(q, r) pairs of different compounds."""
        return self.compounds[queries][:, None] != self.compounds[references][None, :]


def neighbour_scores(gallery: Gallery, queries: Places, references: Places) -> Floats:
    """Similarity to the nearest reference of each mechanism, of another compound; -inf where there is none.

    Returns
    -------
    (q, k) float64
    """
    seen = np.where(
        gallery.apart(queries, references), gallery.similarity[np.ix_(queries, references)], -np.inf
    )
    members = gallery.members[references]
    return np.stack(
        [seen[:, members[:, i]].max(axis=1, initial=-np.inf) for i in range(members.shape[1])], axis=1
    )


def ridge_grid(kernel: Floats) -> list[float]:
    """Penalties to choose from, on the scale of the kernel."""
    return [share * float(np.trace(kernel)) / len(kernel) for share in _RIDGES]


def group_out_ridge(
    kernel: Floats, gallery: Gallery, queries: Places, references: Places, *, ridge: float
) -> tuple[Floats, Floats]:
    """Kernel ridge regression of the label matrix: scores of the queries, and of each reference without its compound.

    Parameters
    ----------
    kernel : (n, n) float64
        Positive semi-definite, over all rows of the gallery.
    queries, references : positions
        No compound is in both.
    ridge : float

    Returns
    -------
    for_queries : (q, k) float64
    for_references : (r, k) float64
        Prediction of a compound's rows by the fit on all other compounds, by the closed form
        ``y_G - [(A^-1)_GG]^-1 (A^-1 y)_G`` with A = K + ridge I: one solve instead of one per compound.

    Notes
    -----
    Labels are centred to their frequency among the references, so that rare ones are not lost. Closed form of
    leaving groups out: Rifkin & Lippert 2007, MIT-CSAIL-TR-2007-025, for groups instead of rows.
    """
    k_rr = kernel[np.ix_(references, references)]
    target = gallery.members[references].astype(np.float64)
    level = target.mean(axis=0)
    inverse = np.linalg.inv(k_rr + ridge * np.eye(len(references)))
    weights = inverse @ (target - level)
    left_out = np.empty_like(target)
    order = np.argsort(gallery.compounds[references], kind="stable")
    codes = gallery.compounds[references][order]
    for rows in np.split(order, np.flatnonzero(np.diff(codes)) + 1):
        own = np.linalg.solve(inverse[np.ix_(rows, rows)], weights[rows])
        left_out[rows] = target[rows] - own
    return kernel[np.ix_(queries, references)] @ weights + level, left_out


def compound_similarity(gallery: Gallery, queries: Places, references: Places) -> tuple[Floats, Any]:
    """Similarity of each query to each reference compound (its nearest row); the query's own compound is -inf.

    Returns
    -------
    (q, c) float64, (c,) codes of the compounds
    """
    seen = np.where(
        gallery.apart(queries, references), gallery.similarity[np.ix_(queries, references)], -np.inf
    )
    codes, first = np.unique(gallery.compounds[references], return_index=True)
    order = np.argsort(gallery.compounds[references], kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(gallery.compounds[references][order]) > 0])
    return np.maximum.reduceat(seen[:, order], starts, axis=1), (codes, references[first])


def compound_members(gallery: Gallery, references: Places) -> NDArray[np.bool_]:
    """(c, k) labels of the reference compounds, in the order of their codes."""
    codes, place = np.unique(gallery.compounds[references], return_inverse=True)
    members = np.zeros((len(codes), gallery.members.shape[1]), bool)
    np.logical_or.at(members, place, gallery.members[references])
    return members


def other_compounds(gallery: Gallery, labelled: Places) -> Places:
    """(n, k) compounds of each mechanism beside the row's own, which is no evidence."""
    per_compound = compound_members(gallery, labelled)
    codes = np.unique(gallery.compounds[labelled])
    place = np.searchsorted(codes, gallery.compounds).clip(max=len(codes) - 1)
    own = per_compound[place] & (codes[place] == gallery.compounds)[:, None]
    return np.asarray(per_compound.sum(axis=0) - own)
