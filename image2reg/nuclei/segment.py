"""A classical nucleus segmenter without training: the baseline, and the ruler for predicted stains.

Local contrast instead of one global threshold, because in real cultures a dead or a mitotic nucleus
outshines its neighbours many times and a global Otsu threshold then keeps only the brightest;
measured recall and F1 on three public sets are in tests/image2reg/test_nuclei_segment.py. All lengths are
fractions of one number, the typical nucleus diameter, and the work is done at about 24 pixels per nucleus
whatever the magnification.

Sources: Otsu, IEEE Trans. SMC 9:62 (1979), here on the difference of Gaussians; square root to even out
shot noise (Anscombe, Biometrika 35:246, 1948); h-maxima of the distance transform as watershed seeds
(Soille, Morphological Image Analysis, 2003, chapters 6 and 9); noise from the median absolute residual.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.segmenters.interface import diameter_in_pixels
from image2reg.nuclei.segmenters.scaling import resize_labels
from image2reg.nuclei.size import without_small

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["segment"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

# Working resolution, in pixels per nucleus diameter: finer gains nothing in F1 and costs time with its
# square.
_WORKING_DIAMETER_PX = 24.0
# In nucleus diameters: smoothing, local background, opening, peaks, reach of the ground level.
_SMOOTH, _BACKGROUND, _OPENING, _PEAK, _GROUND = 0.05, 0.4, 0.1, 0.1, 0.3
# Share of the Otsu threshold at the outline, and that an object's peak must reach to be kept at all.
_OUTLINE, _KEPT = 0.3, 0.75
# An object ends where its brightness above the ground around it falls to this share of its own plateau: the
# local contrast alone draws the outline of a blurred nucleus, as predicted ones are, too wide.
_EDGE_LINEAR, _EDGE_LOG = 0.35, 0.5
# A peak is noise below this many standard deviations of the smoothed pixel noise.
_NOISE_MULTIPLE = 8.0
# Seeds: depth of a maximum in nucleus radii, and what one standard deviation of local contrast adds to
# the radius.
_SEED_DEPTH, _SEED_CONTRAST = 0.1, 0.15
# Added under the square root, as a share of the bright end, so that it does not blow up noise in the dark.
_ROOT_OFFSET = 0.03


def segment(
    image: ArrayLike,
    *,
    diameter_px: float | None = None,
    diameter_um: float | None = None,
    voxel_um: float | Sequence[float | None] | None = None,
    mask: ArrayLike | None = None,
    intensity: Literal["linear", "log"] = "linear",
    min_area: float = 0.1,
    min_contrast: float | None = None,
) -> Labels:
    """Label bright nuclei in a Hoechst or DAPI image, real or predicted.

    Parameters
    ----------
    image : (Y, X), any real dtype
        Nuclei brighter than their surroundings; arbitrary gain and offset.
    diameter_px : float
        Typical nucleus diameter in pixels. Right to about ± 30 % is enough.
    diameter_um, voxel_um : float; float, (y, x) or (z, y, x)
        The same in micrometres, with the pixel size. Give either `diameter_px` or these two.
    mask : (Y, X) boolean, optional
        Pixels that count; others are never labelled. Blank edge rows and columns (every pixel the same, as
        registration leaves them) are left out in any case.
    intensity : str
        ``log`` when the image is a logarithm of intensity already.
    min_area : float
        Smallest object, as a share of the area of a disc of the given diameter.
    min_contrast : float, optional
        Smallest peak above the local background, in the units of `image`. Without it, the bar is relative
        to the other objects and to the pixel noise, and a smooth prediction of an empty field may yield
        objects.

    Returns
    -------
    (Y, X) int32
        0 is background; objects are 1, 2, … without gaps. A constant image has none.

    Raises
    ------
    DataError
        Not two-dimensional, or a counted pixel is NaN or infinite (number and first position are given).
    ConfigurationError
        The size is missing, given twice, not positive, or below 3 pixels.

    Examples
    --------
    >>> y, x = np.indices((64, 64))
    >>> spots = sum(np.exp(-((y - c) ** 2 + (x - c) ** 2) / 50.0) for c in (16, 48))
    >>> int(segment(spots, diameter_px=16).max())
    2
    """
    diameter = _diameter_px(diameter_px, diameter_um, voxel_um)
    if intensity not in ("linear", "log"):
        raise ConfigurationError(f"intensity is {intensity!r}; allowed are 'linear' and 'log'.")
    values, valid = _checked(image, mask)
    if not valid.any() or np.ptp(values[valid]) == 0:
        return np.zeros(values.shape, dtype=np.int32)
    # Outside the mask: background, so that no edge is seen there.
    dark, bright = np.percentile(values[valid], [0.5, 99.5])
    values = np.where(valid, np.maximum(values - dark, 0), 0)
    small = _shrink(values, diameter)
    scale = min(1.0, _WORKING_DIAMETER_PX / diameter)
    objects = _objects(small, diameter * scale, bright - dark, min_contrast, linear=intensity == "linear")
    labels = np.where(valid, resize_labels(objects, values.shape), 0)
    return without_small(labels, min_area * math.pi / 4 * diameter**2)


def _diameter_px(
    diameter_px: float | None, diameter_um: float | None, voxel_um: float | Sequence[float | None] | None
) -> float:
    if (diameter_px is None) == (diameter_um is None):
        given = "both" if diameter_px is not None else "neither"
        raise ConfigurationError(
            f"nucleus size: {given} of diameter_px and diameter_um given; give one of them "
            "(Hoechst nuclei of cultured human cells are mostly 10 to 18 um across)."
        )
    return diameter_in_pixels(diameter_px, diameter_um, voxel_um) or math.nan


def _checked(image: ArrayLike, mask: ArrayLike | None) -> tuple[Floats, Mask]:
    values = np.asarray(image, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise DataError(
            f"segment: image has shape {values.shape}; needed is one plane (Y, X). "
            "Select a channel and a plane, or project the stack, first."
        )
    valid = np.ones(values.shape, dtype=bool) if mask is None else np.asarray(mask)
    if valid.dtype != np.bool_ or valid.shape != values.shape:
        raise DataError(f"segment: mask is {valid.dtype} {valid.shape}; needed is bool {values.shape}.")
    broken = valid & ~np.isfinite(values)
    if broken.any():
        first = tuple(int(i) for i in np.argwhere(broken)[0])
        raise DataError(
            f"segment: {int(broken.sum())} of {values.size} pixels are NaN or infinite, first at {first}; "
            "exclude them with mask=, or repair the image."
        )
    return values, valid & _filled_rectangle(values)


def _filled_rectangle(values: Floats) -> Mask:
    """Everything inside the outermost rows and columns that are not one constant value."""
    inside = np.zeros(values.shape, dtype=bool)
    rows = np.flatnonzero((values != values[:, :1]).any(axis=1))
    columns = np.flatnonzero((values != values[:1]).any(axis=0))
    if rows.size and columns.size:
        inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    elif rows.size or columns.size:  # a ramp along one axis only: every line across it is constant
        inside[:] = True
    return inside


def _shrink(values: Floats, diameter: float) -> Floats:
    factor = _WORKING_DIAMETER_PX / diameter
    if factor >= 1:
        return values
    factors = [max(1, round(n * factor)) / n for n in values.shape]
    smooth = ndimage.gaussian_filter(values, 0.3 / factor)
    return np.asarray(ndimage.zoom(smooth, factors, order=1, grid_mode=True, mode="nearest"))


def _objects(
    image: Floats, diameter: float, bright: float, min_contrast: float | None, *, linear: bool
) -> Labels:
    """Labels at the working resolution; `image` has its dark end at 0 and its bright end at `bright`."""
    from skimage.filters import threshold_otsu

    even = np.sqrt(image + _ROOT_OFFSET * bright) if linear else image
    smooth = ndimage.gaussian_filter(even, _SMOOTH * diameter)
    contrast = smooth - ndimage.gaussian_filter(smooth, _BACKGROUND * diameter)
    if np.ptp(contrast) == 0:
        return np.zeros(image.shape, dtype=np.int32)
    threshold = threshold_otsu(contrast)
    foreground = ndimage.binary_fill_holes(contrast > _OUTLINE * threshold)
    foreground = ndimage.binary_opening(foreground, _disc(max(1.0, _OPENING * diameter)))
    labels = _split(foreground, contrast, diameter)
    n_objects = int(labels.max(initial=0))
    if n_objects == 0:
        return labels
    bar = max(_KEPT * threshold, _NOISE_MULTIPLE * _smoothed_noise(even, _PEAK * diameter))
    index = np.arange(1, n_objects + 1)
    kept = ndimage.maximum(_peak(even, diameter), labels, index) > bar
    if min_contrast is not None:
        kept &= ndimage.maximum(_peak(image, diameter), labels, index) >= min_contrast
    labels = np.where(np.concatenate([[False], kept])[labels], labels, 0).astype(np.int32)
    return _trimmed(labels, image, diameter, _EDGE_LINEAR if linear else _EDGE_LOG)


def _trimmed(labels: Labels, image: Floats, diameter: float, edge: float) -> Labels:
    """Each object down to the share `edge` of its plateau above the background around it."""
    foreground = labels > 0
    if not foreground.any():
        return labels
    smooth = ndimage.gaussian_filter(image, _SMOOTH * diameter)
    # Background under an object: mean of the background pixels around, where there are any within reach.
    weight = ndimage.gaussian_filter((~foreground).astype(np.float64), _GROUND * diameter)
    ground = ndimage.gaussian_filter(np.where(foreground, 0.0, smooth), _GROUND * diameter)
    reached = weight > 1e-3
    above = smooth - ground / np.where(reached, weight, 1.0)
    index = np.arange(1, int(labels.max()) + 1)
    plateau = ndimage.labeled_comprehension(above, labels, index, lambda v: np.percentile(v, 80), float, 0.0)
    inside = foreground & (~reached | (above > edge * np.concatenate([[0.0], plateau])[labels]))
    inside = ndimage.binary_fill_holes(inside) & foreground
    inside = ndimage.binary_opening(inside, _disc(max(1.0, _OPENING * diameter)))
    return np.where(inside, labels, 0).astype(np.int32)


def _peak(image: Floats, diameter: float) -> Floats:
    """Local brightness above the local background."""
    near, far = (ndimage.gaussian_filter(image, width * diameter) for width in (_PEAK, _BACKGROUND))
    return near - far


def _smoothed_noise(image: Floats, sigma: float) -> float:
    """Give the standard deviation that white pixel noise keeps after a Gaussian of width `sigma`."""
    residual = image - ndimage.uniform_filter(image, 3)  # keeps 8/9 of the variance of white noise
    pixel = 1.4826 * float(np.median(np.abs(residual))) / math.sqrt(8 / 9)
    return pixel / max(1.0, 2 * math.sqrt(math.pi) * sigma)


def _disc(radius: float) -> Mask:
    reach = math.ceil(radius)
    y, x = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    return y**2 + x**2 <= radius**2


def _split(foreground: Mask, contrast: Floats, diameter: float) -> Labels:
    """Watershed of touching nuclei from seeds that are wide (distance transform) and bright (contrast)."""
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed

    if not foreground.any():
        return np.zeros(foreground.shape, dtype=np.int32)
    radius = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), 0.04 * diameter) / (
        diameter / 2
    )
    spread = float(contrast[foreground].std())
    bright = ndimage.gaussian_filter(contrast, _PEAK * diameter) / spread if spread > 0 else 0.0
    height = radius + _SEED_CONTRAST * bright
    lifted = reconstruction(height - _SEED_DEPTH, height)
    peaks = foreground & (height - lifted >= 0.999 * _SEED_DEPTH)
    seeds, _ = ndimage.label(peaks, np.ones((3, 3)))
    return np.asarray(watershed(-height, seeds, mask=foreground), dtype=np.int32)
