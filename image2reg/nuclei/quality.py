"""Is a field of nuclei fit to be measured? Its saturation, its sharpness, and the flags they raise.

A field is judged by itself, without a reference, so that the same rule holds on every plate and microscope. What a
screen does with a flag (leave the field out, count it) is the screen's decision.

Sources: Otsu, IEEE Trans. SMC 9:62 (1979), for the outline; edge width as the measure of blur after Marziliano et al.,
Signal Process. Image Commun. 19:163 (2004), here by gradient over contrast and in units of the nucleus diameter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from image2reg.errors import DataError
from image2reg.images.padding import continue_data
from image2reg.nuclei.size import typical_diameter

__all__ = ["BLURRED_BELOW", "SATURATED_ABOVE", "field_quality"]

# Share of all pixels at the ceiling: with the usual 10 % of a field covered, a twentieth of all nuclear area.
SATURATED_ABOVE = 0.005
# Every field of U2OS cells in BBBC039 and the Aits screen lies above 5; blurred by a Gaussian of 0.2 nucleus diameters
# nine in ten lie below 3.5.
BLURRED_BELOW = 3.5
# An outline is looked at only where the nuclei stand out from the noise around them this many times.
_CONTRAST = 6.0
# What is wider than this many known diameters is no nucleus: they have merged.
_MERGED = 3.0
# Objects narrower than this are noise; nuclei wider than twice this are looked at more coarsely.
_SMALLEST_PX, _ENOUGH_PX = 4.0, 40.0
# Gaussian that the gradient is measured with, px.
_SIGMA = 1.0

Floats = NDArray[np.float32]


def field_quality(
    image: ArrayLike, *, diameter_px: float = math.nan, predicted: bool = False
) -> dict[str, Any]:
    """Judge one field of nuclei.

    Parameters
    ----------
    image : (Y, X), any real dtype
        Nuclei brighter than their surroundings. What registration padded with zeros does not count.
    diameter_px : float
        Typical nucleus diameter where it is known, else NaN: strongly blurred nuclei merge to something that is sharp
        for its size.
    predicted : bool
        A predicted stain is not called blurred: the bound is that of microscopes, and a network that is not sure of an
        edge draws it soft.

    Returns
    -------
    dict
        ``light`` : mean brightness above the field's darkest hundredth; blur does not change it.
        ``saturated_share`` : share of pixels at the ceiling, 0 where the histogram does not pile up at its maximum.
        ``focus`` : nucleus diameters per edge width, the median over all outlines: about 7 when sharp; NaN without
        nuclei. Dimensionless and independent of gain, offset and magnification.
        ``flags`` : list of ``"saturated"`` (`SATURATED_ABOVE`), ``"blurred"`` (`BLURRED_BELOW`) and ``"empty"`` (no
        object stands out from the background).

    Raises
    ------
    DataError
        Not one plane, or a pixel is NaN or infinite.

    Examples
    --------
    >>> y, x = np.indices((96, 96)) - 48
    >>> disc = np.where(y**2 + x**2 < 400, 1000.0, 100.0)
    >>> field_quality(disc)["flags"], field_quality(ndimage.gaussian_filter(disc, 9))["flags"]
    ([], ['blurred'])
    """
    values = np.asarray(image)
    if values.ndim != 2 or values.size == 0:
        raise DataError(f"field_quality: image has shape {values.shape}; needed is one plane (Y, X).")
    if values.dtype.kind == "f" and (broken := ~np.isfinite(values)).any():
        first = tuple(int(i) for i in np.argwhere(broken)[0])
        raise DataError(
            f"field_quality: {int(broken.sum())} of {values.size} pixels are NaN or infinite, first at {first}; "
            "repair the image."
        )
    values, padded = continue_data(values)
    plain, recorded = values.astype(np.float32), np.ones(values.shape, bool) if padded is None else ~padded
    saturated, focus = _saturated_share(values[recorded]), _focus(plain, recorded, diameter_px)
    light = float(plain[recorded].mean(dtype=np.float64) - np.percentile(plain[recorded], 1))
    flags = []
    if saturated > SATURATED_ABOVE:
        flags.append("saturated")
    if np.isnan(focus):
        flags.append("empty")
    elif focus < BLURRED_BELOW and not predicted:
        flags.append("blurred")
    return {"light": light, "saturated_share": saturated, "focus": focus, "flags": flags}


def _saturated_share(values: NDArray[Any]) -> float:
    """Share of pixels at the maximum, where the histogram piles up there: more than in the range just below it."""
    top, bottom = float(values.max()), float(values.min())
    at_top = values == values.max()
    if at_top.all():
        return 0.0
    # A hundredth of the range holds what a smooth histogram would have there; where few grey values are in use, or
    # hard clipping left none below the ceiling, the next value that occurs is looked at.
    reach = max(0.01 * (top - bottom), top - float(values[~at_top].max()))
    n_top, n_near = int(at_top.sum()), int((values >= top - reach).sum() - at_top.sum())
    return n_top / values.size if n_top > 2 * n_near else 0.0


def _focus(values: Floats, recorded: NDArray[np.bool_], diameter: float) -> float:
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(values, _SIGMA)
    low, high = np.percentile(smooth, [1, 99.8])
    if high <= low:
        return float("nan")
    even = np.sqrt(np.clip(smooth - low, 0, high - low))  # a few very bright nuclei do not hide the others
    level = threshold_otsu(even)
    foreground = (even > level) & recorded
    labels = ndimage.label(ndimage.binary_opening(foreground, iterations=1))[0]
    seen = typical_diameter(labels)
    if not seen >= _SMALLEST_PX:
        return float("nan")
    diameter = diameter if seen > _MERGED * diameter else seen
    # Pixel noise from differences of neighbours, and what the Gaussian leaves of it: blurred light is no noise.
    steps = np.diff(values, axis=1)
    noise = 1.4826 * float(np.median(np.abs(steps))) / np.sqrt(2) / (2 * np.sqrt(np.pi) * _SIGMA)
    if np.median(smooth[foreground]) < np.median(smooth[recorded & (even <= level)]) + _CONTRAST * noise:
        return float("nan")  # the threshold cut through noise
    if (times := int(diameter // _ENOUGH_PX)) > 1:  # finer than needed only costs time
        rows, columns = (n // times for n in values.shape)
        whole, blocks = np.s_[: rows * times, : columns * times], (rows, times, columns, times)
        coarse = values[whole].reshape(blocks).mean(axis=(1, 3))
        recorded = np.asarray(recorded[whole].reshape(blocks).all(axis=(1, 3)))
        return _focus(coarse, recorded, diameter / times)
    wide, near = max(3, round(1.5 * diameter)), max(3, round(diameter / 3))
    contrast = ndimage.maximum_filter(smooth, size=wide) - ndimage.minimum_filter(smooth, size=wide)
    rim = foreground & ~ndimage.binary_erosion(foreground) & (labels > 0)
    rim &= contrast > _CONTRAST * noise
    if not rim.any():
        return float("nan")
    # The steepest place across each piece of the outline, wherever the threshold has put the outline itself.
    gradient = ndimage.gaussian_gradient_magnitude(values, _SIGMA)
    steepest = ndimage.maximum_filter(gradient, size=near)
    # An edge blurred by a Gaussian s rises by contrast / (s sqrt(2 pi)) per pixel; our own Gaussian comes off.
    blur = 1 / max(float(np.median(steepest[rim] / contrast[rim])) * np.sqrt(2 * np.pi), 1e-9)
    return float(diameter / (np.sqrt(2 * np.pi) * np.sqrt(max(blur**2 - _SIGMA**2, 0.25))))
