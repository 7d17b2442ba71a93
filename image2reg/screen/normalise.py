"""Normalisation of one readout of one plate: fold change, robust z, B-score.

All take the controls as a boolean mask and return one number per well; NaN wells stay NaN and influence nothing.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError

__all__ = [
    "MAD_TO_SD",
    "MedianPolish",
    "b_score",
    "fold_change",
    "median_polish",
    "robust_spread",
    "robust_z",
]

# Of a normal distribution: the median and the mean absolute deviation.
MAD_TO_SD, MEAN_DEVIATION_TO_SD = 1.4826, 1.2533
# A spread below this share of the typical size of the values is rounding, not biology: it is raised to it.
_FLOOR = 1e-6

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class MedianPolish(NamedTuple):
    """Additive fit of a plate: ``grid = overall + row[:, None] + column + residual``."""

    overall: float
    row: Floats
    column: Floats
    residual: Floats
    n_sweeps: int


def _median(values: Floats, axis: int | None = None) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row without any well has no median: NaN
        return np.asarray(np.nanmedian(values, axis=axis))


def robust_spread(values: Floats, *, scale: float = 0.0) -> float:
    """1.4826 · MAD, or 1.2533 · mean absolute deviation where more than half of the values are equal.

    At least a millionth of the largest of `scale` and the values' median size; NaN without values, or where all are 0.

    Notes
    -----
    Iglewicz & Hoaglin, How to Detect and Handle Outliers (1993), on what to take for a MAD of 0.
    """
    median = _median(values)
    floor = _FLOOR * max(abs(float(median)), abs(scale))
    deviation = np.abs(values - median)
    spread = MAD_TO_SD * float(_median(deviation))
    if spread <= floor and np.isfinite(deviation).any():
        spread = MEAN_DEVIATION_TO_SD * float(np.nanmean(deviation))
    return max(spread, floor) or float("nan")


def fold_change(values: Floats, control: Mask) -> Floats:
    """Value over the median of the plate's control wells; NaN where that median is not positive."""
    median = float(_median(_of(values, control)))
    return values / median if median > 0 else np.full(len(values), np.nan)


def robust_z(values: Floats, control: Mask, *, leave_one_out: bool = False) -> Floats:
    """Distance to the control wells' median in units of their `robust_spread`.

    Controls that are all equal, or a single one, have none; the spread of all wells is taken, and where that is none
    too, z is NaN.

    Parameters
    ----------
    values : (wells,) float
    control : (wells,) bool
    leave_one_out : bool
        Compare each control well with the other ones, so that it does not vouch for itself.
    """
    reference = _of(values, control)
    z = (values - float(_median(reference))) / _spread(reference, values)
    if leave_one_out:
        for well in np.flatnonzero(control):
            others = control.copy()
            others[well] = False
            rest = values[others & np.isfinite(values)]
            z[well] = (
                (values[well] - float(_median(rest))) / _spread(rest, values) if rest.size > 1 else np.nan
            )
    return z


def _spread(reference: Floats, values: Floats) -> float:
    if np.ptp(reference) == 0:
        return robust_spread(values) if np.nanmin(values) < np.nanmax(values) else float("nan")
    return robust_spread(reference)


def b_score(values: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp], control: Mask) -> Floats:
    """Residual of the plate's median polish over its 1.4826 · MAD.

    Row and column effects come from the sample wells alone: controls in two columns would pass for column effects.
    A control well in a row or column without samples gets no effect subtracted for it.

    Parameters
    ----------
    values, control : (wells,)
    rows, columns : (wells,) int
        Place of each well, from 0.

    Notes
    -----
    Brideau et al., J. Biomol. Screen. 8:634 (2003); Malo et al., Nat. Biotechnol. 24:167 (2006).
    """
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    grid[rows[~control], columns[~control]] = values[~control]
    if not np.isfinite(grid).any():
        raise DataError(
            "B-score: no sample well with a value besides the controls. Use robust z on such a plate "
            "(--set call.normalise=robust-z)."
        )
    fit = median_polish(grid)
    residual = values - (fit.overall + np.nan_to_num(fit.row)[rows] + np.nan_to_num(fit.column)[columns])
    return residual / robust_spread(fit.residual, scale=float(np.nanmax(np.abs(grid))))


def median_polish(grid: Floats, *, tolerance: float = 1e-9, max_sweeps: int = 10_000) -> MedianPolish:
    """Tukey's median polish, swept until it has converged.

    Parameters
    ----------
    grid : (rows, columns) float
        NaN where there is no well.
    tolerance : float
        Largest row or column median left, in units of the data's largest distance from their median.
    max_sweeps : int

    Raises
    ------
    DataError
        Nothing in the grid is finite, or it still moves after `max_sweeps`.

    Notes
    -----
    Tukey, Exploratory Data Analysis (1977), chapter 11. Sweeps shrink the medians geometrically; ten, as many programs
    do, leave 1e-3 on a plate of 384 wells. Where sweeps run in a circle, which medians of an even number can, they are
    damped: half of each median is taken away.
    """
    if not np.isfinite(grid).any():
        raise DataError("median polish: no well has a finite value.")
    residual = np.where(np.isfinite(grid), grid, np.nan)
    has_row, has_column = np.isfinite(residual).any(axis=1), np.isfinite(residual).any(axis=0)
    row, column = np.zeros(grid.shape[0]), np.zeros(grid.shape[1])
    overall, bar = 0.0, tolerance * float(np.nanmax(np.abs(residual - np.nanmedian(residual))))
    for sweep in range(max_sweeps):
        step = 1.0 if sweep < max_sweeps // 2 else 0.5
        by_row = np.nan_to_num(_median(residual, 1)) * step
        residual -= by_row[:, None]
        row += by_row
        by_column = np.nan_to_num(_median(residual, 0)) * step
        residual -= by_column
        column += by_column
        middle = float(np.median(row[has_row])), float(np.median(column[has_column]))
        row, column, overall = row - middle[0], column - middle[1], overall + sum(middle)
        left = max(np.nanmax(np.abs(_median(residual, 1))), np.nanmax(np.abs(_median(residual, 0))))
        if left <= bar:
            row, column = np.where(has_row, row, np.nan), np.where(has_column, column, np.nan)
            return MedianPolish(overall, row, column, residual, sweep + 1)
    raise DataError(
        f"median polish: row and column medians of {left:.2g} are left after {max_sweeps} sweeps. Use robust z."
    )


def _of(values: Floats, control: Mask) -> Floats:
    reference = values[control & np.isfinite(values)]
    if reference.size == 0:
        raise DataError(
            f"no control well has a value ({int(control.sum())} control wells, {len(values)} wells). Look at their "
            "fields: they may all be flagged."
        )
    return reference
