"""Results of units on disk: Parquet parts and done markers, each appearing whole or not at all.

One marker stands for a handful of units (those a worker finished since its last commit), so that a hundred thousand
units cost a few hundred files. A part counts only when a marker names it, and the marker is written last: a kill at any
moment loses the uncommitted units of that worker and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.atomic import atomic_file
from image2reg.engine.plan import UNITS
from image2reg.engine.results import FIRST, Marker, Results
from image2reg.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Failure", "Journal", "UnitResult"]


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
        whole = whole.replace_schema_metadata({FIRST: json.dumps([first[n] for n in whole.column_names])})
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
        markers: list[Marker] = []
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
            markers.append(Marker(path.stem, units, bounds))
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
