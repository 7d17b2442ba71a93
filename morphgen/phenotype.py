"""The fixed map from an expression signature to the seven parameters of a planted phenotype.

It was drawn once, from `SEED` and the training signatures alone, before any generator was trained. Each parameter
reads two programmes of co-expressed genes: the 40 genes closest to a randomly drawn gene, with random weights. The
way from programme scores to parameter is smooth, bends, saturates, and lets one programme modulate the other; a
signature of zeros leaves a nucleus as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.randomness import generator
from morphgen.deformation import PARAMETERS, RANGES

__all__ = ["SEED", "PhenotypeMap"]

SEED = 8210
GENES_PER_PROGRAMME = 40
# A gene may found a programme when its 39 neighbours correlate with it more than those of half of all genes do.
_FOUNDER_QUANTILE = 0.5
# Leading components of the signatures that are left out when co-expression is measured: the response that every
# strong perturbation shares. Programmes read the whole signature all the same.
_GENERAL = 3
# Largest correlation between the scores of two programmes.
_ALIKE = 0.45

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PhenotypeMap:
    """Weights of the genes in both programmes of each parameter.

    Attributes
    ----------
    weights : (2, 7, G) float64
        Programme scores are ``signatures @ weights``, of standard deviation 1 over the training signatures.
    """

    weights: Floats

    @classmethod
    def drawn(cls, training: Floats, seed: int = SEED) -> PhenotypeMap:
        """Draw the map for training signatures (S, G): z-scores, one row per perturbation.

        Programmes are drawn one by one; one whose scores follow those of an earlier one (|r| above 0.45 over the
        training signatures) is drawn again, so that the phenotypes are not seven views of one general response.
        """
        rng = generator(seed, "planted phenotype")
        centred = training - training.mean(axis=0)
        general = np.linalg.svd(centred, full_matrices=False)[2][:_GENERAL]
        correlation = np.corrcoef(centred - centred @ general.T @ general, rowvar=False)
        closest = np.argsort(-np.abs(correlation), axis=1, kind="stable")[:, :GENES_PER_PROGRAMME]
        strength = np.take_along_axis(np.abs(correlation), closest, axis=1)[:, 1:].mean(axis=1)
        founders = np.flatnonzero(strength > np.quantile(strength, _FOUNDER_QUANTILE))
        wanted = 2 * len(PARAMETERS)
        weights = np.zeros((0, training.shape[1]))
        scores = np.zeros((len(training), 0))
        for founder in rng.permutation(founders):
            genes = closest[founder]
            one = np.zeros(training.shape[1])
            one[genes] = rng.uniform(0.5, 1.5, len(genes)) * np.sign(correlation[founder, genes])
            score = training @ one
            score = (score - score.mean()) / score.std()
            if np.abs(score @ scores).max(initial=0) / len(training) < _ALIKE:
                weights = np.vstack([weights, rng.choice([-1.0, 1.0]) * one / (training @ one).std()])
                scores = np.column_stack([scores, score])
            if len(weights) == wanted:
                return cls(weights.reshape(2, len(PARAMETERS), -1))
        raise DataError(
            f"planted phenotype: only {len(weights)} of {wanted} programmes are distinct over {len(training)} "
            "signatures. More, and more varied, signatures are needed."
        )

    def __call__(self, signatures: NDArray[np.floating]) -> Floats:
        """Give the parameters (S, 7), in the order of `PARAMETERS`, of signatures (S, G).

        With programme scores ``a`` and ``b``: ``u = a (1 + tanh(b)/3) + b/3``. Signed parameters are
        ``tanh(u)`` of their range, upper or lower; counts and depths ``u²/(1 + u²)`` of their range for positive
        ``u`` and 0 otherwise, which is smooth at 0 as well.
        """
        first, second = np.einsum("sg,kpg->ksp", np.asarray(signatures, np.float64), self.weights)
        drive = first * (1 + np.tanh(second) / 3) + second / 3
        low, high = np.array(list(RANGES.values())).T
        signed = np.tanh(drive)
        # Matched slopes at 0, so that an asymmetric range leaves no kink.
        signed = np.where(
            signed < 0, -low * np.tanh(drive * high / np.where(low < 0, -low, 1)), high * signed
        )
        positive = np.maximum(drive, 0) ** 2
        return np.where(low < 0, signed, high * positive / (1 + positive))
