"""Groups of nuclei, from field to batch, and labels that are only a group in disguise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.tables.disguise import confusion, refuse_disguised, shown
from image2reg.tables.splits import GROUPS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["group_of", "known_levels", "refuse_untestable", "stratified_folds"]

_ATTEMPTS = 50


def group_of(metadata: pd.DataFrame, group: str, where: str = "crops") -> NDArray[Any]:
    """Name the group of each nucleus.

    Parameters
    ----------
    metadata : DataFrame
        ``Metadata_*`` columns.
    group : str
        ``nucleus`` (each its own), ``field``, ``well``, ``plate``, ``batch`` or a column.

    Raises
    ------
    DataError
        The column is not there, or empty in places.
    """
    if group == "nucleus":
        return np.arange(len(metadata)).astype(str).astype(object)
    columns = GROUPS.get(group, (group,))
    present = [name for name in columns if name in metadata]
    # a plate, or a site, that nobody named is the only one
    needed = columns[-1] if group in ("plate", "batch") or group not in GROUPS else "Metadata_Well"
    if group == "field" and needed not in present and "Metadata_Site" in present:  # dishes have no wells
        needed = "Metadata_Site"
    if needed not in present:
        raise DataError(
            f"{where}: group {group!r} needs column {needed!r}; there are {list(metadata.columns)}. Groups with a name "
            f"of their own are {['nucleus', *GROUPS]}."
        )
    empty = int((metadata[needed].astype(str) == "").sum())
    if empty:
        raise DataError(f"{where}: {needed} is empty in {empty} of {len(metadata)} rows; fill it first.")
    return metadata[present].astype(str).agg("/".join, axis=1).to_numpy(object)


def known_levels(metadata: pd.DataFrame) -> list[str]:
    """Levels that the metadata can tell apart, smallest first; a level equal to the one before is left out."""
    levels, seen = ["nucleus"], [set(map(str, range(len(metadata))))]
    for level in GROUPS:
        try:
            keys = group_of(metadata, level)
        except DataError:
            continue
        found = set(keys)
        if 1 < len(found) < len(seen[-1]):
            levels.append(level)
            seen.append(found)
    return levels


def refuse_untestable(labels: NDArray[Any], keys: NDArray[Any], *, group: str, where: str = "crops") -> None:
    """Refuse labels that no split by this group can test.

    Raises
    ------
    DataError
        Nuclei without a label (they would be a class of their own); a class occurs in fewer than two groups; or (for
        whole plates and batches) the label is the group in disguise. The confusion table is in the message.
    """
    if n_unlabelled := int((labels == "").sum()):
        raise DataError(
            f"{where}: {n_unlabelled} of {len(labels)} nuclei have no label; leave them out first."
        )
    table = confusion(labels, keys)
    n_groups = (table > 0).sum(axis=0)
    if len(n_groups) < 2:
        raise DataError(f"{where}: all nuclei have the label {table.columns[0]!r}; two are needed.")
    if (n_groups < 2).any():
        raise DataError(
            f"{where}: label {str(n_groups.idxmin())!r} occurs in one {group} only, so a score grouped by {group} "
            f"cannot tell the label from the {group}. Add a second {group} with it, or group by something smaller "
            f"and say so. Nuclei:\n{shown(table)}"
        )
    if group in ("plate", "batch"):
        refuse_disguised(labels, keys, label="label", group=group, where=where)


def stratified_folds(
    labels: NDArray[Any], keys: NDArray[Any], n_folds: int, *, seed: int = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds (train, test) that keep groups whole and labels in proportion; every label is in every training part.

    As many folds as the rarest label has groups, at most `n_folds`.

    Raises
    ------
    DataError
        Groups hold several labels in such a way that some training part always lacks one.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    present = confusion(labels, keys).to_numpy() > 0
    n = min(n_folds, int(present.sum(axis=0).min()))
    for attempt in range(_ATTEMPTS):
        splitter = StratifiedGroupKFold(n_splits=n, shuffle=True, random_state=seed + attempt)
        folds = list(splitter.split(np.zeros(len(labels)), labels, keys))
        if all(len(set(labels[train])) == present.shape[1] for train, _ in folds):
            return folds
    raise DataError(
        f"the groups cannot be put into {n} folds that each leave every label in training: some label's few groups "
        "go together. Ask for more folds, or add groups with the rarest label."
    )
