"""Do generated nuclei have the features of real ones: distributions, means over perturbations, correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from image2reg.errors import DataError
from morphgen.crop_features import channels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LEAST_CELLS", "Agreement", "compare_features", "ks_statistics", "population_means"]

Floats = NDArray[np.float64]

LEAST_CELLS = 8
"""Fewer nuclei of a perturbation have no distribution to compare."""


def ks_statistics(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Two-sample Kolmogorov-Smirnov distance of each column and its asymptotic two-sided p-value.

    Parameters
    ----------
    first, second : (n, F), (m, F) float
        Finite.

    Returns
    -------
    (F,) distance, (F,) p
        As `scipy.stats.ks_2samp` with ``method="asymp"``, all columns at once.
    """
    n, m = len(first), len(second)
    both = np.vstack([first, second])
    order = np.argsort(both, axis=0, kind="stable")
    steps = np.where(order < n, 1 / n, -1 / m).cumsum(axis=0)
    ordered = np.take_along_axis(both, order, axis=0)
    last_of_ties = np.vstack([ordered[1:] != ordered[:-1], np.ones((1, both.shape[1]), bool)])
    distance = np.abs(np.where(last_of_ties, steps, 0)).max(axis=0)
    return distance, np.clip(stats.kstwo.sf(distance, np.round(n * m / (n + m))), 0, 1)


def population_means(features: pd.DataFrame, groups: NDArray[Any], names: Sequence[Any]) -> Floats:
    """(len(names), F) mean features of each group, NaN rows (no nucleus found) left out."""
    return features.groupby(np.asarray(groups)).mean().reindex(list(names)).to_numpy(np.float64)


@dataclass(frozen=True)
class Agreement:
    """Real against other nuclei of the same perturbations.

    Attributes
    ----------
    features : DataFrame
        One row per feature: ``feature``, ``channel``, ``ks_mean`` (distance, mean over perturbations),
        ``ks_share`` (of perturbations in which the feature is indistinguishable), ``r2_means`` (over perturbations).
    ks_share : float
        Of all features of all perturbations, the share whose KS test is not rejected at `fdr` (Benjamini-Hochberg
        over all of them). Not rejected is not equal: it grows as `n_cells` shrinks.
    ks_share_pooled : float
        The same with all perturbations in one sample.
    r2_means : float
        Median over features of ``1 - Σ(generated - real)²/Σ(real - mean real)²`` of means over perturbations.
    correlation_features : float
        Pearson r between the feature-feature correlations (over nuclei) of both.
    correlation_genes : float
        Pearson r between the gene-feature correlations (over perturbations) of both; NaN without signatures.
    n_perturbations, n_cells : int
        Perturbations, and the median number of nuclei compared in each.
    not_found : float
        Share of the other crops without a nucleus.
    """

    features: pd.DataFrame
    ks_share: float
    ks_share_pooled: float
    r2_means: float
    correlation_features: float
    correlation_genes: float
    n_perturbations: int
    n_cells: int
    not_found: float
    fdr: float

    def scores(self) -> dict[str, float]:
        """Give the numbers, one row of a table of arms."""
        names = (
            "ks_share",
            "ks_share_pooled",
            "r2_means",
            "correlation_features",
            "correlation_genes",
            "not_found",
        )
        return {name: float(getattr(self, name)) for name in names}


def compare_features(
    real: pd.DataFrame,
    other: pd.DataFrame,
    real_groups: NDArray[Any],
    other_groups: NDArray[Any],
    *,
    signatures: Floats | None = None,
    fdr: float = 0.05,
    channels: Sequence[str] = ("DNA",),
) -> Agreement:
    """Compare the features of real and other nuclei, perturbation by perturbation.

    Parameters
    ----------
    real, other : DataFrame
        From `morphgen.crop_features`, one row per nucleus, the same columns.
    real_groups, other_groups : (N,), (M,)
        Perturbation of each row.
    signatures : (S, G) float, optional
        One row per perturbation, in the sorted order of their names.
    fdr : float
        Level at which a feature counts as distinguishable.
    channels : sequence of str
        Names that end up in ``channel``; features of shape have none.

    Raises
    ------
    DataError
        Other columns, perturbations on one side only, or fewer than `LEAST_CELLS` nuclei of one (named).
    """
    if list(real.columns) != list(other.columns):
        raise DataError(f"features differ: {sorted(set(real) ^ set(other))[:5]} are on one side only.")
    real_groups, other_groups = np.asarray(real_groups), np.asarray(other_groups)
    # Features that hardly every real nucleus has are left out, then nuclei that were not found.
    always = real.columns[real.notna().mean() > 0.98]
    kept, found = (t[always].notna().all(axis=1).to_numpy() for t in (real, other))
    real, real_groups = real.loc[kept, always], real_groups[kept]
    other, other_groups = other.loc[found, always], other_groups[found]
    names = _common_perturbations(real_groups, other_groups)
    usable = [name for name in real if np.ptp(real[name].to_numpy()) > 0]
    real, other = real[usable], other[usable]
    tests = []
    for name in names:
        a, b = real.to_numpy()[real_groups == name], other.to_numpy()[other_groups == name]
        tests.append((*ks_statistics(a, b), min(len(a), len(b))))
    distances, p_values = np.stack([t[0] for t in tests]), np.stack([t[1] for t in tests])
    kept_tests = stats.false_discovery_control(p_values.ravel()).reshape(p_values.shape) >= fdr
    pooled = stats.false_discovery_control(ks_statistics(real.to_numpy(), other.to_numpy())[1]) >= fdr
    mean_real, mean_other = (
        population_means(f, g, names) for f, g in ((real, real_groups), (other, other_groups))
    )
    r2 = _r2(mean_other, mean_real)
    table = pd.DataFrame(
        {
            "feature": usable,
            "channel": [next(iter(channels_of(name, channels)), "shape") for name in usable],
            "ks_mean": distances.mean(axis=0),
            "ks_share": kept_tests.mean(axis=0),
            "r2_means": r2,
        }
    )
    return Agreement(
        features=table,
        ks_share=float(kept_tests.mean()),
        ks_share_pooled=float(pooled.mean()),
        r2_means=float(np.nanmedian(r2)) if len(names) > 1 else float("nan"),
        correlation_features=_alike(
            _correlations(real.to_numpy()), _correlations(other.to_numpy()), upper=True
        ),
        correlation_genes=float("nan")
        if signatures is None or len(names) < 4
        else _alike(_cross(signatures, mean_real), _cross(signatures, mean_other)),
        n_perturbations=len(names),
        n_cells=int(np.median([t[2] for t in tests])),
        not_found=float(1 - found.mean()),
        fdr=fdr,
    )


def _common_perturbations(first: NDArray[Any], second: NDArray[Any]) -> list[Any]:
    names = sorted(set(first.tolist()) | set(second.tolist()))
    counts = {name: (int((first == name).sum()), int((second == name).sum())) for name in names}
    few = {name: n for name, n in counts.items() if min(n) < LEAST_CELLS}
    if few:
        name, n = next(iter(few.items()))
        raise DataError(
            f"fidelity: {len(few)} of {len(names)} perturbations have fewer than {LEAST_CELLS} nuclei that were found "
            f"on one side (first {name!r}: {n[0]} real, {n[1]} other). A distribution needs more than that: add "
            "nuclei, or leave those perturbations out."
        )
    return names


def _r2(estimate: Floats, truth: Floats) -> Floats:
    total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, 1 - ((estimate - truth) ** 2).sum(axis=0) / total, np.nan)


def _standard(values: Floats) -> Floats:
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, np.inf)


def _correlations(values: Floats) -> Floats:
    z = _standard(values)
    return z.T @ z / len(z)


def _cross(signatures: Floats, means: Floats) -> Floats:
    return _standard(np.asarray(signatures, np.float64)).T @ _standard(means) / len(means)


def _alike(first: Floats, second: Floats, *, upper: bool = False) -> float:
    """Pearson r between two matrices of correlations; NaN where one has no spread."""
    pick = np.triu_indices(len(first), 1) if upper else np.indices(first.shape)
    a, b = first[tuple(pick)].ravel(), second[tuple(pick)].ravel()
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")
