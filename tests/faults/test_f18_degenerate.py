"""F18: degenerate statistics give a defined value, or NaN with a reason; no crash and no warning.

Warnings are errors in this test run, so each call here also shows that nothing warns.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from image2reg.errors import DataError
from image2reg.intervals import bootstrap_interval, paired_difference_interval
from image2reg.nuclei.match import match, match_dataset, match_objects
from image2reg.nuclei.segment import segment
from virtualstain import metrics

FLAT = np.full((24, 24), 3.0)
RAMP = np.arange(576.0).reshape(24, 24)


def test_one_replicate_has_a_value_and_no_interval() -> None:
    interval = bootstrap_interval([0.4], seed=0)
    assert (interval.value, interval.n) == (0.4, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.reason == "one unit only; an interval needs at least two independent units"


def test_one_group_of_many_replicates_has_no_interval() -> None:
    interval = bootstrap_interval(np.arange(9.0), groups=["plate1"] * 9, seed=0)
    assert (interval.value, interval.n) == (4.0, 1)
    assert interval.reason.startswith("one group only")


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_no_replicate_at_all(values: list[float]) -> None:
    for groups in (None, ["a"] * len(values)):
        interval = bootstrap_interval(values, groups=groups, seed=0)
        assert math.isnan(interval.value)
        assert (interval.n, interval.n_missing, interval.reason) == (0, len(values), "no unit has a value")
    assert paired_difference_interval(values, values, seed=0).n == 0


def test_identical_replicates_have_an_interval_of_no_width() -> None:
    interval = bootstrap_interval([0.7] * 5, seed=0)
    assert (interval.low, interval.value, interval.high) == pytest.approx((0.7, 0.7, 0.7))


@pytest.mark.parametrize(("truth", "prediction"), [(FLAT, RAMP), (RAMP, FLAT), (FLAT, FLAT)])
def test_a_constant_image_has_no_correlation_but_has_errors(
    truth: np.ndarray, prediction: np.ndarray
) -> None:
    scores = metrics.score_image(truth, prediction, data_range=10)
    assert math.isnan(scores["pearson"])
    assert math.isnan(scores["spectral_pearson"])
    assert "pearson: " in scores["undefined"]
    assert "is constant (3)" in scores["undefined"]
    assert math.isfinite(scores["ssim"])
    assert math.isfinite(scores["nrmse"])
    assert math.isnan(metrics.pearson(truth, prediction))


def test_a_nearly_constant_image_is_constant() -> None:
    hardly = FLAT + 1e-15 * np.random.default_rng(0).integers(0, 2, FLAT.shape)
    assert math.isnan(metrics.pearson(hardly, RAMP))
    assert math.isnan(metrics.spectral_pearson(hardly, RAMP))


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (2, 2), (1, 5)])
def test_a_few_voxels(shape: tuple[int, ...]) -> None:
    image = np.arange(math.prod(shape), dtype=float).reshape(shape)
    scores = metrics.score_image(image, image, data_range=1)
    assert scores["ssim"] == 1
    assert scores["psnr"] == math.inf
    assert math.isnan(scores["spectral_pearson"])
    assert "frequency bins" in scores["undefined"]


def test_one_masked_voxel() -> None:
    mask = np.zeros(RAMP.shape, bool)
    mask[12, 12] = True
    scores = metrics.score_image(RAMP, RAMP + 1, data_range=10, mask=mask)
    assert math.isnan(scores["pearson"])
    assert scores["mae"] == 1


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e150])
def test_extreme_intensities_correlate_all_the_same(scale: float) -> None:
    noisy = RAMP + 100 * np.random.default_rng(0).normal(size=RAMP.shape)
    assert metrics.pearson(scale * RAMP, noisy) == pytest.approx(metrics.pearson(RAMP, noisy))


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8)), FLAT, np.full((8, 8), -2, np.int16), np.zeros((1, 1), np.uint8)]
)
def test_a_constant_image_holds_no_nucleus(image: np.ndarray) -> None:
    labels = segment(image, diameter_px=8)
    assert labels.shape == image.shape
    assert not labels.any()


def test_an_image_masked_completely_holds_no_nucleus() -> None:
    assert not segment(RAMP, diameter_px=8, mask=np.zeros(RAMP.shape, bool)).any()


def test_no_object_on_either_side() -> None:
    nothing = np.zeros((4, 4), int)
    assert math.isnan(match(nothing, nothing).at(0.5)["f1"])
    assert match_objects(nothing, nothing).iou.size == 0
    assert math.isnan(match_dataset([match(nothing, nothing)]).at(0.5)["pq"])
    empty = np.zeros((0, 4), int)
    assert match(empty, empty).n_empty == 1


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(DataError, match="non-empty"):
        metrics.pearson(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(DataError, match="one plane"):
        segment(np.zeros((0, 3)), diameter_px=8)
