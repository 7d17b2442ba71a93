"""How deep each pixel lies in its own nucleus: an exact distance transform that knows touching neighbours apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    Separable squared distances (Felzenszwalb & Huttenlocher, Theory of Computing 8:415, 2012). Pixels are lined up
    along each axis, and the line is shifted against itself: where that meets another run of pixels, the end of the own
    run is at least as near, so that nothing is looked up, and labels that touch need no second transform.
    """
    squared = (_to_end(_run_lengths(regions.index, regions.region)) * regions.aspect[-1]) ** 2
    for axis in range(regions.ndim - 2, -1, -1):
        turned = np.moveaxis(regions.padded, axis, -1)
        labels = turned.reshape(-1)
        line = np.flatnonzero(labels)
        coordinates = list(np.unravel_index(line, turned.shape))
        coordinates.insert(axis, coordinates.pop())
        place = np.ravel_multi_index(coordinates, regions.padded.shape)
        table = regions.map(squared).reshape(-1)
        table[place] = _lower_envelope(table[place], _run_lengths(line, labels[line]), regions.aspect[axis])
        squared = table[regions.index]
    return np.sqrt(squared)


def _run_lengths(line: NDArray[np.int64], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Lengths of the runs of one label, from flat positions that follow each other within a run."""
    begins = np.ones(len(line), bool)
    begins[1:] = (np.diff(line) != 1) | (labels[1:] != labels[:-1])
    return np.diff(np.flatnonzero(np.append(begins, True)))


def _to_end(lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Count steps from each pixel of a line of runs to the nearest one beyond its run."""
    before = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.minimum(before + 1.0, np.repeat(lengths, lengths) - before)


def _lower_envelope(
    squared: NDArray[np.float64], lengths: NDArray[np.int64], spacing: float
) -> NDArray[np.float64]:
    """Minimum over shifts of a line of runs of the squared distance there plus the squared shift, and of the ends'."""
    found = np.minimum(squared, (_to_end(lengths) * spacing) ** 2)
    kept, best, shift = np.arange(len(found)), found.copy(), 1
    while lengths.size:
        far = (spacing * shift) ** 2
        deep = np.maximum.reduceat(best, np.cumsum(lengths) - lengths) > far
        if 2 * lengths[deep].sum() < len(best):  # one deep run is no reason to go on with all
            found[kept] = best
            still = np.repeat(deep, lengths)
            kept, best, squared, lengths = kept[still], best[still], squared[still], lengths[deep]
        np.minimum(best[shift:], squared[:-shift] + far, out=best[shift:])
        np.minimum(best[:-shift], squared[shift:] + far, out=best[:-shift])
        shift += 1
    return found
