"""An image and its labels as one field: what is asked of both before nuclei are measured or cut out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.checks import refuse_beyond_float32, refuse_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.images.image import Image

__all__ = ["checked_channels"]


def checked_channels(image: Image, labels: NDArray[Any], axes: str) -> NDArray[Any]:
    """Read the channels of a field.

    Parameters
    ----------
    image : Image
    labels : (Y, X) or (Z, Y, X)
    axes : str
        ``CYX`` or ``CZYX``.

    Returns
    -------
    array with these axes
        Real numbers, finite, within float32, and as large as the labels; True is 1.

    Raises
    ------
    DataError
        Anything else.
    """
    where = image.source or "image"
    data = np.asarray(image.load().to_axes(axes).data)
    if data.dtype.kind == "b":
        data = data.astype(np.uint8)
    if data.dtype.kind not in "iuf":
        raise DataError(f"{where}: the image holds {data.dtype}; real numbers are needed. Convert it first.")
    if data.shape[1:] != labels.shape:
        raise DataError(
            f"{where}: the image is {data.shape[1:]} and its labels are {labels.shape}. They must be of one field "
            "and size; segment this image, or pair the files by name again."
        )
    for name, plane in zip(image.channels, data, strict=True):
        refuse_non_finite(plane, f"{where}, channel {name!r}", axes[1:])
        refuse_beyond_float32(plane, f"{where}, channel {name!r}")
    return data
