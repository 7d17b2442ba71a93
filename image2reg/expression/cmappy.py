"""cmapPy 4.0.1 made to run on today's numpy and pandas, without touching numpy, pandas or cmapPy itself.

cmapPy uses names that left numpy 2 (``numpy.string_``) and an option that pandas deprecates
(``to_numeric(errors="ignore")``). Its reading and writing modules are executed a second time as private
copies, and only these copies see the outdated names. A program that imports cmapPy beside us gets the
original. The same place widens what cmapPy refuses or loses: text beyond ASCII (doses in ``µM``) and text
that merely looks like a number (plate ``007``).
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["MISSING", "MISSING_MARKS", "private_copy", "typed"]

MISSING = "-666"
"""How GCT and GCTX spell a missing metadata value."""

MISSING_MARKS = frozenset(
    f"{MISSING} {MISSING}.0 NaN -NaN nan -nan NA na N/A #N/A #N/A! #NA NULL None #VALUE!".split()
)
"""What is read as missing: -666 and the marks cmapPy's GCT reader knows, here for both formats."""

# Only text that numbers print as: no leading zero (plate 007), no 16 digits (a barcode that float64 would
# round), no bare exponent (clone 2E10).
_INTEGER = re.compile(r"0|-?[1-9]\d{0,14}")
_FLOAT = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]\d+)?|-?inf")
_FRACTION = re.compile(r"[.ef]")


def typed(texts: pd.Series, errors: str = "ignore") -> pd.Series:
    """Numbers where every entry is one that a program printed; the text where a number would lose part of it.

    Parameters
    ----------
    texts : Series of str
        One metadata field, as in the file.
    errors : str
        Ignored; there because this stands in for ``pandas.to_numeric(texts, errors="ignore")``.

    Returns
    -------
    Series
        int64, float64 (NaN is missing), or object (str, NaN is missing). Integers with a gap are float64.

    Examples
    --------
    >>> typed(pd.Series(["1", "-666", "3"])).tolist()
    [1.0, nan, 3.0]
    >>> typed(pd.Series(["007", "NA"])).tolist()
    ['007', nan]
    """
    del errors
    missing = texts.isin(MISSING_MARKS).to_numpy()
    present = texts.to_numpy(dtype=object)[~missing]
    if not missing.any() and all(_INTEGER.fullmatch(text) for text in present):
        return pd.Series([int(text) for text in present], index=texts.index, name=texts.name, dtype="int64")
    if all(
        _INTEGER.fullmatch(text) or (_FLOAT.fullmatch(text) and _FRACTION.search(text)) for text in present
    ):
        numbers = np.full(len(texts), np.nan)
        numbers[~missing] = [float(text) for text in present]
        return pd.Series(numbers, index=texts.index, name=texts.name)
    return texts.astype(object).mask(missing, np.nan)


def _utf8(text: Any) -> np.bytes_:
    return np.bytes_(str(text).encode("utf-8"))


class _ModuleView(ModuleType):
    """A module with a few names of its own; every other name is the original's."""

    def __init__(self, original: ModuleType, **names: Any) -> None:
        super().__init__(original.__name__)
        self._original = original
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@cache
def private_copy(module: str) -> ModuleType:
    """Our own copy of ``cmapPy.pandasGEXpress.<module>``, seeing numpy and pandas as it expects them.

    Parameters
    ----------
    module : str
        ``parse_gct``, ``write_gct`` or ``write_gctx``.
    """
    spec = importlib.util.find_spec(f"cmapPy.pandasGEXpress.{module}")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"cmapPy has no module {module!r}; install cmapPy==4.0.1")
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    views = {
        id(np): _ModuleView(np, string_=_utf8, unicode_=np.str_, bool=bool),
        id(pd): _ModuleView(pd, to_numeric=typed),
    }
    for name, value in list(vars(copy).items()):
        if id(value) in views:
            setattr(copy, name, views[id(value)])
    if module == "write_gctx":
        # It insists on its suffix, and our temporary names have another.
        copy.add_gctx_to_out_name = lambda name: name  # type: ignore[attr-defined]
    return copy
