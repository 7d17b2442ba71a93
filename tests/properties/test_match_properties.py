"""Matching: swapping the sides, renaming labels, and the whole table against a brute-force assignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from image2reg.nuclei.match import match, match_objects

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n_labels, shape = draw(st.integers(1, 7)), (draw(st.integers(1, 8)), draw(st.integers(1, 12)))
    truth = rng.integers(0, n_labels + 1, size=shape)
    changed = rng.random(shape) < draw(st.floats(0, 1))
    return truth, np.where(changed, rng.integers(0, n_labels + 1, size=shape), truth)


def brute_force(truth: np.ndarray, prediction: np.ndarray, threshold: float) -> tuple[int, float]:
    """Pairs and total IoU from the dense table, by the assignment that the definition asks for."""
    true_ids, ids = (np.setdiff1d(labels, 0) for labels in (truth, prediction))
    iou = np.zeros((true_ids.size, ids.size))
    for i, a in enumerate(true_ids):
        for j, b in enumerate(ids):
            iou[i, j] = ((truth == a) & (prediction == b)).sum() / ((truth == a) | (prediction == b)).sum()
    if not iou.size:
        return 0, 0.0
    cost = -(iou >= threshold).astype(float) - iou / (2 * min(iou.shape))
    chosen = iou[linear_sum_assignment(cost)]
    return int((chosen >= threshold).sum()), float(chosen[chosen >= threshold].sum())


@given(label_pairs())
def test_counts_equal_the_brute_force_assignment(pair) -> None:
    result = match(*pair, thresholds=LEVELS)
    for number, level in enumerate(LEVELS):
        tp, total = brute_force(*pair, level)
        assert result.tp[number] == tp
        if level > 0.5:  # below, ties between objects under the threshold may shift the sum in the dense cost
            assert np.nan_to_num(result.mean_matched_iou[number]) * tp == pytest.approx(total)


@given(label_pairs())
def test_swapping_truth_and_prediction_swaps_fp_and_fn(pair) -> None:
    one, other = match(*pair, thresholds=LEVELS), match(*pair[::-1], thresholds=LEVELS)
    np.testing.assert_array_equal(one.tp, other.tp)
    np.testing.assert_array_equal(one.fp, other.fn)
    np.testing.assert_array_equal(one.precision, other.recall)
    np.testing.assert_allclose(one.pq, other.pq)


@given(label_pairs(), st.randoms(use_true_random=False))
def test_relabelling_changes_nothing(pair, random) -> None:
    names = [0, *random.sample(range(1, 10**6), 8)]
    renamed = np.asarray(names)[pair[1]]
    one, other = match(*pair, thresholds=LEVELS), match(pair[0], renamed, thresholds=LEVELS)
    for score in ("tp", "fp", "fn", "f1"):
        np.testing.assert_array_equal(getattr(one, score), getattr(other, score))
    np.testing.assert_allclose(one.pq, other.pq)


@given(label_pairs())
def test_an_image_matches_itself_completely(pair) -> None:
    result = match(pair[0], pair[0], thresholds=LEVELS)
    assert (result.tp == result.n_true).all()
    assert not result.fp.any()


@given(label_pairs(), st.sampled_from(LEVELS))
def test_every_object_is_listed_exactly_once(pair, level) -> None:
    objects = match_objects(*pair, threshold=level)
    assert sorted([*objects.true_labels, *objects.missed_labels]) == np.setdiff1d(pair[0], 0).tolist()
    assert sorted([*objects.predicted_labels, *objects.extra_labels]) == np.setdiff1d(pair[1], 0).tolist()
    assert (objects.iou >= level).all()
