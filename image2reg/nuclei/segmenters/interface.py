"""What every segmenter is: a name, and an image with a nucleus size to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import ConfigurationError, DataError

__all__ = ["CELL_DIAMETER_UM", "Segmenter", "VoxelSize", "checked_plane", "diameter_in_pixels"]

Labels = NDArray[np.int32]
VoxelSize = float | Sequence[float | None] | None

# What "a nucleus" is taken for where only the pixel size is known: U2OS, HeLa and alike in culture.
CELL_DIAMETER_UM = 14.0
_SMALLEST_DIAMETER_PX = 3.0


@runtime_checkable
class Segmenter(Protocol):
    """One way to find objects.

    Attributes
    ----------
    name : str

    Notes
    -----
    One made for images without a stain also has ``label_free = True``: fields are then not judged as fields of bright
    nuclei (`image2reg.nuclei.quality`).
    """

    name: str

    def segment(
        self,
        image: ArrayLike,
        *,
        diameter_px: float | None = None,
        diameter_um: float | None = None,
        voxel_um: VoxelSize = None,
    ) -> Labels:
        """Label the objects of one plane.

        Parameters
        ----------
        image : (Y, X) array, any real dtype
            A network also takes a lazy array and reads it block by block.
        diameter_px : float, optional
            Typical diameter of a nucleus in pixels; right to about ± 30 % is enough.
        diameter_um, voxel_um : float; float, (y, x) or (z, y, x), optional
            The same in micrometres, and the pixel size. A pixel size alone stands for nuclei of 14 µm. Without any of
            them the size is measured on the image, where the segmenter can.

        Returns
        -------
        (Y, X) int32
            0 is background; objects are 1, 2, … without gaps.

        Raises
        ------
        DataError
            Not one plane, pixels that are NaN or infinite, or not square.
        ConfigurationError
            The size is given twice, or is below 3 pixels.
        """


def checked_plane(image: Any) -> Any:
    """Refuse what is not one plane of numbers; what is in memory must be finite, a lazy array is not read."""
    values = image if hasattr(image, "shape") and hasattr(image, "ndim") else np.asarray(image)
    if values.ndim != 2 or min(values.shape) == 0:
        raise DataError(
            f"segment: image has shape {tuple(values.shape)}; needed is one plane (Y, X). Select a channel and a "
            "plane, or use segment_stack for a stack."
        )
    if isinstance(values, np.ndarray) and values.dtype.kind == "f" and (broken := ~np.isfinite(values)).any():
        first = tuple(int(i) for i in np.argwhere(broken)[0])
        raise DataError(
            f"segment: {int(broken.sum())} of {values.size} pixels are NaN or infinite, first at {first}; repair the "
            "image."
        )
    return values


def diameter_in_pixels(
    diameter_px: float | None, diameter_um: float | None = None, voxel_um: VoxelSize = None
) -> float | None:
    """Nucleus diameter in pixels from whatever is known; None when nothing is.

    Raises
    ------
    ConfigurationError
        Given twice, in micrometres without a pixel size, or below 3 pixels.
    DataError
        Pixels that are not square.

    Examples
    --------
    >>> diameter_in_pixels(None, voxel_um=(None, 0.5, 0.5))
    28.0
    """
    if diameter_px is not None and diameter_um is not None:
        raise ConfigurationError(
            f"nucleus size is given twice: diameter_px={diameter_px:g} and diameter_um={diameter_um:g}. Give one."
        )
    if diameter_px is None:
        pixel = [voxel_um] if isinstance(voxel_um, (int, float)) else list(voxel_um or [])[-2:]
        sizes = [float(size) for size in pixel if size is not None]
        if not sizes or len(sizes) < len(pixel):
            if diameter_um is not None:
                raise ConfigurationError(
                    f"nucleus size: diameter_um={diameter_um:g} needs the pixel size, voxel_um is {voxel_um}. Pass "
                    "voxel_um=(y, x) in micrometres, or diameter_px."
                )
            return None
        if min(sizes) <= 0 or max(sizes) > 1.05 * min(sizes):
            raise DataError(f"pixels are not square: {sizes} um; resample the image to square pixels first.")
        diameter_px = (diameter_um or CELL_DIAMETER_UM) / (sum(sizes) / len(sizes))
    if not diameter_px >= _SMALLEST_DIAMETER_PX:
        raise ConfigurationError(
            f"nucleus diameter is {diameter_px:g} px; at least {_SMALLEST_DIAMETER_PX:g} px are needed. Check the "
            "voxel size, or resample the image to smaller pixels."
        )
    return float(diameter_px)
