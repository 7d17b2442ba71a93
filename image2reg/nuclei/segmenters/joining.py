"""The learned rule that says whether two pieces of a clump are two nuclei: boosted trees kept with a network's weights.

Sources: LogitBoost (Friedman, Hastie and Tibshirani, Ann. Stat. 28:337, 2000, algorithm 3) with scikit-learn's
regression trees of three leaves and damped steps (Chen and Guestrin, KDD 2016, equation 5); trees are
grown so that their means do not fall where the evidence for two nuclei rises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from image2reg.nuclei.segmenters.clumps import MEASURES, joined

if TYPE_CHECKING:
    from torch import Tensor

    from image2reg.nuclei.segmenters.clumps import Clumps

__all__ = ["JoiningRule", "taught_pairs"]

Labels = NDArray[np.int32]

_TREES, _NODES, _DEPTH = 300, 5, 2
_RATE, _SMALLEST_LEAF, _DAMPING = 0.05, 60, 1.0
# Evidence for two nuclei (1) and against it (-1); the rest may count either way.
_EVIDENCE = {"saddle": -1, "touching": 1, "foreground": -1, "solidity": -1, "bend": -1}
# Fewer examples than this of either kind (a pair counts at every size its field is shown at) teach too little.
_FEWEST = 500
# A piece is known to be of a nucleus when at least this share of it is.
_CLEAR = 0.6


class JoiningRule(nn.Module):
    """Pairs of pieces to the probability that they are two nuclei.

    Unfitted it parts pieces that each have a middle of their own, where the border between them is shallow.

    Parameters
    ----------
    middle : float
        The depth that a middle has, for the unfitted rule.
    """

    feature: Tensor
    threshold: Tensor
    below: Tensor
    above: Tensor
    value: Tensor

    def __init__(self, middle: float) -> None:
        super().__init__()
        self._middle = middle
        self._unlearn()

    def _unlearn(self) -> None:
        feature, threshold, below, above, value = _leaves()
        feature[0, :2] = MEASURES.index("peak"), MEASURES.index("saddle")
        threshold[0, :2] = self._middle
        below[0, :2], above[0, :2] = (2, 3), (1, 4)
        value[0, 2:] = -4, 4, -4
        self._hold(feature, threshold, below, above, value)

    def _hold(self, *arrays: NDArray[np.generic]) -> None:
        for name, array in zip(("feature", "threshold", "below", "above", "value"), arrays, strict=True):
            self.register_buffer(name, torch.tensor(array))

    def forward(self, measures: Tensor) -> Tensor:
        """Map `MEASURES` (k, 10) to probabilities (k,)."""
        trees = torch.arange(_TREES, device=self.value.device)
        node = torch.zeros(len(measures), _TREES, dtype=torch.long, device=self.value.device)
        for _ in range(_DEPTH):
            low = measures.gather(1, self.feature[trees, node].long()) <= self.threshold[trees, node]
            node = torch.where(low, self.below[trees, node], self.above[trees, node]).long()
        return torch.sigmoid(self.value[trees, node].sum(1))

    def judge(self, measures: NDArray[np.float64], _: NDArray[np.intp]) -> NDArray[np.float64]:
        """Do the same for arrays, as `image2reg.nuclei.segmenters.clumps.joined` asks."""
        with torch.inference_mode():
            return self(torch.from_numpy(measures).float().to(self.value.device)).double().cpu().numpy()

    def fit(self, measures: NDArray[np.float64], two: NDArray[np.bool_]) -> bool:
        """Learn anew from pairs whose nuclei are known; with fewer than 500 of a kind be unfitted, and give False.

        Parameters
        ----------
        measures : (k, 10) float64
        two : (k,) bool
            The pieces are of two nuclei.
        """
        from sklearn.tree import DecisionTreeRegressor

        two = np.asarray(two, dtype=bool)
        if min(two.sum(), (~two).sum()) < _FEWEST:
            self._unlearn()
            return False
        feature, threshold, below, above, value = _leaves()
        x, logit = measures.astype(np.float32), np.zeros(len(two))
        signs = [_EVIDENCE.get(name, 0) for name in MEASURES]
        for n in range(_TREES):
            chance = 1 / (1 + np.exp(-logit))
            slope = np.maximum(chance * (1 - chance), 1e-6)
            grower = DecisionTreeRegressor(
                max_leaf_nodes=3, min_samples_leaf=_SMALLEST_LEAF, monotonic_cst=signs, random_state=n
            ).fit(x, (two - chance) / slope, sample_weight=slope)
            tree, leaf = grower.tree_, grower.apply(x)
            error = np.bincount(leaf, two - chance, tree.node_count)
            step = _RATE * error / (np.bincount(leaf, slope, tree.node_count) + _DAMPING)
            logit += step[leaf]
            inner = np.flatnonzero(tree.children_left >= 0)
            feature[n, inner], threshold[n, inner] = tree.feature[inner], tree.threshold[inner]
            below[n, inner], above[n, inner] = tree.children_left[inner], tree.children_right[inner]
            value[n, : tree.node_count] = step
        self._hold(feature, threshold, below, above, value)
        return True


def _leaves() -> tuple[NDArray[Any], ...]:
    """Give feature, threshold, nodes below and above, and value of trees that are one leaf of value 0."""
    shape = (_TREES, _NODES)
    itself = np.broadcast_to(np.arange(_NODES, dtype=np.uint8), shape)
    zeros = np.zeros(shape, np.float32)
    return np.zeros(shape, np.uint8), zeros, itself.copy(), itself.copy(), zeros.copy()


def taught_pairs(
    clumps: Clumps, truth: Labels, typical_area: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Join pieces as the truth says and note every pair on the way.

    Parameters
    ----------
    clumps : Clumps
    truth : (Y, X) integer
        True nuclei, numbered without large gaps; pieces mostly of none, or of several, are left out.
    typical_area : float

    Returns
    -------
    measures : (k, 10) float64
    two : (k,) bool
    """
    shared = np.zeros((clumps.peaks.size, int(truth.max()) + 1), np.int64)
    np.add.at(shared, (clumps.labels.ravel(), truth.ravel()), 1)
    owner = shared.argmax(axis=1)
    owner[shared.max(axis=1) < _CLEAR * shared.sum(axis=1)] = 0
    measures, two = [np.zeros((0, len(MEASURES)))], [np.zeros(0, dtype=bool)]

    def teacher(seen: NDArray[np.float64], pairs: NDArray[np.intp]) -> NDArray[np.float64]:
        first, second = owner[pairs].T
        known = (first > 0) & (second > 0)
        measures.append(seen[known])
        two.append((first != second)[known])
        return np.where(known & (first == second), 0.0, 1.0)

    joined(clumps, typical_area, teacher)
    return np.concatenate(measures), np.concatenate(two)
