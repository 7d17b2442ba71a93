"""Scores of out-of-fold class probabilities, at the level of nuclei and of wells, with intervals over groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.intervals import Interval, bootstrap_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Predictions"]


@dataclass(frozen=True)
class Predictions:
    """What a model said of nuclei whose group it had not seen.

    Attributes
    ----------
    labels : (N,) str
    classes : tuple of str
    probabilities : (N, classes) float
    groups : (N,) str
        The unit that was kept whole; intervals resample it.
    wells : (N,) str
    """

    labels: NDArray[Any]
    classes: tuple[str, ...]
    probabilities: NDArray[np.floating[Any]]
    groups: NDArray[Any]
    wells: NDArray[Any]

    def by_well(self) -> Predictions:
        """Average the probabilities of each well's nuclei, per label where a well holds several."""
        keys = np.array(
            [f"{w}\t{label}" for w, label in zip(self.wells, self.labels, strict=True)], dtype=object
        )
        unique, first, number = np.unique(keys, return_index=True, return_inverse=True)
        sums = np.stack([np.bincount(number, column, len(unique)) for column in self.probabilities.T], axis=1)
        mean = sums / np.bincount(number, minlength=len(unique))[:, None]
        return Predictions(self.labels[first], self.classes, mean, self.groups[first], self.wells[first])

    def balanced_accuracy(self, *, seed: int = 0) -> Interval:
        """Mean recall of the classes, with an interval over groups; chance is 1 / classes."""
        truth = np.searchsorted(np.array(self.classes, dtype=str), self.labels.astype(str))
        hit = self.probabilities.argmax(axis=1) == truth
        # each nucleus weighs as much as its class is rare, so that a mean is the mean recall
        share = np.bincount(truth, minlength=len(self.classes)) / len(truth)
        weight = 1 / (share[truth] * len(self.classes))
        return _weighted(hit * weight, weight, self.groups, seed)

    def auc(self) -> float:
        """Area under the ROC curve of the second of two classes; NaN for more classes."""
        from sklearn.metrics import roc_auc_score

        if len(self.classes) != 2 or len(set(self.labels)) < 2:
            return float("nan")
        return float(roc_auc_score(self.labels == self.classes[1], self.probabilities[:, 1]))


def _weighted(hits: NDArray[Any], weights: NDArray[Any], groups: NDArray[Any], seed: int) -> Interval:
    """Ratio of sums over groups: the bootstrap draws groups, so each is one pair of sums."""
    _, number = np.unique(groups.astype(str), return_inverse=True)
    pairs = np.bincount(number, hits) + 1j * np.bincount(number, weights)
    value = pairs.sum()
    if len(pairs) < 2:
        return bootstrap_interval([value.real / value.imag], seed=seed)
    draws = np.random.default_rng(seed).integers(0, len(pairs), (2000, len(pairs)))
    sums = pairs[draws].sum(axis=1)
    low, high = np.quantile(sums.real / sums.imag, [0.025, 0.975])
    return Interval(float(value.real / value.imag), float(low), float(high), n=len(pairs), level=0.95)
