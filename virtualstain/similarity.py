"""Structural similarity with the Gaussian window of Wang et al., for images of any size and with a mask.

scikit-image and MONAI refuse images thinner than the window and know no mask; both matter for stacks of few
planes and for fields with blank borders. On the ground they share the values are the same (tests/oracles).

Source: Wang, Bovik, Sheikh & Simoncelli, Image quality assessment: from error visibility to structural
similarity, IEEE Transactions on Image Processing 13:600 (2004), equation 13.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["structural_similarity"]

Floats = NDArray[np.float64]
# The paper's Gaussian window of standard deviation 1.5 cut at 11 samples, with K1 = 0.01 and K2 = 0.03.
_SIGMA, _RADIUS, _K1, _K2 = 1.5, 5, 0.01, 0.03


def structural_similarity(
    truth: Floats, prediction: Floats, keep: NDArray[np.bool_] | None, data_range: float
) -> tuple[float, str]:
    """Mean structural similarity over one image and, where it is NaN, the reason.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X) float64
        Finite, equal shapes.
    keep : same shape, boolean, or None
        Local means and variances use these voxels only, and the map is averaged over them.
    data_range : float
        Positive, in the units of the images.
    """
    inside = tuple(slice(_radius(n), n - _radius(n)) for n in truth.shape)
    weight: Floats | None = None
    if keep is not None:
        if not keep[inside].any():
            return math.nan, "no masked voxel is left inside the border of the window"
        # Where no voxel of the window counts, the weight is 0; such places are outside the mask, never read.
        weight = np.maximum(_window_mean(keep.astype(np.float64)), np.finfo(np.float64).tiny)

    def local(values: Floats) -> Floats:
        if keep is None or weight is None:
            return _window_mean(values)
        return _window_mean(np.where(keep, values, 0.0)) / weight

    # Variances of values near zero: subtracting the offset first keeps them exact for a bright background.
    offset = float(truth.mean() if keep is None else truth[keep].mean())
    first, second = truth - offset, prediction - offset
    mean_first, mean_second = local(first), local(second)
    spread = np.maximum(local(first * first) - mean_first**2, 0) + np.maximum(
        local(second * second) - mean_second**2, 0
    )
    shared = local(first * second) - mean_first * mean_second
    mean_first, mean_second = mean_first + offset, mean_second + offset
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    similarity = (2 * mean_first * mean_second + c1) * (2 * shared + c2)
    similarity = similarity / ((mean_first**2 + mean_second**2 + c1) * (spread + c2))
    counted = similarity[inside] if keep is None else similarity[inside][keep[inside]]
    return float(counted.mean()), ""


def _window_mean(image: Floats) -> Floats:
    """Gaussian window mean; on an axis shorter than the window, the window is cut and normalised again."""
    for axis, length in enumerate(image.shape):
        radius = _radius(length)
        image = ndimage.gaussian_filter1d(image, _SIGMA, axis=axis, radius=radius) if radius else image
    return image


def _radius(length: int) -> int:
    return min(_RADIUS, (length - 1) // 2)
