"""The small tables beside a result: what could not be done, and what every field gave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from image2reg.errors import DataError, ProjectError

__all__ = ["failure", "failures_path", "side_path", "write_failures"]

_FILES = (".csv", ".parquet", ".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".zarr")
_FAILURES, _FAILURE_COLUMNS = "failures.csv", ("source", "kind", "error")


def side_path(out: Path, name: str, columns: Sequence[str]) -> Path:
    """Where the table `name` of the result `out` lies, refused where a table of another kind lies there.

    Parameters
    ----------
    out : Path
        A folder, which holds it under its own name; or a file or ``.zarr``, which has it beside: ``x.csv`` has
        ``x.failures.csv``.
    name : str
        File name, ``.csv``.
    columns : sequence of str
        Columns that tell a table of ours, which may be replaced, from one that may not.

    Raises
    ------
    DataError
        There is a file of this name with other columns.
    """
    suffix = next((s for s in _FILES if out.name.lower().endswith(s)), "")
    path = out.with_name(f"{out.name[: -len(suffix)]}.{name}") if suffix else out / name
    if path.is_file():
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            seen = lines.readline(10_000).strip().split(",")
        if not set(columns) <= set(seen):
            raise DataError(
                f"{path}: a table of this name is written beside the results, and this one is another: its columns "
                f"are {seen[:6]}, not {list(columns)}. Move it away, or choose another --out."
            )
    return path


def failures_path(out: Path) -> Path:
    """Where the list of what failed lies; raises as `side_path` does, so that it can be asked before any work."""
    return side_path(out, _FAILURES, _FAILURE_COLUMNS)


def failure(source: str, error: ProjectError) -> dict[str, str]:
    """One row of the list of what failed: ``source, kind, error``."""
    return {"source": source, "kind": type(error).__name__, "error": str(error)}


def write_failures(failures: Sequence[dict[str, str]], out: Path) -> Path | None:
    """List what failed in this run, or take away the list of an earlier one; give where the list lies.

    Raises
    ------
    DataError, ResourceError
        As `side_path`; the file system refused.
    """
    path = failures_path(out)
    if not failures:
        path.unlink(missing_ok=True)
        return None
    import pandas as pd

    from image2reg.tables.cells import write_csv

    write_csv(pd.DataFrame(failures, columns=list(_FAILURE_COLUMNS)), path, overwrite=True)
    return path
