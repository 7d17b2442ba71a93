"""The list of what failed, beside what was written."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["list_failures"]


def list_failures(folder: Path, failures: Sequence[dict[str, str]], tried: Iterable[str]) -> Path | None:
    """Bring ``failures.csv`` up to date; without a row there is no file.

    Parameters
    ----------
    folder : Path
    failures : sequence of dict
        ``source``, ``error`` and ``kind`` of what failed in this run.
    tried : iterable of str
        Every source of this run: what was listed of them goes, what was listed of others stays.

    Returns
    -------
    Path or None
        The file, where this run failed on something.
    """
    import pandas as pd

    from image2reg.tables import write_csv

    path, again = folder / "failures.csv", set(tried)
    before: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as handle:
            before = list(csv.DictReader(handle))
    kept = [row for row in before if row.get("source") not in again]
    if kept or failures:
        if failures or len(kept) < len(before):
            write_csv(pd.DataFrame([*kept, *failures]), path, overwrite=True)
    else:
        path.unlink(missing_ok=True)
    return path if failures else None
