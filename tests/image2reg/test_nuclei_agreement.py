"""AJI, pixel Jaccard and the screen paper's scores, on counts and discs whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.agreement import aggregated_jaccard, aits_compat, pixel_jaccard, pooled_interval
from image2reg.nuclei.match import match, match_dataset


@pytest.fixture(scope="module")
def published() -> tuple[np.ndarray, np.ndarray]:
    """Build an image with the paper's counts: 320 exact, 75 of IoU 0.8, 41 missed, 30 false; 200 px per nucleus."""
    n = 320 + 75 + 41 + 30
    column = np.repeat(np.arange(1, n + 1), 200).reshape(n, 200)
    truth, prediction = column.copy(), column.copy()
    prediction[320:395, 160:] = 0
    prediction[395:436] = 0
    truth[436:] = 0
    return truth, prediction


def test_the_papers_f1_and_the_standard_one_differ_on_its_own_counts(published) -> None:
    truth, prediction = published
    theirs, standard = aits_compat(truth, prediction), match(truth, prediction, thresholds=[0.9])
    assert (standard.n_true, standard.n_predicted, theirs.tp, theirs.fn, theirs.fp) == (
        436,
        425,
        320,
        116,
        30,
    )
    assert theirs.f1 == pytest.approx(0.8142, abs=5e-5)
    assert standard.at(0.9)["f1"] == pytest.approx(0.7433, abs=5e-5)
    assert standard.at(0.9)["ap"] == pytest.approx(0.5915, abs=5e-5)


def test_a_missed_nucleus_costs_nothing_in_the_papers_jaccard(published) -> None:
    truth, prediction = published
    half = np.where(prediction % 2 == 0, prediction, 0)
    assert aits_compat(truth, half).jaccard == pytest.approx(aits_compat(truth, prediction).jaccard, abs=0.01)
    assert match(truth, half).at(0.5)["f1"] < 0.7 < match(truth, prediction).at(0.5)["f1"]


def test_the_papers_scores_leave_small_objects_out_of_both_sides(published) -> None:
    truth, prediction = (np.pad(labels, ((0, 0), (0, 60))) for labels in published)
    truth[:50, 200:] = 1000 + np.arange(50)[:, None]  # 60 px each, found by nobody
    assert aits_compat(truth, prediction) == aits_compat(*published)
    assert aits_compat(truth, prediction, min_area_px=50).fn == 116 + 50


def test_two_predictions_on_one_nucleus_are_no_hit() -> None:
    truth = np.ones((20, 20), int)
    halves = np.where(np.arange(20) < 10, 1, 2) * truth
    found = aits_compat(truth, halves, threshold=0.4)
    assert (found.tp, found.fn, found.fp) == (0, 0, 2)  # two at once: neither found nor missed, as they count


def test_aji_counts_pixels_of_what_has_no_partner() -> None:
    truth = np.array([[1] * 10 + [0] * 10 + [2] * 10])
    prediction = np.array([[7] * 8 + [0] * 17 + [9] * 5])
    # pair 1: 8 of 10 pixels, pair 2: 5 of 10
    assert aggregated_jaccard(truth, prediction) == pytest.approx(13 / 20)
    assert aggregated_jaccard(truth, np.where(prediction == 9, 0, prediction)) == pytest.approx(8 / 20)
    assert aggregated_jaccard(prediction, truth) == pytest.approx(13 / 20)
    assert aggregated_jaccard(truth, truth) == 1.0


def test_aji_pairs_for_the_largest_total_and_not_one_by_one() -> None:
    # The wide prediction fits nucleus 1 best, but the small one fits nothing else than nucleus 1.
    truth = np.array([[1] * 10 + [2] * 10])
    prediction = np.array([[3] * 4 + [4] * 16])
    assert aggregated_jaccard(truth, prediction) == pytest.approx((4 + 10) / (40 - 14))


def test_pixel_jaccard_ignores_objects() -> None:
    assert pixel_jaccard([[1, 2, 0, 0]], [[0, 5, 5, 0]]) == pytest.approx(1 / 3)


def test_without_objects_scores_are_undefined_and_not_zero() -> None:
    empty = np.zeros((4, 4), int)
    assert math.isnan(aggregated_jaccard(empty, empty))
    assert math.isnan(pixel_jaccard(empty, empty))
    assert math.isnan(aits_compat(empty, empty).f1)
    assert aggregated_jaccard(empty, np.ones((4, 4), int)) == 0.0
    assert aggregated_jaccard(np.ones((4, 4), int), empty) == 0.0


@pytest.mark.parametrize("score", [aggregated_jaccard, pixel_jaccard, aits_compat])
def test_labels_of_another_size_are_refused(score) -> None:
    with pytest.raises(DataError, match=r"truth has shape \(4, 4\), prediction \(4, 5\); they must cover"):
        score(np.ones((4, 4), int), np.ones((4, 5), int))


def test_a_threshold_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"threshold is 1\.5; an IoU above 0 and at most 1"):
        aits_compat([[1]], [[1]], threshold=1.5)


def test_the_pooled_interval_holds_the_pooled_score_and_is_repeatable() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(1, 41), 10).reshape(40, 10)
    images = [match(truth, np.where(rng.random((40, 1)) < p, truth, 0)) for p in (0.9, 0.8, 0.7, 0.6, 0.5)]
    low, high = pooled_interval(images, 0.5)
    assert low < match_dataset(images).at(0.5)["f1"] < high
    assert (low, high) == pooled_interval(images, 0.5)
    assert math.isnan(pooled_interval(images[:1], 0.5)[0])
    missed, empty = match(truth, np.zeros_like(truth)), match(0 * truth, 0 * truth)
    for nothing, score in (([empty] * 2, "f1"), ([missed] * 2, "precision")):
        assert np.isnan(pooled_interval(nothing, 0.5, score)).all()
    with pytest.raises(ConfigurationError, match="score is 'pq'; allowed are f1, ap, precision, recall"):
        pooled_interval(images, 0.5, "pq")
