"""How fast something grows, with an interval that knows that neighbouring frames resemble each other.

Frames of a time lapse are not independent: what makes one a little too high makes the next so too. A straight line
through them by least squares then gives intervals several times too narrow. Here errors follow one another by a first
order autoregression, as in Prais and Winsten (Stat. Papers 383, 1954); its coefficient is corrected for being taken
from residuals of a line (Marriott and Pope, Biometrika 41:390, 1954), and degrees of freedom are those of as many
independent frames as the series is worth (Bartlett, J. R. Stat. Soc. 98:536, 1935).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

__all__ = ["CONFLUENT", "FEWEST", "MEASURES", "Line", "doubling_time", "fit_line", "growth_rates", "in_words"]

MEASURES = ("n_objects", "confluence")
# Above this share of the field cells run out of room: growth is no longer exponential.
CONFLUENT = 0.8
# Frames that a rate needs.
FEWEST = 5
# Frames of this flag are kept out; in a saturated one nuclei are counted right.
_KEPT_OUT = "blurred"
_LEVEL = 0.95
_LARGEST_CORRELATION = 0.95
_ROUNDS = 20
# Degrees of freedom: fewer make intervals of short series twice as wide and, simulated, not truer.
_LEAST_FREEDOM = 3.0

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """A straight line through a series.

    Attributes
    ----------
    intercept, slope : float
    low, high : float
        95 % interval of the slope.
    correlation : float
        Of the errors of neighbouring frames.
    n : int
        Points.
    """

    intercept: float
    slope: float
    low: float
    high: float
    correlation: float
    n: int


def fit_line(x: ArrayLike, y: ArrayLike) -> Line:
    """Fit a line to a series whose errors are correlated in time.

    Parameters
    ----------
    x : (n,) float
        Times, ascending; gaps are allowed.
    y : (n,) float

    Raises
    ------
    DataError
        Fewer than five points, times that do not ascend, or values that are not finite.

    Examples
    --------
    >>> line = fit_line([0, 1, 2, 3, 4], [1, 3, 5, 7, 9])
    >>> round(line.slope, 6), round(line.high - line.low, 6)
    (2.0, 0.0)
    """
    from scipy import stats

    times, values = (np.asarray(each, np.float64) for each in (x, y))
    if times.ndim != 1 or times.shape != values.shape or len(times) < FEWEST:
        raise DataError(
            f"fit_line: shapes {times.shape} and {values.shape}; {FEWEST} or more points are needed, one value each."
        )
    steps = np.diff(times)
    if not (np.isfinite(times).all() and np.isfinite(values).all() and (steps > 0).all()):
        raise DataError(
            "fit_line: times that do not ascend, or values that are not finite. Sort, and leave them out."
        )
    gaps = steps / np.median(steps)
    design = np.column_stack([np.ones_like(times), times])
    correlation, told = 0.0, -1.0
    for _ in range(_ROUNDS):
        kept = correlation**gaps
        white, seen = _whitened(design, kept), _whitened(values[:, None], kept)[:, 0]
        (intercept, slope), *_ = np.linalg.lstsq(white, seen)
        if abs(correlation - told) < 1e-6:
            break
        told, correlation = correlation, _correlation(values - design @ (intercept, slope))
    error = seen - white @ (intercept, slope)
    spread = math.sqrt(float(error @ error) / (len(times) - 2) * float(np.linalg.inv(white.T @ white)[1, 1]))
    worth = len(times) * (1 - correlation) / (1 + correlation)
    half = spread * float(stats.t.ppf((1 + _LEVEL) / 2, max(worth - 2, _LEAST_FREEDOM)))
    middle = float(slope)
    return Line(float(intercept), middle, middle - half, middle + half, correlation, len(times))


def _whitened(rows: Floats, kept: Floats) -> Floats:
    """Take from each row what the one before it says of its error, `kept` of it."""
    return np.concatenate([rows[:1], (rows[1:] - kept[:, None] * rows[:-1]) / np.sqrt(1 - kept**2)[:, None]])


def _correlation(error: Floats) -> float:
    """Correlation of neighbouring errors, from the residuals of a line."""
    square = float(error @ error)
    if square <= np.finfo(float).tiny:
        return 0.0
    seen = float(error[1:] @ error[:-1]) / square
    return float(np.clip(seen + (2 + 4 * seen) / len(error), 0.0, _LARGEST_CORRELATION))


def doubling_time(line: Line) -> tuple[float, float, float]:
    """Give the doubling time of what a line through logarithms says, and its interval.

    Parameters
    ----------
    line : Line
        Through natural logarithms.

    Returns
    -------
    value, low, high : float
        In the unit of time; infinite where nothing grows.
    """
    return _doubled(line.slope), _doubled(line.high), _doubled(line.low)


def _doubled(rate: float) -> float:
    if math.isnan(rate):
        return rate
    return math.log(2) / rate if rate > 0 else math.inf


def growth_rates(frames: pd.DataFrame) -> pd.DataFrame:
    """Fit how fast each series grows.

    Parameters
    ----------
    frames : DataFrame
        ``series``, ``hours``, ``flags`` (apart by ";") and one or both of `MEASURES`.

    Returns
    -------
    DataFrame
        A row per series and measure: ``n_frames`` used, ``first`` and ``last`` value; ``rate_per_h`` of exponential
        growth and ``doubling_h``; ``change_per_h`` of a straight line (of a gap that closes, its speed); each with
        ``_low`` and ``_high`` of a 95 % interval, NaN for fewer than five frames; ``exponential_at_0`` and
        ``line_at_0``, where both start; ``note``.

    Notes
    -----
    Exponential growth is a line through logarithms: of frames that are not empty and, for confluence, of those before
    the first above `CONFLUENT`. Blurred frames are kept out of everything.
    """
    import pandas as pd

    rows = []
    for series, every in frames.groupby("series", sort=True):
        blurred = every["flags"].fillna("").str.contains(_KEPT_OUT)
        own = every[~blurred].sort_values("hours")
        hours = own["hours"].to_numpy(np.float64)
        for measure in (name for name in MEASURES if name in frames):
            values = own[measure].to_numpy(np.float64)
            growing, notes = _growing(hours, values, limit=CONFLUENT if measure == "confluence" else math.inf)
            if n_blurred := int(blurred.sum()):
                notes.append(f"{n_blurred} blurred left out")
            rate = _line(hours[growing], np.log(values[growing]))
            change = _line(hours, values)
            rows.append(
                {
                    "series": series, "measure": measure, "n_frames": len(own),
                    "first": values[0] if len(values) else math.nan, "last": values[-1] if len(values) else math.nan,
                    **_named("rate_per_h", rate[1:4]), **_named("doubling_h", doubling_time(rate)),
                    "exponential_at_0": math.exp(rate.intercept), **_named("change_per_h", change[1:4]),
                    "line_at_0": change.intercept, "note": "; ".join(notes),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def in_words(row: Mapping[str, Any]) -> str:
    """Say what a row of `growth_rates` found: the doubling time, or the rate where nothing doubles.

    Of confluence also the change per hour, which is what a gap that closes shows.
    """
    said = []
    if row["measure"] == "confluence" and math.isfinite(row["change_per_h"]):
        said.append("{change_per_h:.3g} per h ({change_per_h_low:.3g} to {change_per_h_high:.3g})")
    if math.isfinite(row["doubling_h"]):
        said.append("doubles in {doubling_h:.3g} h ({doubling_h_low:.3g} to {doubling_h_high:.3g})")
    elif math.isfinite(row["rate_per_h"]):
        said.append(
            "does not grow: rate {rate_per_h:.3g} per h ({rate_per_h_low:.3g} to {rate_per_h_high:.3g})"
        )
    return "; ".join(said).format(**row) or "no rate"


def _growing(hours: Floats, values: Floats, *, limit: float) -> tuple[NDArray[np.bool_], list[str]]:
    """Say which frames may grow exponentially, and why the others may not."""
    growing, notes = values > 0, []
    if full := np.flatnonzero(values > limit)[:1].tolist():
        growing[full[0] :] = False
        notes.append(f"exponential until {limit:.0%} is covered, at {hours[full[0]]:g} h")
    if n_empty := int(np.count_nonzero(values <= 0)):
        notes.append(f"{n_empty} empty frames are not in the exponential")
    if growing.sum() < FEWEST:
        notes.append(f"a rate needs {FEWEST} frames")
    return growing, notes


def _line(x: Floats, y: Floats) -> Line:
    if len(x) < FEWEST:
        return Line(math.nan, math.nan, math.nan, math.nan, math.nan, len(x))
    return fit_line(x, y)


def _named(name: str, triple: tuple[float, ...]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), triple, strict=True))
