"""Arms of evidence (real, generated, expression) brought to the same rows, and fused before or after scoring."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.retrieval.similarity import unit_rows

if TYPE_CHECKING:
    from image2reg.tables.profiles import Profiles

_WHOLE = re.compile(r"^(-?\d+)\.0+$")

__all__ = ["aligned_arms", "early_fusion", "fuse_log_probabilities"]


def aligned_arms(arms: Mapping[str, Profiles], *, key: Sequence[str]) -> dict[str, Profiles]:
    """Keep the rows that all arms have, in the order of the first arm.

    Parameters
    ----------
    arms : mapping of name to Profiles
        One row per treatment in each.
    key : column names
        What makes a row the same treatment (compound and dose, or compound). A dose of 1.0 is the dose 1: which of
        the two a file says depends on the program that wrote it.

    Raises
    ------
    DataError
        A key column is missing, a key appears twice in an arm, or no row is common to all (numbers are given).
    """
    import pandas as pd

    keys = {}
    for name, profiles in arms.items():
        index = pd.MultiIndex.from_arrays(
            [[_WHOLE.sub(r"\1", cell) for cell in profiles.column(column)] for column in key]
        )
        if not index.is_unique:
            repeated = index[index.duplicated()].unique()
            raise DataError(
                f"arm {name!r} ({profiles.source}): {len(repeated)} values of {list(key)} appear more than once, "
                f"such as {tuple(repeated[0])}. Aggregate to one row each first (--by)."
            )
        keys[name] = index
    first, *others = keys.values()
    common = first
    for index in others:
        common = common[common.isin(index)]
    if not len(common):
        sizes = {name: len(index) for name, index in keys.items()}
        raise DataError(
            f"arms {sizes}: no row has the same {list(key)} in all of them. Check their spelling."
        )
    return {name: profiles.rows(keys[name].get_indexer(common)) for name, profiles in arms.items()}


def early_fusion(arms: Mapping[str, Profiles], *, similarity: str = "cosine") -> Profiles:
    """One table with the features of all arms, each arm's rows of length 1, so that no arm outweighs another.

    Metadata is the first arm's; features are called ``ARM.feature``.
    """
    first = next(iter(arms.values()))
    values = [unit_rows(p.values, similarity, where=name) for name, p in arms.items()]
    names = [f"{name}.{feature}" for name, p in arms.items() for feature in p.features]
    return first.with_values(np.concatenate(values, axis=1), names)


def fuse_log_probabilities(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean of log-probabilities (n, k), the geometric mean of what methods and arms say; to be calibrated again."""
    with np.errstate(divide="ignore"):
        logs = [np.log(part) for part in parts]
    return np.asarray(np.mean(logs, axis=0))
