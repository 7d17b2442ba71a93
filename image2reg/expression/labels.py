"""Row and column ids: always text, never empty, never twice; and the places of those that are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from image2reg.errors import DataError

__all__ = ["Subset", "identifiers", "listed", "positions_of", "refuse_repeats"]

Subset: TypeAlias = Sequence[str] | Sequence[int] | pd.Index | slice | None
"""Ids in the order wanted, a slice of positions, or None for everything."""


def listed(names: Iterable[object], *, most: int = 5) -> str:
    """Quote the first few `names` for a message, and say how many more there are."""
    names = list(names)
    shown = ", ".join(repr(str(name)) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _identifier(label: Any) -> str:
    if isinstance(label, str):
        return str(label)  # h5py and numpy hand out their own kinds of str
    if isinstance(label, bytes):
        return label.decode("utf-8")
    if isinstance(label, Integral):
        return str(int(label))
    if label is None or label is pd.NA or (isinstance(label, Real) and np.isnan(float(label))):
        return ""
    # A column of Entrez ids with one gap becomes float: 1017.0 is the id 1017.
    if isinstance(label, Real) and float(label).is_integer():
        return str(int(float(label)))
    return str(label)


def identifiers(labels: Iterable[Any], *, what: str = "id", where: str = "table") -> pd.Index:
    """Labels as text ids: integers and whole floats lose no digit and gain no ``.0``.

    Parameters
    ----------
    labels : iterable of str, bytes, int or float
        For example Entrez gene ids, probe ids, or the index of a frame.
    what, where : str
        Named in the message: the kind of id (``"row id"``) and the file or table it came from.

    Returns
    -------
    pandas.Index of str (object)
        In the order given. Repeats are kept; see `refuse_repeats`.

    Raises
    ------
    DataError
        A label is empty or missing.

    Notes
    -----
    cmapPy writes integer ids as empty strings (cmap/cmapPy issue 55), hence the cast before anything else.

    Examples
    --------
    >>> list(identifiers([1017, 1019.0, "CDK2", b"200814_at"]))
    ['1017', '1019', 'CDK2', '200814_at']
    """
    texts = [_identifier(label) for label in labels]
    empty = [place for place, text in enumerate(texts) if not text.strip()]
    if empty:
        raise DataError(
            f"{where}: {len(empty)} of {len(texts)} {what}s are empty (first at position {empty[0]}, counted "
            f"from 0). Every {what} must be a name or a number; write them as text where "
            "the file was made."
        )
    return pd.Index(texts, dtype=object)


def refuse_repeats(ids: pd.Index, *, what: str, where: str) -> None:
    """Raise `DataError` naming each id that `ids` holds more than once, with its count."""
    if ids.is_unique:
        return
    counts = {name: n for name, n in Counter(ids).items() if n > 1}
    shown = ", ".join(f"{name!r} ({n} times)" for name, n in list(counts.items())[:5])
    more = f" and {len(counts) - 5} more" if len(counts) > 5 else ""
    raise DataError(
        f"{where}: {len(counts)} {what}s appear more than once: {shown}{more}. Allowed is one each; "
        "average or drop the repeats first."
    )


def positions_of(subset: Subset, ids: pd.Index, *, what: str, where: str) -> np.ndarray:
    """Places in `ids` of the subset asked for, in the order asked for.

    Parameters
    ----------
    subset : sequence of ids, slice of positions, or None
        None asks for everything.
    ids : pandas.Index of str
        The ids the file has; they must not repeat.
    what, where : str
        Kind of id and file, for the message.

    Returns
    -------
    (n,) int64

    Raises
    ------
    DataError
        `ids` repeats itself; an id asked for is not there or is asked for twice; nothing is left.
    """
    refuse_repeats(ids, what=what, where=where)
    if subset is None or isinstance(subset, slice):
        places = np.arange(len(ids))[slice(None) if subset is None else subset]
    else:
        if isinstance(subset, str):
            subset = [subset]
        wanted = identifiers(subset, what=what, where="the subset asked for")
        refuse_repeats(wanted, what=what, where="the subset asked for")
        places = ids.get_indexer(wanted)
        absent = wanted[places < 0]
        if len(absent):
            close = get_close_matches(absent[0], ids[:20_000], n=1)
            hint = (
                f"the nearest to {absent[0]!r} is {close[0]!r}" if close else f"it has ids such as {ids[0]!r}"
            )
            raise DataError(
                f"{where}: {len(absent)} of {len(wanted)} {what}s asked for are not in the file: "
                f"{listed(absent)}. The file has {len(ids)}; {hint}. Ask for ids that read_metadata() lists."
            )
    if not len(places):
        raise DataError(
            f"{where}: the subset asked for holds no {what}; the file has {len(ids)}. Ask for at least one."
        )
    return places.astype(np.int64)
