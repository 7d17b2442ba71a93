"""Is a signature like those a model was trained on? A distance to its nearest training signatures, as a quantile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

__all__ = ["LIMIT", "SignatureDomain"]

NEIGHBOURS = 5
# Farther than this share of the training signatures are from each other: outside.
LIMIT = 0.99
_LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0])


@dataclass(frozen=True)
class SignatureDomain:
    """Distances of training signatures to each other, and what a new one's distance means beside them.

    Attributes
    ----------
    references : (S, G) float32
        Standardised training signatures.
    quantiles : (8,) float64
        Of the training signatures' own distances, each to its nearest of other perturbations.
    """

    references: NDArray[np.float32]
    quantiles: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check what the class promises."""
        if (
            self.references.ndim != 2
            or self.quantiles.shape != _LEVELS.shape
            or np.isnan(self.quantiles).any()
        ):
            raise ValueError(
                f"references of shape {self.references.shape} and quantiles {self.quantiles.tolist()}; there are "
                f"{len(_LEVELS)} quantiles of the distances of (S, G) signatures"
            )

    @classmethod
    def of(cls, signatures: NDArray[np.floating], groups: NDArray) -> SignatureDomain:
        """Measure over standardised signatures (S, G); those of one group (perturbation) are no neighbours."""
        references = np.asarray(signatures, np.float32)
        apart = groups[:, None] != groups[None]
        own = _nearest(np.where(apart, cdist(references, references), np.nan))
        own = own[np.isfinite(own)]
        # With a single perturbation every other signature lies outside.
        quantiles = np.quantile(own, _LEVELS) if len(own) else np.zeros(len(_LEVELS))
        return cls(references.astype(np.float16).astype(np.float32), quantiles)

    def distance(self, signatures: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean Euclidean distance of signatures (S, G) to their five nearest training signatures."""
        return _nearest(cdist(np.asarray(signatures, np.float32), self.references))

    def quantile(self, signatures: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of training signatures that lie closer to the others than these do; above 1: farther than all.

        Beyond the farthest training signature the ratio of distances is given, so that it keeps rising.
        """
        distance = self.distance(signatures)
        # Where one perturbation was trained on all quantiles are 0, and so is its own distance.
        inside = np.where(
            distance <= self.quantiles[0], _LEVELS[0], np.interp(distance, self.quantiles, _LEVELS)
        )
        beyond = distance / max(float(self.quantiles[-1]), 1e-12)
        return np.where(distance > self.quantiles[-1], beyond, inside)


def _nearest(distances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of the five smallest of each row, or of as many as are not NaN; NaN where none is."""
    k = min(NEIGHBOURS, distances.shape[1])
    nearest = np.sort(np.partition(distances, k - 1, axis=1)[:, :k], axis=1)
    known = np.isfinite(nearest)
    total, n = np.where(known, nearest, 0).sum(axis=1), known.sum(axis=1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)
