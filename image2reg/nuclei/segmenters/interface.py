"""What every segmenter is: a name, and an image with a nucleus size to labels."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.images.checks import refuse_beyond_float32
from image2reg.nuclei.voxels import VoxelSize, square_pixel_um, voxel_sizes

__all__ = ["CELL_DIAMETER_UM", "Measuring", "Segmenter", "VoxelSize", "checked_plane", "diameter_in_pixels"]

Labels = NDArray[np.int32]

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
            Not one plane, pixels that are NaN, infinite, beyond float32 or no real numbers, or not square.
        ConfigurationError
            The size is given twice, or is below 3 pixels.
        """


@runtime_checkable
class Measuring(Protocol):
    """A segmenter that measures sizes."""

    def measure_diameter(self, values: NDArray[Any]) -> float:
        """Measure the nucleus diameter of a plane (Y, X), in pixels."""


def checked_plane(image: Any) -> Any:
    """Refuse what is not one plane of real numbers; in memory they must be finite, a lazy array is not read.

    True becomes 1.
    """
    values = image if hasattr(image, "shape") and hasattr(image, "ndim") else np.asarray(image)
    if values.ndim != 2 or min(values.shape) == 0:
        raise DataError(
            f"segment: image has shape {tuple(values.shape)}; needed is one plane (Y, X). Select a channel and a "
            "plane, or use segment_stack for a stack."
        )
    if np.dtype(values.dtype).kind not in "biuf":
        raise DataError(
            f"segment: the image holds {values.dtype}; real numbers are needed. Convert it first."
        )
    if isinstance(values, np.ndarray) and values.dtype.kind == "f" and (broken := ~np.isfinite(values)).any():
        first = tuple(int(i) for i in np.argwhere(broken)[0])
        raise DataError(
            f"segment: {int(broken.sum())} of {values.size} pixels are NaN or infinite, first at {first}; repair the "
            "image."
        )
    if isinstance(values, np.ndarray):
        refuse_beyond_float32(values, "segment")
        return values.astype(np.uint8) if values.dtype.kind == "b" else values
    return values


def diameter_in_pixels(
    diameter_px: float | None, diameter_um: float | None = None, voxel_um: VoxelSize = None
) -> float | None:
    """Nucleus diameter in pixels from whatever is known; None when nothing is.

    Raises
    ------
    ConfigurationError
        Given twice, in micrometres without a pixel size, not above 0, or below 3 pixels; sizes that are no numbers.
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
        if diameter_um is not None and not 0 < diameter_um < math.inf:
            raise ConfigurationError(
                f"nucleus size: diameter_um is {diameter_um:g}; give micrometres above 0 (Hoechst nuclei of cultured "
                "human cells are mostly 10 to 18 um across), or leave it out."
            )
        sizes = [size for size in voxel_sizes(voxel_um)[1:] if size is not None]
        if len(sizes) < 2:
            if diameter_um is not None:
                raise ConfigurationError(
                    f"nucleus size: diameter_um={diameter_um:g} needs the pixel size, voxel_um is {voxel_um}. Pass "
                    "voxel_um=(y, x) in micrometres, or diameter_px."
                )
            return None
        wanted = CELL_DIAMETER_UM if diameter_um is None else diameter_um
        diameter_px = wanted / square_pixel_um(sizes)
    if not _SMALLEST_DIAMETER_PX <= diameter_px < math.inf:
        raise ConfigurationError(
            f"nucleus diameter is {diameter_px:g} px; at least {_SMALLEST_DIAMETER_PX:g} px are needed. Check the "
            "voxel size, or resample the image to smaller pixels."
        )
    return float(diameter_px)
