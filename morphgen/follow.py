"""The follow test: whether the picture changes as the signature does, on signatures the generator never saw.

A generator can draw convincing nuclei and ignore its condition. Two questions, each with a permutation p-value over
perturbations: do perturbations with different signatures get different features (no real images needed), and are the
features those of the real nuclei under the same perturbation?
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.randomness import generator

__all__ = ["LEAST_PERTURBATIONS", "Follow", "follow_test"]

Floats = NDArray[np.float64]

LEAST_PERTURBATIONS = 6
"""With five there are 120 orders, and no p-value below 0.01 worth its name."""


@dataclass(frozen=True)
class Follow:
    """Result of the follow test.

    Attributes
    ----------
    signature_correlation : float
        Bias-corrected distance correlation of signatures and mean features over perturbations: 0 in expectation for
        a generator that ignores the signature, 1 for a rigid map.
    signature_p : float
        Share of permutations of the perturbations that reach it.
    real_correlation : float
        Mean over features of the Pearson correlation, over perturbations, with the means of real nuclei; NaN without.
    real_p : float
    n : int
        Perturbations.
    permutations : int
    """

    signature_correlation: float
    signature_p: float
    real_correlation: float
    real_p: float
    n: int
    permutations: int

    def as_dict(self) -> dict[str, float]:
        """Give the fields as a dictionary."""
        return asdict(self)


def follow_test(
    signatures: NDArray[np.floating],
    means: NDArray[np.floating],
    *,
    real_means: NDArray[np.floating] | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> Follow:
    """Test whether mean features follow the signatures.

    Parameters
    ----------
    signatures : (S, G) float
        Signatures that the generator was not trained on.
    means : (S, F) float
        Mean features of the nuclei generated under each.
    real_means : (S, F) float, optional
        The same of real nuclei.
    permutations : int
        p is at least ``1 / (permutations + 1)``.
    seed : int

    Returns
    -------
    Follow

    Raises
    ------
    DataError
        Fewer than `LEAST_PERTURBATIONS`, other numbers of rows, or values that are not finite.

    Notes
    -----
    Distance correlation with the bias correction of Székely and Rizzo 2013 (J. Multivariate Anal. 117:193). Signatures
    and features are standardised first; the features are those with spread. p = (1 + number of permutations that
    reach the value) / (1 + permutations).
    """
    vectors, own = np.asarray(signatures, np.float64), np.asarray(means, np.float64)
    n = len(vectors)
    if n < LEAST_PERTURBATIONS or len(own) != n or (real_means is not None and len(real_means) != n):
        raise DataError(
            f"follow test: {n} signatures and {len(own)} sets of features; allowed are equal numbers, at least "
            f"{LEAST_PERTURBATIONS}."
        )
    for name, values in (("signatures", vectors), ("features", own)):
        if not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
            raise DataError(
                f"follow test: {name} of {len(bad)} perturbations are not finite, first row {bad[0]}."
            )
    rng = generator(seed, "follow")
    orders = np.array([rng.permutation(n) for _ in range(permutations)])
    own = _standard(own)
    left, right = _centred_distances(_standard(vectors)), _centred_distances(own)
    norm = np.sqrt((left**2).sum() * (right**2).sum())
    value = float((left * right).sum() / norm) if norm > 0 else 0.0
    null = np.array([(left * right[np.ix_(order, order)]).sum() for order in orders]) / (norm or 1.0)
    real_value, real_p = float("nan"), float("nan")
    if real_means is not None:
        truth = _standard(np.asarray(real_means, np.float64))
        products = own @ truth.T / (n * truth.shape[1])  # how well means i fit the truth of perturbation j
        real_value = float(np.trace(products))
        real_null = products[orders, np.arange(n)].sum(axis=1)
        real_p = _p(real_value, real_null)
    return Follow(value, _p(value, null), real_value, real_p, n, permutations)


def _p(value: float, null: Floats) -> float:
    return float((1 + (null >= value - 1e-12).sum()) / (1 + len(null)))


def _standard(values: Floats) -> Floats:
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(
        spread > 1e-12 * np.abs(values).max(initial=1), spread, np.inf
    )


def _centred_distances(values: Floats) -> Floats:
    """U-centred Euclidean distances (n, n), zero on the diagonal."""
    from scipy.spatial.distance import cdist

    d = cdist(values, values)
    n = len(d)
    rows = d.sum(axis=1, keepdims=True) / (n - 2)
    centred = d - rows - rows.T + d.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    return centred
