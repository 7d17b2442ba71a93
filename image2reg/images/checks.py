"""Numeric guards: voxels that no model can use are refused, doubtful ones are flagged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.statistics import Statistics, channel_statistics
from image2reg.images.streaming import chunks_of, pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.images.image import Image

__all__ = ["SATURATED_FRACTION", "check_voxels", "refuse_beyond_float32", "refuse_non_finite"]

# More voxels than this at the maximum and the bright structures are cut off.
SATURATED_FRACTION = 0.05


def refuse_non_finite(values: NDArray[Any], where: str, axes: str = "", start: tuple[int, ...] = ()) -> None:
    """Refuse NaN and infinity with their number and first position.

    Parameters
    ----------
    values : array of any shape
    where : str
        File (and channel) the message names.
    axes : str, optional
        Letters of the axes, for the position.
    start : ints, optional
        Position of ``values[0, 0, ...]`` in the whole image.

    Raises
    ------
    DataError
    """
    if values.dtype.kind != "f":
        return
    bad = ~np.isfinite(values)
    n_bad = int(bad.sum())
    if n_bad:
        raise DataError(_non_finite_message(where, n_bad, values.size, _position(bad, axes, start)))


def refuse_beyond_float32(values: NDArray[Any], where: str) -> None:
    """Refuse finite values that float32, in which images are worked on, cannot hold.

    Raises
    ------
    DataError
    """
    limit = float(np.finfo(np.float32).max)
    if values.dtype.kind == "f" and values.dtype.itemsize > 4 and values.size:
        worst = max(float(values.max()), -float(values.min()))
        if limit < worst < math.inf:
            raise DataError(
                f"{where}: the largest value is {worst:g}; allowed are values up to {limit:.3g} (float32). Divide the "
                "image by a number, or check how it was made."
            )


def _position(bad: NDArray[np.bool_], axes: str, start: tuple[int, ...]) -> str:
    first = np.unravel_index(int(bad.argmax()), bad.shape)
    offsets = start or (0,) * bad.ndim
    letters = axes or "".join("?" for _ in first)
    return ", ".join(
        f"{letter}={int(index) + offset}"
        for letter, index, offset in zip(letters, first, offsets, strict=True)
    )


def _non_finite_message(where: str, n_bad: int, n: int, position: str) -> str:
    return (
        f"{where}: {n_bad} of {n} voxels are NaN or infinite, the first at {position}. Models need finite "
        "numbers; "
        "mask or repair them (numpy.nan_to_num), or export the image again."
    )


def check_voxels(image: Image) -> dict[str, tuple[str, ...]]:
    """Go through an image once; refuse what no model can use, flag what is doubtful.

    Returns
    -------
    dict of channel name to flags
        ``saturated`` (more than 5 % of the voxels equal the maximum, of at least three values) and
        ``negative``. Empty tuples for channels in order.

    Raises
    ------
    DataError
        NaN or infinite voxels (their number and the first position), or a channel of one value only.
    """
    where, found = image.source or "image", channel_statistics(image)
    n_bad = sum(statistics.n_nan + statistics.n_inf for statistics in found.values())
    if n_bad:
        raise DataError(_non_finite_message(where, n_bad, math.prod(image.shape), _first_bad(image)))
    return {name: _flags(where, name, statistics) for name, statistics in found.items()}


def _first_bad(image: Image) -> str:
    """Position of a NaN or infinite voxel: the first in reading order."""
    for box in pieces(image.shape, image.dtype, chunks_of(image.data)):
        bad = ~np.isfinite(np.asarray(image.data[box]))
        if bad.any():
            return _position(bad, image.axes, tuple(part.start for part in box))
    return "an unknown position"


def _flags(where: str, channel: str, statistics: Statistics) -> tuple[str, ...]:
    if statistics.is_constant:
        raise DataError(
            f"{where}: channel {channel!r} is constant: all {statistics.n} voxels are "
            f"{statistics.minimum:g}. "
            "There is nothing to predict from; check the shutter, the lamp and the channel order."
        )
    flags = []
    if statistics.saturated_fraction > SATURATED_FRACTION and statistics.keys.size > 2:
        flags.append("saturated")
    if statistics.minimum < 0:
        flags.append("negative")
    return tuple(flags)
