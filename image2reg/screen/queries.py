"""Choose rows by a query such as ``Metadata_Perturbation == "DMSO" and Metadata_Dose_uM < 3``: a small parser, no eval.

    query      = and_part { "or" and_part }
    and_part   = item { "and" item }
    item       = "not" item | "(" query ")" | COLUMN operator value | COLUMN ["not"] "in" "[" value { "," value } "]"
    operator   = == != < <= > >=
    value      = "text" | 'text' | number

Columns may be named without ``Metadata_``. Metadata are text: ``==`` and ``in`` compare text, or numbers where both
sides are numbers; ``<`` needs numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["column_called", "select_rows"]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])|(?P<name>[^\W\d]\w*)|(?P<text>"[^"]*"|'[^']*')"""
    r"""|(?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,))"""
)
_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
_MAX_LENGTH, _MAX_DEPTH = 2000, 50
_EXAMPLE = "Write for example 'Metadata_Perturbation == \"DMSO\"'."

Mask = NDArray[np.bool_]


def select_rows(frame: pd.DataFrame, query: str) -> Mask:
    """Rows of a table that a query holds for.

    Parameters
    ----------
    frame : DataFrame
    query : str
        See the head of this module.

    Returns
    -------
    (rows,) bool

    Raises
    ------
    ConfigurationError
        The query cannot be read; the place is shown.
    DataError
        It names a column that the table lacks, or compares text by size.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"Metadata_Drug": ["DMSO", "A", "B"], "Metadata_Dose_uM": ["0", "1", "10"]})
    >>> select_rows(table, 'Metadata_Drug != "DMSO" and Metadata_Dose_uM < 3').tolist()
    [False, True, False]
    """
    return _Parser(frame, query).run()


def column_called(frame: pd.DataFrame, name: str) -> str:
    """Full name of a column of metadata that is called as a layout may write it, without ``Metadata_``."""
    full = f"Metadata_{name}"
    return full if name not in frame and full in frame else name


class _Parser:
    def __init__(self, frame: pd.DataFrame, query: str) -> None:
        self.frame, self.query = frame, query
        if len(query) > _MAX_LENGTH:
            raise ConfigurationError(f"query of {len(query)} characters; allowed are {_MAX_LENGTH}.")
        self.tokens = list(self._tokens())
        self.position = self.depth = 0

    def _tokens(self) -> Any:
        start, text = 0, self.query.rstrip()
        while start < len(text):
            found = _TOKEN.match(text, start)
            if not found:
                raise self._wrong(f"{text[start:].strip()[:20]!r} cannot be read")
            kind = str(found.lastgroup)
            yield kind, found[kind]
            start = found.end()

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"query {self.query!r}: {what}. {_EXAMPLE}")

    def run(self) -> Mask:
        mask = self._any()
        if self.position < len(self.tokens):
            raise self._wrong(f"{self._peek()!r} is not expected there")
        return mask

    def _peek(self) -> str:
        return self.tokens[self.position][1] if self.position < len(self.tokens) else ""

    def _take(self, *kinds: str) -> tuple[str, str]:
        if self.position >= len(self.tokens) or self.tokens[self.position][0] not in kinds:
            seen = repr(self._peek()) if self._peek() else "it ends"
            raise self._wrong(f"a {' or '.join(kinds)} is expected where {seen}")
        self.position += 1
        return self.tokens[self.position - 1]

    def _skip(self, word: str) -> bool:
        if self._peek() == word:
            self.position += 1
            return True
        return False

    def _any(self) -> Mask:
        mask = self._all()
        while self._skip("or"):
            mask = mask | self._all()
        return mask

    def _all(self) -> Mask:
        mask = self._item()
        while self._skip("and"):
            mask = mask & self._item()
        return mask

    def _item(self) -> Mask:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._wrong(f"nested more than {_MAX_DEPTH} levels deep")
        if self._skip("not"):
            mask = ~self._item()
        elif self._skip("("):
            mask = self._any()
            if not self._skip(")"):
                raise self._wrong("a ')' is missing")
        else:
            mask = self._comparison()
        self.depth -= 1
        return mask

    def _comparison(self) -> Mask:
        said = self._take("name")[1]
        name = column_called(self.frame, said)
        if name not in self.frame:
            blank = [
                str(column)
                for column in self.frame
                if str(column).startswith((f"{name} ", f"Metadata_{name} "))
            ]
            hint = f" A query cannot name {blank[0]!r}: rename that column without blanks." if blank else ""
            raise DataError(
                f"query {self.query!r}: no column {name!r}; there are {list(self.frame.columns)[:20]}.{hint}"
            )
        column = self.frame[name].to_numpy()
        negated = self._skip("not")
        if self._skip("in"):
            if not self._skip("["):
                raise self._wrong("a '[' is expected after 'in'")
            mask = _equal(column, self._take("text", "number"))
            while self._skip(","):
                mask = mask | _equal(column, self._take("text", "number"))
            if not self._skip("]"):
                raise self._wrong("a ']' is missing")
            return ~mask if negated else mask
        sign = self._take("sign")[1]
        value = self._take("text", "number")
        if sign in ("==", "!=") and not negated:
            return _equal(column, value) ^ (sign == "!=")
        if sign in _COMPARE and value[0] == "number" and not negated:
            return np.asarray(_COMPARE[sign](self._numbers(name, column), float(value[1])))
        raise self._wrong(f"{name} {sign} {value[1]} is no comparison; {' '.join(_COMPARE)} need a number")

    def _numbers(self, name: str, column: NDArray[Any]) -> NDArray[np.float64]:
        """Column as numbers; NaN, which no comparison holds for, where a cell is empty."""
        numbers = _as_numbers(column)
        empty = np.array([cell == "" or cell is None for cell in column])
        wrong = np.isnan(numbers) & ~empty & (column.dtype.kind not in "fiu")
        if wrong.any():
            raise DataError(
                f"query {self.query!r}: column {name!r} holds {column[np.argmax(wrong)]!r}, which is no number. "
                "Compare it with == or !=."
            )
        return numbers


def _as_numbers(column: NDArray[Any]) -> NDArray[np.float64]:
    import pandas as pd

    return pd.to_numeric(pd.Series(column), errors="coerce").to_numpy(np.float64)


def _equal(column: NDArray[Any], value: tuple[str, str]) -> Mask:
    kind, text = value
    if kind == "number":
        return _as_numbers(column) == float(text)
    return np.array([str(cell) == text[1:-1] for cell in column], bool)
