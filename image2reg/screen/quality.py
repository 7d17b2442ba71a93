"""Is a plate fit to be read: Z', SSMD, and a table of them with edge and gradient effects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import ConfigurationError
from image2reg.screen.normalise import median_polish, robust_spread
from image2reg.screen.plates import (
    CONTROL,
    NEGATIVE,
    PLATE,
    POSITIVE,
    WELL,
    parse_well,
    plate_grid,
    plate_shape,
)
from image2reg.screen.predicted import ORIGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["plate_quality", "ssmd", "z_prime"]

# |SSMD| between a strong positive and the negative control (Zhang, J. Biomol. Screen. 13:363, 2008).
_GRADES = ((3.0, "excellent"), (2.0, "good"), (1.0, "inferior"))


_ROUNDING = 1e-12


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, np.float64).ravel()
    return found[np.isfinite(found)]


def z_prime(positive: ArrayLike, negative: ArrayLike) -> float:
    """``1 - 3 (sd_p + sd_n) / |mean_p - mean_n|``: 0.5 and above is an excellent assay.

    NaN with fewer than two wells on a side, or equal means.

    Notes
    -----
    Zhang, Chung & Oldenburg, J. Biomol. Screen. 4:67 (1999). Sample standard deviations (n - 1).

    Examples
    --------
    >>> round(z_prime([9.0, 10.0, 11.0], [-0.5, 0.0, 0.5]), 3)
    0.55
    """
    p, n = _finite(positive), _finite(negative)
    if min(p.size, n.size) < 2 or p.mean() == n.mean():
        return math.nan
    return float(1 - 3 * (p.std(ddof=1) + n.std(ddof=1)) / abs(p.mean() - n.mean()))


def ssmd(first: ArrayLike, second: ArrayLike, *, estimator: Literal["mm", "umvue"] = "umvue") -> float:
    """Strictly standardised mean difference of two groups of wells, first minus second.

    Parameters
    ----------
    first, second : (wells,) float
        NaN is left out.
    estimator : str
        ``mm``: method of moments, ``(m1 - m2) / sqrt(s1² + s2²)``. ``umvue``: the unbiased estimator of least variance
        for two normal groups of one variance, ``(m1 - m2) / sqrt(2/K ((n1-1) s1² + (n2-1) s2²))`` with
        ``K = 2 (Γ((n1+n2-2)/2) / Γ((n1+n2-3)/2))²``, which `mm` overestimates in small groups.

    Returns
    -------
    float
        NaN with too few wells (two a side; ``umvue``: four in all and one a side) or no spread.

    Notes
    -----
    Zhang, Genomics 89:552 (2007); Zhang et al., BMC Research Notes 1:33 (2008). K follows from
    ``E[1/χ_f] = Γ((f-1)/2) / (√2 Γ(f/2))`` with f = n1 + n2 - 2 degrees of freedom.

    Examples
    --------
    >>> round(ssmd([3, 4, 5], [0, 1, 2], estimator="mm"), 3)
    2.121
    """
    a, b = _finite(first), _finite(second)
    if estimator not in ("mm", "umvue"):
        raise ConfigurationError(f"SSMD estimator {estimator!r}; allowed are 'mm' and 'umvue'.")
    if min(a.size, b.size) < (2 if estimator == "mm" else 1) or a.size + b.size < 4:
        return math.nan
    if estimator == "mm":
        square = a.var(ddof=1) + b.var(ddof=1)
    else:
        freedom = a.size + b.size - 2
        k = 2 * math.exp(2 * (math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)))
        square = 2 / k * (((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    # Equal values leave the rounding of their mean.
    rounding = _ROUNDING * max(np.abs(a).max(), np.abs(b).max())
    return float((a.mean() - b.mean()) / math.sqrt(square)) if square > rounding**2 else math.nan


def plate_quality(frame: pd.DataFrame, readouts: Sequence[str]) -> pd.DataFrame:
    """Quality of each plate in each readout.

    Parameters
    ----------
    frame : DataFrame, one row per well
        ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Control`` (negative, positive or ""), readouts.
    readouts : sequence of str

    Returns
    -------
    DataFrame, one row per plate and readout
        ``origin`` (what ``Metadata_Origin`` says, if it is there), ``n_wells``, ``n_missing`` (wells without a value),
        ``n_negative``, ``n_positive``, ``z_prime``, ``z_prime_robust`` (medians and 1.4826 · MAD), ``ssmd``
        (small-sample estimator), ``grade`` (excellent, good, inferior, poor: of the size of SSMD), ``control_cv``,
        ``edge`` (median of the outer wells minus that of the inner ones) and ``gradient`` (range of row plus range of
        column effects of the median polish), both of sample wells in units of their 1.4826 · MAD. NaN where the wells
        for it are not there. All plates are taken for one format, the smallest of 96, 384 and 1536 wells that holds
        every well of the table.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    shape = plate_shape(frame[WELL].unique().tolist())
    for plate, wells in frame.groupby(PLATE, sort=False):
        kinds = wells[CONTROL].to_numpy(object)
        said = wells[ORIGIN].replace("", None).dropna().unique() if ORIGIN in wells else []
        origin = {"origin": "; ".join(said)} if ORIGIN in wells else {}
        for readout in readouts:
            values = wells[readout].to_numpy(np.float64)
            negative, positive = values[kinds == NEGATIVE], values[kinds == POSITIVE]
            strict = ssmd(positive, negative)
            good = _finite(negative)
            edge, gradient = _position_effects(
                list(wells[WELL]), np.where(kinds == "", values, np.nan), shape
            )
            rows.append(
                {
                    "plate": plate, **origin, "readout": readout, "n_wells": len(wells),
                    "n_missing": int(np.isnan(values).sum()), "n_negative": len(negative),
                    "n_positive": len(positive), "z_prime": z_prime(positive, negative),
                    "z_prime_robust": _robust_z_prime(positive, negative), "ssmd": strict, "grade": _grade(strict),
                    "control_cv": float(good.std(ddof=1) / good.mean()) if good.size > 1 and good.mean() else math.nan,
                    "edge": edge, "gradient": gradient,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _grade(value: float) -> str:
    if math.isnan(value):
        return ""
    return next((word for bar, word in _GRADES if abs(value) >= bar), "poor")


def _robust_z_prime(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    p, n = _finite(positive), _finite(negative)
    if min(p.size, n.size) < 2 or np.median(p) == np.median(n):
        return math.nan
    return float(1 - 3 * (robust_spread(p) + robust_spread(n)) / abs(np.median(p) - np.median(n)))


def _position_effects(
    wells: list[str], values: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[float, float]:
    present = np.isfinite(values)
    if present.sum() < 8:
        return math.nan, math.nan
    grid = plate_grid(wells, values, shape=shape)
    places = np.array([parse_well(well) for well in wells])
    outer = ((places == 0) | (places == np.array(grid.shape) - 1)).any(axis=1)
    spread = robust_spread(values[present])
    edge = math.nan
    if (outer & present).any() and (~outer & present).any():
        edge = float(np.median(values[outer & present]) - np.median(values[~outer & present])) / spread
    fit = median_polish(grid)
    gradient = (
        np.nanmax(fit.row) - np.nanmin(fit.row) + np.nanmax(fit.column) - np.nanmin(fit.column)
    ) / spread
    return edge, float(gradient)
