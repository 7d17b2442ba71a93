"""Plates: well names, grids, and which wells are controls."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.screen.queries import select_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = [
    "CONTROL",
    "NEGATIVE",
    "PLATE",
    "POSITIVE",
    "WELL",
    "control_columns",
    "distinct_names",
    "n_mixed_groups",
    "parse_well",
    "plate_grid",
    "plate_shape",
    "well_name",
]

PLATE, WELL, CONTROL = "Metadata_Plate", "Metadata_Well", "Metadata_Control"
NEGATIVE, POSITIVE = "negative", "positive"
# Rows and columns of the plates of 96, 384 and 1536 wells (ANSI/SLAS 4-2004).
SHAPES = ((8, 12), (16, 24), (32, 48))
_WELL = re.compile(r"\s*([A-Za-z]{1,2})[-_ ]?0*([1-9]\d?)\s*\Z")


def parse_well(name: str) -> tuple[int, int]:
    """Row and column of a well, from 0.

    Raises
    ------
    DataError
        Not a letter or two (A to AF) and a column (1 to 48).

    Examples
    --------
    >>> parse_well("B03"), parse_well("AA1")
    ((1, 2), (26, 0))
    """
    found = _WELL.match(name)
    if found:
        letters = [ord(letter) - ord("A") for letter in found[1].upper()]
        row = letters[0] if len(letters) == 1 else 26 * (letters[0] + 1) + letters[1]
        if row < SHAPES[-1][0] and int(found[2]) <= SHAPES[-1][1]:
            return row, int(found[2]) - 1
    raise DataError(f"well {name!r} is none: write row and column, A01 to P24 (or AF48), in Metadata_Well.")


def well_name(row: int, column: int) -> str:
    """Name of a well, with two digits.

    >>> well_name(1, 2), well_name(26, 0)
    ('B03', 'AA01')
    """
    letters = chr(65 + row) if row < 26 else chr(64 + row // 26) + chr(65 + row % 26)
    return f"{letters}{column + 1:02d}"


def plate_shape(wells: Sequence[str]) -> tuple[int, int]:
    """Rows and columns of the smallest plate of 96, 384 or 1536 wells that has all these wells.

    Which plate it was is not said anywhere. A part of a 96-well plate is commoner than a plate of 6 to 48 wells, and
    were it taken for one, wells in the middle would count as its edge: a smaller plate lies in the corner of one of 96.

    Examples
    --------
    >>> plate_shape(["A01", "E03"]), plate_shape(["A01", "I01"])
    ((8, 12), (16, 24))
    """
    places = np.array([parse_well(well) for well in wells])
    n_rows, n_columns = places.max(axis=0) + 1
    return next(shape for shape in SHAPES if shape[0] >= n_rows and shape[1] >= n_columns)


def plate_grid(
    wells: Sequence[str], values: NDArray[np.float64], *, shape: tuple[int, int] | None = None
) -> NDArray:
    """Lay values of one plate out as it lies on the bench.

    Parameters
    ----------
    wells : sequence of str
    values : (wells,) float
    shape : (rows, columns), optional
        `plate_shape` of the wells when not given.

    Returns
    -------
    (rows, columns) float64
        NaN where there is no well.

    Raises
    ------
    DataError
        A well occurs twice (A1 and A01 are one).
    """
    grid = np.full(shape or plate_shape(wells), np.nan)
    places = [parse_well(well) for well in wells]
    doubled = (
        sorted({well_name(*place) for place in places if places.count(place) > 1})
        if len(set(places)) < len(places)
        else []
    )
    if doubled:
        raise DataError(
            f"wells {doubled[:5]} occur more than once on one plate. One row per well is needed: aggregate its fields, "
            "or give the second plate a name of its own."
        )
    for (row, column), value in zip(places, values, strict=True):
        grid[row, column] = value
    return grid


def control_columns(
    frame: pd.DataFrame, control: str, positive: str | None = None, *, source: str = "screen"
) -> NDArray[np.object_]:
    """Say for each row whether it is a negative or a positive control.

    Parameters
    ----------
    frame : DataFrame
        With ``Metadata_Plate`` and what the queries name.
    control, positive : str
        Queries (`image2reg.screen.queries`).

    Returns
    -------
    (rows,) str
        ``negative``, ``positive`` or "".

    Raises
    ------
    DataError
        A plate on which no row is a negative control (all such plates are named), or a row that is both.
    """
    negative = select_rows(frame, control)
    plates = frame[PLATE].to_numpy(object)
    bare = sorted(set(plates) - set(plates[negative]))
    if bare:
        raise DataError(
            f"{source}: {len(bare)} of {len(set(plates))} plates have no well with {control}: {bare[:5]}"
            f"{_held(frame[np.isin(plates, bare)], control)}. Every plate is compared with its own controls: correct "
            "the layout or the query, or leave these plates out."
        )
    kinds = np.where(negative, NEGATIVE, "").astype(object)
    if positive:
        is_positive = select_rows(frame, positive)
        if (both := is_positive & negative).any():
            raise DataError(
                f"{source}: {int(both.sum())} rows are negative and positive control at once, the first on plate "
                f"{plates[np.argmax(both)]!r}. Make {control!r} and {positive!r} exclude each other."
            )
        if not is_positive.any():
            raise DataError(
                f"{source}: no well with {positive} (--positive){_held(frame, positive)}. Correct the query or leave "
                "it out."
            )
        kinds[is_positive] = POSITIVE
    return kinds


def _held(frame: pd.DataFrame, query: str) -> str:
    """Say what the columns hold there that a query names, for one that found nothing."""
    short = {str(name): re.escape(str(name).removeprefix("Metadata_")) for name in frame}
    named = [name for name in short if re.search(rf"\b(?:Metadata_)?{short[name]}\b", query)]
    return "".join(f"; {name} there holds {frame[name].unique()[:6].tolist()}" for name in named)


def distinct_names(names: Sequence[str], keys: pd.DataFrame) -> list[str]:
    """Spell out the columns of those that share a name: ``A 1`` with a dose and ``A 1`` without one are two things.

    Parameters
    ----------
    names : (rows,) sequence of str
    keys : DataFrame
        Its rows differ.

    Examples
    --------
    >>> import pandas as pd
    >>> keys = pd.DataFrame({"Metadata_Perturbation": ["A", "A 1"], "Metadata_Dose_uM": ["1", ""]})
    >>> distinct_names(["A 1", "A 1"], keys)
    ["Perturbation='A', Dose_uM='1'", "Perturbation='A 1', Dose_uM=''"]
    """
    count = Counter(names)
    columns = [str(name).removeprefix("Metadata_") for name in keys]
    return [
        name
        if count[name] == 1
        else ", ".join(f"{column}={value!r}" for column, value in zip(columns, row, strict=True))
        for name, row in zip(names, keys.to_numpy(object).tolist(), strict=True)
    ]


def n_mixed_groups(samples: pd.DataFrame, column: str) -> int:
    """Count the groups of replicates (``Metadata_Group``) whose wells differ in a column."""
    return int(samples.groupby("Metadata_Group")[column].nunique().gt(1).sum())
