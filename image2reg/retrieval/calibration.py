"""From scores to probabilities that mean what they say, and how to see whether they do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.randomness import generator

__all__ = [
    "Reliability",
    "abstention_curve",
    "calibration_floor",
    "expected_calibration_error",
    "fit_temperature",
    "log_loss",
    "probabilities",
    "reliability",
]

Floats = NDArray[np.float64]
_TINY = 1e-12


def probabilities(scores: Floats, temperature: float, *, blend: float = 0.0) -> Floats:
    """Softmax of scores / temperature over mechanisms, mixed with a share `blend` of the even guess.

    Parameters
    ----------
    scores : (n, k) float
        -inf for a mechanism that no reference has: probability 0.
    temperature : float
        Above 0.
    blend : float
        Between 0 and 1: how often even a clear score is simply wrong (an outlier, a second mechanism).

    Returns
    -------
    (n, k) float64
        Rows sum to 1; a row without any reference is all 0.
    """
    known = np.isfinite(scores)
    best = np.where(known, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    raised = np.exp(np.where(known, (scores - np.where(np.isfinite(best), best, 0)) / temperature, -np.inf))
    total = raised.sum(axis=1, keepdims=True)
    share = np.divide(raised, total, out=np.zeros_like(raised), where=total > 0)
    even = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return (1 - blend) * share + blend * even


def log_loss(scores: Floats, members: NDArray[np.bool_], temperature: float, blend: float) -> float:
    """Mean of -log of the probability that falls on a query's own labels; queries without a chance are left out."""
    own = (probabilities(scores, temperature, blend=blend) * members).sum(axis=1)
    possible = (np.isfinite(scores) & members).any(axis=1)
    return float(-np.log(np.maximum(own[possible], _TINY)).mean()) if possible.any() else float("nan")


def fit_temperature(scores: Floats, members: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Fit temperature and blend on scores of references, each scored without its own compound.

    Parameters
    ----------
    scores : (n, k) float
    members : (n, k) bool

    Returns
    -------
    temperature, blend, loss : float

    Raises
    ------
    DataError
        No reference shares a label with another compound: nothing can be calibrated.

    Notes
    -----
    Guo et al. 2017 (arXiv:1706.04599), temperature scaling; two parameters fitted on n references. One pseudo-query
    that a clear score gets wrong is added, so that perfect references do not give a probability of 1.
    """
    from scipy.optimize import minimize

    possible = (np.isfinite(scores) & members).any(axis=1)
    if not possible.any():
        raise DataError(
            "calibration: of the compounds left when those to be called are held out, no two share a mechanism, so no "
            "probability can be fitted. Needed are two mechanisms of two compounds each, or one of three."
        )
    scores, members = scores[possible], members[possible]
    finite = scores[np.isfinite(scores)]
    unit = max(float(finite.std()), 1e-6)
    n = len(scores)

    def loss(parameters: Floats) -> float:
        temperature, blend = unit * np.exp(parameters[0]), 1 / (1 + np.exp(-parameters[1]))
        # Jeffreys' half a miss and half a hit on the blend.
        prior = -0.5 * (np.log(blend) + np.log1p(-blend)) / n
        return log_loss(scores, members, temperature, blend) + float(prior)

    # The loss has several valleys along the temperature: look first, then go down.
    starts = [np.array([temperature, -3.0]) for temperature in (-5.0, -3.5, -2.0, -1.0, 0.0, 1.5, 3.0)]
    best = minimize(loss, min(starts, key=loss), method="L-BFGS-B", bounds=[(-6, 6), (-7, 7)])
    blend = float(1 / (1 + np.exp(-best.x[1])))
    return float(unit * np.exp(best.x[0])), blend, float(best.fun)


@dataclass(frozen=True)
class Reliability:
    """Bins of a reliability curve.

    Attributes
    ----------
    confidence, accuracy : (b,) float64
        Means in each occupied bin.
    count : (b,) int
    """

    confidence: Floats
    accuracy: Floats
    count: NDArray[np.intp]


def reliability(confidence: Floats, correct: NDArray[np.bool_], *, n_bins: int = 10) -> Reliability:
    """Bin calls by confidence in bins of equal width; empty bins are left out."""
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if confidence.shape != correct.shape or not confidence.size:
        raise DataError(
            f"reliability: {confidence.shape} confidences for {correct.shape} outcomes; one each."
        )
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    used = count > 0
    return Reliability(
        np.bincount(bins, confidence, minlength=n_bins)[used] / count[used],
        np.bincount(bins, correct, minlength=n_bins)[used] / count[used],
        count[used],
    )


def expected_calibration_error(confidence: Floats, correct: NDArray[np.bool_], *, n_bins: int = 10) -> float:
    """Mean distance of accuracy from confidence over bins, weighted by their counts (Naeini et al. 2015)."""
    curve = reliability(confidence, correct, n_bins=n_bins)
    return float(np.average(np.abs(curve.accuracy - curve.confidence), weights=curve.count))


def calibration_floor(
    confidence: Floats, *, n_bins: int = 10, n: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Calibration error that perfectly calibrated calls of these confidences show by chance: mean and 95th percentile.

    The outcome of each call is drawn with its own confidence; with 100 calls the error is far from 0.
    """
    rng = generator(seed, "calibration floor")
    confidence = np.asarray(confidence, np.float64)
    drawn = rng.random((n, len(confidence))) < confidence
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    inside = np.eye(n_bins)[bins]
    gaps = np.abs((drawn - confidence) @ inside).sum(axis=1) / len(confidence)
    return float(gaps.mean()), float(np.quantile(gaps, 0.95))


def abstention_curve(confidence: Floats, correct: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Accuracy of the most confident share of calls, for every coverage.

    Returns
    -------
    coverage, accuracy, threshold : (n,) float64
        Of the calls with confidence at or above each threshold, most confident first; ties are called together.
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    value = np.asarray(confidence, np.float64)[order]
    right = np.cumsum(np.asarray(correct, np.float64)[order])
    last = np.r_[np.diff(value) != 0, True]
    n = np.arange(1, len(value) + 1)
    return n[last] / len(value), right[last] / n[last], value[last]
