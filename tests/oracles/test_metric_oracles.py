"""Our scores against scipy, scikit-image and MONAI on the ground where the definitions are the same.

Tolerance 1e-10 for float64 references; 1e-4 for MONAI, which works in float32 with squares of the
intensities.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.signal.windows import tukey
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from virtualstain import metrics


def pair(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random(shape)
    return truth, np.clip(truth + 0.2 * rng.normal(size=shape), 0, 1)


@pytest.mark.parametrize("shape", [(40, 33), (12, 20, 31)])
def test_pearson_is_scipy(shape: tuple[int, ...]) -> None:
    truth, prediction = pair(shape)
    expected = stats.pearsonr(truth.ravel(), prediction.ravel()).statistic
    assert metrics.pearson(truth, prediction) == pytest.approx(expected, abs=1e-12)
    mask = truth > 0.3
    assert metrics.pearson(truth, prediction, mask=mask) == pytest.approx(
        np.corrcoef(truth[mask], prediction[mask])[0, 1]
    )


@pytest.mark.parametrize("shape", [(40, 33), (12, 20, 31), (11, 11)])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_is_scikit_image(shape: tuple[int, ...], data_range: float) -> None:
    truth, prediction = pair(shape)
    expected = structural_similarity(
        truth,
        prediction,
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert metrics.ssim(truth, prediction, data_range=data_range) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("shape", [(40, 33), (12, 20, 31)])
def test_ssim_is_monai(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import SSIMMetric

    truth, prediction = pair(shape)
    metric = SSIMMetric(spatial_dims=len(shape), data_range=1.0)
    expected = metric(*(torch.from_numpy(image).float()[None, None] for image in (prediction, truth))).item()
    assert metrics.ssim(truth, prediction, data_range=1.0) == pytest.approx(expected, abs=1e-4)


def test_psnr_and_nrmse_are_scikit_image() -> None:
    truth, prediction = pair((30, 30))
    expected = peak_signal_noise_ratio(truth, prediction, data_range=2.5)
    assert metrics.psnr(truth, prediction, data_range=2.5) == pytest.approx(expected, abs=1e-10)
    rmse = np.sqrt(mean_squared_error(truth, prediction))
    assert metrics.nrmse(truth, prediction, data_range=2.5) == pytest.approx(rmse / 2.5, abs=1e-12)


def test_spectral_pearson_without_weights_is_the_plain_correlation_of_apodised_images() -> None:
    """With a floor of 0 and all bins kept, Parseval turns the spectral sum into the voxel sum."""
    rng = np.random.default_rng(3)
    # Narrow band between the lowest bins and Nyquist, so that zeroing the lowest bins removes almost nothing.
    y, x = np.indices((96, 96)) / 96
    cycles = rng.integers(12, 30, size=(12, 2))
    waves = [np.cos(2 * np.pi * (a * y + b * x) + rng.uniform(0, 6)) for a, b in cycles]
    truth, prediction = (np.tensordot(rng.normal(size=12), waves, axes=1) for _ in range(2))
    window = np.outer(tukey(98, 0.1)[1:-1], tukey(98, 0.1)[1:-1])
    expected = np.corrcoef((truth * window).ravel(), (prediction * window).ravel())[0, 1]
    assert metrics.spectral_pearson(truth, prediction, noise_floor=0.0) == pytest.approx(expected, abs=0.005)
