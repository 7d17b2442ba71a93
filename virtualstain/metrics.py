"""Scores of a predicted stain against the real one, image by image; numpy and scipy only.

Pearson and spectral Pearson do not see a wrong brightness. SSIM, PSNR, NRMSE and MAE do, because their
data range is fixed by the caller (from the training statistics of the target) and not taken from the
image under test; the ``_minmax`` variants, which rescale each image to [0, 1] first, exist for
comparison with published tables only.

With a boolean `mask`, voxels outside it have no influence at all on any score. A score that is undefined (a
constant image has no correlation) is NaN, never a warning; `score_image` says why in its key ``undefined``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import ConfigurationError, DataError
from virtualstain.similarity import structural_similarity
from virtualstain.spectrum import spectral_correlation

__all__ = [
    "mae",
    "nrmse",
    "nrmse_minmax",
    "pearson",
    "psnr",
    "psnr_minmax",
    "score_image",
    "spectral_pearson",
    "ssim",
    "ssim_minmax",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def pearson(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Pearson correlation over the voxels of one image; unchanged by any gain > 0 and offset of either image.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X), any real dtype
        Computed in float64.
    mask : same shape, boolean, optional
        Voxels that count.

    Returns
    -------
    float
        In [-1, 1]; NaN where either image is constant inside the mask.

    Raises
    ------
    DataError
        Shapes differ, a counted voxel is not finite, or the mask is empty.

    Examples
    --------
    >>> round(pearson([[0, 1], [2, 3]], [[1, 3], [5, 7]]), 6)
    1.0
    """
    truth, prediction, keep = _checked(truth, prediction, mask)
    return _pearson(*_counted(truth, prediction, keep))[0]


def ssim(
    truth: ArrayLike, prediction: ArrayLike, *, data_range: float, mask: ArrayLike | None = None
) -> float:
    """Mean structural similarity with the 11-sample Gaussian window, in 2D or 3D.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X), any real dtype
    data_range : float
        Fixed range of the target in its own units, from training statistics; not of this image.
    mask : same shape, boolean, optional
        Local means and variances are taken over masked voxels only (normalised convolution), and the map is
        averaged inside the mask.

    Returns
    -------
    float
        In [-1, 1]. NaN when no masked voxel is left inside the border strip that the window needs.

    Notes
    -----
    Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 13:600 (2004), population covariance, border of 5 voxels
    left out: equal to scikit-image's `structural_similarity` with ``gaussian_weights=True,
    use_sample_covariance=False`` and to MONAI's `SSIMMetric`. Both refuse images thinner than the
    window; here the window is cut on an axis of n < 11 samples to the largest odd length ≤ n, so that a
    stack of one plane scores as that plane does in 2D.

    Examples
    --------
    >>> ssim([[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], data_range=1.0)
    1.0
    """
    truth, prediction, keep = _checked(truth, prediction, mask)
    return structural_similarity(truth, prediction, keep, _range(data_range))[0]


def psnr(
    truth: ArrayLike, prediction: ArrayLike, *, data_range: float, mask: ArrayLike | None = None
) -> float:
    """Peak signal-to-noise ratio ``10 log10(data_range² / MSE)`` in dB; infinite for identical images.

    Parameters and errors as in `ssim`.
    """
    return _decibel(nrmse(truth, prediction, data_range=data_range, mask=mask))


def nrmse(
    truth: ArrayLike, prediction: ArrayLike, *, data_range: float, mask: ArrayLike | None = None
) -> float:
    """Root mean square error divided by the fixed `data_range`. Parameters and errors as in `ssim`."""
    truth, prediction, keep = _checked(truth, prediction, mask)
    return _rmse(*_counted(truth, prediction, keep)) / _range(data_range)


def mae(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Mean absolute error in the units of the target: the score that a wrong brightness cannot hide from."""
    first, second = _counted(*_checked(truth, prediction, mask))
    return float(np.abs(first - second).mean())


def spectral_pearson(
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    noise_floor: float | None = None,
) -> float:
    """Correlation of the two spectra, weighted by how far the target stands above its noise floor.

    A prediction is neither punished for missing the camera noise of the target nor rewarded for its
    mean level.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X), any real dtype
    mask : same shape, boolean, optional
        Voxels outside it are set to the mean inside it.
    noise_floor : float, optional
        Power per frequency bin that counts as noise, see `virtualstain.spectrum.noise_floor`; default:
        from this target. Freeze it at the first time point of a movie that bleaches.

    Returns
    -------
    float
        In [-1, 1]; NaN where the target has no power above its floor or an image has fewer than five bins.

    Notes
    -----
    ``S = Σ w Re(F G*) / sqrt(Σ w |F|² · Σ w |G|²)``; the weights are described in `virtualstain.spectrum`.
    """
    return spectral_correlation(*_checked(truth, prediction, mask), floor=noise_floor)[0]


def ssim_minmax(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """`ssim` after rescaling each image to [0, 1] by its own extremes. Blind to gain and offset."""
    checked = _checked(truth, prediction, mask)
    rescaled = _minmax(*checked)
    return math.nan if rescaled is None else structural_similarity(*rescaled, checked[2], 1.0)[0]


def psnr_minmax(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """`psnr` after rescaling each image to [0, 1] by its own extremes. Blind to gain and offset."""
    return _decibel(nrmse_minmax(truth, prediction, mask=mask))


def nrmse_minmax(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """`nrmse` after rescaling each image to [0, 1] by its own extremes. Blind to gain and offset."""
    checked = _checked(truth, prediction, mask)
    rescaled = _minmax(*checked)
    return math.nan if rescaled is None else _rmse(*_counted(*rescaled, checked[2]))


def score_image(
    truth: ArrayLike, prediction: ArrayLike, *, data_range: float, mask: ArrayLike | None = None
) -> dict[str, Any]:
    """Every pixel score of one channel of one image, as one row of a table.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X), any real dtype
        One channel, in the units of the target.
    data_range : float
        Fixed range of the target, from training statistics.
    mask : same shape, boolean, optional

    Returns
    -------
    dict
        ``pearson, spectral_pearson, ssim, psnr, nrmse, mae, ssim_minmax, psnr_minmax, nrmse_minmax`` as
        floats and ``undefined``, a sentence for each score that is NaN (empty where all are defined).

    Raises
    ------
    DataError
        Shapes differ, a counted voxel is not finite, or the mask is empty.
    ConfigurationError
        `data_range` is not a positive finite number.

    Examples
    --------
    >>> score_image([[0, 1], [2, 3]], [[1, 1], [1, 1]], data_range=3)["undefined"].split(";")[0]
    'pearson: prediction is constant (1)'
    """
    span = _range(data_range)
    image, guess, keep = _checked(truth, prediction, mask)
    counted = _counted(image, guess, keep)
    error = _rmse(*counted)
    rescaled = _minmax(image, guess, keep)
    constant = _constant(*counted)
    outcome: dict[str, tuple[float, str]] = {
        "pearson": _pearson(*counted),
        "spectral_pearson": spectral_correlation(image, guess, keep),
        "ssim": structural_similarity(image, guess, keep, span),
        "psnr": (_decibel(error / span), ""),
        "nrmse": (error / span, ""),
        "mae": (float(np.abs(counted[0] - counted[1]).mean()), ""),
    }
    if rescaled is None:
        outcome |= {f"{name}_minmax": (math.nan, constant) for name in ("ssim", "psnr", "nrmse")}
    else:
        relative = _rmse(*_counted(*rescaled, keep))
        outcome["ssim_minmax"] = structural_similarity(*rescaled, keep, 1.0)
        outcome["psnr_minmax"] = (_decibel(relative), "")
        outcome["nrmse_minmax"] = (relative, "")
    undefined = "; ".join(f"{name}: {reason}" for name, (_, reason) in outcome.items() if reason)
    return {name: value for name, (value, _) in outcome.items()} | {"undefined": undefined}


def _range(data_range: float) -> float:
    if not (math.isfinite(data_range) and data_range > 0):
        raise ConfigurationError(
            f"data_range is {data_range}; it must be a positive number in the units of the target, "
            "taken from the training statistics (for example its 99.9th minus its 0.1th percentile)."
        )
    return float(data_range)


def _checked(
    truth: ArrayLike, prediction: ArrayLike, mask: ArrayLike | None
) -> tuple[Floats, Floats, Mask | None]:
    """Both images as float64, and the mask. Outside the mask they are 0, so that NaN there cannot leak."""
    first, second = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if first.shape != second.shape or first.ndim == 0 or first.size == 0:
        raise DataError(
            f"truth has shape {first.shape}, prediction {second.shape}; scores need equal, non-empty "
            "shapes. Select one channel and one time point, and crop or resample the prediction to the truth."
        )
    keep = None
    if mask is not None:
        keep = np.asarray(mask)
        if keep.dtype != np.bool_ or keep.shape != first.shape:
            raise DataError(
                f"mask is {keep.dtype} of shape {keep.shape}; needed is bool of shape {first.shape}."
            )
        if not keep.any():
            raise DataError(
                "mask: no voxel is selected, so nothing can be scored. Pass mask=None or another mask."
            )
        first, second = np.where(keep, first, 0.0), np.where(keep, second, 0.0)
    for name, image in (("truth", first), ("prediction", second)):
        finite = np.isfinite(image)
        if not finite.all():
            where = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), image.shape))
            raise DataError(
                f"{name}: {int(image.size - finite.sum())} of {image.size} voxels are NaN or infinite, "
                f"first at {where}. Exclude them with mask=, or repair the image."
            )
    return first, second, keep


def _counted(truth: Floats, prediction: Floats, keep: Mask | None) -> tuple[Floats, Floats]:
    return (truth.ravel(), prediction.ravel()) if keep is None else (truth[keep], prediction[keep])


def _constant(truth: Floats, prediction: Floats) -> str:
    """Which image is constant and at what value; empty when neither is."""
    for name, values in (("truth", truth), ("prediction", prediction)):
        if np.ptp(values) <= 1e-13 * max(abs(values[0]), np.finfo(np.float64).tiny):
            return f"{name} is constant ({values[0]:g})"
    return ""


def _pearson(truth: Floats, prediction: Floats) -> tuple[float, str]:
    if reason := _constant(truth, prediction):
        return math.nan, reason
    first, second = (values - values.mean() for values in (truth, prediction))
    # Scaled by the largest deviation first: squares of tiny or huge intensities would leave the range
    # of float64.
    first, second = first / np.abs(first).max(), second / np.abs(second).max()
    r = float(first @ second / math.sqrt(float(first @ first) * float(second @ second)))
    return min(1.0, max(-1.0, r)), ""


def _rmse(truth: Floats, prediction: Floats) -> float:
    return math.sqrt(float(np.square(truth - prediction).mean()))


def _decibel(error: float) -> float:
    """PSNR of an error relative to the data range."""
    return math.inf if error == 0 else -20 * math.log10(error)


def _minmax(truth: Floats, prediction: Floats, keep: Mask | None) -> tuple[Floats, Floats] | None:
    """Both images rescaled to [0, 1] inside the mask; None when one of them is constant there."""
    first, second = _counted(truth, prediction, keep)
    if _constant(first, second):
        return None
    return (truth - first.min()) / np.ptp(first), (prediction - second.min()) / np.ptp(second)
