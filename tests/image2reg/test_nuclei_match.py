"""Object matching: shapes whose IoU is known, empty sides, pooled and averaged data sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.match import match, match_dataset, match_objects


def discs(
    centres: list[tuple[float, float]], radius: float, shape: tuple[int, int] = (400, 400)
) -> np.ndarray:
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (cy, cx) in enumerate(centres, start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return labels


def lens_iou(radius: float, distance: float) -> float:
    """IoU of two equal discs whose centres are `distance` apart."""
    angle = math.acos(distance / (2 * radius))
    lens = 2 * radius**2 * angle - distance / 2 * math.sqrt(4 * radius**2 - distance**2)
    return lens / (2 * math.pi * radius**2 - lens)


def bars(lengths: list[tuple[int, int]]) -> np.ndarray:
    """One object per row, as (start, stop)."""
    labels = np.zeros((len(lengths), 40), np.int32)
    for number, (start, stop) in enumerate(lengths, start=1):
        labels[number - 1, start:stop] = number
    return labels


@pytest.mark.parametrize("shift", [4, 10, 20, 30])
def test_shifted_discs_have_the_iou_of_the_lens(shift: int) -> None:
    centres = [(60.0, 60.0), (60.0, 250.0), (250.0, 60.0)]
    truth = discs(centres, 50)
    moved = discs([(y, x + shift) for y, x in centres], 50)
    iou = lens_iou(50, shift)
    result = match(truth, moved, thresholds=[iou - 0.02, iou + 0.02])
    assert result.tp.tolist() == [3, 0]
    assert result.fp.tolist() == result.fn.tolist() == [0, 3]
    assert result.mean_matched_iou[0] == pytest.approx(iou, abs=0.01)
    assert result.pq[0] == pytest.approx(iou, abs=0.01)
    assert result.f1.tolist() == result.ap.tolist() == [1, 0]


def test_counts_and_scores_by_hand() -> None:
    truth = bars([(0, 10), (0, 10), (0, 10), (0, 10)])
    # IoU 1, 8/12, 4/16 and none; one more object where no true one is.
    prediction = bars([(0, 10), (2, 12), (6, 16), (0, 0)])
    prediction[3, 30:33] = 9
    result = match(truth, prediction, thresholds=[0.5, 0.7])
    assert result.at(0.5) == pytest.approx(
        {
            "tp": 2, "fp": 2, "fn": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5, "ap": 1 / 3,
            "mean_matched_iou": (1 + 2 / 3) / 2, "mean_true_iou": (1 + 2 / 3) / 4, "pq": (1 + 2 / 3) / 4,
        }
    )  # fmt: skip
    assert (result.n_true, result.n_predicted) == (4, 4)
    assert [row["tp"] for row in result.rows()] == [2, 1]


def test_iou_at_the_threshold_counts() -> None:
    assert match(bars([(0, 10)]), bars([(0, 5)]), thresholds=[0.5]).tp[0] == 1


def test_two_halves_are_one_match_and_one_extra() -> None:
    halves = bars([(0, 10)])
    halves[0, 5:10] = 2
    result = match(bars([(0, 10)]), halves, thresholds=[0.5])
    assert (result.tp[0], result.fp[0], result.fn[0]) == (1, 1, 0)


def test_a_conflict_is_solved_among_the_objects_in_it_alone(monkeypatch) -> None:
    truth = bars([(0, 10)] * 300)
    halves = truth.copy()
    halves[7, 5:10], halves[200, 5:10] = 301, 302
    tables: list[tuple[int, ...]] = []

    def solve(worth, **options):
        tables.append(worth.shape)
        return linear_sum_assignment(worth, **options)

    monkeypatch.setattr("scipy.optimize.linear_sum_assignment", solve)
    found = match_objects(truth, halves, threshold=0.5)
    assert tables == [(1, 2), (1, 2)]
    assert found.true_labels.tolist() == list(range(1, 301))
    assert found.extra_labels.size == 2


def test_low_thresholds_take_the_assignment_with_most_pairs() -> None:
    # Predicted 1 overlaps both true objects, predicted 2 only the first. Taking the best pair first (true
    # 1 with predicted 1) would leave one match; two are possible.
    truth = np.array([[1, 1, 1, 1, 2, 2, 0]])
    prediction = np.array([[2, 1, 1, 1, 1, 1, 0]])
    assert match(truth, prediction, thresholds=[0.2]).tp[0] == 2


@pytest.mark.parametrize(("true", "predicted"), [(0, 3), (3, 0)])
def test_one_empty_side_scores_zero(true: int, predicted: int) -> None:
    result = match(bars([(0, 5)] * true or [(0, 0)] * 3), bars([(0, 5)] * predicted or [(0, 0)] * 3)).at(0.5)
    assert (result["tp"], result["fp"], result["fn"]) == (0, predicted, true)
    assert all(result[name] == 0 for name in ("precision", "recall", "f1", "ap", "pq", "mean_matched_iou"))


def test_no_object_at_all_is_nan_and_counted() -> None:
    nothing = np.zeros((4, 4), int)
    result = match(nothing, nothing)
    assert np.isnan(result.f1).all()
    assert (result.n_empty, result.tp[0]) == (1, 0)
    both = match_dataset([result, result], by="mean")
    assert np.isnan(both.f1).all()
    assert (both.n_images, both.n_empty) == (2, 2)


def test_pooled_counts_weigh_objects_and_means_weigh_images() -> None:
    many = match(bars([(0, 10)] * 9), bars([(0, 10)] * 9))
    one_missed = match(bars([(0, 10)]), bars([(20, 30)]))
    nothing = match(np.zeros((2, 2), int), np.zeros((2, 2), int))
    pooled = match_dataset([many, one_missed, nothing])
    assert pooled.at(0.5)["f1"] == pytest.approx(0.9)
    assert pooled.at(0.5)["mean_matched_iou"] == 1
    assert pooled.at(0.5)["pq"] == pytest.approx(0.9)
    mean = match_dataset([many, one_missed, nothing], by="mean")
    assert mean.at(0.5)["f1"] == 0.5
    for result in (pooled, mean):
        assert (result.n_images, result.n_empty, result.n_true, result.n_predicted) == (3, 1, 10, 10)
    assert (pooled.by, mean.by) == ("pooled", "mean")


def test_matched_missed_and_extra_objects_are_listed_with_their_size() -> None:
    truth, prediction = bars([(0, 10), (0, 7)]), bars([(1, 11), (30, 34)])
    truth[truth > 0] += 40
    objects = match_objects(truth, prediction, threshold=0.5)
    assert (objects.true_labels.tolist(), objects.predicted_labels.tolist()) == ([41], [1])
    assert objects.iou[0] == pytest.approx(9 / 11)
    assert (objects.missed_labels.tolist(), objects.missed_area_px.tolist()) == ([42], [7])
    assert (objects.extra_labels.tolist(), objects.extra_area_px.tolist()) == ([2], [4])


def test_huge_label_values_and_small_dtypes() -> None:
    truth = bars([(0, 10), (0, 10)]).astype(np.int64)
    far = np.where(truth > 0, truth * 10**15, 0)
    full = np.where(truth > 0, truth, 3).astype(np.uint8)  # no background left
    assert match(far, truth.astype(np.uint8)).tp[0] == 2
    assert match(full, far).tp[0] == 2
    assert match(truth > 0, truth > 0).n_true == 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: match(np.zeros((2, 2), int), np.zeros((2, 3), int)),
            DataError,
            r"\(2, 2\), prediction \(2, 3\)",
        ),
        (lambda: match(np.zeros((2, 2)), np.zeros((2, 2), int)), DataError, "truth: labels are float64"),
        (lambda: match(np.ones(2, int), np.array([0, -3])), DataError, "prediction: smallest label is -3"),
        (
            lambda: match(np.array([[2**63 + 5]], np.uint64), [[1]]),
            DataError,
            r"truth: the largest label is 9223372036854775813; allowed are numbers below 2\*\*63",
        ),
        (lambda: match([1], [1], thresholds=[0.0]), ConfigurationError, r"are \[0.0\]; each must be above 0"),
        (lambda: match([1], [1]).at(0.42), ConfigurationError, "no score at IoU 0.42; there are scores at"),
        (lambda: match_dataset([]), DataError, "empty; give at least one image"),
        (lambda: match_dataset([match([1], [1])], by="sum"), ConfigurationError, "by is 'sum'; allowed are"),
        (
            lambda: match_dataset([match([1], [1]), match([1], [1], thresholds=[0.3])]),
            DataError,
            "image 1 was",
        ),
    ],
)
def test_refusals_name_what_was_seen(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()
