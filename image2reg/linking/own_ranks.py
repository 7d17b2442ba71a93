"""Ranks of the genes' own candidates, every gene held out, for one fit after another on the same genes.

A choice among settings and a shuffle of gene labels change the fit and neither targets nor candidates. What those have
in common is computed once here; a fit then costs two multiplications of matrices, with whole folds left out or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from image2reg.linking.scores import ranks_of
from image2reg.linking.settings import Setting

__all__ = ["OwnRanks"]

Floats = NDArray[np.float64]
_BLOCK = 1 << 17  # scores worked on at once: what a core keeps at hand
_NOTHING = 1e-12  # a direction this short is none, as in `candidate_scores`
_ROUNDING = 1e-14  # what a difference of squared lengths is rounded by, of the longest


class OwnRanks:
    """Ranks of own candidates under leave-one-out, inside the genes that remain without a fold.

    Parameters
    ----------
    table : (c, t) candidate embeddings
    own : (n,) candidate of each source
    folds : sequence of slice
        Sources that are left out together before the others are left out one by one; by default none are.
    allowed : (n, c) bool, optional
        Candidates that compete.

    Notes
    -----
    Let ``B = (K + ridge I)^-1`` belong to all n sources, Y be their targets, O a fold and R the r others. Inside R the
    inverse is the downdate ``A = B_RR - W B_OR``, ``W = B_RO B_OO^-1``. Leave-one-out needs only its diagonal and its
    products with the targets and with ones, and those are downdates of the products of B (the targets of the fold
    cancel):

        ``A Y_R = (B Y)_R - W (B Y)_O``,  ``A 1 = (B 1)_R - W (B 1)_O``,  ``A_ii = B_ii - sum_o W_io B_oi``.

    So A is never formed: the products of F inverses of r x r with Y, F n^2 t operations, become one with B and one with
    all W together, 2 n^2 t. With ``m_i`` the mean of the other targets of R, gene i is predicted as
    ``p_i = Y_i - ((A Y_R)_i - (A 1)_i m_i) / A_ii`` (the last term only where targets are centred), and
    its candidates x are ordered by ``(p_i - m_i) . (x - m_i) / |x - m_i|``, or by ``2 p_i . x - |x|^2``. Every part of
    it is linear in the rows of Y: where the embedding has many columns, Y is replaced from the start by its products
    with the candidates and with its own sum (``m_i`` is made of that and of ``Y_i``, which is a candidate), and no
    prediction is multiplied by the candidates at all. Memory is a few n x c matrices, whatever the number of folds.
    """

    def __init__(
        self,
        table: Floats,
        own: NDArray[np.intp],
        *,
        folds: Sequence[slice] = (slice(0, 0),),
        allowed: NDArray[np.bool_] | None = None,
    ) -> None:
        self._own, self._folds, self._allowed = own, folds, allowed
        targets = table[own]
        n, c, t = len(own), *table.shape
        # Beside the candidates the sum of the targets, for the product of a prediction with the mean of the others.
        beside = np.vstack([table, targets.sum(axis=0)]).T
        self._products = targets @ beside
        times = 1 if len(folds) == 1 else 2
        few = t * (times * n + len(folds) * c) < times * n * c
        self._learned = targets if few else self._products
        self._after = beside if few else None
        self._squared = (table**2).sum(axis=1)

    def ranks(self, b: Floats, setting: Setting) -> Iterator[tuple[Floats, Floats]]:
        """Give strict and average ranks (`ranks_of`) of the r sources outside each fold, fold after fold.

        Parameters
        ----------
        b : (n, n)
            ``(K + ridge I)^-1`` of the sources.
        setting : Setting
            Its centre and rule; a row's scores may differ from `candidate_scores` by a scale of their own.
        """
        n, cosine = len(b), setting.rule == "cosine"
        learned = b @ self._learned
        sums = b.sum(axis=1)
        rows = max(1, _BLOCK // len(self._squared))
        for out in self._folds:
            others = n - 1 - (out.stop - out.start)
            weights = np.linalg.solve(b[out, out], b[out]).T
            diagonal = b.diagonal() - (weights * b[:, out]).sum(axis=1)
            # How much of m_i is taken off A_ii p_i: all of it for a direction, less what centring had put there.
            share = cosine * diagonal - (setting.centre == "fold") * (sums - weights @ sums[out])
            share /= others
            total = self._learned.sum(axis=0) - self._learned[out].sum(axis=0)
            weights, of_fold = np.column_stack([weights, -share]), np.vstack([learned[out], total])
            distances = _Distances(self._products, self._squared, self._own, out) if cosine else None
            found = []
            for first, last in ((0, out.start), (out.stop, n)):
                for start in range(first, last, rows):
                    part = slice(start, min(start + rows, last))
                    made = weights[part] @ of_fold
                    made += (diagonal + share)[part, None] * self._learned[part]
                    made -= learned[part]
                    made = made if self._after is None else made @ self._after
                    if distances is None:
                        scores = 2 * made[:, :-1] - diagonal[part, None] * self._squared
                    else:
                        scores = distances.cosines(made, part, diagonal[part])
                    allowed = None if self._allowed is None else self._allowed[part]
                    found.append(ranks_of(scores, self._own[part], allowed=allowed))
            strict, average = zip(*found, strict=True)
            yield np.concatenate(strict), np.concatenate(average)


class _Distances:
    """Candidates seen from the mean of the targets outside a fold, each row's own left out too."""

    def __init__(self, products: Floats, squared: Floats, own: NDArray[np.intp], out: slice) -> None:
        self._products, self._own, self._out = products, own, out
        self._others = len(own) - 1 - (out.stop - out.start)
        total = products.sum(axis=0) - products[out].sum(axis=0)
        of_total = self._with_total(products)
        self._length = self._with_total(total[None]) - 2 * of_total + squared[own]
        self._length /= self._others**2
        self._rounding = _ROUNDING * squared.max()
        self._offset = squared - 2 * total[:-1] / self._others

    def _with_total(self, made: Floats) -> Floats:
        """Products with the sum of the targets outside the fold, from those with all of them and with each."""
        return made[:, -1] - made[:, self._own[self._out]].sum(axis=1)

    def cosines(self, made: Floats, part: slice, diagonal: Floats) -> Floats:
        """Order candidates by direction from the mean; `made` are ``A_ii (p_i - m_i)`` times candidates and the sum."""
        own, scores = self._own[part], made[:, :-1]
        rows = np.arange(len(own))
        scores -= ((self._with_total(made) - scores[rows, own]) / self._others)[:, None]
        away = self._products[part, :-1] * (2 / self._others)
        away += self._offset
        away += self._length[part, None]
        # A candidate at the mean has no direction: what is divided by infinity is 0.
        away[away <= self._rounding] = np.inf
        scores /= np.sqrt(away, out=away)
        # Neither has a prediction equal to the mean: no rounding ranks its candidates.
        for row in np.flatnonzero(np.abs(scores[rows, own]) <= _NOTHING * diagonal):
            if np.abs(scores[row]).max() <= _NOTHING * diagonal[row]:
                scores[row] = 0.0
        return scores
