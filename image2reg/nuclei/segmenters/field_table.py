"""One row per labelled field, kept beside the labels: how many objects, how much of the field, how good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from image2reg.errors import ConfigurationError, DataError
from image2reg.tables.cells import read_csv, write_csv
from image2reg.tables.side_tables import side_path

__all__ = ["FieldTable", "without_labels"]

_NAME, _MADE_WITH = "fields.csv", "made_with"
_COLUMNS = ("source", "output", "n_objects", "confluence", "saturated_share", "focus", "flags")


class FieldTable:
    """The table ``fields.csv`` of a folder of labels; of a plate ``x.zarr``, ``x.fields.csv`` beside it.

    Columns: ``source`` as given; ``output`` relative to the table; ``n_objects``; ``confluence``, share of the field
    that objects cover; ``saturated_share``, ``focus`` and ``flags`` (apart by ``;``) of
    `image2reg.nuclei.quality.field_quality`, empty where a field is not judged; ``made_with``, segmenter, channel and
    sizes, empty where that is not known.

    Parameters
    ----------
    out : Path
        The folder or plate.
    made_with : str
        For the rows that are added.
    going_on : iterable of Path
        Labels that are left as they are where they are there.

    Raises
    ------
    DataError
        A table of another kind has this name.
    ConfigurationError
        Of `going_on`, some were made with something else.
    """

    def __init__(self, out: Path, made_with: str, going_on: Iterable[Path] = ()) -> None:
        self.path, self._made_with = side_path(out, _NAME, _COLUMNS), made_with
        earlier = read_csv(self.path).to_dict("records") if self.path.exists() else []
        self._rows: dict[str, dict[str, Any]] = {row["output"]: row for row in earlier}
        for target in going_on:
            before = self._rows.get(self._name(target), {}).get(_MADE_WITH) or made_with
            if before != made_with and target.exists():
                raise ConfigurationError(
                    f"--resume: {target} was made with {before!r}, this run has {made_with!r}. Give what it was made "
                    "with, choose another --out, or pass --overwrite instead to make all labels anew."
                )

    def __contains__(self, target: Path) -> bool:
        """Whether the labels `target` have a row, by this run or an earlier one."""
        return self._name(target) in self._rows

    def add(self, source: str, target: Path, facts: dict[str, Any], *, is_own: bool = True) -> None:
        """Set the row of the labels `target`; of those that another run made it is not known how."""
        name = self._name(target)
        row = {**facts, "source": source, "output": name, "flags": ";".join(facts.get("flags", ()))}
        self._rows[name] = {column: row.get(column, "") for column in _COLUMNS}
        self._rows[name][_MADE_WITH] = self._made_with if is_own else ""

    def write(self) -> None:
        """Write the rows of all labels that are there, by name; no table where there are none."""
        import pandas as pd

        there = [self._rows[name] for name in sorted(self._rows) if (self.path.parent / name).exists()]
        if there:
            write_csv(
                pd.DataFrame(there, columns=[*_COLUMNS, _MADE_WITH], dtype=object), self.path, overwrite=True
            )
        else:
            self.path.unlink(missing_ok=True)

    def _name(self, target: Path) -> str:
        return target.relative_to(self.path.parent).as_posix()


def without_labels(folder: Path, names: Sequence[str]) -> list[str]:
    """Leave out files below `folder` that a table of fields there lists: labels of an earlier run, and no images."""
    listed: dict[Path, set[str]] = {}

    def is_listed(path: Path) -> bool:
        for place in path.parents[: len(path.parents) - len(folder.parents)]:
            if place not in listed:
                listed[place] = _outputs(place / _NAME)
            if path.relative_to(place).as_posix() in listed[place]:
                return True
        return False

    return [name for name in names if not is_listed(folder / name)]


def _outputs(table: Path) -> set[str]:
    try:
        rows = read_csv(table) if table.is_file() else {}
    except DataError:  # somebody else's
        return set()
    return set(rows["output"]) if set(_COLUMNS) <= set(rows) else set()
