"""The null of a link: the same fit under shuffled gene labels, with all that shuffling leaves alone computed once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from image2reg.linking.selection import held_out_from_inverse
from image2reg.linking.settings import Setting

__all__ = ["Shuffles"]

Floats = NDArray[np.float64]


class Shuffles:
    """Scores of all candidates under shuffled gene labels.

    Parameters
    ----------
    b : (n, n)
        ``(K + ridge I)^-1`` of the sources.
    table : (c, t) candidate embeddings
    own : (n,) candidate of each source
    setting : Setting

    Notes
    -----
    A shuffle changes neither candidates nor targets nor the means of the folds. Candidates are told apart by their
    products with a prediction, which are the held-out predictions of the targets' own products with the candidates:
    with the many columns of an embedding, one multiplication of matrices a shuffle instead of three.
    """

    def __init__(self, b: Floats, table: Floats, own: NDArray[np.intp], setting: Setting) -> None:
        self._b, self._own, self._setting = b, own, setting
        targets = table[own]
        n, c, t = len(own), *table.shape
        total = targets.sum(axis=0)
        # Beside the candidates the sum of the targets, for the product of a prediction with the mean of its fold.
        beside = np.vstack([table, total]).T
        few = t * (n + c) < n * c
        self._learned = targets if few else targets @ beside
        self._after = beside if few else None
        self._squared = (table**2).sum(axis=1)
        self._away: Floats | None = None
        if setting.rule == "cosine":
            mean = (total - targets) / (n - 1)
            self._from_mean = mean @ table.T
            self._length = (mean**2).sum(axis=1)[:, None]
            away = np.sqrt(np.maximum(self._squared - 2 * self._from_mean + self._length, 0.0))
            # A candidate at the mean has no direction: what is divided by infinity is 0.
            self._away = np.where(away > 1e-12, away, np.inf)

    def scores(self, order: NDArray[np.intp]) -> Floats:
        """Score (n, c) candidates of sources in another order, as `candidate_scores`, but for a row's own scale."""
        made, _ = held_out_from_inverse(
            self._b[np.ix_(order, order)], self._learned, centre=self._setting.centre
        )
        products = made if self._after is None else made @ self._after
        scores, with_total = products[:, :-1], products[:, -1:]
        if self._away is None:
            return 2 * scores - self._squared
        n = len(scores)
        with_mean = (with_total - scores[np.arange(n), self._own][:, None]) / (n - 1)
        scores = (scores - self._from_mean - (with_mean - self._length)) / self._away
        # A prediction equal to the mean has no direction: no rounding ranks its candidates.
        scores[np.abs(scores).max(axis=1) <= 1e-12] = 0.0
        return scores
