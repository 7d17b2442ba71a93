"""Read the results of a plan: rows of chosen units, or a table as one file, the same whatever ran the units."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.atomic import atomic_file
from image2reg.errors import DataError
from image2reg.provenance import file_sha256

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from image2reg.engine.journal import Failure, Journal

__all__ = ["FIRST", "Marker", "Results"]

_ROW_GROUP = 65_536
_OPEN_PARTS = 4
FIRST = b"first_units"  # in a part: which of its units is the first that has each column
_CHANGED = (
    "{path}: differs from what was written (sha256). Remove it and run again: its units are then done anew."
)


@dataclass(frozen=True)
class Marker:
    """A marker as read: its name, its units, and where their rows begin and end in each part."""

    name: str
    units: NDArray[np.int64]
    bounds: dict[str, NDArray[np.int64]]  # by table: (units + 1,)


@dataclass(frozen=True)
class Results:
    """What is done and what failed, as of one look at the journal.

    Attributes
    ----------
    failed : dict of position to Failure
        Units that failed and have not succeeded since.
    attempt : int
        Highest number of a start of the job seen in the markers.
    """

    journal: Journal
    owner: NDArray[np.int32] = field(repr=False)  # by unit: its marker, -1 where it has none
    index: NDArray[np.int32] = field(repr=False)  # by unit: which of the marker's it is
    markers: list[Marker] = field(repr=False)
    failed: dict[int, Failure]
    parts: dict[tuple[str, str], str]
    attempt: int
    schemas: dict[str, pa.Schema] = field(default_factory=dict, repr=False)  # by table, of those read so far

    def missing(self, positions: Iterable[int]) -> list[int]:
        """Those of `positions` without a result; failed ones among them."""
        return [position for position in positions if self.owner[position] < 0]

    def read(self, table: str, positions: Iterable[int], *, said: pa.Table | None = None) -> pd.DataFrame:
        """Rows of a table for some units, in the order of `positions`.

        Parameters
        ----------
        table : str
        positions : iterable of int
        said : pyarrow.Table, optional
            What is known of the plan's units beside their results, one row per unit, dictionaries of text: put before
            the columns of the table, which stand where both have one of that name.

        Raises
        ------
        DataError
            No unit gave this table, or a part is damaged.
        """
        import pyarrow as pa

        schema = self._schema(table)
        start = _with_said(schema.empty_table(), said, np.empty(0, np.int64))
        frame: pd.DataFrame = pa.concat_tables(
            [start, *self._pieces(table, schema, positions, said)]
        ).to_pandas()
        return frame

    def write(
        self,
        table: str,
        path: Path,
        positions: Iterable[int],
        *,
        said: pa.Table | None = None,
        overwrite: bool = False,
    ) -> int:
        """Stream a table into one Parquet file whose bytes do not depend on how the units were run.

        Arguments as for `read`.

        Returns
        -------
        int
            Number of rows.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema, n_rows, n_held, held = self._schema(table), 0, 0, []
        start = _with_said(schema.empty_table(), said, np.empty(0, np.int64))
        with (
            atomic_file(path, overwrite=overwrite) as partial,
            pq.ParquetWriter(partial, start.schema, compression="zstd") as writer,
        ):
            for piece in self._pieces(table, schema, positions, said):
                held.append(piece)
                n_rows, n_held = n_rows + len(piece), n_held + len(piece)
                while n_held >= _ROW_GROUP:
                    whole = pa.concat_tables(held)
                    writer.write_table(whole.slice(0, _ROW_GROUP).combine_chunks(), _ROW_GROUP)
                    held, n_held = [whole.slice(_ROW_GROUP)], n_held - _ROW_GROUP
            if held:
                writer.write_table(pa.concat_tables(held).combine_chunks(), _ROW_GROUP)
        return n_rows

    def _schema(self, table: str) -> pa.Schema:
        """Every column of a table; parts are opened for it once, however often the table is read."""
        if table not in self.schemas:
            self.schemas[table] = self._read_schema(table)
        return self.schemas[table]

    def _read_schema(self, table: str) -> pa.Schema:
        import pyarrow as pa
        import pyarrow.parquet as pq

        markers = [marker for marker in self.markers if table in marker.bounds]
        paths = [self.journal.part(table, marker.name) for marker in markers]
        try:
            schemas = [pq.read_schema(path) for path in paths]
        except (OSError, pa.ArrowException) as error:
            changed = next(path for path in paths if not self._is_intact(table, path))
            raise DataError(_CHANGED.format(path=changed)) from error
        if not schemas:
            raise DataError(f"{self.journal.directory}: no unit has given a table {table!r} yet.")
        # Columns in the order in which the plan's units would bring them: which units share a part does not matter.
        places: dict[str, tuple[int, int]] = {}
        for marker, schema in zip(markers, schemas, strict=True):
            units = marker.units[json.loads(schema.metadata[FIRST])].tolist()
            for index, (name, unit) in enumerate(zip(schema.names, units, strict=True)):
                places[name] = min(places.get(name, (unit, index)), (unit, index))
        whole = pa.unify_schemas([s.remove_metadata() for s in schemas], promote_options="permissive")
        return pa.schema([whole.field(name) for name in sorted(places, key=places.__getitem__)])

    def _pieces(
        self, table: str, schema: pa.Schema, positions: Iterable[int], said: pa.Table | None
    ) -> Iterator[pa.Table]:
        open_parts: OrderedDict[str, pa.Table] = OrderedDict()
        for units in self._runs(np.fromiter(positions, np.int64)):
            marker, first = self.markers[self.owner[units[0]]], self.index[units[0]]
            if table not in marker.bounds:
                continue
            bounds = marker.bounds[table][first : first + len(units) + 1]
            begin, end = bounds[[0, -1]].tolist()
            if begin == end:
                continue
            if marker.name not in open_parts:
                open_parts[marker.name] = self._load(table, marker.name, schema)
                if len(open_parts) > _OPEN_PARTS:
                    open_parts.popitem(last=False)
            open_parts.move_to_end(marker.name)
            piece = open_parts[marker.name].slice(begin, end - begin)
            yield _with_said(piece, said, np.repeat(units, np.diff(bounds)))

    def _runs(self, positions: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Those of the units that have a marker, in groups that follow each other in it."""
        owner, index = self.owner[positions], self.index[positions]
        cuts = np.flatnonzero((np.diff(owner) != 0) | (np.diff(index) != 1)) + 1
        return (run for run in np.split(positions, cuts) if len(run) and self.owner[run[0]] >= 0)

    def _load(self, table: str, marker: str, schema: pa.Schema) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.journal.part(table, marker)
        if not self._is_intact(table, path):
            raise DataError(_CHANGED.format(path=path))
        found = pq.read_table(path)
        present = set(found.column_names)
        lacking = [item for item in schema if item.name not in present]
        for item in lacking:
            found = found.append_column(item.name, pa.nulls(len(found), item.type))
        return found.select(schema.names).cast(schema)

    def _is_intact(self, table: str, path: Path) -> bool:
        return file_sha256(path) == self.parts[table, path.stem]


def _with_said(piece: pa.Table, said: pa.Table | None, units: NDArray[np.int64]) -> pa.Table:
    """Put what is said of the unit of each row before the row."""
    import pyarrow as pa

    if said is None:
        return piece
    own = set(piece.column_names)
    rows = said.select([name for name in said.column_names if name not in own]).take(units)
    columns = {name: rows[name].cast(pa.string()) for name in rows.column_names}
    return pa.table(columns | dict(zip(piece.column_names, piece.columns, strict=True)))
