"""Reading and writing expression tables: GCT text and GCTX, told apart by what is inside the file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from image2reg.atomic import atomic_file
from image2reg.errors import ConfigurationError, DataError, ProjectError, ResourceError
from image2reg.expression.cmappy import MISSING
from image2reg.expression.labels import listed
from image2reg.expression.table import ExpressionTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from image2reg.expression.labels import Subset

    Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]

__all__ = ["file_kind", "read", "read_metadata", "write"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_UNWRITABLE = "[\t\n\r\0\ud800-\udfff]"  # the last are halves of characters, which UTF-8 has no bytes for


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Let a library's exception leave the reader as ours, with path and reason."""
    try:
        yield
    except ProjectError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Check the path.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(
            f"{path}: may not be read as a file ({error}). Check the path and its permissions."
        ) from error
    except MemoryError as error:
        raise ResourceError(
            f"{path}: memory ran out while reading the expression table. Ask for fewer rows or columns."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.object[error.start]:#04x} is not UTF-8 text. Save the file as UTF-8 "
            "(iconv -f latin1 -t utf-8), or copy it again if it is damaged."
        ) from error
    except Exception as error:
        raise DataError(
            f"{path}: the expression table could not be read ({type(error).__name__}: {error}). The file "
            "is damaged or cut short; copy or export it again."
        ) from error


def file_kind(path: Path | str) -> str:
    """``"gct"`` or ``"gctx"``, by content: files named ``.gctx`` that hold GCT text are in circulation.

    Raises
    ------
    DataError
        The file is neither, or is not there.
    """
    path = Path(path)
    with _reading(path), path.open("rb") as handle:
        start = handle.read(512)
    if start.startswith(_HDF5):
        return "gctx"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"#1.3", b"#1.2")):
        return "gct"
    if start.startswith(b"\x1f\x8b"):
        raise DataError(
            f"{path}: compressed with gzip; allowed is plain GCT or GCTX. Run gunzip on it first."
        )
    raise DataError(
        f"{path}: neither GCT (starts with '#1.3' or '#1.2') nor GCTX (HDF5); it starts with {start[:16]!r}. "
        "Check the path, or read a CSV or Parquet table with its own reader."
    )


def _reader(path: Path) -> Callable[..., Frames]:
    if file_kind(path) == "gct":
        from image2reg.expression.gct_text import read_text

        return read_text
    from image2reg.expression.gctx import read_hdf5

    return read_hdf5


def read(path: Path | str, *, rows: Subset = None, columns: Subset = None) -> ExpressionTable:
    """Read a GCT 1.3 (or 1.2) or GCTX file, whole or only the rows and columns asked for.

    Parameters
    ----------
    path : Path or str
        The content decides the format, not the suffix.
    rows, columns : sequence of ids, slice of positions, or None
        The part to read, in the order given; None reads all. Rows are genes or probes, columns samples.
        A part costs the memory of the part: GCTX is read in blocks of 8 MiB, GCT line by line.

    Returns
    -------
    ExpressionTable
        Values float32 (rows, columns); -666, NA and NaN are NaN. Ids are text. A metadata field is int64,
        float64, or text where a number would lose something of it (``007``).

    Raises
    ------
    DataError
        The file is missing, damaged or another format; an id repeats or is empty (named); an id asked for is
        not there (named, with the nearest).
    ResourceError
        The part asked for does not fit in memory.

    Notes
    -----
    Formats: clue.io/connectopedia/gct_format and gctx_format. Metadata passes through cmapPy 4.0.1
    (Enache et al. 2019, Bioinformatics 35:1427).

    Examples
    --------
    >>> signatures = read("level5.gctx", rows=["1017", "1019"], columns=slice(0, 1000))  # doctest: +SKIP
    """
    path = Path(path)
    reader = _reader(path)
    with _reading(path):
        values, row_metadata, column_metadata = reader(path, rows, columns)
        return ExpressionTable(values, row_metadata, column_metadata, source=str(path))


def read_metadata(path: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Row and column metadata of a GCT or GCTX file without its values, to choose what to `read`.

    Returns
    -------
    row_metadata, column_metadata : DataFrame
        Indexed by id (text), one line per row and per column of the table.

    Raises
    ------
    DataError, ResourceError
        As `read`.
    """
    path = Path(path)
    reader = _reader(path)
    with _reading(path):
        _, row_metadata, column_metadata = reader(path, with_values=False)
        return row_metadata.rename_axis(columns=None), column_metadata.rename_axis(columns=None)


def _as_text(metadata: pd.DataFrame) -> pd.DataFrame:
    """Every entry as the text that `read` turns back into it; missing entries as -666."""
    return metadata.astype(object).map(lambda entry: MISSING if pd.isna(entry) else str(entry))


def _as_hdf5(metadata: pd.DataFrame, texts: pd.DataFrame) -> pd.DataFrame:
    """Numbers without gaps as they are, everything else as UTF-8 bytes."""
    fields = {}
    for name in metadata.columns:
        numeric = metadata[name].dtype.kind in "iuf" and not metadata[name].isna().any()
        fields[name] = (
            metadata[name].to_numpy() if numeric else texts[name].map(lambda text: text.encode("utf-8"))
        )
    return pd.DataFrame(fields, index=metadata.index)


def _refuse_unwritable(table: ExpressionTable, texts: dict[str, pd.DataFrame], path: Path) -> None:
    if (table.values.to_numpy() == float(MISSING)).any():
        raise DataError(
            f"{path}: the table holds the value {MISSING}, which GCT and GCTX use for a missing entry and "
            "which would be read back as one. Replace it by NaN, or shift the values."
        )
    for axis, frame in texts.items():
        wrong = [name for name in frame.columns if name in ("", "id", "ind", ".", "..") or "/" in name]
        if wrong:
            raise DataError(
                f"{path}: {axis} metadata fields {listed(wrong)} cannot be stored: 'id' and 'ind' are taken, "
                "and '/' separates groups in GCTX. Rename them."
            )
        for what, entries in [("ids", frame.index), ("field names", frame.columns), *frame.items()]:
            broken = pd.Series(entries, dtype=object).astype(str)
            broken = broken[broken.str.contains(_UNWRITABLE, regex=True)]
            if len(broken):
                raise DataError(
                    f"{path}: {axis} metadata {what!r}: {len(broken)} entries hold a tab, a line break, a "
                    f"NUL or half a character ({listed(broken)}), which the file cannot keep. Replace them."
                )


def write(table: ExpressionTable, path: Path | str, *, overwrite: bool = False) -> None:
    """Write GCT 1.3 or GCTX, by suffix; read back, the values are the same to the last bit.

    Metadata comes back as well, missing entries as NaN and text that is a number as a number. GCTX keeps no
    order of the metadata fields: they come back sorted by name.

    Parameters
    ----------
    table : ExpressionTable
        At least one row and one column.
    path : Path or str
        ``.gct`` or ``.gctx``. The file appears under this name only once it is complete.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    ConfigurationError
        Another suffix.
    DataError
        The file exists, or the table holds what the format cannot: nothing at all, the value -666, tabs or
        line breaks in text, a metadata field called ``id``.
    ResourceError
        The file system refused.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".gct", ".gctx"):
        raise ConfigurationError(
            f"{path}: the suffix is {path.suffix!r}; allowed are .gct (text) and .gctx (HDF5)."
        )
    if not all(table.shape):
        raise DataError(
            f"{path}: the table has {table.shape[0]} rows and {table.shape[1]} columns; allowed is at "
            "least one of each."
        )
    texts = {"row": _as_text(table.row_metadata), "column": _as_text(table.column_metadata)}
    _refuse_unwritable(table, texts, path)
    with atomic_file(path, overwrite=overwrite) as partial:
        if suffix == ".gct":
            from image2reg.expression.gct_text import write_text

            write_text(table.values, texts["row"], texts["column"], partial)
        else:
            from image2reg.expression.gctx import write_hdf5

            rows = _as_hdf5(table.row_metadata, texts["row"])
            columns = _as_hdf5(table.column_metadata, texts["column"])
            write_hdf5(table.values, rows, columns, partial, source=Path(table.source or path).name)
