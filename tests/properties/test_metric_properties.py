"""Invariances of the scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from virtualstain import metrics

SHAPES = st.sampled_from([(12, 17), (3, 9, 14), (1, 24), (16, 16)])
GAIN = st.floats(1e-3, 1e3)
OFFSET = st.floats(-1e4, 1e4)


@st.composite
def image_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape, seed, overlap = draw(SHAPES), draw(st.integers(0, 10_000)), draw(st.floats(0, 1))
    rng = np.random.default_rng(seed)
    first, second = (ndimage.gaussian_filter(rng.normal(size=shape), 0.7) for _ in range(2))
    return first, overlap * first + (1 - overlap) * second


def numbers(truth: np.ndarray, prediction: np.ndarray, **options) -> dict[str, float]:
    scores = metrics.score_image(truth, prediction, **options)
    del scores["undefined"]
    return scores


@given(image_pairs(), GAIN, OFFSET, GAIN, OFFSET)
def test_correlations_ignore_gain_and_offset_of_either_image(
    pair, gain, offset, other_gain, other_offset
) -> None:
    truth, prediction = pair
    scaled = gain * truth + offset, other_gain * prediction + other_offset
    # An offset of 1e4 on a signal of 1e-3 leaves about 9 of 16 digits.
    assert metrics.pearson(*scaled) == pytest.approx(metrics.pearson(*pair), abs=1e-6)
    assert metrics.spectral_pearson(*scaled) == pytest.approx(metrics.spectral_pearson(*pair), abs=1e-5)
    assert metrics.nrmse_minmax(*scaled) == pytest.approx(metrics.nrmse_minmax(*pair), abs=1e-6)
    assert metrics.ssim_minmax(*scaled) == pytest.approx(metrics.ssim_minmax(*pair), abs=1e-5)


@given(image_pairs(), st.floats(0.5, 10))
def test_scores_are_symmetric_and_bounded(pair, data_range) -> None:
    truth, prediction = pair
    scores = numbers(truth, prediction, data_range=data_range)
    swapped = numbers(prediction, truth, data_range=data_range)
    for name in ("pearson", "ssim", "psnr", "nrmse", "mae", "ssim_minmax"):
        assert scores[name] == pytest.approx(swapped[name], rel=1e-9)
    for name in ("pearson", "spectral_pearson", "ssim", "ssim_minmax"):
        assert -1 <= scores[name] <= 1 + 1e-12
    assert scores["nrmse"] >= 0


@given(image_pairs(), GAIN, st.floats(0.5, 10))
def test_fixed_range_scores_ignore_the_unit_when_the_range_has_the_same_unit(pair, gain, data_range) -> None:
    truth, prediction = pair
    scores = numbers(truth, prediction, data_range=data_range)
    scaled = numbers(gain * truth, gain * prediction, data_range=gain * data_range)
    assert scaled.pop("mae") == pytest.approx(gain * scores.pop("mae"), rel=1e-6)
    assert scaled == pytest.approx(scores, rel=1e-6, abs=1e-9)


@given(image_pairs(), st.integers(0, 1000))
def test_what_lies_outside_the_mask_changes_nothing(pair, seed) -> None:
    truth, prediction = pair
    rng = np.random.default_rng(seed)
    mask = rng.random(truth.shape) > 0.4
    junk = np.where(mask, truth, rng.normal(scale=100, size=truth.shape))
    expected = numbers(truth, prediction, data_range=3, mask=mask)
    assert numbers(junk, prediction, data_range=3, mask=mask) == pytest.approx(expected, nan_ok=True)


@given(image_pairs())
def test_a_mask_of_everything_is_no_mask(pair) -> None:
    full = np.ones(pair[0].shape, bool)
    expected = numbers(*pair, data_range=3)
    assert numbers(*pair, data_range=3, mask=full) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@given(image_pairs(), st.permutations([0, 1]))
def test_flips_and_transposition_change_nothing(pair, order) -> None:
    axes = [*range(pair[0].ndim - 2), *(pair[0].ndim - 2 + i for i in order)]
    turned = [np.flip(image, axis=-1).transpose(axes) for image in pair]
    expected = numbers(*pair, data_range=3)
    assert numbers(*turned, data_range=3) == pytest.approx(expected, rel=1e-9, abs=1e-9)
