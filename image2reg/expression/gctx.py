"""GCTX (HDF5): rows and columns read a bounded block at a time; written through cmapPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd

from image2reg.errors import DataError
from image2reg.expression.cmappy import MISSING, private_copy, typed
from image2reg.expression.labels import identifiers, positions_of
from image2reg.expression.table import as_float32

if TYPE_CHECKING:
    from pathlib import Path

    from image2reg.expression.labels import Subset

__all__ = ["BLOCK_BYTES", "read_hdf5", "spans", "write_hdf5"]

BLOCK_BYTES = 8 * 2**20
"""Largest piece of the matrix held beside the result while reading, in bytes."""

_MATRIX = "/0/DATA/0/matrix"
_METADATA = {"row": "/0/META/ROW", "column": "/0/META/COL"}
_PAGE_ITEMS = 1024  # genes apart that are cheaper to read through than to skip (one 4 KiB page of float32)


def _node(file: h5py.File, name: str, path: Path, kind: type[h5py.Group] | type[h5py.Dataset]) -> Any:
    node: Any = file.get(name)
    if not isinstance(node, kind):
        raise DataError(
            f"{path}: no {kind.__name__.lower()} {name} inside the file. A GCTX file holds {_MATRIX} "
            f"(columns x rows) and 'id' in {_METADATA['row']} and {_METADATA['column']}; this one is damaged "
            "or another kind of HDF5."
        )
    outside = isinstance(node, h5py.Dataset) and (node.external or node.is_virtual)
    if outside or node.file.filename != file.filename:
        raise DataError(f"{path}: {name} lies in another file; allowed is one file. Export it again.")
    return node


def _field(dataset: h5py.Dataset, path: Path) -> np.ndarray:
    """One metadata field as stored: str, integer, float or bool (n,)."""
    if dataset.ndim == 1 and dataset.dtype.kind == "S":
        return np.char.decode(dataset[...], "utf-8")
    if dataset.ndim == 1 and h5py.check_string_dtype(dataset.dtype):
        return dataset.asstr("utf-8")[...]
    if dataset.ndim == 1 and dataset.dtype.kind in "iufb":
        return dataset[...]
    raise DataError(
        f"{path}: metadata field {dataset.name} has shape {dataset.shape} and type {dataset.dtype}; allowed "
        "are one-dimensional text and numbers. Export the table again."
    )


def _typed_field(stored: np.ndarray) -> pd.Series:
    """Numbers stored as numbers stay numbers, with -666 as NaN; text becomes what GCT text would become."""
    if stored.dtype.kind in "iu":
        return pd.Series(stored.astype(np.int64)).mask(stored == int(MISSING))
    if stored.dtype.kind == "f":
        # By way of text, so that a float32 0.1 is the 0.1 it would be in a GCT file.
        numbers = stored.astype(np.float64) if stored.itemsize == 8 else stored.astype(str).astype(np.float64)
        return pd.Series(numbers).mask(numbers == float(MISSING))
    return typed(pd.Series(stored.astype(str), dtype=object))


def _ids(file: h5py.File, axis: str, path: Path) -> pd.Index:
    dataset = _node(file, f"{_METADATA[axis]}/id", path, h5py.Dataset)
    return identifiers(_field(dataset, path), what=f"{axis} id", where=str(path))


def _metadata(file: h5py.File, axis: str, ids: pd.Index, places: np.ndarray, path: Path) -> pd.DataFrame:
    """Metadata of the ids at `places`; one whole field at a time is held, and its type is that of the whole."""
    fields = {}
    for name in _node(file, _METADATA[axis], path, h5py.Group):
        if name == "id":
            continue
        stored = _field(_node(file, f"{_METADATA[axis]}/{name}", path, h5py.Dataset), path)
        if len(stored) != len(ids):
            raise DataError(
                f"{path}: {axis} metadata field {name!r} has {len(stored)} entries for {len(ids)} {axis}s. The "
                "file is damaged; export it again."
            )
        fields[name] = _typed_field(stored).iloc[places].to_numpy()
    return pd.DataFrame(fields, index=ids[places].rename("rid" if axis == "row" else "cid"))


def spans(places: np.ndarray, band: int, longest: int) -> list[tuple[int, int]]:
    """Intervals [start, stop) that hold all `places`, cut along bands that are stored together.

    Parameters
    ----------
    places : (n,) integer, ascending
        Positions wanted along one axis.
    band : int
        Positions stored together (chunk length). An interval bridges no band without a wanted position.
    longest : int
        Positions an interval may hold.
    """
    found: list[list[int]] = []
    bands_at_once = max(1, longest // band)
    first = last = 0
    for place in places.tolist():
        here = place // band
        if found and here <= last + 1 and here - first < bands_at_once and place - found[-1][0] < longest:
            found[-1][1] = place + 1
        else:
            found.append([place, place + 1])
            first = here
        last = here
    return [(start, stop) for start, stop in found]


def _values(matrix: h5py.Dataset, rows: np.ndarray, columns: np.ndarray, path: Path) -> np.ndarray:
    """(n_rows, n_columns) float32; beside it never more than a few blocks of `BLOCK_BYTES` are held."""
    by_column = np.empty((len(columns), len(rows)), np.float32)  # the order of the file: columns x rows
    column_order, row_order = np.argsort(columns), np.argsort(rows)
    columns, rows = columns[column_order], rows[row_order]
    column_band, row_band = matrix.chunks or (1, _PAGE_ITEMS)
    for row_start, row_stop in spans(rows, row_band, BLOCK_BYTES // matrix.dtype.itemsize):
        r = slice(*np.searchsorted(rows, [row_start, row_stop]))
        longest = max(1, BLOCK_BYTES // ((row_stop - row_start) * matrix.dtype.itemsize))
        for column_start, column_stop in spans(columns, column_band, longest):
            c = slice(*np.searchsorted(columns, [column_start, column_stop]))
            block = matrix[column_start:column_stop, row_start:row_stop]
            picked = as_float32(
                block[np.ix_(columns[c] - column_start, rows[r] - row_start)], where=str(path)
            )
            picked[picked == float(MISSING)] = np.nan
            by_column[np.ix_(column_order[c], row_order[r])] = picked
    return by_column.T


def read_hdf5(
    path: Path, rows: Subset = None, columns: Subset = None, *, with_values: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Values, row metadata and column metadata of a GCTX file, whole or in part.

    cmapPy's reader selects rows of *all* columns before it selects columns, which exhausts memory on large
    files (cmap/cmapPy issue 63), stops at text beyond ASCII and reads some decimals of metadata one digit off.
    So h5py is used directly: both selections are applied to blocks of at most `BLOCK_BYTES`, and the memory is
    that of the result, the metadata and a few blocks, whatever the size of the file.

    Returns
    -------
    values : DataFrame (rows, columns) float32; no columns when not `with_values`
    row_metadata, column_metadata : DataFrame
    """
    with h5py.File(path, "r") as file:
        matrix = _node(file, _MATRIX, path, h5py.Dataset)
        row_ids, column_ids = _ids(file, "row", path), _ids(file, "column", path)
        expected = (len(column_ids), len(row_ids))
        if matrix.shape != expected or matrix.dtype.kind not in "iuf":
            turned = matrix.shape == expected[::-1]
            raise DataError(
                f"{path}: the matrix has shape {matrix.shape} and type {matrix.dtype}; the ids ask for "
                f"{expected} (columns x rows) numbers. "
                f"{'It is transposed' if turned else 'The file is damaged'}; export it again."
            )
        row_places = positions_of(rows, row_ids, what="row id", where=str(path))
        column_places = positions_of(columns, column_ids, what="column id", where=str(path))
        row_metadata = _metadata(file, "row", row_ids, row_places, path)
        column_metadata = _metadata(file, "column", column_ids, column_places, path)
        if not with_values:
            return pd.DataFrame(index=row_metadata.index), row_metadata, column_metadata
        values = _values(matrix, row_places, column_places, path)
    frame = pd.DataFrame(values, index=row_metadata.index, columns=column_metadata.index, copy=False)
    return frame, row_metadata, column_metadata


def write_hdf5(
    values: pd.DataFrame,
    row_metadata: pd.DataFrame,
    column_metadata: pd.DataFrame,
    path: Path,
    *,
    source: str,
) -> None:
    """Write GCTX 1.0 through cmapPy; metadata is int64, float64 or UTF-8 bytes without gaps."""
    from cmapPy.pandasGEXpress.GCToo import GCToo

    table = GCToo(values, row_metadata, column_metadata, src=source)
    private_copy("write_gctx").write(table, str(path), convert_back_to_neg_666=False)
