"""What people hand over in place of a table of signatures, each refused by what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.expression.labels import listed
from image2reg.expression.landmarks import Alignment, align
from image2reg.tables.profiles import METADATA

__all__ = ["MOST_FILLED", "align_upright", "refuse_filled", "refuse_text"]

MOST_FILLED = 0.5
"""Of a signature's genes; one that is filled beyond it says "unchanged" of most genes, which nobody measured."""


def refuse_text(path: Path, texts: pd.DataFrame, numbers: pd.DataFrame, wanted: list[str]) -> None:
    """Refuse genes whose cells are no numbers, and a table without any numbers."""
    genes = [name for name in texts if name.removeprefix(METADATA) in set(wanted)]
    if genes or not numbers.shape[1]:
        name = (genes or list(texts))[0]
        column = texts[name][pd.to_numeric(texts[name], errors="coerce").isna()]
        seen = listed(column[column != ""][:1]) or "nothing"
        raise DataError(
            f"{path}: {len(genes) or 'all'} columns of genes hold text, such as {seen} in "
            f"{name.removeprefix(METADATA)!r}. Write numbers with a decimal point, and nothing where there is no value."
        )


def refuse_filled(path: Path, present: NDArray[np.bool_], metadata: pd.DataFrame) -> None:
    """Refuse signatures that would be filled with 0 more than they hold."""
    empty = np.flatnonzero((~present).mean(axis=1) > MOST_FILLED)
    if len(empty):
        n = int(present[empty[0]].sum())
        raise DataError(
            f"{path}: {len(empty)} of {len(present)} signatures have values for fewer than half of the genes (first: "
            f"{metadata.iloc[empty[0], 0]!r}, {n} of {present.shape[1]}). Filled with 0 they would be signatures of "
            "almost nothing; leave them out, or find their genes."
        )


def align_upright(
    path: Path, labels: Any, kind: str | None, wanted: list[str], place: str, others: Mapping[str, Any]
) -> Alignment:
    """Find genes among `labels`, the names at `place`; refuse the table when they stand among its `others`.

    Raises
    ------
    DataError
        As `align`; fewer than half of the genes are here, and more of them there.
    """
    try:
        found = align(labels, kind=kind, genes=wanted, where=f"{path}, {place}")
        n_found = len(wanted) - len(found.missing)
    except DataError:
        _refuse_transposed(path, others, wanted, place, 0)
        raise
    if 2 * n_found < len(wanted):
        _refuse_transposed(path, others, wanted, place, n_found)
    return found


def _refuse_transposed(
    path: Path, others: Mapping[str, Any], wanted: list[str], place: str, n_found: int
) -> None:
    for other, labels in others.items():
        try:
            n_other = len(wanted) - len(align(labels, genes=wanted, where=str(path)).missing)
        except DataError:
            continue
        # Signatures may bear names of genes; a few of those turn no table round.
        many = n_other >= min(10, len(wanted)) and 2 * n_other >= min(len(wanted), len(labels))
        if many and n_other > n_found:
            raise DataError(
                f"{path}: the matrix is transposed: {n_other} of {len(wanted)} genes stand in its {other} and "
                f"{n_found or 'none'} in its {place}. GCT and GCTX hold genes in rows, CSV and Parquet signatures in "
                "rows; turn it round and write it again."
            )
