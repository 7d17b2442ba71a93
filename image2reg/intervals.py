"""Bootstrap confidence intervals over independent units: fields, wells, blocks; never voxels.

Voxels of one field and nuclei of one well are not independent, so an interval over them is far too narrow.
Every function here resamples the unit it is given; with `groups` it resamples whole groups (the cluster
bootstrap) and keeps the members of a group together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import ConfigurationError, DataError

__all__ = ["Interval", "bootstrap_interval", "paired_difference_interval", "paired_p_value"]

# Index matrices are drawn in blocks of at most this many entries, so memory does not grow with n x units.
_BLOCK_ENTRIES = 4_000_000

Statistic = Callable[..., Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A statistic with its percentile-bootstrap confidence interval.

    Attributes
    ----------
    value : float
        The statistic of the data themselves. NaN when no unit has a value.
    low, high : float
        Ends of the interval; NaN when it is undefined, and then `reason` says why.
    n : int
        Number of independent units (groups, where groups were given) that entered.
    level : float
        Nominal coverage, e.g. 0.95.
    n_missing : int
        Units or values that were NaN and therefore left out.
    reason : str
        Empty when the interval is defined.

    Examples
    --------
    >>> str(Interval(0.61, 0.55, 0.66, n=12, level=0.95))
    '0.610 [0.550, 0.660] (95 %, n = 12)'
    """

    value: float
    low: float
    high: float
    n: int
    level: float
    n_missing: int = 0
    reason: str = ""

    def __str__(self) -> str:
        """Value, ends, level and number of units in one line, as printed in tables."""
        missing = f", {self.n_missing} missing" if self.n_missing else ""
        ends = f"no interval: {self.reason}" if self.reason else f"{self.low:.3f}, {self.high:.3f}"
        return f"{self.value:.3f} [{ends}] ({100 * self.level:g} %, n = {self.n}{missing})"

    def as_dict(self) -> dict[str, Any]:
        """Give the fields as a plain dictionary, for JSON and tables."""
        return asdict(self)


def bootstrap_interval(
    values: ArrayLike,
    *,
    seed: int | np.random.Generator,
    groups: Sequence[Hashable] | NDArray[Any] | None = None,
    statistic: Statistic = np.mean,
    n: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a statistic over independent units.

    Parameters
    ----------
    values : (units,) float
        One number per unit, e.g. one Pearson r per field. NaN means "undefined for this unit": it is left out
        and counted in `Interval.n_missing`.
    seed : int or numpy Generator
        The same seed, values and order give the same interval.
    groups : (units,) hashable, optional
        Group of each unit (well, plate, experiment). Groups are resampled whole, and the statistic is taken
        over the pooled members of the drawn groups.
    statistic : callable
        Takes an array and ``axis``, like `numpy.mean` (default) or `numpy.median`.
    n : int
        Number of bootstrap samples.
    level : float
        Coverage, between 0 and 1.

    Returns
    -------
    Interval
        With a single unit (or group), an infinite value, or a sample in which the statistic is undefined, `low` and
        `high` are NaN and `reason` says so.

    Raises
    ------
    DataError
        `values` is not one-dimensional, or `groups` has another length or holds NaN.
    ConfigurationError
        `level` or `n` is out of range.

    Notes
    -----
    Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; cluster variant: Davison &
    Hinkley, Bootstrap Methods and their Application (1997), section 3.8. Percentile intervals from very few
    units are too narrow: with fewer than about ten, read them as a lower bound on the uncertainty.

    Examples
    --------
    >>> bootstrap_interval([0.5, 0.6, 0.7], seed=0).n
    3
    """
    return _interval(_as_row(values, "values")[None], groups, statistic, n=n, level=level, seed=seed)


def paired_difference_interval(
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int | np.random.Generator,
    groups: Sequence[Hashable] | NDArray[Any] | None = None,
    statistic: Statistic = np.mean,
    n: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of ``statistic(first) - statistic(second)`` for two models scored on the same units.

    The same units are drawn for both models, so what makes a field easy or hard for both cancels. A unit
    where either score is NaN is left out of both. Parameters, result and errors as in `bootstrap_interval`;
    an interval that excludes 0 is a difference that the units support.

    Examples
    --------
    >>> paired_difference_interval([0.6, 0.7, 0.9], [0.5, 0.6, 0.8], seed=0).low > 0
    True
    """
    rows = _as_row(first, "first"), _as_row(second, "second")
    if rows[0].size != rows[1].size:
        raise DataError(
            f"paired difference: first has {rows[0].size} units, second has {rows[1].size}; "
            "they must be scores of the same units in the same order."
        )
    return _interval(np.stack(rows), groups, statistic, n=n, level=level, seed=seed)


def paired_p_value(
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int,
    groups: Sequence[Hashable] | NDArray[Any] | None = None,
    n: int = 4999,
) -> float:
    """Two-sided p-value of "which of the two models is which makes no difference", by exchanging them at random.

    The two scores of a unit (of all units of a group together) change places with probability one half; the p-value
    is the share of `n` exchanges whose mean difference is at least as far from 0 as the one seen, which counts too
    (Phipson and Smyth 2010). Units where either score is NaN are left out.

    Raises
    ------
    DataError
        Different lengths, a group missing, or no unit with both scores.

    Examples
    --------
    >>> paired_p_value([0.6, 0.7, 0.9, 0.8] * 5, [0.5, 0.6, 0.8, 0.7] * 5, seed=0) < 0.01
    True
    """
    rows = _as_row(first, "first"), _as_row(second, "second")
    if rows[0].size != rows[1].size or not np.isfinite(rows[0] - rows[1]).any():
        raise DataError(
            f"paired test: {rows[0].size} and {rows[1].size} scores; they must be scores of the same units in the "
            "same order, both finite for one unit at least."
        )
    difference = rows[0] - rows[1]
    codes = _group_codes(groups, difference.size)
    kept = np.isfinite(difference)
    codes = np.arange(difference.size) if codes is None else codes
    sums = np.bincount(codes[kept], weights=difference[kept])
    rng = np.random.default_rng(seed)
    least = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
    as_far = 0
    # Signs come four to a random word: in blocks of whole words they are those of one draw.
    step = 4 * max(1, _BLOCK_ENTRIES // (4 * sums.size))
    for start in range(0, n, step):
        signs = rng.integers(2, size=(min(step, n - start), sums.size), dtype=np.int8) * 2 - 1
        as_far += int((np.abs(signs @ sums) >= least).sum())
    return (1 + as_far) / (n + 1)


def _as_row(values: ArrayLike, name: str) -> Floats:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1:
        raise DataError(
            f"bootstrap: {name} has shape {row.shape}; pass one number per independent unit (one dimension)."
        )
    return row


def _interval(
    rows: Floats,
    groups: Sequence[Hashable] | NDArray[Any] | None,
    statistic: Statistic,
    *,
    n: int,
    level: float,
    seed: int | np.random.Generator,
) -> Interval:
    """Interval of the statistic of row 0, minus that of row 1 where there is one; `rows` is (1|2, units)."""
    if not 0 < level < 1:
        raise ConfigurationError(f"bootstrap: level is {level}; allowed is 0 < level < 1, e.g. 0.95.")
    if n < 1:
        raise ConfigurationError(f"bootstrap: n is {n} samples; allowed is at least 1, usual is 2000.")
    codes = _group_codes(groups, rows.shape[1])
    present = ~np.isnan(rows).any(axis=0)
    n_missing = int(np.count_nonzero(~present))
    rows = rows[:, present]
    if codes is not None:
        codes = np.unique(codes[present], return_inverse=True)[1]
    unit = "unit" if codes is None else "group"
    n_units = rows.shape[1] if codes is None else int(codes.max(initial=-1)) + 1
    value, reason = float("nan"), ""
    if rows.shape[1]:
        value = (
            _contrast(statistic(rows, axis=1))
            if np.isfinite(rows).all()
            else _contrast_infinite(rows, statistic)
        )
    if n_units == 0:
        reason = "no unit has a value"
    elif not np.isfinite(rows).all():
        reason = f"{int(np.isinf(rows).any(axis=0).sum())} of {rows.shape[1]} values are infinite"
    elif n_units == 1:
        reason = f"one {unit} only; an interval needs at least two independent {unit}s"
    if reason:
        return Interval(value, float("nan"), float("nan"), n_units, level, n_missing, reason)
    rng = np.random.default_rng(seed)
    replicates = np.concatenate(list(_replicates(rows, codes, statistic, n_units, n, rng)))
    if undefined := int((~np.isfinite(replicates)).sum()):
        reason = f"the statistic is undefined in {undefined} of {n} bootstrap samples"
        return Interval(value, float("nan"), float("nan"), n_units, level, n_missing, reason)
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), n_units, level, n_missing)


def _contrast(statistics: Floats) -> float:
    return float(statistics[0] - statistics[1]) if len(statistics) == 2 else float(statistics[0])


def _contrast_infinite(rows: Floats, statistic: Statistic) -> float:
    with np.errstate(
        invalid="ignore"
    ):  # inf - inf is NaN here, on purpose; the reason is given to the caller
        return _contrast(np.asarray(statistic(rows, axis=1)))


def _group_codes(groups: Sequence[Hashable] | NDArray[Any] | None, n_units: int) -> NDArray[np.intp] | None:
    """Integer group of each unit, numbered by first appearance so that labels of any type will do."""
    if groups is None:
        return None
    labels = list(groups)
    if len(labels) != n_units:
        raise DataError(f"bootstrap: {len(labels)} groups for {n_units} values; give one group per value.")
    if n_missing := sum(isinstance(label, float) and math.isnan(label) for label in labels):
        raise DataError(
            f"bootstrap: {n_missing} of {n_units} units have no group (NaN), so what is independent of what is not "
            "known. Name their group, or leave them out."
        )
    order: dict[Hashable, int] = {}
    return np.array([order.setdefault(label, len(order)) for label in labels], dtype=np.intp)


def _replicates(
    rows: Floats,
    codes: NDArray[np.intp] | None,
    statistic: Statistic,
    n_units: int,
    n: int,
    rng: np.random.Generator,
) -> Iterator[Floats]:
    """Blocks of bootstrap replicates, each (samples in block,)."""
    members: list[NDArray[np.intp]] = []
    sums, counts = rows, np.ones(rows.shape[1])
    if codes is not None:
        counts = np.bincount(codes, minlength=n_units).astype(np.float64)
        sums = np.stack([np.bincount(codes, weights=row, minlength=n_units) for row in rows])
        members = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1].astype(np.intp))
    block = max(1, _BLOCK_ENTRIES // n_units)
    for start in range(0, n, block):
        draws = rng.integers(n_units, size=(min(block, n - start), n_units))
        if statistic is np.mean:
            drawn = sums[:, draws].sum(axis=2) / counts[draws].sum(axis=1)
        elif codes is None:
            drawn = np.asarray(statistic(rows[:, draws], axis=2))
        else:  # groups differ in size, so the samples are ragged
            pooled = (rows[:, np.concatenate([members[g] for g in draw])] for draw in draws)
            drawn = np.stack([np.asarray(statistic(sample, axis=1)) for sample in pooled], axis=1)
        yield drawn[0] - drawn[1] if len(drawn) == 2 else drawn[0]
