"""Tables of protein interactions: iRefIndex with costs, STRING, BioGRID; by their columns, not their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import DataError
from image2reg.genes.interactome import Interactome

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_interactions"]

_COST = ("protein1", "protein2", "cost")
_STRING = ("protein1", "protein2", "combined_score")
_BIOGRID = ("Official Symbol Interactor A", "Official Symbol Interactor B", "Experimental System Type",
            "Publication Source")  # fmt: skip
_ALIASES = ("#string_protein_id", "preferred_name")


def read_interactions(path: Path | str, *, names: Path | str | None = None) -> Interactome:
    """Read a table of interactions, tab, comma or space separated, plain or ``.gz``.

    Parameters
    ----------
    path : Path
        One of:

        * ``protein1, protein2, cost``: iRefIndex as OmicsIntegrator gives it; cost in 0 … 1, low is confident;
        * ``protein1, protein2, combined_score``: STRING links; cost is ``1 - score / 1000``;
        * BioGRID tab 3: physical interactions between ``Official Symbol Interactor A`` and ``B``; cost is
          ``1 / (1 + number of publications)``.
    names : Path, optional
        STRING's protein info, ``#string_protein_id, preferred_name``: its identifiers become gene symbols, and
        proteins it does not name are left out.

    Returns
    -------
    Interactome

    Raises
    ------
    DataError
        No such file, none of the three sets of columns (those seen and those allowed are named), costs that are not
        numbers in 0 … 1, or no interaction left.
    """
    path = Path(path)
    frame = _table(path)
    columns = set(frame.columns)
    if columns >= set(_COST):
        first, second, cost = (frame[name] for name in _COST)
        costs = _numbers(cost, path, "cost", upper=1.0)
    elif columns >= set(_STRING):
        first, second, score = (frame[name] for name in _STRING)
        costs = 1 - _numbers(score, path, "combined_score", upper=1000.0) / 1000
    elif columns >= set(_BIOGRID):
        first, second, costs = _biogrid(frame)
    else:
        raise DataError(
            f"{path}: columns {list(frame.columns)[:8]} are not those of an interaction table. "
            f"Allowed are {list(_COST)}, "
            f"{list(_STRING)} (STRING) and {list(_BIOGRID)} (BioGRID tab 3). Rename the columns; interactions "
            "without a score may all have one cost, such as 0.5."
        )
    a, b = (column.str.strip().to_numpy(str) for column in (first, second))
    if names is not None:
        symbol = _aliases(Path(names))
        a, b = (np.array([symbol.get(n, "") for n in column], dtype=str) for column in (a, b))
    keep = (a != "") & (b != "") & (a != "-") & (b != "-") & (a != b)
    if not keep.any():
        raise DataError(f"{path}: no interaction between two named proteins among {len(frame)} rows.")
    return Interactome.from_edges(a[keep], b[keep], np.asarray(costs)[keep], source=str(path))


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}. Check the path.")
    try:
        head = pd.read_csv(path, nrows=0, sep="\x00", engine="c", encoding="utf-8-sig").columns[0]
        separator = next((s for s in ("\t", ",", " ") if s in head), "\t")
        # "NA" and "NAN" are gene symbols here, not gaps.
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: cannot be read as a table of interactions ({str(error).strip()}). Export it again."
        ) from error


def _numbers(column: pd.Series, path: Path, name: str, *, upper: float) -> np.ndarray:
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    wrong = ~((values >= 0) & (values <= upper))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: {int(wrong.sum())} of {len(values)} cells of column {name!r} are not numbers in "
            f"0 to {upper:g}, the "
            f"first in row {at + 1}: {column.iloc[at]!r}. Correct or remove those rows."
        )
    return values


def _biogrid(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series, np.ndarray]:
    first, second, system, publication = _BIOGRID
    physical = frame[frame[system] == "physical"]
    low = physical[[first, second]].min(axis=1)
    pairs = physical.assign(low=low, high=physical[[first, second]].max(axis=1))
    counted = pairs.groupby(["low", "high"], sort=True)[publication].nunique().reset_index()
    return counted["low"], counted["high"], 1 / (1 + counted[publication].to_numpy(np.float64))


def _aliases(path: Path) -> dict[str, str]:
    frame = _table(path)
    if not set(frame.columns) >= set(_ALIASES):
        raise DataError(
            f"{path}: columns {list(frame.columns)[:8]} hold no names; allowed are {list(_ALIASES)} "
            "(STRING's protein info)."
        )
    return dict(zip(frame[_ALIASES[0]], frame[_ALIASES[1]], strict=True))
