"""Dose and response: a four-parameter logistic curve, its EC50, and the interval that the data leave to it.

    y = bottom + (top - bottom) / (1 + (EC50 / dose)^slope)

For a given EC50 and slope the curve is linear in bottom and top, so these two are solved for and only two parameters
are searched (Golub & Pereyra, SIAM J. Numer. Anal. 10:413, 1973). The interval is that of the profile likelihood:
all EC50 whose best curve fits not significantly worse (Bates & Watts, Nonlinear Regression Analysis, 1988, chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import DataError

__all__ = ["DoseResponse", "fit_dose_response"]

Floats = NDArray[np.float64]

_SLOPES = (0.2, 20.0)
# Searched beyond the tested doses: an EC50 further out is not known from these data.
_BEYOND_DECADES = 1.0
_GRID = 61


@dataclass(frozen=True)
class DoseResponse:
    """A fitted curve.

    Attributes
    ----------
    bottom, top : float
        Response without and with endless compound; `top` may lie below.
    ec50 : float
        Dose of the half effect, in the doses' unit; NaN when no curve is supported, and `reason` says why.
    low, high : float
        Interval of the EC50; 0 or infinite where the data leave it open on that side.
    slope : float
        Hill slope, positive.
    level : float
        Coverage of the interval.
    residual_sd : float
    r2 : float
        Share of the variance the curve explains.
    p_flat : float
        Of the F test against a constant.
    n_wells, n_doses : int
    reason : str
    """

    bottom: float
    top: float
    ec50: float
    low: float
    high: float
    slope: float
    level: float
    residual_sd: float
    r2: float
    p_flat: float
    n_wells: int
    n_doses: int
    reason: str = ""

    def predict(self, dose: ArrayLike) -> Floats:
        """Response at doses; at 0 it is `bottom`."""
        return self.bottom + (self.top - self.bottom) * _share(
            np.asarray(dose, np.float64), math.log(self.ec50), self.slope
        )

    def as_dict(self) -> dict[str, Any]:
        """Give the fields as a plain dictionary, for JSON and tables."""
        return asdict(self)


def fit_dose_response(doses: ArrayLike, responses: ArrayLike, *, level: float = 0.95) -> DoseResponse:
    """Fit the curve by least squares over wells.

    Parameters
    ----------
    doses : (wells,) float
        At least 0; control wells are dose 0. NaN pairs are left out.
    responses : (wells,) float
    level : float
        Coverage of the interval.

    Returns
    -------
    DoseResponse
        Where a constant fits as well (F test, p > 0.05), there are too few doses, the best EC50 is not within a decade
        of the doses, or its interval has no end on either side, it is NaN with a reason (in the last two cases with the
        interval).

    Raises
    ------
    DataError
        Lengths differ, or a dose is negative.

    Examples
    --------
    >>> dose = np.repeat([0, 1, 2, 4, 8, 16, 32], 2)
    >>> wiggle = np.tile([0.01, -0.01], 7)
    >>> round(fit_dose_response(dose, 1 + 4 / (1 + (5 / np.maximum(dose, 1e-9)) ** 2) + wiggle).ec50, 1)
    5.0
    """
    x, y = np.asarray(doses, np.float64), np.asarray(responses, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise DataError(f"dose-response: {x.shape} doses for {y.shape} responses; give one of each per well.")
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if (x < 0).any():
        raise DataError(f"dose-response: a dose of {x.min():g}; doses are 0 or more, not their logarithms.")
    n_doses, free = len(np.unique(x[x > 0])), len(x) - 4
    if n_doses < 4 or free < 1:
        return _none(
            x, y, level, f"{n_doses} doses above 0 in {len(x)} wells; four doses and five wells are needed"
        )
    total = float(((y - y.mean()) ** 2).sum())
    if total == 0:
        return _none(x, y, level, "all responses are equal")
    search = _Search(x, y)
    place, slope, error = search.best()
    from scipy import stats

    f_flat = (total - error) / 3 / max(error / free, 1e-300)
    p_flat = float(stats.f.sf(f_flat, 3, free))
    if p_flat > 0.05:
        return _none(x, y, level, f"a constant fits as well (p = {p_flat:.2g})", p_flat)
    bar = error * (1 + float(stats.f.ppf(level, 1, free)) / free)
    low, high = search.interval(place, bar)
    if side := search.side(place):
        without = _none(x, y, level, f"the EC50 is more than a decade {side} the doses", p_flat)
        return replace(without, low=low, high=high)
    if low == 0 and math.isinf(high):
        without = _none(x, y, level, "the responses change with dose, but fit any EC50", p_flat)
        return replace(without, low=low, high=high)
    bottom, top = search.ends(place, slope)
    return DoseResponse(
        bottom, top, math.exp(place), low, high, slope, level, math.sqrt(error / free), 1 - error / total, p_flat,
        len(x), n_doses,
    )  # fmt: skip


def _none(x: Floats, y: Floats, level: float, reason: str, p_flat: float = math.nan) -> DoseResponse:
    nan, mean = math.nan, float(y.mean()) if y.size else math.nan
    spread = float(y.std(ddof=1)) if y.size > 1 else nan
    return DoseResponse(
        mean, mean, nan, nan, nan, nan, level, spread, 0.0, p_flat, len(x), len(np.unique(x[x > 0])), reason
    )


def _share(dose: Floats, place: float | Floats, slope: float | Floats) -> Floats:
    """Share of the full effect, 0 … 1; `place` is the natural logarithm of the EC50."""
    with np.errstate(divide="ignore"):
        exponent = slope * (np.log(dose) - place)
    return np.asarray(1 / (1 + np.exp(np.clip(-exponent, -700, 700))))


class _Search:
    """Sum of squares over (log EC50, log slope), bottom and top solved for."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self.x, self.y = x, y
        beyond = _BEYOND_DECADES * math.log(10)
        present = np.log(x[x > 0])
        self.places = np.linspace(present.min() - beyond, present.max() + beyond, _GRID)
        self.slopes = np.linspace(math.log(_SLOPES[0]), math.log(_SLOPES[1]), _GRID)

    def errors(self, places: ArrayLike, log_slopes: ArrayLike) -> Floats:
        """Residual sums of squares for pairs of parameters, in one go."""
        place, slope = np.broadcast_arrays(places, np.exp(log_slopes))
        share = _share(self.x, place[..., None], slope[..., None])
        centred, y = share - share.mean(axis=-1, keepdims=True), self.y - self.y.mean()
        size = (centred**2).sum(axis=-1)
        explained = np.divide((centred @ y) ** 2, size, out=np.zeros_like(size), where=size > 1e-12)
        return np.asarray((y**2).sum() - explained)

    def side(self, place: float) -> str:
        """Say on which side of the doses the search ran into its end; "" where it did not."""
        step = self.places[1] - self.places[0]
        below, above = place < self.places[0] + step / 10, place > self.places[-1] - step / 10
        return "below" if below else "above" if above else ""

    def ends(self, place: float, slope: float) -> tuple[float, float]:
        """Bottom and top of the best curve."""
        share = _share(self.x, place, slope)
        spread = share - share.mean()
        height = float(spread @ self.y / (spread @ spread))
        bottom = float(self.y.mean() - height * share.mean())
        return bottom, bottom + height

    def best(self) -> tuple[float, float, float]:
        """Log EC50, slope and error of the best curve: a grid, then a polish from its best places."""
        from scipy.optimize import minimize

        grid = self.errors(self.places[:, None], self.slopes[None, :])
        starts = np.argsort(grid.ravel())[:3]
        bounds = [(self.places[0], self.places[-1]), (self.slopes[0], self.slopes[-1])]
        found = [
            minimize(
                lambda at: float(self.errors(at[0], at[1])),
                (self.places[s // _GRID], self.slopes[s % _GRID]),
                bounds=bounds, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12 * float(grid.max() + 1)},
            )
            for s in starts
        ]  # fmt: skip
        winner = min(found, key=lambda result: result.fun)
        return float(winner.x[0]), math.exp(float(winner.x[1])), max(float(winner.fun), 0.0)

    def profile(self, place: float) -> float:
        """Error of the best curve with this EC50."""
        slopes = self.slopes
        for _ in range(2):  # a grid, and one sixty times finer around its best place
            grid = self.errors(place, slopes)
            at = int(np.argmin(grid))
            slopes = np.linspace(slopes[max(at - 1, 0)], slopes[min(at + 1, _GRID - 1)], _GRID)
        return float(self.errors(place, slopes).min())

    def interval(self, place: float, bar: float) -> tuple[float, float]:
        """Find the EC50s where the profile crosses `bar`, going outward; open ends are 0 and infinite."""

        def beyond(at: float) -> float:
            return self.profile(at) - bar

        low = _crossing(beyond, place, self.places[self.places < place][::-1])
        high = _crossing(beyond, place, self.places[self.places > place])
        return (math.exp(low) if low is not None else 0.0), (math.exp(high) if high is not None else math.inf)


def _crossing(beyond: Callable[[float], float], start: float, steps: Floats) -> float | None:
    from scipy.optimize import brentq

    inside = start
    for step in steps:
        if beyond(float(step)) > 0:
            return float(brentq(beyond, inside, float(step), xtol=1e-4)) if beyond(inside) < 0 else inside
        inside = float(step)
    return None
