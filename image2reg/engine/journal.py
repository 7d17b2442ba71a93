"""Results of units on disk: Parquet parts and done markers, each appearing whole or not at all.

One marker stands for a handful of units (those a worker finished since its last commit), so that a hundred thousand
units cost a few hundred files. A part counts only when a marker names it, and the marker is written last: a kill at any
moment loses the uncommitted units of that worker and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.atomic import atomic_file
from image2reg.engine.plan import UNITS
from image2reg.errors import DataError
from image2reg.provenance import file_sha256

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Failure", "Journal", "Results", "UnitResult"]

_ROW_GROUP = 65_536
_OPEN_PARTS = 4
_FIRST = b"first_units"  # in a part: which of its units is the first that has each column
_CHANGED = (
    "{path}: differs from what was written (sha256). Remove it and run again: its units are then done anew."
)


@dataclass(frozen=True)
class Failure:
    """Why a unit has no result."""

    unit: str
    kind: str
    error: str


@dataclass(frozen=True)
class UnitResult:
    """What one unit gave: tables by name, or a failure."""

    position: int
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    failure: Failure | None = None


@dataclass(frozen=True)
class _Marker:
    """A marker as read: its name, its units, and where their rows begin and end in each part."""

    name: str
    units: NDArray[np.int64]
    bounds: dict[str, NDArray[np.int64]]  # by table: (units + 1,)


@dataclass(frozen=True)
class Journal:
    """The folder of results of one plan; safe to hand to other processes.

    Attributes
    ----------
    directory : Path
        Output folder of the job; parts and markers lie in its folder ``units``.
    plan_sha256 : str
    n_units : int
        Units of the whole plan.
    attempt : int
        How often the job was started; of two failures of a unit the later one counts.
    """

    directory: Path
    plan_sha256: str
    n_units: int
    attempt: int = 1

    @property
    def folder(self) -> Path:
        """Where parts and markers lie."""
        return self.directory / UNITS

    def commit(self, results: Sequence[UnitResult]) -> None:
        """Publish results: parts first, then the marker that makes them count.

        Raises
        ------
        ResourceError
            The disk refused; nothing of these results counts then.
        """
        if not results:
            return
        results = sorted(results, key=lambda result: result.position)
        positions = [result.position for result in results]
        # With the plan: results carried over from another one may have names of these positions.
        token = hashlib.sha256(repr((self.plan_sha256, positions)).encode()).hexdigest()[:12]
        name = f"{positions[0]:09d}-{token}"
        good = [result for result in results if result.failure is None]
        tables = sorted({table for result in good for table in result.tables})
        marker = {
            "plan": self.plan_sha256,
            "attempt": self.attempt,
            "units": [result.position for result in good],
            "rows": {t: [len(r.tables[t]) if t in r.tables else 0 for r in good] for t in tables},
            "parts": {t: self._write_part(t, name, good) for t in tables},
            "failed": [
                [r.position, r.failure.unit, r.failure.kind, r.failure.error] for r in results if r.failure
            ],
        }
        with atomic_file(self.folder / f"{name}.json", overwrite=True) as partial:
            partial.write_text(json.dumps(marker, separators=(",", ":")), encoding="utf-8")

    def _write_part(self, table: str, name: str, results: Sequence[UnitResult]) -> str:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pieces: list[pa.Table] = []
        first: dict[str, int] = {}
        for number, result in enumerate(results):
            if table in result.tables:
                piece = pa.Table.from_pandas(result.tables[table], preserve_index=False)
                # Without pandas' own metadata, which would tell how many units went into one part.
                pieces.append(piece.replace_schema_metadata())
                for column in piece.column_names:
                    first.setdefault(column, number)
        whole = pa.concat_tables(pieces, promote_options="permissive")
        whole = whole.replace_schema_metadata({_FIRST: json.dumps([first[n] for n in whole.column_names])})
        sink = io.BytesIO()
        pq.write_table(whole, sink, compression="zstd")
        with atomic_file(self.folder / table / f"{name}.parquet", overwrite=True) as partial:
            partial.write_bytes(sink.getbuffer())
        return hashlib.sha256(sink.getbuffer()).hexdigest()

    def scan(self) -> Results:
        """Read every marker.

        Raises
        ------
        DataError
            A marker is damaged or belongs to another plan.
        """
        owner, index = np.full(self.n_units, -1, np.int32), np.zeros(self.n_units, np.int32)
        markers: list[_Marker] = []
        failures: dict[int, tuple[int, Failure]] = {}
        parts: dict[tuple[str, str], str] = {}
        attempt = 0
        for path in sorted(self.folder.glob("*.json")):
            said = self._marker(path)
            attempt = max(attempt, said["attempt"])
            if any(not self.part(table, path.stem).exists() for table in said["parts"]):
                continue  # someone removed the part: these units are missing again
            units = np.array(said["units"], np.int64)
            owner[units], index[units] = len(markers), np.arange(len(units))
            bounds = {
                table: np.concatenate([[0], np.cumsum(n, dtype=np.int64)])
                for table, n in said["rows"].items()
            }
            markers.append(_Marker(path.stem, units, bounds))
            parts |= {(table, path.stem): sha for table, sha in said["parts"].items()}
            for position, *why in said["failed"]:
                if failures.get(position, (0, None))[0] <= said["attempt"]:
                    failures[position] = said["attempt"], Failure(*why)
        failed = {p: failure for p, (_, failure) in sorted(failures.items()) if owner[p] < 0}
        return Results(self, owner, index, markers, failed, parts, attempt)

    def _marker(self, path: Path) -> dict[str, Any]:
        try:
            marker = dict(json.loads(path.read_text(encoding="utf-8")))
            plan = marker["plan"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path}: is no done marker of this program ({type(error).__name__}: {error}). Remove it; its units "
                "will run again."
            ) from error
        if plan != self.plan_sha256:
            raise DataError(
                f"{path}: belongs to plan {plan[:12]}, the plan here is {self.plan_sha256[:12]}. Choose another --out, "
                "or pass --overwrite to start again."
            )
        return marker

    def part(self, table: str, marker: str) -> Path:
        """Path of the part of a table that a marker names."""
        return self.folder / table / f"{marker}.parquet"


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
    markers: list[_Marker] = field(repr=False)
    failed: dict[int, Failure]
    parts: dict[tuple[str, str], str]
    attempt: int
    schemas: dict[str, pa.Schema] = field(default_factory=dict, repr=False)  # by table, of those read so far

    def missing(self, positions: Iterable[int]) -> list[int]:
        """Those of `positions` without a result; failed ones among them."""
        return [position for position in positions if self.owner[position] < 0]

    def read(self, table: str, positions: Iterable[int]) -> pd.DataFrame:
        """Rows of a table for some units, in the order of `positions`.

        Raises
        ------
        DataError
            No unit gave this table, or a part is damaged.
        """
        import pyarrow as pa

        schema = self._schema(table)
        frame: pd.DataFrame = pa.concat_tables(
            [schema.empty_table(), *self._pieces(table, schema, positions)]
        ).to_pandas()
        return frame

    def write(self, table: str, path: Path, positions: Iterable[int], *, overwrite: bool = False) -> int:
        """Stream a table into one Parquet file whose bytes do not depend on how the units were run.

        Returns
        -------
        int
            Number of rows.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema, n_rows, n_held, held = self._schema(table), 0, 0, []
        with (
            atomic_file(path, overwrite=overwrite) as partial,
            pq.ParquetWriter(partial, schema, compression="zstd") as writer,
        ):
            for piece in self._pieces(table, schema, positions):
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
            units = marker.units[json.loads(schema.metadata[_FIRST])].tolist()
            for index, (name, unit) in enumerate(zip(schema.names, units, strict=True)):
                places[name] = min(places.get(name, (unit, index)), (unit, index))
        whole = pa.unify_schemas([s.remove_metadata() for s in schemas], promote_options="permissive")
        return pa.schema([whole.field(name) for name in sorted(places, key=places.__getitem__)])

    def _pieces(self, table: str, schema: pa.Schema, positions: Iterable[int]) -> Iterator[pa.Table]:
        open_parts: OrderedDict[str, pa.Table] = OrderedDict()
        for number, first, last in self._runs(np.fromiter(positions, np.int64)):
            marker = self.markers[number]
            if table not in marker.bounds:
                continue
            begin, end = marker.bounds[table][[first, last + 1]].tolist()
            if begin == end:
                continue
            if marker.name not in open_parts:
                open_parts[marker.name] = self._load(table, marker.name, schema)
                if len(open_parts) > _OPEN_PARTS:
                    open_parts.popitem(last=False)
            open_parts.move_to_end(marker.name)
            yield open_parts[marker.name].slice(begin, end - begin)

    def _runs(self, positions: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
        """Units that follow each other in a marker as one: its number, and which of its units are first and last."""
        owner, index = self.owner[positions], self.index[positions]
        cuts = np.flatnonzero((np.diff(owner) != 0) | (np.diff(index) != 1)) + 1
        starts, ends = np.append(0, cuts), np.append(cuts, len(positions))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if start < end and owner[start] >= 0:
                yield int(owner[start]), int(index[start]), int(index[end - 1])

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
