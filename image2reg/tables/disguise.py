"""A label that is the plate in disguise: every plate, batch or other group holds one label only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from image2reg.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["confusion", "refuse_disguised", "shown"]

_ROWS, _COLUMNS = 12, 8


def confusion(labels: NDArray[Any], groups: NDArray[Any]) -> pd.DataFrame:
    """Count rows by group (down) and label (across); rows without either are left out."""
    import pandas as pd

    known = (labels != "") & (groups != "")
    return pd.crosstab(pd.Series(groups[known], name="group"), pd.Series(labels[known], name="label"))


def shown(table: pd.DataFrame) -> str:
    """Print a confusion table for an error message: its corner where it is large."""
    more = [
        f"{n - most} more {name}"
        for n, most, name in zip(table.shape, (_ROWS, _COLUMNS), ("groups", "labels"), strict=True)
        if n > most
    ]
    corner = table.iloc[:_ROWS, :_COLUMNS].to_string()
    return f"{corner}\n… {' and '.join(more)}" if more else corner


def refuse_disguised(
    labels: NDArray[Any],
    groups: NDArray[Any],
    *,
    label: str,
    group: str,
    where: str,
    paired: bool = False,
    remedy: str = "",
) -> None:
    """Refuse rows of which the group alone tells the label.

    Parameters
    ----------
    labels, groups : (N,) str
        Of each row; empty ones do not count.
    label, group : str
        What they are, for the message: ``mechanism``, ``plate``.
    where : str
        The table's name.
    paired : bool
        Refuse only where each label also sits in a single group. So it is right where a row is compared with rows of
        other groups: a label in two groups can then be found without help of either.
    remedy : str
        What else the user can do, beside putting two labels in a group.

    Raises
    ------
    DataError
        Every group holds a single label, and there are at least two. The confusion table is in the message.
    """
    table = confusion(labels, groups)
    present = table.to_numpy() > 0
    if present.shape[1] < 2 or not (present.sum(axis=1) == 1).all():
        return
    if paired and not (present.sum(axis=0) == 1).all():
        return
    also = f" and every {label} sits on a single {group}" if paired else ""
    raise DataError(
        f"{where}: every {group} holds a single {label}{also}: "
        f"the {label} is the {group} in disguise, and any score would be of staining and focus as much as of biology. "
        f"Put two on one {group}{f', or {remedy}' if remedy else ''}. Rows:\n{shown(table)}"
    )
