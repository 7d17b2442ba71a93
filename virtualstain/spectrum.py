"""The radial spectrum of an image, its noise floor, and the spectrally weighted correlation of two images.

The radius of a frequency is ``k = L · |f|`` with f in cycles per voxel along each axis and L the
longest axis, in voxels: one bin is one cycle over that axis, whatever the shape. Bins run to the
Nyquist radius L/2; the corners beyond it get weight 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.signal.windows import tukey

from image2reg.errors import DataError

__all__ = ["noise_floor", "radial_power", "spectral_correlation"]

Floats = NDArray[np.float64]
# A tenth of each axis is tapered, half of it at each end.
_TAPER = 0.1
# Bins of 0, 1 and 2 cycles per image hold background and illumination, not cells.
_LOWEST_BINS = 3
_FLOOR_FRACTION = 0.2


def radial_power(image: ArrayLike) -> Floats:
    """Mean power ``|F|²`` of each radial frequency bin, after mean subtraction and Tukey apodisation.

    Parameters
    ----------
    image : (Y, X) or (Z, Y, X), any real dtype

    Returns
    -------
    (L // 2 + 1,) float64
        L is the longest axis; bin k holds frequencies of k - 0.5 to k + 0.5 cycles per L voxels. NaN in a bin
        that the grid of a thin image does not reach.
    """
    spectrum = _spectrum(np.asarray(image, dtype=np.float64), None)
    bins, copies = _bins(np.shape(image))
    return _power(spectrum, bins, copies, max(np.shape(image)))


def noise_floor(image: ArrayLike) -> float:
    """Mean power per bin over the highest 20 % of the radial bins, where an optical image holds only noise.

    Parameters
    ----------
    image : (Y, X) or (Z, Y, X), any real dtype

    Returns
    -------
    float
        In squared intensity units; pass it to `virtualstain.metrics.spectral_pearson` to freeze the floor.

    Raises
    ------
    DataError
        The longest axis is under 8 voxels: too few bins.
    """
    power = radial_power(image)
    if power.size <= _LOWEST_BINS + 1:
        raise DataError(
            f"noise floor: shape {np.shape(image)} has {power.size} frequency bins; needed are at least "
            f"{_LOWEST_BINS + 2}, that is 8 voxels along one axis."
        )
    return _floor(power)


def spectral_correlation(
    truth: Floats, prediction: Floats, mask: NDArray[np.bool_] | None = None, *, floor: float | None = None
) -> tuple[float, str]:
    """Spectrally weighted correlation and, where it is NaN, the reason.

    The weight of a bin is ``w = max(0, 1 - N/P)``, P being the target's mean power in it and N the
    noise floor: the share of the target's power that is not noise, 0 at the floor and below. It is
    unchanged when the target is rescaled. The three lowest bins get weight 0.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X) float64
        Finite, equal shapes.
    mask : same shape, boolean, optional
        Voxels outside it are set to the mean inside it.
    floor : float, optional
        As `noise_floor` gives it.

    Notes
    -----
    ``S = Σ w Re(F G*) / sqrt(Σ w |F|² · Σ w |G|²)``, clipped to [-1, 1]: the Spectral PCC of DynaCell
    (mehta-lab/VisCy: applications/dynacell). Their default weighting was not available to read, so
    values agree in kind and not to the last digit.
    """
    length = max(truth.shape)
    if length // 2 + 1 <= _LOWEST_BINS + 1:
        return (
            math.nan,
            f"shape {truth.shape} has {length // 2 + 1} frequency bins, fewer than {_LOWEST_BINS + 2}",
        )
    bins, copies = _bins(truth.shape)
    f, g = _spectrum(truth, mask), _spectrum(prediction, mask)
    power = _power(f, bins, copies, length)
    level = _floor(power) if floor is None else floor
    reached = np.nan_to_num(power) > max(level, np.finfo(np.float64).tiny)
    per_bin = np.where(reached, 1 - level / np.where(reached, power, 1), 0.0)
    per_bin[:_LOWEST_BINS] = 0.0
    if not per_bin.any():
        return math.nan, "truth has no power above its noise floor"
    # Bins beyond Nyquist share the index just past the end, whose weight is 0.
    weight = np.append(per_bin, 0.0)[bins] * copies
    energy = float((weight * _squared(f)).sum()), float((weight * _squared(g)).sum())
    if energy[1] <= np.finfo(np.float64).tiny:
        return math.nan, "prediction has no power where truth stands above its noise floor"
    cross = float((weight * (f.real * g.real + f.imag * g.imag)).sum())
    return min(1.0, max(-1.0, cross / math.sqrt(energy[0]) / math.sqrt(energy[1]))), ""


def _spectrum(image: Floats, mask: NDArray[np.bool_] | None) -> NDArray[np.complex128]:
    counted = image if mask is None else image[mask]
    image = image - counted.mean()
    if mask is not None:
        image = np.where(mask, image, 0.0)
    largest = np.abs(image).max()
    # A constant image leaves rounding noise after the mean is subtracted: that is not signal.
    if largest <= 1e-13 * np.abs(counted).max():
        image = np.zeros_like(image)
    for axis, n in enumerate(image.shape):
        # Two samples longer and cut, so that the taper is nowhere exactly 0 and short axes survive.
        window = tukey(n + 2, _TAPER)[1:-1]
        image = image * window.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    return fft.rfftn(image)


def _bins(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], Floats]:
    """Radial bin of each sample of the half spectrum, and how often it occurs in the full one (1 or 2)."""
    length = max(shape)
    axes = [fft.fftfreq(n) * length for n in shape[:-1]] + [fft.rfftfreq(shape[-1]) * length]
    squared: Any = sum(
        (f**2).reshape([-1 if a == axis else 1 for a in range(len(shape))]) for axis, f in enumerate(axes)
    )
    bins = np.minimum(np.rint(np.sqrt(squared)), length // 2 + 1).astype(np.intp)
    copies = np.full(shape[-1] // 2 + 1, 2.0)
    copies[0] = 1.0
    if shape[-1] % 2 == 0:
        copies[-1] = 1.0
    return bins, copies


def _squared(spectrum: NDArray[np.complex128]) -> Floats:
    return spectrum.real**2 + spectrum.imag**2


def _power(spectrum: NDArray[np.complex128], bins: NDArray[np.intp], copies: Floats, length: int) -> Floats:
    n_bins = length // 2 + 2
    counts = np.bincount(bins.ravel(), weights=np.broadcast_to(copies, bins.shape).ravel(), minlength=n_bins)
    total = np.bincount(bins.ravel(), weights=(_squared(spectrum) * copies).ravel(), minlength=n_bins)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)[:-1]


def _floor(power: Floats) -> float:
    highest = power[-max(1, math.ceil(_FLOOR_FRACTION * power.size)) :]
    highest = highest[~np.isnan(highest)]
    return float(highest.mean()) if highest.size else 0.0
