"""The training log: one JSON object per line, cut back to the checkpoint when a run resumes."""

from __future__ import annotations

import contextlib
import json
import math
import os
from typing import TYPE_CHECKING, Any

from image2reg.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["History", "read_history"]


def _plain(value: Any) -> Any:
    """JSON knows no NaN: a number that is not finite is logged as null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


class History:
    """Append records to `path`.

    Parameters
    ----------
    path : Path
        ``metrics.jsonl``.
    keep_bytes : int
        What is beyond this offset came after the checkpoint that is resumed, and is cut off.
    write : bool
        False in all but one process of a distributed run: nothing is touched.
    """

    def __init__(self, path: Path, *, keep_bytes: int = 0, write: bool = True) -> None:
        self._path, self._handle = path, None
        if write:
            with self._as_resource_error():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                self._handle = path.open("r+b", buffering=0)
                self._handle.truncate(min(keep_bytes, path.stat().st_size))
                self._handle.seek(0, os.SEEK_END)

    @contextlib.contextmanager
    def _as_resource_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResourceError(
                f"{self._path}: could not be written ({error}). Free space, then continue with --resume."
            ) from error

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and hand it to the operating system."""
        if self._handle is None:
            return
        plain = {
            key: {name: _plain(item) for name, item in value.items()}
            if isinstance(value, dict)
            else _plain(value)
            for key, value in record.items()
        }
        line = json.dumps(plain, allow_nan=False).encode() + b"\n"
        with self._as_resource_error():
            if self._handle.write(line) != len(line):
                raise OSError("only part of a line was accepted")

    def sync(self) -> int:
        """Force the log to disk; return its length in bytes."""
        if self._handle is None:
            return 0
        with self._as_resource_error():
            os.fsync(self._handle.fileno())
        return self._handle.tell()

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            self._handle.close()


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read the records of a log, without a last line that a kill cut short."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
