"""The features in which a query differs most from the controls: what a person would look for in the pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.tables.profiles import Profiles

__all__ = ["moved_features"]

_MAD_TO_SD = 1.4826


def moved_features(queries: Profiles, reference: Profiles, *, most: int = 8) -> pd.DataFrame:
    """Robust z of each query's features against a reference, largest first.

    Parameters
    ----------
    queries : Profiles
    reference : Profiles
        Controls, or the queries themselves where there are none; the same features.
    most : int
        Features per query.

    Returns
    -------
    DataFrame
        ``row``, ``rank``, ``feature``, ``z`` = (value - median) / (1.4826 MAD of the reference). Features without
        spread in the reference, and NaN, are left out.
    """
    import pandas as pd

    known = reference.frame[queries.features].to_numpy(float)
    level = np.nanmedian(known, axis=0)
    spread = _MAD_TO_SD * np.nanmedian(np.abs(known - level), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(spread > 0, (queries.values - level) / spread, np.nan)
    size = np.where(np.isfinite(z), np.abs(z), -1.0)
    order = np.argsort(-size, axis=1, kind="stable")[:, :most]
    rows = np.repeat(np.arange(len(z)), order.shape[1])
    table = pd.DataFrame(
        {
            "row": rows,
            "rank": np.tile(np.arange(1, order.shape[1] + 1), len(z)),
            "feature": np.array(queries.features, dtype=object)[order.ravel()],
            "z": z[rows, order.ravel()],
        }
    )
    return table[np.isfinite(table["z"])].reset_index(drop=True)
