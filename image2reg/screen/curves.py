"""Dose-response curves of all series of a screen: one per perturbation (or half-plate) and readout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.screen.dose_response import DoseResponse, fit_dose_response
from image2reg.screen.plates import CONTROL, NEGATIVE, PLATE, distinct_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["Curve", "curve_table", "dose_numbers", "fit_curves", "one_text_per_dose"]


@dataclass(frozen=True)
class Curve:
    """A fit with the wells it was made of."""

    name: str
    readout: str
    fit: DoseResponse
    doses: NDArray[np.float64]
    responses: NDArray[np.float64]


def dose_numbers(wells: pd.DataFrame, dose: str) -> NDArray[np.float64]:
    """Doses as numbers; NaN where empty.

    Raises
    ------
    DataError
        No such column, or a cell that is no number.
    """
    import pandas as pd

    if dose not in wells:
        raise DataError(
            f"--dose {dose}: no such column; there are {[n for n in wells if n.startswith('Metadata_')]}."
        )
    cells = wells[dose].fillna("").astype(str)
    numbers = pd.to_numeric(cells.where(cells != ""), errors="coerce").to_numpy(np.float64)
    wrong = np.isnan(numbers) & (cells != "").to_numpy()
    if wrong.any():
        raise DataError(
            f"--dose {dose}: {cells[wrong].iloc[0]!r} is no number. Write doses as plain numbers: one unit for all, "
            "which the column's name says, a point before decimals, and an empty cell where there is none."
        )
    return numbers


def one_text_per_dose(wells: pd.DataFrame, dose: str, *, within: Sequence[str] = ()) -> pd.Series:
    """Write equal doses alike, as the first of them (`within` equal values of some columns) is: ``1.0`` and ``1``.

    Raises
    ------
    DataError
        See `dose_numbers`.

    Examples
    --------
    >>> import pandas as pd
    >>> one_text_per_dose(pd.DataFrame({"Dose": ["1.0", "1", "1e0", ""]}), "Dose").tolist()
    ['1.0', '1.0', '1.0', '']
    """
    first = (
        wells[dose].groupby([*(wells[name] for name in within), dose_numbers(wells, dose)]).transform("first")
    )
    return first.where(first.notna(), wells[dose])


def fit_curves(
    wells: pd.DataFrame, readouts: Sequence[str], group_by: Sequence[str], dose: str
) -> list[Curve]:
    """Fit every series that has doses.

    Parameters
    ----------
    wells : DataFrame, one row per well
    readouts : sequence of str
    group_by : sequence of str
        What makes a perturbation; without `dose`, it makes a series.
    dose : str
        Column of doses. Sample wells with a dose are the series; the negative control wells of its plates are its
        dose 0. Positive controls are of no series: they may hold something else.

    Notes
    -----
    A series on several plates is brought to one scale first: multiplied so that the medians of its plates' controls
    are equal, or shifted where not all of them are positive. A plate none of whose controls has a value is left out.
    """
    doses = dose_numbers(wells, dose)
    kinds, plates = wells[CONTROL].to_numpy(object), wells[PLATE].to_numpy(object)
    sample = (kinds == "") & (doses > 0)
    series = [name for name in group_by if name != dose]
    keys = wells.loc[sample, series or [PLATE]].fillna("").astype(str)
    number = np.full(len(wells), -1, np.intp)
    number[sample] = keys.groupby(list(keys), sort=False).ngroup().to_numpy()
    keys = keys.drop_duplicates()
    curves = []
    for index, name in enumerate(distinct_names([" ".join(row) for row in keys.to_numpy(object)], keys)):
        own = number == index
        control = (kinds == NEGATIVE) & np.isin(plates, np.unique(plates[own]))
        x = np.concatenate([np.zeros(int(control.sum())), doses[own]])
        where = np.concatenate([plates[control], plates[own]])
        for readout in readouts:
            values = wells[readout].to_numpy(np.float64)
            y = _on_one_scale(np.concatenate([values[control], values[own]]), where, x == 0)
            curves.append(Curve(name, readout, fit_dose_response(x, y), x, y))
    return curves


def _on_one_scale(
    y: NDArray[np.float64], plates: NDArray[np.object_], control: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Bring wells of several plates to the median of all their controls."""
    names, number = np.unique(plates, return_inverse=True)
    if len(names) == 1:
        return y
    known = control & np.isfinite(y)
    if not known.any():
        return np.full(len(y), np.nan)
    controls = [y[known & (number == plate)] for plate in range(len(names))]
    middles = np.array(
        [np.median(own) if own.size else np.nan for own in controls]
    )  # without controls, no scale
    common = np.median(y[known])
    return (
        y * (common / middles)[number]
        if np.nanmin(middles) > 0 and common > 0
        else y + (common - middles)[number]
    )


def curve_table(curves: Sequence[Curve]) -> pd.DataFrame:
    """One row per curve: ``series``, ``readout`` and the attributes of `DoseResponse`."""
    import pandas as pd

    return pd.DataFrame([{"series": c.name, "readout": c.readout, **c.fit.as_dict()} for c in curves])
