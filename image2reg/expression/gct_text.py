"""GCT text: read line by line, so that a subset costs the memory of the subset; written through cmapPy."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from image2reg.errors import DataError
from image2reg.expression.cmappy import MISSING, MISSING_MARKS, private_copy
from image2reg.expression.labels import identifiers, positions_of, refuse_repeats
from image2reg.expression.table import as_float32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TextIO

    from image2reg.expression.labels import Subset

__all__ = ["read_text", "write_text"]

_LONGEST_HEADER = 4096


@dataclass(frozen=True)
class _Layout:
    """The four numbers of a GCT file's second line."""

    n_rows: int
    n_columns: int
    n_row_fields: int
    n_column_fields: int

    @property
    def n_fields(self) -> int:
        """Tab-separated fields of every further line."""
        return 1 + self.n_row_fields + self.n_columns


def _damaged(path: Path, seen: str) -> DataError:
    return DataError(
        f"{path}: {seen} that line 2 announces. The file is cut short or was edited; copy or export it again."
    )


def _layout(handle: TextIO, path: Path) -> _Layout:
    version = handle.readline(_LONGEST_HEADER).strip()
    line = handle.readline(_LONGEST_HEADER).strip()
    expected = {"#1.3": 4, "#1.2": 2}.get(version)
    counts = line.split("\t")
    if len(counts) != expected or not all(text.strip().isdecimal() for text in counts):
        raise DataError(
            f"{path}: line 1 is {version[:40]!r} and line 2 is {line[:80]!r}; allowed are '#1.3' with "
            "four numbers (rows, columns, row fields, column fields) or '#1.2' with two (rows, columns), "
            "separated by tabs. Export the table again."
        )
    numbers = [int(text) for text in counts]
    layout = _Layout(*numbers) if expected == 4 else _Layout(numbers[0], numbers[1], 1, 0)
    if not layout.n_rows or not layout.n_columns:
        raise DataError(
            f"{path}: line 2 announces {layout.n_rows} rows and {layout.n_columns} columns; allowed is at "
            "least one of each. Export the table again."
        )
    return layout


def _lines(handle: TextIO, path: Path, layout: _Layout) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every line from the third on, each with the number of fields announced."""
    lines = csv.reader(handle, delimiter="\t")
    for fields in lines:
        if not fields:
            continue
        number = lines.line_num + 2
        if len(fields) != layout.n_fields:
            parts = f"1 id, {layout.n_row_fields} row fields, {layout.n_columns} columns"
            raise _damaged(path, f"line {number} has {len(fields)} fields of the {layout.n_fields} ({parts})")
        yield number, fields


def _numbers(texts: list[str], columns: list[str], *, where: str) -> np.ndarray:
    """One line of values as float32, with -666 and the other marks as NaN."""
    try:
        if "_" in "".join(texts):  # Python reads 1_0 as ten; a table that says so is damaged.
            raise ValueError
        values = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        values = np.full(len(texts), np.nan)
        for place, text in enumerate(texts):
            if text in MISSING_MARKS:
                continue
            try:
                values[place] = float(text.replace("_", "?"))
            except ValueError as error:
                raise DataError(
                    f"{where}, column {columns[place]!r}: {text[:40]!r} is not a number. Allowed are "
                    "numbers, and -666, NA or NaN for a missing one. Correct the entry or export it again."
                ) from error
    values[values == float(MISSING)] = np.nan
    return as_float32(values, where=where)


def _is_wanted(rows: Subset, layout: _Layout) -> Callable[[int, str], bool]:
    """Whether to keep a line, by its place among the rows and its id."""
    if rows is None:
        return lambda _place, _row_id: True
    if isinstance(rows, slice):
        places = range(layout.n_rows)[rows]
        return lambda place, _row_id: place in places
    wanted = set(identifiers(rows, what="row id", where="the subset asked for"))
    return lambda _place, row_id: row_id in wanted


def read_text(
    path: Path, rows: Subset = None, columns: Subset = None, *, with_values: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Values, row metadata and column metadata of a GCT 1.2 or 1.3 file, whole or in part.

    The file is read once, a line at a time: values that are not asked for are never kept. cmapPy's own
    assemblers turn the metadata lines into frames.

    Returns
    -------
    values : DataFrame (rows, columns) float32; no columns when not `with_values`
    row_metadata, column_metadata : DataFrame
    """
    where = str(path)
    rows = [rows] if isinstance(rows, str) else rows
    with path.open(encoding="utf-8-sig", newline="") as handle:
        layout = _layout(handle, path)
        first = 1 + layout.n_row_fields
        lines = _lines(handle, path, layout)
        heads = [fields for _, fields in islice(lines, 1 + layout.n_column_fields)]
        if len(heads) < 1 + layout.n_column_fields:
            raise _damaged(path, f"{len(heads)} of the {1 + layout.n_column_fields} header lines")
        column_ids = identifiers(heads[0][first:], what="column id", where=where)
        column_places = positions_of(columns, column_ids, what="column id", where=where)
        kept_columns = column_ids[column_places].tolist()
        kept_fields = (first + column_places).tolist()
        is_wanted = _is_wanted(rows, layout)
        row_ids: list[str] = []
        corner: list[list[str]] = []
        matrix: list[np.ndarray] = []
        for number, fields in lines:
            row_ids.append(fields[0])
            corner.append(fields[:first])
            if with_values and is_wanted(len(row_ids) - 1, fields[0]):
                here = f"{path}, line {number}, row {fields[0]!r}"
                matrix.append(_numbers([fields[i] for i in kept_fields], kept_columns, where=here))
    if len(row_ids) != layout.n_rows:
        raise _damaged(path, f"{len(row_ids)} rows of the {layout.n_rows}")
    row_places = positions_of(
        rows, identifiers(row_ids, what="row id", where=where), what="row id", where=where
    )
    # Types are those of whole fields, so that a part has the types of the whole.
    row_metadata, column_metadata = _metadata(
        [heads[0][:first], *corner], [[fields[0], *fields[first:]] for fields in heads], where=where
    )
    row_metadata, column_metadata = row_metadata.iloc[row_places], column_metadata.iloc[column_places]
    if not with_values:
        return pd.DataFrame(index=row_metadata.index), row_metadata, column_metadata
    # Lines were kept in the order of the file; give them in the order asked for.
    values = np.stack([matrix[i] for i in np.searchsorted(np.sort(row_places), row_places)])
    return pd.DataFrame(values, row_metadata.index, column_metadata.index), row_metadata, column_metadata


def _metadata(
    row_lines: list[list[str]], column_lines: list[list[str]], *, where: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Row and column metadata by cmapPy's own assemblers, each given only its part of the file."""
    for axis, names in (("row", row_lines[0][1:]), ("column", [line[0] for line in column_lines[1:]])):
        refuse_repeats(pd.Index(names, dtype=object), what=f"{axis} metadata field", where=where)
    parser = private_copy("parse_gct")
    left, top = pd.DataFrame(row_lines, dtype=object), pd.DataFrame(column_lines, dtype=object)
    row_metadata = parser.assemble_row_metadata(left, 0, len(left) - 1, left.shape[1] - 1)
    return row_metadata, parser.assemble_col_metadata(top, len(top) - 1, 0, top.shape[1] - 1)


def write_text(values: pd.DataFrame, row_texts: pd.DataFrame, column_texts: pd.DataFrame, path: Path) -> None:
    """Write GCT 1.3 through cmapPy, every float32 with the digits that bring it back exactly.

    Parameters
    ----------
    values : DataFrame (rows, columns) float32
    row_texts, column_texts : DataFrame of str
        Metadata as text, missing entries already -666.
    """
    writer = private_copy("write_gct")
    # cmapPy's own write() would use the locale's encoding, rename the file and round to four decimals.
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        dims = [str(n) for n in (*values.shape, row_texts.shape[1], column_texts.shape[1])]
        writer.write_version_and_dims(writer.VERSION, dims, handle)
        writer.write_top_half(handle, row_texts, column_texts, MISSING, MISSING)
        writer.write_bottom_half(handle, row_texts, values, "NaN", None, MISSING)
