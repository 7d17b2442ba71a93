"""Similarity of profiles as dot products of unit vectors, so that one blockwise product serves all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from image2reg.tables.profiles import Profiles

__all__ = ["SIMILARITIES", "local_scaling", "similarity_matrix", "unit_rows"]

SIMILARITIES = ("cosine", "pearson", "spearman")


def unit_rows(
    values: NDArray[np.floating], similarity: str = "cosine", *, where: str = "profiles"
) -> NDArray[np.float64]:
    """Rows whose dot products are the similarity.

    Parameters
    ----------
    values : (n, d) float
    similarity : {"cosine", "pearson", "spearman"}
        Pearson centres each row, Spearman ranks it first (average ranks).

    Returns
    -------
    (n, d) float64
        Each of length 1.

    Raises
    ------
    ConfigurationError
        Unknown similarity.
    DataError
        NaN or infinite values, or rows without direction (all zero; constant, for the correlations).
    """
    values = np.asarray(values, np.float64)
    if similarity not in SIMILARITIES:
        raise ConfigurationError(
            f"similarity {similarity!r} is unknown; allowed are {', '.join(SIMILARITIES)}."
        )
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{where}: {int(wrong.sum())} of {wrong.size} values are not finite, first at row {row}, feature {column} "
            "(counted from 0). Drop those features (select_features) or fill them first."
        )
    size = np.abs(values).max(axis=1, initial=0)
    if similarity == "spearman":
        from scipy.stats import rankdata

        values = rankdata(values, axis=1)
    if similarity != "cosine":
        values = values - values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1)
    # A constant row leaves rounding behind when centred: of the size that it had before.
    flat = length <= 1e-12 * np.maximum(size, 1)
    if flat.any():
        raise DataError(
            f"{where}: {int(flat.sum())} of {len(values)} profiles are all zero"
            f"{'' if similarity == 'cosine' else ' or constant'} (first: row {int(np.argmax(flat))}), so they have no "
            f"{similarity} similarity to anything. Remove them, or check the normalisation."
        )
    return values / length[:, None]


def similarity_matrix(profiles: Profiles, similarity: str = "cosine") -> NDArray[np.float64]:
    """(n, n) similarities of a table that fits in memory; see `unit_rows`."""
    units = unit_rows(profiles.values, similarity, where=profiles.source)
    return units @ units.T


def local_scaling(
    similarities: NDArray[np.floating], allowed: NDArray[np.bool_], *, neighbours: int
) -> NDArray[Any]:
    """Mean similarity of each row to its `neighbours` nearest allowed columns: how much of a hub it is.

    ``2 s(i, j) - r(i) - r(j)`` with this r is cross-domain similarity local scaling (Conneau et al. 2018,
    arXiv:1710.04087, section 2.3): profiles that are near to everything lose their advantage. No label is used.

    Parameters
    ----------
    similarities : (b, n) float
    allowed : (b, n) bool
        For instance only other compounds.
    neighbours : int

    Returns
    -------
    (b,) float
        Rows with fewer allowed columns use those they have; 0 where there is none.
    """
    seen = np.where(allowed, similarities, -np.inf)
    k = min(neighbours, seen.shape[1])
    top = -np.partition(-seen, k - 1, axis=1)[:, :k]
    found = np.isfinite(top)
    return np.where(found, top, 0).sum(axis=1) / np.maximum(found.sum(axis=1), 1)
