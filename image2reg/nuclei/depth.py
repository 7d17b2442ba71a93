"""How deep each pixel lies in its own nucleus: an exact distance transform that knows touching neighbours apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["depth_inside"]


def depth_inside(regions: Regions) -> NDArray[np.float64]:
    """Distance of each pixel centre to the nearest pixel centre outside its own region.

    The image border counts as outside. Distances are in X pixels; other axes are scaled by ``regions.aspect``.

    Returns
    -------
    (pixels,) float64
        At least 1 (or the smallest aspect).

    Notes
    -----
    Separable squared distances (Felzenszwalb & Huttenlocher, Theory of Computing 8:415, 2012), with the search along
    each further axis ended per pixel as soon as a step alone is longer than the best distance: work is proportional to
    foreground pixels times depth, and labels that touch need no second transform.
    """
    squared = (_run_distance(regions) * regions.aspect[-1]) ** 2
    for axis in range(regions.ndim - 2, -1, -1):
        squared = _lower_envelope(regions, squared, axis)
    return np.sqrt(squared)


def _run_distance(regions: Regions) -> NDArray[np.float64]:
    """Count steps along X to the nearest pixel of another label, at most as far as the run the pixel is in."""
    # pixels of a region are in raster order, so that a run along X stays together
    position = np.arange(len(regions.index))
    begins = np.ones(len(position), bool)
    begins[1:] = (np.diff(regions.index) != 1) | (np.diff(regions.region) != 0)
    first = np.maximum.accumulate(np.where(begins, position, 0))
    ends = np.append(begins[1:], True)
    last = np.minimum.accumulate(np.where(ends, position, len(position))[::-1])[::-1]
    return np.minimum(position - first, last - position) + 1.0


def _lower_envelope(regions: Regions, squared: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Minimum over shifts along `axis` of the shifted squared distance plus the squared shift."""
    table, labels = regions.map(squared).reshape(-1), regions.padded.reshape(-1)
    spacing = regions.aspect[axis] ** 2
    step = regions.offset([int(axis == other) for other in range(regions.ndim)])
    best = squared.copy()
    active = np.arange(len(best))
    shift = 1
    while True:
        active = active[best[active] > spacing * shift * shift]
        if not active.size:
            return best
        own = regions.region[active] + 1
        for side in (-shift, shift):
            there = regions.index[active] + side * step
            value = np.where(labels[there] == own, table[there], 0.0) + spacing * shift * shift
            best[active] = np.minimum(best[active], value)
        shift += 1
