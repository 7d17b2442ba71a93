"""Features worth keeping: present, varying, and not a copy of another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from image2reg.tables.profiles import Profiles

__all__ = ["Selection", "refuse_gaps", "select_features"]


@dataclass(frozen=True)
class Selection:
    """Profiles with fewer features, and why the others went.

    Attributes
    ----------
    profiles : Profiles
    missing, constant, correlated, extreme : tuple of str
        Features dropped by each rule, in the order the rules run.
    """

    profiles: Profiles
    missing: tuple[str, ...]
    constant: tuple[str, ...]
    extreme: tuple[str, ...]
    correlated: tuple[str, ...]

    def __str__(self) -> str:
        """Count what went and what is kept."""
        parts = {
            "missing somewhere": self.missing, "constant": self.constant, "too large": self.extreme,
            "copies of others": self.correlated,
        }  # fmt: skip
        why = ", ".join(f"{len(names)} {reason}" for reason, names in parts.items() if names)
        left = sum(map(len, parts.values()))
        return f"{left} features left out{f' ({why})' if why else ''}, {len(self.profiles.features)} kept"


def select_features(
    profiles: Profiles,
    *,
    most_missing: float = 0.0,
    least_variance: float = 1e-8,
    most_correlated: float = 0.9,
    largest: float = np.inf,
) -> Selection:
    """Drop features by missing values, variance, size and correlation, in that order.

    Parameters
    ----------
    profiles : Profiles
    most_missing : float
        Largest share of NaN; an infinite value is missing too.
    least_variance : float
        Smallest variance relative to the square of the feature's mean magnitude (so 0 and 1e9 constants both go).
    largest : float
        Largest absolute value: normalised features far beyond are broken rather than informative.
    most_correlated : float
        Of a pair with a larger absolute Pearson correlation, the feature with the larger sum of absolute
        correlations to all others goes (the rule of caret and pycytominer). 1 keeps all.

    Returns
    -------
    Selection
        Values that `most_missing` allowed to be missing are NaN; they are left out of the correlations pairwise.

    Raises
    ------
    ConfigurationError
        A share outside 0 to 1.
    DataError
        Nothing is left.
    """
    import pandas as pd

    if not 0 <= most_missing <= 1 or not 0 < most_correlated <= 1:
        raise ConfigurationError(
            f"select features: most_missing {most_missing}, most_correlated {most_correlated}; shares are within 0 "
            "and 1."
        )
    names = np.array(profiles.features, dtype=object)
    values = profiles.values
    values[np.isinf(values)] = np.nan
    gone = (share := np.isnan(values).mean(axis=0)) > most_missing
    gone |= share == 1
    missing = names[gone]
    names, values = names[~gone], values[:, ~gone]
    size = np.nanmean(np.abs(values), axis=0) if len(names) else np.zeros(0)
    flat = np.nanvar(values, axis=0) <= least_variance * np.maximum(size**2, np.finfo(float).tiny)
    constant = names[flat]
    names, values = names[~flat], values[:, ~flat]
    wild = np.nanmax(np.abs(values), axis=0) > largest if len(names) else np.zeros(0, bool)
    extreme = names[wild]
    names, values = names[~wild], values[:, ~wild]
    correlated: list[str] = []
    if most_correlated < 1 and len(names) > 1:
        r = np.abs(pd.DataFrame(values).corr().to_numpy())
        total = np.nansum(r, axis=0)
        first, second = np.nonzero(np.triu(r, 1) > most_correlated)
        correlated = sorted(set(names[np.where(total[first] > total[second], first, second)]))
    kept = ~np.isin(names, correlated)
    if not kept.any():
        raise DataError(
            f"{profiles.source}: no feature is left of {len(profiles.features)} ({len(missing)} missing, "
            f"{len(constant)} constant, {len(extreme)} too large, {len(correlated)} correlated). Loosen the rule that "
            "dropped most."
        )
    chosen = profiles.with_values(values[:, kept], list(names[kept]))
    return Selection(chosen, tuple(missing), tuple(constant), tuple(extreme), tuple(correlated))


def refuse_gaps(profiles: Profiles) -> None:
    """Raise where a feature is not finite: one gap would spread over all features of a distance or a sphering."""
    wrong = ~np.isfinite(profiles.values)
    gaps = wrong.sum(axis=0)
    if gaps.any():
        row = int(np.argmax(wrong.any(axis=1)))
        who = ", ".join(filter(None, profiles.metadata.iloc[row].tolist()[:4]))
        named = [
            f"{profiles.features[i]!r} ({gaps[i]})" for i in np.argsort(-gaps, kind="stable")[:4] if gaps[i]
        ]
        raise DataError(
            f"{profiles.source}: {int((gaps > 0).sum())} of {len(gaps)} features have {int(gaps.sum())} missing or "
            f"infinite values: {', '.join(named)}; the first is in row {row + 1} "
            f"({who}). Leave out those features (--select; "
            "in Python image2reg.tables.select_features) or rows, or fill them."
        )
