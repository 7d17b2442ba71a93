"""What is wrong with single rows of a manifest: missing and doubled images, wrong hashes, incomplete fields."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import DataError
from image2reg.tables.fields import IDENTITY
from image2reg.tables.paths import locate

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["file_hashes", "find_problems", "refuse_problems"]


def find_problems(frame: pd.DataFrame, root: Path, *, files: bool, hashes: bool) -> pd.DataFrame:
    """List the problems of a manifest frame; see `image2reg.tables.Manifest.problems`."""
    import pandas as pd

    found: list[tuple[int, str]] = []
    identity = list(IDENTITY)
    nameless = (frame[identity] == "").all(axis=1).to_numpy()
    empty = f"{', '.join(identity[:-1])} and {identity[-1]} are all empty, so its field is unknown"
    found += _at(nameless, empty)
    found += _doubled(
        frame, ["role", "channel", *identity], "same field, role and channel as row {}", ~nameless
    )
    found += _doubled(frame, ["path", "source_channel", "role", "channel"], "same image as row {}", ~nameless)
    group = frame.groupby(identity, sort=False)
    field = group.ngroup()
    has_input = (frame["role"] == "input").groupby(field).transform("any").to_numpy()
    # One row per field is enough to say that its input is missing.
    first = ~field.duplicated().to_numpy()
    found += _at(~has_input & first & ~nameless, "its field has no input image")
    n_splits = frame["split"].groupby(field).transform("nunique").to_numpy()
    found += _at((n_splits > 1) & first, "its field is in several splits")
    if files:
        exists, _ = locate(frame["path"], root, follow_links=True)  # refused before where not wanted
        found += _at(~exists, f"no such file in {root}")
    found += _hash_problems(frame, root, compare=hashes)
    table = pd.DataFrame(sorted(set(found)), columns=["row", "problem"])
    table["row"] = table["row"].astype(int)
    table.insert(1, "path", frame["path"].to_numpy()[table["row"].to_numpy()] if len(table) else [])
    table["row"] += 1
    return table


def refuse_problems(frame: pd.DataFrame, root: Path, source: str, *, files: bool, hashes: bool) -> None:
    """Raise `DataError` with the number of problems and the first five of them, if there are any."""
    found = find_problems(frame, root, files=files, hashes=hashes)
    if found.empty:
        return
    shown = [f"row {row.row} ({row.path}): {row.problem}" for row in itertools.islice(found.itertuples(), 5)]
    more = f"\n  and {len(found) - 5} more" if len(found) > 5 else ""
    raise DataError(f"{source}: {len(found)} problems in {len(frame)} rows:\n  " + "\n  ".join(shown) + more)


def file_hashes(paths: pd.Series, root: Path) -> NDArray[np.object_]:
    """Hex sha256 of each file, each read once; "" for what is not a file (a missing one, an OME-Zarr folder)."""
    known = {path: _sha256(root / path) for path in paths.unique()}
    return np.array([known[path] for path in paths], dtype=object)


def _at(rows: NDArray[np.bool_], problem: str) -> list[tuple[int, str]]:
    return [(int(row), problem) for row in np.flatnonzero(rows)]


def _doubled(
    frame: pd.DataFrame, columns: list[str], text: str, counted: NDArray[np.bool_]
) -> list[tuple[int, str]]:
    again = frame.duplicated(columns).to_numpy() & counted
    if not again.any():
        return []
    group = frame.groupby(columns, sort=False).ngroup().to_numpy()
    first = np.full(group.max() + 1, len(frame))
    np.minimum.at(first, group, np.arange(len(frame)))
    return [(int(row), text.format(first[group[row]] + 1)) for row in np.flatnonzero(again)]


def _hash_problems(frame: pd.DataFrame, root: Path, *, compare: bool) -> list[tuple[int, str]]:
    given = frame["sha256"].to_numpy()
    rows = np.flatnonzero(given != "")
    found = []
    seen: dict[str, str] = {}
    for row in rows:
        expected, path = str(given[row]).lower(), frame["path"].iloc[row]
        if not re.fullmatch(r"[0-9a-f]{64}", expected):
            found.append((int(row), f"sha256 {expected[:16]!r} is not 64 hexadecimal digits"))
        elif compare:
            actual = seen.setdefault(path, _sha256(root / path))
            if actual and actual != expected:
                found.append(
                    (
                        int(row),
                        f"the file changed: sha256 is {actual[:12]}…, the manifest says {expected[:12]}…",
                    )
                )
            elif (root / path).is_dir():
                found.append((int(row), "a folder has no sha256; leave the cell empty"))
    return found


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
