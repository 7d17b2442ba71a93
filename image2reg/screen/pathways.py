"""Which pathways hold more hits than chance: hypergeometric over-representation in gene sets the user gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import DataError
from image2reg.screen.significance import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd

__all__ = ["over_representation", "read_gmt"]

_MAX_BYTES = 200_000_000


def read_gmt(path: Path | str) -> dict[str, frozenset[str]]:
    """Read gene sets: one line each, tab-separated: name, description, genes.

    Raises
    ------
    DataError
        Missing, too large, not text, a line without genes, or a set twice; with the line.
    """
    path, sets = Path(path), dict[str, frozenset[str]]()
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes; a GMT file has at most {_MAX_BYTES}.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}). Check the path.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = (cell.strip() for cell in line.split("\t"))
        genes = frozenset(cell for cell in rest[1:] if cell)
        if not genes or not name:
            raise DataError(
                f"{path}: line {number} has {len(rest) + 1} cells; needed are name, description and genes with tabs "
                "between. Is it a GMT file?"
            )
        if name in sets:
            raise DataError(f"{path}: line {number}: set {name!r} occurs a second time. Keep one.")
        sets[name] = genes
    if not sets:
        raise DataError(f"{path}: no gene set in it.")
    return sets


def over_representation(
    hits: Collection[str],
    tested: Collection[str],
    sets: Mapping[str, Collection[str]],
    *,
    min_size: int = 5,
    max_size: int = 500,
) -> pd.DataFrame:
    """Test each gene set for an excess of hits among the genes that were tested.

    Parameters
    ----------
    hits : genes called
        Those not in `tested` are refused.
    tested : every gene that could have been called
        The background; genes of a set that were not tested do not count.
    sets : mapping of name to genes
    min_size, max_size : int
        Tested genes in a set; others are left out.

    Returns
    -------
    DataFrame, best first
        ``pathway``, ``n_hits``, ``n_tested`` (of the set), ``expected``, ``fold``, ``p`` (hypergeometric, upper tail),
        ``q`` (Benjamini-Hochberg), ``genes``. Empty with its columns when no set has a fitting size.

    Raises
    ------
    DataError
        A hit that was not tested, or no set shares a gene with the screen (symbols against identifiers?).
    """
    import pandas as pd
    from scipy.stats import hypergeom

    background, called = set(tested), set(hits)
    stray = sorted(called - background)
    if stray:
        raise DataError(
            f"over-representation: {len(stray)} hits are not among the tested genes, e.g. {stray[:3]}."
        )
    inside = {name: background & set(genes) for name, genes in sets.items()}
    if not any(inside.values()):
        examples = sorted(next(iter(sets.values())))[:3], sorted(background)[:3]
        raise DataError(
            f"over-representation: no set shares a gene with the {len(background)} tested ones; the sets hold e.g. "
            f"{examples[0]}, the screen {examples[1]}. Use the same kind of identifier in both."
        )
    rows = []
    for name, genes in inside.items():
        if min_size <= len(genes) <= max_size:
            found = called & genes
            expected = len(genes) * len(called) / len(background)
            p = float(hypergeom.sf(len(found) - 1, len(background), len(genes), len(called)))
            fold = len(found) / expected if expected else np.nan
            rows.append((name, len(found), len(genes), expected, fold, p, " ".join(sorted(found))))
    table = pd.DataFrame(rows, columns=["pathway", "n_hits", "n_tested", "expected", "fold", "p", "genes"])
    table.insert(6, "q", benjamini_hochberg(table["p"].to_numpy(np.float64)))
    return table.sort_values(["p", "pathway"], kind="stable").reset_index(drop=True)
