"""Touching nuclei: foreground falls into pieces around every peak of depth, and a rule joins those of one nucleus.

A threshold has to be right for all clumps at once; a rule that has seen how far apart, how round and how clearly
divided two pieces are does not. What was joined is measured again as one (region agglomeration: Nunez-Iglesias et al.,
PLoS ONE 8:e71715, 2013); in each round all pairs join at once that are surer than any other pair of either piece. All a
pair is measured by is a sum or a maximum over its parts, also its convex hull, so that no pixel is looked at twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MEASURES", "Clumps", "find_pieces", "joined"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

# What is known of two pieces and the border between them. Depth runs from 0 at an outline to 1 in a middle; sizes are
# logarithms of multiples of a typical nucleus; a hull is the convex one.
MEASURES = (
    "saddle",  # greatest depth on the border
    "peak",  # greatest depth of the shallower piece
    "touching",  # mean probability, on the border, that nuclei touch there
    "foreground",  # mean probability of foreground on the border
    "neck",  # length of the border over the square root of the larger piece's area
    "smaller",
    "larger",
    "solidity",  # area of both over that of their common hull
    "bend",  # sum of both hulls over the common hull
    "own_solidity",  # of the smaller piece
)

# Depth is smoothed by this many pixels. Every peak that is left makes a piece: to leave shallow ones out beforehand, as
# h-maxima do, cost average precision on fields that were kept from the rule.
_SMOOTH_PX = 0.6
# Nothing larger than this many typical nuclei is one: in a field without a gap the work still grows as the field does.
_LARGEST = 16.0
# A hull is taken for the polygon of this many tangents: of two pieces they are the further ones of either.
_TANGENTS = 64


class _Pieces(NamedTuple):
    """Area, greatest depth, reach in the direction of each tangent (n, `_TANGENTS`) and area of the hull, by number."""

    area: NDArray[np.float64]
    peak: NDArray[np.float64]
    reach: NDArray[np.float64]
    hull: NDArray[np.float64]

    def join(self, kept: NDArray[np.intp], gone: NDArray[np.intp]) -> None:
        """Make one piece of each two, under the number that is kept."""
        self.area[kept] += self.area[gone]
        self.peak[kept] = np.maximum(self.peak[kept], self.peak[gone])
        self.reach[kept] = np.maximum(self.reach[kept], self.reach[gone])
        self.hull[kept] = _hull_area(self.reach[kept])


class Clumps(NamedTuple):
    """Pieces of foreground and the borders between them.

    Attributes
    ----------
    labels : (Y, X) int32
        Pieces 1 to n.
    pairs : (k, 2) int
        Pieces that touch, lower number first.
    borders : (k, 4) float64
        Saddle, length, sums of both probabilities over the 2 x length pixels along it.
    peaks : (n + 1,) float32
        Greatest depth per piece.
    """

    labels: Labels
    pairs: NDArray[np.intp]
    borders: NDArray[np.float64]
    peaks: Floats


def find_pieces(depth: Floats, touching: Floats, foreground: Floats, inside: NDArray[np.bool_]) -> Clumps:
    """Divide the foreground among the peaks of depth.

    Parameters
    ----------
    depth : (Y, X) float32
        0 at outlines, 1 in the middle of nuclei.
    touching, foreground : (Y, X) float32
        Probabilities.
    inside : (Y, X) bool
        Pixels to divide.
    """
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(np.clip(depth, -0.2, 1.0), _SMOOTH_PX)
    smooth = np.where(inside, smooth, np.float32(-1))
    tops, n = ndimage.label(inside & (ndimage.maximum_filter(smooth, 3) == smooth), np.ones((3, 3)))
    labels = watershed(-smooth, tops, mask=inside).astype(np.int32)
    peaks = np.full(n + 1, -1, np.float32)
    np.maximum.at(peaks, labels.ravel(), smooth.ravel())
    return Clumps(labels, *_borders(labels, smooth, touching, foreground), peaks)


def joined(
    clumps: Clumps,
    typical_area: float,
    judge: Callable[[NDArray[np.float64], NDArray[np.intp]], NDArray[np.float64]],
) -> Labels:
    """Join pieces until every border left is more likely one between two nuclei than not.

    Parameters
    ----------
    clumps : Clumps
    typical_area : float
        Of a nucleus, pixels.
    judge : callable
        `MEASURES` of pairs (k, 10) and the pairs' numbers (k, 2) to the probability that each is two nuclei (k,). A
        joined piece goes by the number of one of its parts.

    Returns
    -------
    (Y, X) int32
        With gaps in the numbers.
    """
    labels, pairs, borders = clumps.labels, clumps.pairs, clumps.borders
    if not len(pairs):
        return labels
    pieces = _outlined(clumps)
    parent = np.arange(clumps.peaks.size)
    chance, grown = np.ones(len(pairs)), np.ones(clumps.peaks.size, dtype=bool)
    while True:
        asked = grown[pairs].any(axis=1)
        chance[asked] = 1.0  # which stands where both together are too large
        asked &= pieces.area[pairs].sum(axis=1) <= _LARGEST * typical_area
        if asked.any():
            chance[asked] = judge(_measures(pieces, pairs[asked], borders[asked], typical_area), pairs[asked])
        kept, gone = _surest(pairs, chance, borders[:, 0], clumps.peaks.size)
        if not kept.size:
            return _roots(parent)[labels]
        pieces.join(kept, gone)
        parent[gone] = kept
        grown[:] = False
        grown[kept] = True
        pairs, borders, chance = _summed(parent[pairs], borders, chance)


def _surest(
    pairs: NDArray[np.intp], chance: NDArray[np.float64], saddle: NDArray[np.float64], n: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give both numbers of the pairs that are one nucleus more surely than any other pair of either piece."""
    (one,) = np.nonzero(chance < 0.5)
    one = one[np.lexsort((-saddle[one], chance[one]))]
    rank, first = np.arange(len(one)), np.full(n, len(one))
    np.minimum.at(first, pairs[one], rank[:, None])
    a, b = pairs[one].T
    surest = (first[a] == rank) & (first[b] == rank)
    return a[surest], b[surest]


def _measures(
    pieces: _Pieces, pairs: NDArray[np.intp], borders: NDArray[np.float64], typical_area: float
) -> NDArray[np.float64]:
    """Give `MEASURES` of pairs, (k, 10)."""
    small, large = np.where(np.diff(pieces.area[pairs]) < 0, pairs[:, ::-1], pairs).T
    area, hull = pieces.area, pieces.hull
    both = _hull_area(np.maximum(pieces.reach[small], pieces.reach[large]))
    saddle, length, touching, foreground = borders.T
    return np.stack(
        [
            saddle, np.minimum(pieces.peak[small], pieces.peak[large]), touching / (2 * length),
            foreground / (2 * length), length / area[large] ** 0.5,
            np.log(area[small] / typical_area), np.log(area[large] / typical_area),
            (area[small] + area[large]) / both, (hull[small] + hull[large]) / both, area[small] / hull[small],
        ],
        axis=1,
    )  # fmt: skip


def _hull_area(reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area within the tangents, from the distance of each to the origin (k, `_TANGENTS`)."""
    turn = 2 * np.pi / _TANGENTS
    sides = np.roll(reach, 1, axis=1) + np.roll(reach, -1, axis=1) - 2 * np.cos(turn) * reach
    area: NDArray[np.float64] = (reach * sides).sum(axis=1) / (2 * np.sin(turn))
    return area


def _outlined(clumps: Clumps) -> _Pieces:
    """Measure the pieces; reach and hull only of those that touch another."""
    n = clumps.peaks.size
    asked = np.zeros(n, dtype=bool)
    asked[clumps.pairs] = True
    labels = np.pad(clumps.labels, ((0, 0), (1, 1)))
    # Where a row of a piece starts or ends.
    changes = labels[:, 1:] != labels[:, :-1]
    y, x = np.nonzero(asked[clumps.labels] & (changes[:, :-1] | changes[:, 1:]))
    of = clumps.labels[y, x]
    order = np.argsort(of, kind="stable")
    y, x, of = y[order], x[order], of[order]
    starts = np.flatnonzero(np.diff(of, prepend=0))
    angle = 2 * np.pi / _TANGENTS * np.arange(_TANGENTS)
    down, right = np.sin(angle), np.cos(angle)
    corner = np.maximum(down, 0) + np.maximum(right, 0)  # of a pixel, the furthest in each direction
    reach = np.zeros((n, _TANGENTS))
    reach[of[starts]] = np.maximum.reduceat(y[:, None] * down + x[:, None] * right + corner, starts)
    area = np.bincount(clumps.labels.ravel(), minlength=n).astype(float)
    return _Pieces(area, clumps.peaks.astype(float), reach, _hull_area(reach))


def _borders(
    labels: Labels, depth: Floats, touching: Floats, foreground: Floats
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Give pairs of pieces and their borders, over the four neighbours of each pixel."""
    found: list[NDArray[np.intp]] = []
    values: list[NDArray[np.float64]] = []
    for one, two in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        at = np.nonzero((labels[one] != labels[two]) & (labels[one] > 0) & (labels[two] > 0))
        found.append(np.stack([labels[one][at], labels[two][at]], axis=1).astype(np.intp))
        saddle = np.minimum(depth[one][at], depth[two][at])
        sums = [values_of[one][at] + values_of[two][at] for values_of in (touching, foreground)]
        values.append(np.stack([saddle, np.ones(saddle.size), *sums], axis=1).astype(np.float64))
    pairs, borders = np.concatenate(found), np.concatenate(values)
    pairs, borders, _ = _summed(pairs, borders, np.zeros(len(pairs)))
    return pairs, borders


def _summed(
    pairs: NDArray[np.intp], borders: NDArray[np.float64], chance: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Make one border of those between the same two pieces, none of those within one."""
    pairs = np.sort(pairs, axis=1)
    (kept,) = np.nonzero(pairs[:, 0] < pairs[:, 1])
    order = kept[np.lexsort(pairs[kept].T[::-1])]
    pairs, borders, chance = pairs[order], borders[order], chance[order]
    if not len(pairs):
        return pairs, borders, chance
    starts = np.flatnonzero(np.r_[True, (np.diff(pairs, axis=0) != 0).any(axis=1)])
    total: NDArray[np.float64] = np.add.reduceat(borders, starts, axis=0)
    total[:, 0] = np.maximum.reduceat(borders[:, 0], starts)
    return pairs[starts], total, chance[starts]


def _roots(parent: NDArray[np.intp]) -> Labels:
    while not np.array_equal(above := parent[parent], parent):
        parent = above
    return parent.astype(np.int32)
