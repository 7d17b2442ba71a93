"""Scores of one image: known values, masks, thin stacks, and what each refusal says."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from image2reg.errors import ConfigurationError, DataError
from virtualstain import metrics
from virtualstain.spectrum import noise_floor, radial_power

ONES = np.ones((4, 4))


def smooth(shape: tuple[int, ...], seed: int = 0, sigma: float = 3.0) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma, mode="wrap")
    return image / image.std()


def test_errors_in_target_units_by_hand() -> None:
    truth, prediction = np.array([[0.0, 10.0], [20.0, 30.0]]), np.array([[2.0, 10.0], [20.0, 26.0]])
    assert metrics.mae(truth, prediction) == 1.5
    assert metrics.nrmse(truth, prediction, data_range=100) == pytest.approx(math.sqrt(5) / 100)
    assert metrics.psnr(truth, prediction, data_range=100) == pytest.approx(10 * math.log10(1e4 / 5))
    assert metrics.psnr(truth, truth, data_range=100) == math.inf


def test_a_wrong_brightness_is_seen_only_by_the_fixed_range_scores() -> None:
    truth = smooth((64, 64)) + 5
    bright = 3 * truth + 7
    scores = metrics.score_image(truth, bright, data_range=5)
    assert scores["pearson"] == pytest.approx(1)
    assert scores["spectral_pearson"] == pytest.approx(1)
    assert scores["ssim_minmax"] == pytest.approx(1)
    assert scores["nrmse_minmax"] == pytest.approx(0, abs=1e-12)
    assert scores["ssim"] < 0.8
    assert scores["nrmse"] > 2
    assert scores["mae"] == pytest.approx(np.mean(2 * truth + 7))


def test_score_image_agrees_with_the_single_functions() -> None:
    truth, prediction = smooth((40, 48)), smooth((40, 48), seed=1) + smooth((40, 48))
    mask = smooth((40, 48), seed=2) > -0.5
    scores = metrics.score_image(truth, prediction, data_range=4, mask=mask)
    assert scores.pop("undefined") == ""
    for name in ("ssim", "psnr", "nrmse"):
        assert scores.pop(name) == getattr(metrics, name)(truth, prediction, data_range=4, mask=mask)
    for name in list(scores):
        assert scores.pop(name) == getattr(metrics, name)(truth, prediction, mask=mask)
    assert not scores
    json.dumps(scores)


@pytest.mark.parametrize("shape", [(64, 64), (12, 40, 40), (5, 64, 64), (1, 32, 32), (9, 300), (1, 1, 33)])
def test_identical_images_score_one_at_every_shape(shape: tuple[int, ...]) -> None:
    image = smooth(shape, sigma=1.0)
    scores = metrics.score_image(image, image, data_range=6)
    assert scores["undefined"] == ""
    for name in ("pearson", "spectral_pearson", "ssim", "ssim_minmax"):
        assert scores[name] == pytest.approx(1, abs=1e-12)


def test_a_stack_of_one_plane_scores_as_the_plane() -> None:
    truth, prediction = smooth((48, 48)), smooth((48, 48)) + 0.5 * smooth((48, 48), seed=1)
    flat = metrics.score_image(truth, prediction, data_range=5)
    assert metrics.score_image(truth[None], prediction[None], data_range=5) == pytest.approx(flat)


def test_integer_images_do_not_wrap_around() -> None:
    truth, prediction = np.array([[0, 250]], np.uint8), np.array([[5, 255]], np.uint8)
    assert metrics.mae(truth, prediction) == 5
    assert metrics.pearson(truth, prediction) == pytest.approx(1)


def test_spectral_pearson_ignores_camera_noise_that_pearson_punishes() -> None:
    clean = smooth((128, 128))
    noisy = clean + 1.0 * np.random.default_rng(5).normal(size=clean.shape)
    assert metrics.pearson(noisy, clean) == pytest.approx(math.sqrt(0.5), abs=0.03)
    assert metrics.spectral_pearson(noisy, clean) > 0.95
    assert abs(metrics.spectral_pearson(noisy, smooth((128, 128), seed=9))) < 0.3


def test_spectral_pearson_ignores_what_the_three_lowest_bins_hold() -> None:
    y = np.arange(128) / 128
    image = smooth((128, 128))
    assert metrics.spectral_pearson(image, image + 100) == pytest.approx(1)
    # One cycle of shading with half the image's power; the taper spreads a little of it above two cycles.
    shaded = image + np.cos(2 * np.pi * y)[:, None]
    assert metrics.spectral_pearson(image, shaded) > 0.97
    assert metrics.pearson(image, shaded) < 0.9


def test_frozen_noise_floor_weights_a_bleached_frame_like_the_first() -> None:
    noise = np.random.default_rng(1).normal(size=(96, 96))
    truth = 5 * smooth((96, 96)) + noise
    guess = smooth((96, 96)) + 0.3 * smooth((96, 96), seed=3, sigma=1.0)
    own = metrics.spectral_pearson(truth, guess)
    assert metrics.spectral_pearson(truth, guess, noise_floor=noise_floor(truth)) == own
    assert metrics.spectral_pearson(truth, guess, noise_floor=0.0) < own
    assert math.isnan(metrics.spectral_pearson(truth, guess, noise_floor=1e12))


def test_radial_power_puts_a_wave_into_its_bin_at_any_aspect() -> None:
    for shape in ((64, 64), (64, 40), (40, 64)):
        y, x = np.indices(shape)
        longest = max(shape)
        for cycles in (6, 20):
            power = radial_power(np.cos(2 * np.pi * cycles * (y if shape[0] == longest else x) / longest))
            assert power.size == longest // 2 + 1
            assert int(np.nanargmax(power)) == cycles


def test_white_noise_has_a_flat_floor_of_its_own_power() -> None:
    noise = np.random.default_rng(2).normal(scale=4.0, size=(128, 128))
    # Parseval: mean |F|² of white noise is variance x voxels, times the energy that the taper keeps
    # (~0.93 squared).
    assert noise_floor(noise) == pytest.approx(16 * noise.size * 0.875, rel=0.05)


def test_mask_selects_the_voxels_that_count() -> None:
    truth = smooth((64, 64))
    prediction = truth.copy()
    prediction[:, 32:] = smooth((64, 64), seed=8)[:, 32:]
    left = np.zeros((64, 64), bool)
    left[:, :32] = True
    scores = metrics.score_image(truth, prediction, data_range=5, mask=left)
    assert scores["pearson"] == scores["ssim"] == 1
    assert scores["psnr"] == math.inf
    assert metrics.score_image(truth, prediction, data_range=5, mask=~left)["pearson"] < 0.6


def test_blank_borders_and_nan_outside_the_mask_have_no_influence() -> None:
    truth, prediction = smooth((40, 40)), smooth((40, 40), seed=1)
    mask = np.zeros((40, 40), bool)
    mask[7:33, 4:36] = True
    scores = metrics.score_image(truth, prediction, data_range=5, mask=mask)
    for junk in (np.nan, np.inf, 1e9, 0.0):
        first, second = np.where(mask, truth, junk), np.where(mask, prediction, -junk)
        assert metrics.score_image(first, second, data_range=5, mask=mask) == scores


def test_undefined_scores_are_nan_and_named() -> None:
    image, flat = smooth((32, 32)), np.full((32, 32), 7.0)
    scores = metrics.score_image(flat, image, data_range=1)
    undefined = ("pearson", "spectral_pearson", "ssim_minmax", "psnr_minmax")
    assert all(math.isnan(scores[name]) for name in undefined)
    assert scores["undefined"].startswith(
        "pearson: truth is constant (7); spectral_pearson: truth has no power"
    )
    assert "nrmse_minmax: truth is constant (7)" in scores["undefined"]
    assert math.isfinite(scores["nrmse"])
    assert metrics.score_image(flat, flat, data_range=1)["ssim"] == 1
    assert "prediction is constant (7)" in metrics.score_image(image, flat, data_range=1)["undefined"]
    assert math.isnan(metrics.spectral_pearson(image, flat))
    assert "fewer than 5" in metrics.score_image(image[:6, :6], image[:6, :6], data_range=1)["undefined"]


def test_ssim_without_a_voxel_inside_the_border_strip_is_nan_and_named() -> None:
    image = smooth((32, 32))
    edge = np.zeros((32, 32), bool)
    edge[:3] = True
    scores = metrics.score_image(image, image + 0.1, data_range=1, mask=edge)
    assert math.isnan(scores["ssim"])
    assert "ssim: no masked voxel is left inside the border" in scores["undefined"]


@pytest.mark.parametrize(
    ("truth", "prediction", "options", "error", "text"),
    [
        (ONES, np.ones((4, 5)), {}, DataError, r"truth has shape \(4, 4\), prediction \(4, 5\)"),
        (np.float64(1), np.float64(1), {}, DataError, "equal, non-empty"),
        (ONES, np.full((4, 4), np.nan), {}, DataError, r"prediction: 16 of 16 .* first at \(0, 0\)"),
        (np.diag([0, 0, np.inf]), np.eye(3), {}, DataError, r"truth: 1 of 9 .* first at \(2, 2\)"),
        (ONES, ONES, {"mask": np.zeros((4, 4), bool)}, DataError, "no voxel is selected"),
        (ONES, ONES, {"mask": ONES}, DataError, "mask is float64"),
        (ONES, ONES, {"mask": np.ones((2, 2), bool)}, DataError, "needed is bool of shape"),
        (
            np.eye(4),
            np.eye(4),
            {"data_range": 0},
            ConfigurationError,
            "data_range is 0; it must be a positive",
        ),
        (np.eye(4), np.eye(4), {"data_range": math.nan}, ConfigurationError, "data_range is nan"),
    ],
)
def test_refusals_name_what_was_seen(truth, prediction, options, error, text) -> None:
    with pytest.raises(error, match=text):
        metrics.score_image(truth, prediction, **({"data_range": 1} | options))


def test_noise_floor_refuses_an_image_with_too_few_bins() -> None:
    with pytest.raises(DataError, match=r"shape \(6, 6\) has 4 frequency bins"):
        noise_floor(np.eye(6))
