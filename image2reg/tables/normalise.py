"""Profiles relative to their controls: standardised, robustly standardised or sphered, per plate or per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.wording import other_case

if TYPE_CHECKING:
    from image2reg.tables.profiles import Profiles

__all__ = ["FLAT", "METHODS", "Normalised", "Sphering", "controls_of", "fit_sphering", "normalise", "sphere"]

METHODS = ("standard", "robust", "centre")
_MAD_TO_SD = 1.4826
# Below this share of the feature's own magnitude, a spread among the controls is rounding and not biology.
FLAT = 1e-6


@dataclass(frozen=True)
class Normalised:
    """Normalised profiles and what was done to them.

    Attributes
    ----------
    profiles : Profiles
    constant : tuple of str
        Features without spread among the controls of at least one group: only centred there, so that no
        division by almost nothing makes a number of 1e18.
    floored : tuple of str
        Features whose spread was raised to the floor in at least one group.
    groups : dict of str to int
        Controls used per group.
    """

    profiles: Profiles
    constant: tuple[str, ...]
    floored: tuple[str, ...]
    groups: dict[str, int]


def controls_of(profiles: Profiles, query: str, *, every: bool = True) -> NDArray[np.bool_]:
    """Rows named by ``Metadata_Column=value`` (several values separated by commas).

    `every` value must be there; otherwise one is enough.

    Raises
    ------
    ConfigurationError
        Not of that form.
    DataError
        No such column, or no row of a value; the values there are are named.
    """
    column, equals, value = query.partition("=")
    if not equals or not value:
        raise ConfigurationError(
            f"controls {query!r}: write Metadata_Column=value, such as Metadata_Compound=DMSO."
        )
    cells = profiles.column(column.strip())
    wanted = [part.strip() for part in value.split(",")]
    # "DMSO " of a spreadsheet is a control too, not a compound of its own.
    stripped = np.char.strip(cells.astype(str))
    found = np.isin(stripped, wanted)
    absent = [value for value in wanted if value not in stripped]
    if absent and (every or not found.any()):
        seen = sorted(set(cells))[:8]
        hint = other_case(absent, stripped)
        raise DataError(f"{profiles.source}: no row has {column} in {absent}; there are {seen}.{hint}")
    return found


def normalise(
    profiles: Profiles,
    *,
    controls: NDArray[np.bool_] | None = None,
    by: Sequence[str] = (),
    method: str = "robust",
    floor: float = 0.0,
    least_controls: int = 3,
) -> Normalised:
    """Subtract the controls' level and divide by their spread, group by group.

    Parameters
    ----------
    profiles : Profiles
        NaN features stay NaN.
    controls : (n,) bool, optional
        Rows that level and spread are taken from; all rows where it is None.
    by : column names
        Groups normalised on their own: ``["Metadata_Plate"]``, ``["Metadata_Batch"]``; empty: all together.
    method : {"robust", "standard", "centre"}
        Median and 1.4826 MAD (where that is 0, the standard deviation: otherwise a feature in which most controls agree
        would keep its own unit on some plates); mean and standard deviation (n - 1); median alone.
    floor : float
        A spread below it is raised to it (in the features' own units). A spread below 1e-6 of the feature's level
        counts as none at all, whatever the floor, and is reported.
    least_controls : int
        Fewer controls in a group are refused.

    Returns
    -------
    Normalised

    Raises
    ------
    ConfigurationError
        Unknown method, or a negative floor.
    DataError
        A group has too few controls; all such groups are named with their numbers.
    """
    if method not in METHODS or floor < 0:
        raise ConfigurationError(
            f"normalise: method {method!r}, floor {floor}; allowed are {', '.join(METHODS)} with a floor of 0 or more."
        )
    used = np.ones(len(profiles), bool) if controls is None else np.asarray(controls, bool)
    groups = _groups(profiles, by)
    counts = {name: int(used[rows].sum()) for name, rows in groups}
    few = {name: count for name, count in counts.items() if count < least_controls}
    if few:
        shown = ", ".join(f"{name!r} ({count})" for name, count in list(few.items())[:6])
        raise DataError(
            f"{profiles.source}: {len(few)} of {len(counts)} groups by {list(by) or 'nothing'} have fewer than "
            f"{least_controls} controls: {shown}. Normalise by a larger unit (batch), or add controls."
        )
    values = profiles.values
    constant = np.zeros(values.shape[1], bool)
    floored = np.zeros(values.shape[1], bool)
    for _, rows in groups:
        level, spread = _level_and_spread(values[rows][used[rows]], method)
        if method == "centre":
            values[rows] -= level
            continue
        with np.errstate(invalid="ignore"):
            flat = ~(spread > FLAT * np.maximum(np.abs(level), np.finfo(float).tiny))
        low = ~flat & (spread < floor)
        values[rows] = (values[rows] - level) / np.where(flat, 1.0, np.maximum(spread, floor))
        constant |= flat
        floored |= low
    names = np.array(profiles.features, dtype=object)
    return Normalised(profiles.with_values(values), tuple(names[constant]), tuple(names[floored]), counts)


def _groups(profiles: Profiles, by: Sequence[str]) -> list[tuple[str, NDArray[np.intp]]]:
    """Names and rows; a list, since 'x/y' on plate 'z' and 'x' on plate 'y/z' have one name."""
    if not by:
        return [("all", np.arange(len(profiles)))]
    for name in by:
        profiles.column(name)
    found: dict[Any, NDArray[np.intp]] = profiles.frame.groupby(list(by), sort=True).indices
    return [
        ("/".join(map(str, key)) if isinstance(key, tuple) else str(key), rows) for key, rows in found.items()
    ]


def _level_and_spread(values: NDArray[np.float64], method: str) -> tuple[NDArray[Any], NDArray[Any]]:
    import warnings

    with warnings.catch_warnings():  # a feature that is NaN in all controls stays NaN, which is the answer
        warnings.filterwarnings("ignore", "All-NaN|Mean of empty|Degrees of freedom", RuntimeWarning)
        if method == "standard":
            return np.nanmean(values, axis=0), np.nanstd(values, axis=0, ddof=1)
        level = np.nanmedian(values, axis=0)
        spread = _MAD_TO_SD * np.nanmedian(np.abs(values - level), axis=0)
        # More than half of the controls agree and the others do not (a count of spots): not flat, and still in units.
        wide = np.nanstd(values, axis=0, ddof=1) if method == "robust" else spread
        return level, np.where(spread > FLAT * np.abs(level), spread, wide)


@dataclass(frozen=True)
class Sphering:
    """A whitening transform fitted on controls.

    Attributes
    ----------
    centre : (d,) float64
    rotation : (d, k) float64
        Principal directions of the controls, largest variance first.
    variance : (k,) float64
    regularisation : float
        Added to each variance, as a share of the mean variance.
    """

    centre: NDArray[np.float64]
    rotation: NDArray[np.float64]
    variance: NDArray[np.float64]
    regularisation: float

    def apply(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, d) to (n, d): decorrelated and turned back to the features' own axes (ZCA)."""
        added = self.regularisation * self.variance.mean()
        scale = 1 / np.sqrt(self.variance + added)
        turned = (np.asarray(values, np.float64) - self.centre) @ self.rotation
        return np.asarray((turned * scale) @ self.rotation.T)


def fit_sphering(
    controls: NDArray[np.floating],
    *,
    regularisation: float = 0.1,
    rank: int | None = None,
    where: str = "profiles",
) -> Sphering:
    """Fit ``W = V (L + reg mean(L))^(-1/2) V'`` on the covariance of controls.

    Parameters
    ----------
    controls : (n, d) float
        Finite.
    regularisation : float
        Share of the mean variance added to each; above 0 unless `rank` is at most n - 1. Without it, directions
        in which the few controls do not vary would be blown up.
    rank : int, optional
        Keep so many principal directions (default: all d with regularisation).

    Raises
    ------
    ConfigurationError
        Negative regularisation, rank below 1 or above d, or neither a regularisation nor a rank that the controls
        support.
    DataError
        Fewer than two controls, values that are not finite, or controls without any spread.
    """
    values = np.asarray(controls, np.float64)
    n, d = values.shape
    if n < 2 or not np.isfinite(values).all():
        raise DataError(
            f"{where}: sphering needs at least two controls with finite features; there are {n} controls and "
            f"{int((~np.isfinite(values)).sum())} values that are not finite."
        )
    kept = d if rank is None else rank
    if regularisation < 0 or not 1 <= kept <= d or (regularisation == 0 and kept > n - 1):
        raise ConfigurationError(
            f"sphering: regularisation {regularisation}, rank {rank} for {n} controls of {d} features. Allowed is a "
            f"rank from 1 to {d} and a regularisation above 0, or a rank of at most {min(n - 1, d)} without one."
        )
    centre = values.mean(axis=0)
    # All d directions are wanted; all n of the controls would be a matrix of n by n.
    _, lengths, directions = np.linalg.svd(values - centre, full_matrices=n < d)
    variance = np.zeros(d)
    variance[: len(lengths)] = lengths**2 / (n - 1)
    if variance[0] <= 0:
        raise DataError(f"{where}: the {n} controls do not differ in any feature; nothing can be sphered.")
    if regularisation == 0 and variance[kept - 1] <= 1e-12 * variance[0]:
        supported = int((variance > 1e-12 * variance[0]).sum())
        raise ConfigurationError(
            f"sphering: rank {kept} without regularisation, but the controls span only {supported} directions. Pass "
            f"rank={supported} or a regularisation."
        )
    return Sphering(centre, directions[:kept].T, variance[:kept], regularisation)


def sphere(
    profiles: Profiles,
    *,
    controls: NDArray[np.bool_],
    by: Sequence[str] = (),
    regularisation: float = 0.1,
    rank: int | None = None,
) -> Profiles:
    """Sphere profiles by their controls, per group of `by` or all together; see `fit_sphering`."""
    values = profiles.values
    used = np.asarray(controls, bool)
    for name, rows in _groups(profiles, by):
        fitted = fit_sphering(
            values[rows][used[rows]],
            regularisation=regularisation,
            rank=rank,
            where=f"{profiles.source}, {name}",
        )
        values[rows] = fitted.apply(values[rows])
    return profiles.with_values(values)
