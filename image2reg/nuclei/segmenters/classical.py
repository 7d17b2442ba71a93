"""The classical segmenter (`image2reg.nuclei.segment`) behind the common interface; needs no training."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from image2reg.nuclei.segment import segment
from image2reg.nuclei.segmenters.interface import VoxelSize, checked_plane, diameter_in_pixels
from image2reg.nuclei.size import typical_diameter

__all__ = ["ClassicalSegmenter", "measured_diameter"]

Labels = NDArray[np.int32]

_FALLBACK_PX = 28.0


def measured_diameter(image: NDArray[np.generic]) -> float:
    """Guess the nucleus diameter in pixels from the pieces above Otsu's threshold of the root of brightness."""
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
    low, high = np.percentile(smooth, [1, 99.8])
    if high <= low:
        return _FALLBACK_PX
    even = np.sqrt(np.clip(smooth - low, 0, high - low))
    pieces, _ = ndimage.label(ndimage.binary_opening(even > threshold_otsu(even)))
    diameter = typical_diameter(pieces)
    return max(diameter, 6.0) if np.isfinite(diameter) else _FALLBACK_PX


class ClassicalSegmenter:
    """Local contrast, watershed and trimmed outlines; without a size it is guessed from bright pieces."""

    name = "classical"

    def segment(
        self,
        image: ArrayLike,
        *,
        diameter_px: float | None = None,
        diameter_um: float | None = None,
        voxel_um: VoxelSize = None,
    ) -> Labels:
        """Label nuclei; arguments, result and errors as in `Segmenter.segment`."""
        values = checked_plane(np.asarray(image))
        diameter = diameter_in_pixels(diameter_px, diameter_um, voxel_um) or self.measure_diameter(values)
        return segment(values, diameter_px=diameter)

    def measure_diameter(self, values: NDArray[np.generic]) -> float:
        """Guess the nucleus diameter of a plane (Y, X), in pixels, as `measured_diameter` does."""
        return measured_diameter(checked_plane(values))
