"""Multiple testing: false discovery rates, and one p-value from several."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["benjamini_hochberg", "simes"]


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values (q): calling what is at or below a level keeps the false discovery rate at it.

    Parameters
    ----------
    p_values : (tests,) float
        NaN is no test: it stays NaN and does not count.

    Notes
    -----
    Benjamini & Hochberg, J. R. Stat. Soc. B 57:289 (1995).

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.02, 0.5]).round(3).tolist()
    [0.03, 0.03, 0.5]
    """
    p = np.asarray(p_values, np.float64)
    q = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    n = len(order)
    scaled = p[order] * n / np.arange(1, n + 1)
    q[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return q


def simes(p_values: ArrayLike) -> float:
    """One p-value of several tests of one hypothesis; valid when they depend positively, as reagents of a gene do.

    Notes
    -----
    Simes, Biometrika 73:751 (1986).

    Examples
    --------
    >>> simes([0.01, 0.5])
    0.02
    """
    p = np.sort(np.asarray(p_values, np.float64))
    p = p[~np.isnan(p)]
    return float(np.min(p * len(p) / np.arange(1, len(p) + 1))) if p.size else float("nan")
