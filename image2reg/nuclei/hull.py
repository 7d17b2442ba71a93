"""Convex hulls of all nuclei at once: solidity and Feret diameter without a loop over nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["convex_hulls"]

_FAR = 2**40
# Nuclei of at most this many rows are one class of height.
_LOW = 32


def convex_hulls(regions: Regions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels in the convex hull, and the longest distance across it.

    Parameters
    ----------
    regions : Regions
        Of a plane.

    Returns
    -------
    area : (n,) int64
        Pixel centres inside or on the hull of the pixels' edge midpoints, as scikit-image counts them.
    feret : (n,) float64
        Largest distance between edge midpoints of the hull's pixels, in pixels; scikit-image's definition too.

    Notes
    -----
    Andrew's monotone chain (Information Processing Letters 9:216, 1979), all nuclei of a class of height in step: a
    turn of the loop is one half row of the tallest of them. Classes are powers of two, so that one tall region does not
    set the size of the arrays for all. Coordinates are doubled, so that everything is a whole number.
    """
    height = regions.high[0] - regions.low[0]
    size = np.ceil(np.log2(np.maximum(height, _LOW)))
    area, feret = np.zeros(regions.n, np.int64), np.zeros(regions.n)
    for one in np.unique(size):
        alike = np.flatnonzero(size == one)
        left, right = _extremes(regions, alike, int(height[alike].max()))
        area[alike], feret[alike] = _hulls(left, right, height[alike])
    return area, feret


def _extremes(
    regions: Regions, chosen: NDArray[np.int64], n_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last column of each row of chosen nuclei, (n, rows); far apart the wrong way where it has none."""
    place = np.full(regions.n, -1)
    place[chosen] = np.arange(len(chosen))
    inside = place[regions.region] >= 0
    row = place[regions.region[inside]] * n_rows + regions.local[0][inside]
    column = regions.local[1][inside]
    left = np.full(len(chosen) * n_rows, _FAR)
    right = np.full(len(chosen) * n_rows, -_FAR)
    # raster order within a region: the first pixel of a row is its left end, the last one its right end
    begins = np.flatnonzero(np.diff(row, prepend=-1))
    left[row[begins]] = column[begins]
    ends = np.append(begins[1:], len(row)) - 1
    right[row[ends]] = column[ends]
    return left.reshape(-1, n_rows), right.reshape(-1, n_rows)


def _hulls(
    left: NDArray[np.int64], right: NDArray[np.int64], height: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Area and longest distance of the hulls of rows that run from `left` to `right`, each (n, rows)."""
    n, n_rows = left.shape
    rows = np.arange(n_rows)[None] < height[:, None]
    envelope = _lower_hulls(np.concatenate([_half_rows(left), _half_rows(-right)]))
    # doubled coordinates; the tolerance is for the interpolation along a hull edge alone
    starts = np.ceil((envelope[:n] - 1e-9) / 2)
    ends = np.floor((-envelope[n:] + 1e-9) / 2)
    area = np.where(rows, ends - starts + 1, 0).sum(axis=1).astype(np.int64)
    return area, _longest(np.where(rows, starts, np.nan), np.where(rows, ends, np.nan))


def _half_rows(left: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leftmost edge midpoint at each half row, doubled: (n, 2 rows + 1)."""
    doubled = np.where(np.abs(left) < _FAR, 2 * left, _FAR)
    found = np.full((len(left), 2 * left.shape[1] + 1), _FAR)
    found[:, 1::2] = np.where(doubled < _FAR, doubled - 1, _FAR)
    found[:, 2::2] = doubled
    found[:, :-1:2] = np.minimum(found[:, :-1:2], doubled)
    return found


def _lower_hulls(points: NDArray[np.int64]) -> NDArray[np.float64]:
    """Lower convex envelope of each row's points (k, value), at the odd k: (n, rows); far points are no points."""
    n, width = points.shape
    every = np.arange(n)
    stack = np.zeros((n, width), np.int64)
    values = np.zeros((n, width), np.int64)
    size = np.zeros(n, np.int64)
    for k in range(width):
        active = every[points[:, k] < _FAR]
        value = points[active, k]
        pending = np.flatnonzero(size[active] >= 2)
        while pending.size:
            chain, now = active[pending], value[pending]
            last, before = size[chain] - 1, size[chain] - 2
            run, rise = stack[chain, last] - stack[chain, before], values[chain, last] - values[chain, before]
            above = rise * (k - stack[chain, before]) >= (now - values[chain, before]) * run
            pending = pending[above]
            size[chain[above]] -= 1
            pending = pending[size[active[pending]] >= 2]
        stack[active, size[active]] = k
        values[active, size[active]] = value
        size[active] += 1
    kept = np.arange(width)[None] < size[:, None]
    shift = np.arange(n)[:, None] * (2 * width)
    wanted = np.arange(1, width, 2)[None] + shift
    found = np.interp(wanted.ravel(), (stack + shift)[kept], values[kept].astype(np.float64))
    return found.reshape(n, -1)


def _longest(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longest distance between a left and a right edge midpoint; the longest of all is one of these."""
    empty = np.isnan(starts)
    left = _half_rows(np.where(empty, _FAR, np.nan_to_num(starts)).astype(np.int64))
    right = -_half_rows(np.where(empty, _FAR, -np.nan_to_num(ends)).astype(np.int64))
    n, width = left.shape
    best = np.zeros(n)
    far = np.where(left < _FAR, left, np.nan)
    near = np.where(right > -_FAR, right, np.nan)
    for gap in range(width):
        for one, other in ((far[:, : width - gap], near[:, gap:]), (far[:, gap:], near[:, : width - gap])):
            np.fmax(best, np.fmax.reduce((other - one) ** 2, axis=1) + gap * gap, out=best)
    return np.sqrt(best) / 2
