"""Splits that keep a group whole: no field, well, plate or donor may be in two of them.

Neighbouring fields share cells, dishes, staining and focus, so a model tested on the plate it was trained
on is tested on its memory. The split unit is therefore always named, and a group that is in two splits is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import ConfigurationError, DataError
from image2reg.tables.fields import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from image2reg.tables.manifest import Manifest

__all__ = ["GROUPS", "group_folds", "in_trainable_field", "refuse_shared_groups", "split_by_group"]

GROUPS = {
    "field": IDENTITY,
    "well": ("Metadata_Plate", "Metadata_Well"),
    "plate": ("Metadata_Plate",),
    "batch": ("Metadata_Batch",),
}
_NAMES = ("train", "validation", "test")


def split_by_group(
    manifest: Manifest,
    *,
    group: str,
    fractions: Mapping[str, float] | Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> Manifest:
    """Assign whole groups to splits so that the numbers of fields come close to the fractions.

    Where some fields have a target, those count and no others: nothing is learned or scored on a field without one, and
    a group of such fields goes to the first split.

    Parameters
    ----------
    manifest : Manifest
    group : str
        ``field``, ``well``, ``plate``, ``batch`` or the name of a column.
    fractions : mapping of split to share, or three shares for train, validation and test
        They sum to 1; a split of share 0 stays empty.
    seed : int
        Same rows (in any order), group and seed: same split.

    Returns
    -------
    Manifest
        With the column ``split`` filled.

    Raises
    ------
    ConfigurationError
        Fractions are negative or do not sum to 1.
    DataError
        The group's column is missing or empty somewhere, or there are fewer groups than splits.

    Notes
    -----
    Groups are taken in random order, large ones first, and each goes to the split that lacks most fields;
    every split gets at least one group.
    """
    shares = _shares(fractions)
    keys = group_keys(manifest, group)
    counted = in_trainable_field(manifest.frame)
    fields = manifest.frame.groupby(list(IDENTITY), sort=False).ngroup()[counted]
    sizes = fields.groupby(keys[counted].to_numpy()).nunique().sort_index()
    if len(sizes) < len(shares):
        which = "" if counted.all() else " with a target"
        raise DataError(
            f"{manifest.source}: {len(sizes)} different {group} value(s){which} {list(sizes.index)[:5]} cannot fill "
            f"{len(shares)} splits {list(shares)}. Add data, set a fraction to 0, or split by a smaller unit "
            f"({', '.join(GROUPS)} or a column)."
        )
    chosen = _fill(sizes, shares, np.random.default_rng(seed))
    split = keys.map(chosen).fillna(next(iter(shares)))
    return manifest.replace(manifest.frame.assign(split=split.to_numpy()))


def in_trainable_field(frame: pd.DataFrame) -> pd.Series:
    """Which rows of a manifest belong to a field with a target; all where no field has one."""
    has_target = (frame["role"] == "target").groupby([frame[name] for name in IDENTITY]).transform("any")
    return has_target | (not has_target.any())


def group_folds(manifest: Manifest, *, group: str, n_folds: int, seed: int = 0) -> list[Manifest]:
    """Give `n_folds` copies of the manifest, each group in the test split of exactly one, in train elsewhere.

    Raises
    ------
    ConfigurationError
        `n_folds` is below 2.
    DataError
        There are fewer groups than folds, or the group's column is missing or empty somewhere.
    """
    if n_folds < 2:
        raise ConfigurationError(f"n_folds is {n_folds}; cross-validation needs at least 2.")
    names = {str(fold): 1 / n_folds for fold in range(n_folds)}
    assigned = split_by_group(manifest, group=group, fractions=names, seed=seed).frame["split"]
    return [
        manifest.replace(manifest.frame.assign(split=np.where(assigned == fold, "test", "train")))
        for fold in names
    ]


def refuse_shared_groups(manifest: Manifest, *, group: str) -> None:
    """Raise `DataError` when a group is in two splits, naming the groups; rows without a split do not count."""
    keys = group_keys(manifest, group)
    assigned = manifest.frame["split"].to_numpy()
    table = keys[assigned != ""].groupby(keys[assigned != ""])
    found = {
        str(key): sorted(set(assigned[rows.index]))
        for key, rows in table
        if len(set(assigned[rows.index])) > 1
    }
    if found:
        shown = "; ".join(f"{key!r} in {' and '.join(splits)}" for key, splits in list(found.items())[:5])
        raise DataError(
            f"{manifest.source}: {len(found)} {group} value(s) are in several splits: {shown}. A model would be "
            f"tested on what it was trained on; split by {group} again."
        )


def group_keys(manifest: Manifest, group: str) -> pd.Series:
    """Text that names the group of each row."""
    frame = manifest.frame
    columns = GROUPS.get(group, (group,))
    missing = [name for name in columns if name not in frame]
    if missing:
        raise DataError(
            f"{manifest.source}: group {group!r} needs column {missing[0]!r}; there are {list(frame.columns)}. "
            f"Groups with a name of their own are {list(GROUPS)}."
        )
    # A field or well may lack some parts of its name; a plate or donor that is empty is unknown, not one
    # group.
    decisive = {"field": IDENTITY, "well": ("Metadata_Well",)}.get(group, columns)
    empty = (frame[list(decisive)].astype(str) == "").all(axis=1).to_numpy()
    if empty.any():
        raise DataError(
            f"{manifest.source}: {' and '.join(decisive)} is empty in {int(empty.sum())} of {len(frame)} rows, first "
            f"row {int(np.argmax(empty)) + 1}. Fill it, or split by another group ({', '.join(GROUPS)} or a column)."
        )
    keys = frame[columns[0]].astype(str)
    for name in columns[1:]:
        keys = keys + "/" + frame[name].astype(str)
    return keys


def _shares(fractions: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    if isinstance(fractions, Mapping):
        shares = dict(fractions)
    elif len(fractions) == len(_NAMES):
        shares = dict(zip(_NAMES, fractions, strict=True))
    else:
        raise ConfigurationError(
            f"fractions {list(fractions)}: give three, for {list(_NAMES)}, or name the splits."
        )
    if min(shares.values(), default=-1) < 0 or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ConfigurationError(f"fractions {shares}: each must be at least 0 and together they must be 1.")
    return {str(name): share for name, share in shares.items() if share > 0}


def _fill(sizes: pd.Series, shares: dict[str, float], rng: np.random.Generator) -> dict[Any, str]:
    shuffled = sizes.iloc[rng.permutation(len(sizes))].sort_values(ascending=False, kind="stable")
    lacking = {name: share * float(sizes.sum()) for name, share in shares.items()}
    empty = set(shares)
    chosen = {}
    for left, (key, size) in zip(range(len(shuffled), 0, -1), shuffled.items(), strict=True):
        candidates = empty if left <= len(empty) else set(shares)
        name = max(sorted(candidates), key=lambda split: (lacking[split], shares[split]))
        chosen[key] = name
        lacking[name] -= float(size)
        empty.discard(name)
    return chosen
