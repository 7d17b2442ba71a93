"""Pixel sizes as callers give them, and what measures of planes need: square pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import ConfigurationError, DataError

__all__ = ["PIXEL_TOLERANCE", "VoxelSize", "common_voxels", "other_pixels", "square_pixel_um", "voxel_sizes"]

if TYPE_CHECKING:
    from image2reg.images import Image

Sizes = tuple[float | None, float | None, float | None]
VoxelSize = float | Sequence[float | None] | None

# Crops of pixels that differ by more than this share are at different scales.
PIXEL_TOLERANCE = 0.1
# Sides may differ by this factor: calibrations do.
_SQUARE = 1.05


def voxel_sizes(voxel_um: Any) -> tuple[float | None, float | None, float | None]:
    """Give (z, y, x) in micrometres, None for what is not known.

    Parameters
    ----------
    voxel_um : number, or (y, x) or (z, y, x) of numbers and None, or None
        A number stands for every axis.

    Raises
    ------
    ConfigurationError
        Anything else, or a size that is not above 0.

    Examples
    --------
    >>> voxel_sizes((0.5, 0.25)), voxel_sizes(0.5)
    ((None, 0.5, 0.25), (0.5, 0.5, 0.5))
    """
    given = np.asarray(voxel_um, dtype=object)
    sizes = list(given.ravel()) * (3 if given.size == 1 else 1)
    usable = all(s is None or (isinstance(s, Real) and 0 < float(s) < math.inf) for s in sizes)
    if given.ndim > 1 or len(sizes) not in (2, 3) or not usable:
        raise ConfigurationError(
            f"voxel_um is {voxel_um!r}; allowed are a number, (y, x) or (z, y, x), in micrometres above 0, None for "
            "what is not known."
        )
    z, y, x = (None if size is None else float(size) for size in ([None] * (3 - len(sizes)) + sizes))
    return z, y, x


def other_pixels(have: Sequence[float | None], want: Sequence[float | None]) -> bool:
    """Whether pixel sizes differ by more than a tenth along an axis where both are known."""
    known = [(a, b) for a, b in zip(have, want, strict=True) if a and b]
    return any(abs(a / b - 1) > PIXEL_TOLERANCE for a, b in known)


def common_voxels(known: Sizes, image: Image, where: str) -> Sizes:
    """Voxel size of the channels of a field: those before, completed by one more.

    Parameters
    ----------
    known : (z, y, x)
        Micrometres, None where no channel before knew.
    image : Image
        The channel; its planes may be as far apart as they like where it has one only.
    where : str
        The field, for the message.

    Raises
    ------
    DataError
        It has other pixels, so that it cannot show the same field.
    """
    first = 0 if image.sizes.get("Z", 1) > 1 else 1
    if other_pixels(image.voxel_um[first:], known[first:]):
        raise DataError(
            f"{image.source}: its voxels are {image.voxel_um} um (z, y, x), those of the channels before it in field "
            f"{where} {known}. Pair the files again or resample one; where a file is wrong, fill the manifest's "
            "columns voxel_z_um, voxel_y_um and voxel_x_um."
        )
    z, y, x = (new if old is None else old for old, new in zip(known, image.voxel_um, strict=True))
    return z, y, x


def square_pixel_um(sizes: Sequence[float], where: str = "") -> float:
    """Give the side of a pixel; sides that differ by up to 5 % count as their mean.

    Parameters
    ----------
    sizes : sequence of float
        Micrometres along the axes of a plane.
    where : str, optional
        File that the message names.

    Raises
    ------
    DataError
        Pixels that are not square.
    """
    if max(sizes) > _SQUARE * min(sizes):
        raise DataError(
            f"{where + ': ' if where else ''}pixels are not square: {list(sizes)} um; resample the image (and its "
            "labels) to square pixels first."
        )
    return sum(sizes) / len(sizes)
