"""Touching nuclei: foreground falls into pieces around every peak of depth, and a rule joins those of one nucleus.

A threshold has to be right for all clumps at once; a rule that has seen how far apart, how round and how clearly
divided two pieces are does not. Pieces are joined pair by pair, the surest first, and what was joined is measured again
as one (region agglomeration: Nunez-Iglesias et al., PLoS ONE 8:e71715, 2013). All a pair is measured by is a sum, a
maximum or a hull of its parts, so that no pixel is looked at twice.
"""

from __future__ import annotations

import heapq
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


class _Piece(NamedTuple):
    area: int
    peak: float
    corners: NDArray[np.float64]
    hull: float


class _Border(NamedTuple):
    saddle: float
    length: int
    touching: float
    foreground: float


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
    labels, pairs = clumps.labels, clumps.pairs
    if not len(pairs):
        return labels
    pieces = _outlined(clumps)
    around: dict[int, dict[int, _Border]] = {n: {} for n in pieces}
    for (a, b), (saddle, length, touching, foreground) in zip(
        pairs.tolist(), clumps.borders.tolist(), strict=True
    ):
        around[a][b] = around[b][a] = _Border(saddle, length, touching, foreground)
    parent = np.arange(clumps.peaks.size)
    # Never two entries alike down to the pair: one of its pieces has grown since, and the union's area comes next.
    queue: list[tuple[float, float, int, int, _Piece, _Border]] = []

    def ask(asked: list[tuple[int, int]]) -> None:
        largest = _LARGEST * typical_area
        wanted = [(a, b) for a, b in asked if pieces[a].area + pieces[b].area <= largest]
        if not wanted:
            return
        unions = [_union(pieces[a], pieces[b]) for a, b in wanted]
        measures = np.array(
            [
                _measures(pieces[a], pieces[b], both, around[a][b], typical_area)
                for (a, b), both in zip(wanted, unions, strict=True)
            ]
        )
        for (a, b), both, chance in zip(wanted, unions, judge(measures, np.array(wanted)), strict=True):
            border = around[a][b]
            if chance < 0.5:
                heapq.heappush(queue, (float(chance), -border.saddle, a, b, both, border))

    ask([(a, b) for a, b in pairs.tolist()])
    while queue:
        _, _, a, b, both, border = heapq.heappop(queue)
        if around.get(a, {}).get(b) is not border:
            continue  # one of them has been joined to another since
        parent[b] = a
        pieces[a] = both
        del pieces[b]
        del around[a][b]
        for other, further in around.pop(b).items():
            if other == a:
                continue
            del around[other][b]
            around[a][other] = _sum(further, around[a][other]) if other in around[a] else further
        # A border is another one now, even where it alone did not change: what it divides did.
        for other, held in around[a].items():
            around[a][other] = around[other][a] = _Border(*held)
        ask([(min(a, other), max(a, other)) for other in around[a]])
    return _roots(parent)[labels]


def _measures(a: _Piece, b: _Piece, both: _Piece, border: _Border, typical_area: float) -> tuple[float, ...]:
    small, large = (a, b) if a.area < b.area else (b, a)
    return (
        border.saddle, min(a.peak, b.peak), border.touching / (2 * border.length),
        border.foreground / (2 * border.length), border.length / large.area**0.5,
        float(np.log(small.area / typical_area)), float(np.log(large.area / typical_area)),
        both.area / both.hull, (a.hull + b.hull) / both.hull, small.area / small.hull,
    )  # fmt: skip


def _union(a: _Piece, b: _Piece) -> _Piece:
    corners, hull = _hull(np.concatenate([a.corners, b.corners]))
    return _Piece(a.area + b.area, max(a.peak, b.peak), corners, hull)


def _sum(a: _Border, b: _Border) -> _Border:
    return _Border(
        max(a.saddle, b.saddle), a.length + b.length, a.touching + b.touching, a.foreground + b.foreground
    )


def _hull(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    from scipy.spatial import ConvexHull

    hull = ConvexHull(corners)
    return corners[hull.vertices], float(hull.volume)  # in two dimensions the area


def _outlined(clumps: Clumps) -> dict[int, _Piece]:
    """Area, peak and hull of every piece that touches another."""
    boxes = ndimage.find_objects(clumps.labels)
    pieces = {}
    for n in np.unique(clumps.pairs).tolist():
        rows, columns = boxes[n - 1]
        own = clumps.labels[rows, columns] == n
        y = np.flatnonzero(own.any(axis=1))
        left = own[y].argmax(axis=1)
        right = own.shape[1] - own[y, ::-1].argmax(axis=1)
        corners = [
            np.stack([rows.start + y + d, columns.start + x], 1) for d in (0, 1) for x in (left, right)
        ]
        pieces[n] = _Piece(
            int(own.sum()), float(clumps.peaks[n]), *_hull(np.concatenate(corners).astype(float))
        )
    return pieces


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
    pairs, borders = np.sort(np.concatenate(found), axis=1), np.concatenate(values)
    if not len(pairs):
        return pairs, borders
    order = np.lexsort(pairs.T[::-1])
    pairs, borders = pairs[order], borders[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(pairs, axis=0) != 0).any(axis=1)])
    total: NDArray[np.float64] = np.add.reduceat(borders, starts, axis=0)
    total[:, 0] = np.maximum.reduceat(borders[:, 0], starts)
    return pairs[starts], total


def _roots(parent: NDArray[np.intp]) -> Labels:
    while not np.array_equal(above := parent[parent], parent):
        parent = above
    return parent.astype(np.int32)
