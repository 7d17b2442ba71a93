"""Many profiles to one: replicates of a well, a treatment, a dose, by mean, median or MODZ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from image2reg.tables.profiles import Profiles

__all__ = ["METHODS", "aggregate", "modz", "modz_weights"]

METHODS = ("mean", "median", "modz")
_LEAST_WEIGHT = 0.01
# Columns about single objects or fields mean nothing for a group.
_OF_OBJECTS = re.compile(
    r"Metadata_(Object|Center|BoundingBox|ImageNumber|TableNumber"
    r"|(\w+_)?(Number_Object_Number|Location_Center_|AreaShape_(Center|BoundingBoxM(in|ax)imum)_))"
)


def modz_weights(values: NDArray[np.floating], *, least: float = _LEAST_WEIGHT) -> NDArray[np.float64]:
    """Weight of each replicate by its mean Spearman correlation with the others.

    Parameters
    ----------
    values : (r, d) float
        Replicates of one perturbation, d genes or features; no NaN.
    least : float
        Smallest mean correlation, so that no replicate is lost altogether.

    Returns
    -------
    (r,) float64
        Non-negative, sum 1.

    Raises
    ------
    DataError
        Not two-dimensional, empty, or not finite.

    Notes
    -----
    Subramanian et al. 2017 (Cell 171:1437), MODZ: Spearman correlations of the replicates, diagonal removed,
    negative ones 0; w_i = max(mean over the others, 0.01), divided by the sum. A replicate without spread
    correlates with none.
    """
    from scipy.stats import rankdata

    values = np.asarray(values, np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"MODZ: replicates have shape {values.shape}; allowed is (replicates, features).")
    if not np.isfinite(values).all():
        raise DataError(
            f"MODZ: {np.count_nonzero(~np.isfinite(values))} of {values.size} values are not finite. Leave those "
            "features out or fill them first."
        )
    n = len(values)
    if n == 1:
        return np.ones(1)
    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(ranks, axis=1)
    ranks /= np.where(length > 0, length, 1)[:, None]
    correlation = np.clip(ranks @ ranks.T, 0, None)
    np.fill_diagonal(correlation, 0)
    weights = np.maximum(correlation.sum(axis=1) / (n - 1), least)
    return weights / weights.sum()


def modz(values: NDArray[np.floating], *, least: float = _LEAST_WEIGHT) -> NDArray[np.float64]:
    """Moderated z-score: the mean of replicates weighted by `modz_weights`; one replicate is returned as it is.

    Parameters and errors as in `modz_weights`; not rounded (CMap's own tables keep 4 decimals).

    Returns
    -------
    (d,) float64

    Examples
    --------
    >>> import numpy as np
    >>> modz(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 2.0, 1.0]])).round(3).tolist()
    [1.515, 2.99, 4.465]
    """
    values = np.asarray(values, np.float64)
    return modz_weights(values, least=least) @ values


def aggregate(
    profiles: Profiles, by: Sequence[str], *, method: str = "median", count: str = "Metadata_Count"
) -> Profiles:
    """Put all rows that agree in the columns `by` into one.

    Parameters
    ----------
    profiles : Profiles
        NaN features are left out of mean and median; MODZ takes its weights from the features that are finite in
        all rows of a group, and gives NaN where one is not.
    by : column names
        ``Metadata_*`` columns, such as plate and well, or compound and dose.
    method : {"mean", "median", "modz"}
    count : str
        Column that says how many rows entered.

    Returns
    -------
    Profiles
        One row per group, sorted by `by`. Other metadata is kept where it is the same in the whole group; where it
        differs, its values are joined by ``|`` (plates, batches), sorted, and objects' numbers and places are dropped.

    Raises
    ------
    ConfigurationError
        Unknown method, or no column.
    DataError
        A column is missing, or MODZ meets a group without one feature finite in all its rows.
    """
    import pandas as pd

    if method not in METHODS or not by:
        raise ConfigurationError(
            f"aggregate: method {method!r}, by {list(by)}; allowed are {', '.join(METHODS)} by at least one column."
        )
    for name in by:
        profiles.column(name)
    groups = profiles.frame.groupby(list(by), sort=True, dropna=False)
    names = profiles.features
    if method == "modz":
        values = profiles.values
        merged = [_modz_of(values[rows], profiles.source, key) for key, rows in groups.indices.items()]
        features = pd.DataFrame(np.stack(merged), columns=names)
    else:
        found = groups[names].mean() if method == "mean" else groups[names].median()
        features = found.reset_index(drop=True)
    keys = groups.ngroup()
    metadata = profiles.metadata.drop(columns=list(by))
    own = [c for c in metadata if not _OF_OBJECTS.match(c) and c != count]
    joined = {name: metadata[name].groupby(keys).agg(_joined).to_numpy() for name in own}
    heads = groups.size().index.to_frame(index=False)
    sizes = pd.DataFrame({count: groups.size().to_numpy()})
    return profiles.replace(pd.concat([heads, pd.DataFrame(joined), sizes, features], axis=1))


def _joined(cells: pd.Series) -> str:
    values = {cell for cell in cells if cell}
    if len(values) < 2:
        return "".join(values)
    # Cells may be lists already: of plates that were joined before, of mechanisms.
    return "|".join(sorted({part for cell in values for part in cell.split("|")}))


def _modz_of(values: NDArray[np.float64], source: str, key: object) -> NDArray[np.float64]:
    known = np.isfinite(values).all(axis=0)
    if not known.any():
        raise DataError(
            f"{source}: group {key!r} has no feature that is finite in all its {len(values)} rows."
        )
    return modz_weights(values[:, known]) @ values
