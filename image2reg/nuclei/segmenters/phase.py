"""Cells without a stain: where a phase-contrast image has texture, there are cells.

Local contrast is the standard deviation over the mean in a Gaussian window; pixels above a threshold are cells. Source:
PHANTAST, Jaccard et al., Biotechnol. Bioeng. 111:504 (2014), without its halo correction: outlines include the bright
halo of rounded cells, so that confluence is over-estimated where many cells round up.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from image2reg.images.padding import continue_data
from image2reg.nuclei.segmenters.interface import VoxelSize, checked_plane, diameter_in_pixels
from image2reg.nuclei.size import without_small

__all__ = ["TextureSegmenter", "confluence", "local_contrast"]

# The published values, for 8-bit images: window of the contrast, px, and the contrast from which a pixel is a cell.
_SIGMA, _THRESHOLD = 1.4, 0.06
# Objects and holes below this many pixels are noise, where no cell size is given; else this share of a cell.
_SMALLEST_PX, _SMALLEST_SHARE = 150, 0.2

Labels = NDArray[np.int32]


def local_contrast(image: ArrayLike, *, sigma: float = _SIGMA) -> NDArray[np.float32]:
    """Give standard deviation over mean in a Gaussian window around every pixel.

    Parameters
    ----------
    image : (Y, X), any real dtype
        Brightness from black; an offset of the camera lowers all values.
    sigma : float
        Of the window, pixels.

    Returns
    -------
    (Y, X) float32
        Dimensionless; 0 where the mean is not positive.
    """
    values = np.asarray(checked_plane(np.asarray(image)), dtype=np.float64)
    mean = ndimage.gaussian_filter(values, sigma)
    square = ndimage.gaussian_filter(values**2, sigma)
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    return np.divide(spread, mean, out=np.zeros_like(mean), where=mean > 0).astype(np.float32)


def confluence(labels: ArrayLike) -> float:
    """Give the share of the field, or of the pixels of it that are given, that objects cover: 0 to 1."""
    return float((np.asarray(labels) > 0).mean())


class TextureSegmenter:
    """Connected regions of local contrast above a threshold; touching cells are one object.

    Parameters
    ----------
    sigma : float
        Window of the contrast, pixels.
    threshold : float
        Contrast from which a pixel belongs to a cell.
    """

    name = "texture"
    label_free = True

    def __init__(self, *, sigma: float = _SIGMA, threshold: float = _THRESHOLD) -> None:
        self.sigma, self.threshold = sigma, threshold

    def segment(
        self,
        image: ArrayLike,
        *,
        diameter_px: float | None = None,
        diameter_um: float | None = None,
        voxel_um: VoxelSize = None,
    ) -> Labels:
        """Label regions of cells; arguments, result and errors as in `Segmenter.segment`.

        A size only sets what is too small to be a cell.
        """
        values, padded = continue_data(np.asarray(checked_plane(image)))
        mask = local_contrast(values, sigma=self.sigma) > self.threshold
        size = diameter_in_pixels(diameter_px, diameter_um, voxel_um)
        smallest = _SMALLEST_PX if size is None else _SMALLEST_SHARE * math.pi / 4 * size**2
        holes_filled = without_small(ndimage.label(~mask)[0], smallest) == 0
        cells = holes_filled if padded is None else holes_filled & ~padded
        return without_small(ndimage.label(cells)[0], smallest)
