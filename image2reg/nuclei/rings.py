"""Rings around nuclei: the cytoplasm that a nuclear stain alone can point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["rings_around"]


def rings_around(
    regions: Regions, *, gap_px: int = 1, width_px: int = 4
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels around each nucleus, each to the nearest one; pixels two nuclei reach at once belong to neither.

    Parameters
    ----------
    regions : Regions
    gap_px : int
        Left out next to the nucleus, where its blur is.
    width_px : int
        Width of the ring beyond the gap; gap and width together at most 12.

    Returns
    -------
    inside : (pixels in rings,) int64
        Flat position in the image.
    region : (pixels in rings,) int64
        Position of the nucleus in ``regions.ids``.

    Raises
    ------
    ConfigurationError
        No width, or further out than 12 pixels.

    Notes
    -----
    Grown by face neighbours and by all neighbours in turn, which makes an octagon of a point (city block and
    chessboard distance mixed: Rosenfeld & Pfaltz, Pattern Recognition 1:33, 1968). Only the front is visited.
    """
    reach = gap_px + width_px
    if gap_px < 0 or width_px < 1 or reach > regions.margin:
        raise ConfigurationError(
            f"ring of width {width_px} px after a gap of {gap_px} px: the gap is 0 or more, the width 1 or more, "
            f"together at most {regions.margin}."
        )
    grown = regions.padded.copy()
    table = grown.reshape(-1)
    free = np.zeros(grown.shape, bool)  # the margin of `padded` is not part of the image
    free[(slice(regions.margin, -regions.margin),) * regions.ndim] = True
    free = free.reshape(-1) & (table == 0)
    turn = np.empty(len(table), np.int32)
    front = regions.index[regions.edge()]
    kept = [np.zeros(0, np.int64)]
    for ring in range(reach):
        front = _grow(table, free, turn, front, _steps(regions, faces_only=ring % 2 == 0))
        if ring >= gap_px:
            kept.append(front[table[front] > 0])
        front = front[table[front] > 0]
    found = np.concatenate(kept)
    coordinates = np.stack(np.unravel_index(found, grown.shape)) - regions.margin
    return np.ravel_multi_index(tuple(coordinates), regions.shape), table[found].astype(np.int64) - 1


def _steps(regions: Regions, *, faces_only: bool) -> list[int]:
    every = np.array(np.meshgrid(*[(-1, 0, 1)] * regions.ndim)).reshape(regions.ndim, -1).T
    order = np.abs(every).sum(axis=1)
    return [regions.offset(step) for step in every[(order == 1) if faces_only else (order > 0)]]


def _grow(
    table: NDArray[np.int32],
    free: NDArray[np.bool_],
    turn: NDArray[np.int32],
    front: NDArray[np.int64],
    steps: list[int],
) -> NDArray[np.int64]:
    """Give free pixels beside the front its label, contested ones -1; returns what was reached. `turn` is scratch."""
    reached = np.concatenate([front + step for step in steps])
    owners = np.tile(table[front], len(steps))
    open_ = free[reached]
    reached, owners = reached[open_], owners[open_]
    number = np.arange(len(reached), dtype=np.int32)
    # Where several come to a pixel, the last one stays: it stands for the pixel, and the others compare with it.
    turn[reached] = number
    last = turn[reached]
    table[reached] = owners
    table[reached[owners[last] != owners]] = -1
    free[reached] = False
    return reached[last == number]
