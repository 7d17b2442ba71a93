"""CSV cells that a spreadsheet will not run: escaped when written, restored when read.

A cell that starts with ``=``, ``+``, ``-`` or ``@`` is a formula to Excel and LibreOffice, and a file
name or a compound name may start so. Such a cell gets an apostrophe in front, which spreadsheets take as
"this is text"; `read_csv` takes it off again, so a round trip changes nothing. Plain numbers (``-5``,
``+1e3``) are left alone.

Source: OWASP, CSV Injection (owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from image2reg.atomic import atomic_file
from image2reg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

__all__ = ["escape_cell", "read_csv", "refuse_separator", "restore_cell", "write_csv"]

# Full-width signs too: spreadsheets with East Asian input turn them into the plain ones.
_FORMULA = re.compile(r"'*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_CONCERNED = re.compile(r"['=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")


def escape_cell(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula.

    Examples
    --------
    >>> escape_cell("=HYPERLINK(1)"), escape_cell("-5.2"), escape_cell("A01")
    ("'=HYPERLINK(1)", '-5.2', 'A01')
    """
    return "'" + text if _FORMULA.match(text) and not _NUMBER.match(text) else text


def restore_cell(text: str) -> str:
    """Undo `escape_cell`.

    Examples
    --------
    >>> restore_cell(escape_cell("'=1"))
    "'=1"
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text, 1) else text


def write_csv(frame: pd.DataFrame, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a table as UTF-8 CSV, atomically, with formula cells escaped; column names too.

    Parameters
    ----------
    frame : DataFrame
        Its index is not written. NaN becomes an empty cell.

    Raises
    ------
    DataError
        `path` exists and `overwrite` is False.
    ResourceError
        The file system refused.
    """
    safe = frame.copy(deep=False)
    for name in frame.columns:
        if frame[name].dtype == object or str(frame[name].dtype) in ("string", "category"):
            safe[name] = _mapped(frame[name], escape_cell)
    safe.columns = [escape_cell(str(name)) for name in frame.columns]
    with atomic_file(path, overwrite=overwrite) as partial:
        safe.to_csv(partial, index=False, encoding="utf-8", lineterminator="\n")


def read_csv(path: Path | str) -> pd.DataFrame:
    """Read a CSV table as text, every cell a string ("" where empty), formula cells restored.

    A byte order mark, Windows line ends and values such as ``NA`` are taken as they are meant: as nothing, as
    line ends, and as text.

    Raises
    ------
    DataError
        Missing, empty, not UTF-8, holds NUL bytes, two columns of one name, or rows longer than the header.
    """
    import pandas as pd

    path = Path(path)
    try:
        data = path.read_bytes()
        header = next(csv.reader(io.StringIO(data[:65_536].decode("utf-8-sig", errors="ignore"))), [])
        if b"\0" in data:
            line = data[: data.index(b"\0")].count(b"\n") + 1
            raise DataError(
                f"{path}: line {line} holds a NUL byte; a table is plain text. Export it again as CSV."
            )
        if not header:
            raise DataError(f"{path}: the table is empty; needed is a header line with the column names.")
        refuse_separator(header, path)
        doubled = sorted({name for name in header if header.count(name) > 1})
        if doubled:
            raise DataError(f"{path}: columns {doubled} appear more than once. Rename or remove one of each.")
        frame = pd.read_csv(
            io.BytesIO(data), dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8-sig"
        )
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}. Save the table as 'CSV UTF-8'.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as CSV ({str(error).strip()}). Check the line it names."
        ) from error
    refuse_shifted(frame, path, len(header))
    frame = frame.fillna("")
    frame.columns = [restore_cell(name) for name in frame.columns]
    for name in frame.columns:
        frame[name] = _mapped(frame[name], restore_cell)
    return frame


def refuse_shifted(frame: pd.DataFrame, path: Path, n_columns: int) -> None:
    """Raise where rows have more cells than the header: pandas takes the first for an index and shifts the rest."""
    import pandas as pd

    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(
            f"{path}: rows have more cells than the {n_columns} columns of the header. Take away the separator at the "
            "end of the lines, or the row names that have no column name."
        )


def refuse_separator(header: Sequence[str], path: Path) -> None:
    """Raise `DataError` when the one column's name is a header with other separators than commas."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and mark in str(header[0]):
            raise DataError(
                f"{path}: its cells are separated by {name}; a table here has commas (and points in numbers). Save it "
                "as comma-separated CSV."
            )


def _mapped(column: pd.Series, change: Callable[[str], str]) -> pd.Series:
    """Apply a text change to each distinct cell once, so that a million rows stay fast."""
    codes, values = column.factorize()
    cells = np.array([*values, np.nan], dtype=object)  # the code of an empty cell is -1: the last
    concerned = [n for n, cell in enumerate(values) if isinstance(cell, str) and _CONCERNED.match(cell)]
    if not concerned:
        return column
    for number in concerned:
        cells[number] = change(cells[number])
    return type(column)(cells[codes], index=column.index, name=column.name, dtype=object)
