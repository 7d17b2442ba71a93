"""Every field at one nucleus size and one brightness, so that a network sees any microscope alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.images.checks import refuse_beyond_float32
from image2reg.images.streaming import chunks_of, pieces

__all__ = [
    "WORKING_DIAMETER_PX",
    "brightness_range",
    "resize",
    "resize_labels",
    "standardise",
    "working_factor",
]

Floats = NDArray[np.float32]

# Nuclei are this wide, in pixels, when a network sees them: the size of U2OS nuclei at 20x without binning loss.
WORKING_DIAMETER_PX = 28.0
# Closer to 1 than this an image is left on its own grid: resampling would cost outlines more than size costs.
_NEAR = 0.06
# Percentiles that become 0 and 1; the upper one lies in the nuclei when they cover at least 1 % of the field.
_DARK, _BRIGHT = 5.0, 99.8
# The bright end lies at least this many standard deviations of the pixel noise above the dark one: an empty field is
# not blown up to look like nuclei.
_NOISE = 12.0


def working_factor(diameter_px: float) -> float:
    """Give what an image's pixels are multiplied by to bring its nuclei to the working size; 1 for NaN.

    Examples
    --------
    >>> working_factor(56.0), working_factor(29.0)
    (0.5, 1.0)
    """
    factor = WORKING_DIAMETER_PX / diameter_px if math.isfinite(diameter_px) else 1.0
    return 1.0 if abs(factor - 1) < _NEAR else factor


def _as_float32(values: Any) -> Floats:
    read = np.asarray(values)
    refuse_beyond_float32(read, "segment")
    return read.astype(np.float32, copy=False)


def brightness_range(image: Any) -> tuple[float, float]:
    """Give the values that become 0 and 1.

    Parameters
    ----------
    image : (Y, X) array or lazy array, any real dtype
        Of more than a million pixels a regular sample is looked at, piece by piece.

    Examples
    --------
    >>> brightness_range(np.full((4, 4), 7))
    (7.0, 8.0)
    """
    step = max(1, round(float(np.sqrt(image.shape[0] * image.shape[1] / 1_000_000))))
    samples = [_as_float32(image[box])[::step] for box in pieces(image.shape, np.float32, chunks_of(image))]
    values = np.concatenate([sample[:, ::step].ravel() for sample in samples])
    dark, bright = (float(v) for v in np.percentile(values, [_DARK, _BRIGHT]))
    # Noise from differences of neighbours (Immerkaer, Comput. Vis. Image Underst. 64:300, 1996, in one dimension).
    steps = np.concatenate([np.diff(sample, axis=1).ravel() for sample in samples])
    noise = 1.4826 * float(np.median(np.abs(steps))) / np.sqrt(2) if steps.size else 0.0
    bright = max(bright, dark + _NOISE * noise)
    return dark, bright if bright > dark else dark + 1.0


def standardise(image: ArrayLike, dark: float, bright: float) -> Floats:
    """Give ``(image - dark) / (bright - dark)`` as float32."""
    values: Floats = np.subtract(image, np.float32(dark), dtype=np.float32)
    values *= np.float32(1.0 / (bright - dark))
    return values


def resize(image: NDArray[Any], shape: tuple[int, int]) -> Floats:
    """Resample the last two axes, pixel centres kept: area-weighted when shrinking, bilinear when enlarging.

    Parameters
    ----------
    image : (Y, X) or (C, Y, X)
    """
    import torch
    from torch.nn import functional

    if image.shape[-2:] == shape:
        return np.asarray(image, dtype=np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    tensor = tensor[None, None] if image.ndim == 2 else tensor[None]
    shrinks = shape[0] < image.shape[-2] or shape[1] < image.shape[-1]
    made = functional.interpolate(tensor, shape, mode="bilinear", align_corners=False, antialias=shrinks)
    return (made[0, 0] if image.ndim == 2 else made[0]).numpy()


def resize_labels(labels: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Resample labels (Y, X) by the nearest pixel."""
    index = [((np.arange(n) + 0.5) * k / n).astype(np.intp) for n, k in zip(shape, labels.shape, strict=True)]
    return labels[np.ix_(*index)]
