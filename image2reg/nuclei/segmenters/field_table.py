"""One row per labelled field, kept beside the labels: how many objects, how much of the field, how good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from image2reg.tables.cells import read_csv, write_csv
from image2reg.tables.side_tables import side_path

__all__ = ["FieldTable"]

_COLUMNS = ("source", "output", "n_objects", "confluence", "saturated_share", "focus", "flags")


class FieldTable:
    """The table ``fields.csv`` of a folder of labels; of a plate ``x.zarr``, ``x.fields.csv`` beside it.

    Columns: ``source`` as given; ``output`` relative to the table; ``n_objects``; ``confluence``, share of the field
    that objects cover; ``saturated_share``, ``focus`` and ``flags`` (apart by ``;``) of
    `image2reg.nuclei.quality.field_quality`, empty where a field is not judged.

    Parameters
    ----------
    out : Path
        The folder or plate.

    Raises
    ------
    DataError
        A table of another kind has this name.
    """

    def __init__(self, out: Path) -> None:
        self.path = side_path(out, "fields.csv", _COLUMNS)
        earlier = read_csv(self.path).to_dict("records") if self.path.exists() else []
        self._rows: dict[str, dict[str, Any]] = {row["output"]: row for row in earlier}

    def __contains__(self, target: Path) -> bool:
        """Whether the labels `target` have a row, by this run or an earlier one."""
        return self._name(target) in self._rows

    def add(self, source: str, target: Path, facts: dict[str, Any]) -> None:
        """Set the row of the labels `target`."""
        name = self._name(target)
        row = {**facts, "source": source, "output": name, "flags": ";".join(facts.get("flags", ()))}
        self._rows[name] = {column: row.get(column, "") for column in _COLUMNS}

    def write(self) -> None:
        """Write the rows of all labels that are there, by name; no table where there are none."""
        import pandas as pd

        there = [self._rows[name] for name in sorted(self._rows) if (self.path.parent / name).exists()]
        if there:
            write_csv(pd.DataFrame(there, columns=list(_COLUMNS), dtype=object), self.path, overwrite=True)
        else:
            self.path.unlink(missing_ok=True)

    def _name(self, target: Path) -> str:
        return target.relative_to(self.path.parent).as_posix()
