"""Bootstrap intervals: coverage of a known truth, the unit that is resampled, and the degenerate cases."""

from __future__ import annotations

import math
import re
import tracemalloc

import numpy as np
import pytest

from image2reg.errors import ConfigurationError, DataError
from image2reg.intervals import bootstrap_interval, paired_difference_interval, paired_p_value


def test_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        interval = bootstrap_interval(rng.normal(3.0, 1.0, size=40), seed=trial, n=400, level=0.9)
        covered += interval.low <= 3.0 <= interval.high
    # 200 trials at 0.9: binomial sd 4.2; the percentile interval of 40 units is slightly narrow (about 0.88).
    assert 160 <= covered <= 194


def test_width_matches_the_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=400)
    interval = bootstrap_interval(values, seed=0, n=4000)
    expected = 2 * 1.96 * values.std() / math.sqrt(values.size)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.08)
    assert interval.value == pytest.approx(values.mean())
    assert (interval.n, interval.level, interval.n_missing, interval.reason) == (400, 0.95, 0, "")


def test_grouped_interval_is_as_wide_as_its_few_groups_make_it() -> None:
    rng = np.random.default_rng(2)
    effect = rng.normal(size=8)
    groups = np.repeat(np.arange(8), 50)
    values = effect[groups] + 0.01 * rng.normal(size=400)
    single = bootstrap_interval(values, seed=0)
    grouped = bootstrap_interval(values, groups=groups, seed=0)
    by_group = bootstrap_interval(effect, seed=0)
    assert grouped.n == 8
    assert grouped.high - grouped.low > 4 * (single.high - single.low)
    assert grouped.high - grouped.low == pytest.approx(by_group.high - by_group.low, rel=0.05)


def test_grouped_mean_pools_members_of_unequal_groups() -> None:
    values, groups = [0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"]
    interval = bootstrap_interval(values, groups=groups, seed=0, level=0.99, n=500)
    assert interval.value == 0.75  # pooled over members; a mean of group means would say 0.5
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize("groups", [None, ["a", "b", "b", "c", "c", "c"]])
def test_a_mean_written_out_gives_the_same_interval_as_the_fast_path(groups: list[str] | None) -> None:
    values = [1.0, 5.0, 2.0, 8.0, 3.0, 4.0]

    def mean(sample: np.ndarray, axis: int) -> np.ndarray:
        return sample.mean(axis=axis)

    fast = bootstrap_interval(values, groups=groups, seed=3, n=300)
    general = bootstrap_interval(values, groups=groups, seed=3, n=300, statistic=mean)
    assert (fast.low, fast.high) == pytest.approx((general.low, general.high), rel=1e-12)


def test_median_of_skewed_values() -> None:
    interval = bootstrap_interval([1, 2, 3, 4, 1000], seed=0, statistic=np.median)
    assert interval.value == 3
    assert interval.low <= 3 <= interval.high


def test_same_seed_same_interval_and_a_generator_will_do() -> None:
    values = np.arange(20.0)
    first = bootstrap_interval(values, seed=7)
    assert (
        first
        == bootstrap_interval(values, seed=7)
        == bootstrap_interval(values, seed=np.random.default_rng(7))
    )
    assert first != bootstrap_interval(values, seed=8)


def test_blocks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=13)
    whole = bootstrap_interval(values, seed=1, n=500)
    monkeypatch.setattr("image2reg.intervals._BLOCK_ENTRIES", 40)
    assert bootstrap_interval(values, seed=1, n=500) == whole


def test_paired_difference_sees_what_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(4)
    difficulty = rng.normal(0.6, 0.2, size=20)
    ours, theirs = difficulty + 0.03 + 0.005 * rng.normal(size=20), difficulty
    paired = paired_difference_interval(ours, theirs, seed=0)
    assert paired.low > 0
    assert paired.value == pytest.approx(0.03, abs=0.005)
    assert bootstrap_interval(ours, seed=0).low < bootstrap_interval(theirs, seed=0).high
    swapped = paired_difference_interval(theirs, ours, seed=0)
    assert (swapped.low, swapped.high) == pytest.approx((-paired.high, -paired.low))


def test_paired_difference_of_medians_and_groups() -> None:
    first, second = [3.0, 5.0, 9.0, 4.0], [1.0, 2.0, 3.0, 4.0]
    interval = paired_difference_interval(first, second, groups="aabb", statistic=np.median, seed=0)
    assert interval.value == np.median(first) - np.median(second)
    assert interval.n == 2


def test_missing_values_are_left_out_and_counted() -> None:
    interval = bootstrap_interval([1.0, math.nan, 3.0], seed=0)
    assert (interval.value, interval.n, interval.n_missing) == (2.0, 2, 1)
    paired = paired_difference_interval([1.0, math.nan, 3.0], [1.0, 2.0, math.nan], seed=0)
    assert (paired.n, paired.n_missing) == (1, 2)
    grouped = bootstrap_interval([1.0, math.nan, 3.0], groups=["a", "b", "c"], seed=0)
    assert grouped.n == 2  # group b has no value left


def test_infinite_values_give_no_interval_and_say_so() -> None:
    interval = bootstrap_interval([30.0, math.inf, 31.0], seed=0)
    assert interval.value == math.inf
    assert math.isnan(interval.low)
    assert interval.reason == "1 of 3 values are infinite"
    assert math.isnan(paired_difference_interval([math.inf, 1.0], [math.inf, 1.0], seed=0).value)


def test_text_names_value_ends_and_units() -> None:
    assert (
        str(bootstrap_interval([0.5, 0.5, 0.5, math.nan], seed=0))
        == "0.500 [0.500, 0.500] (95 %, n = 3, 1 missing)"
    )
    assert "one unit only" in str(bootstrap_interval([0.5], seed=0))
    assert bootstrap_interval([0.5, 0.5], seed=0).as_dict()["high"] == 0.5


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: bootstrap_interval(np.ones((2, 2)), seed=0), DataError, r"values has shape \(2, 2\)"),
        (lambda: bootstrap_interval([1, 2], groups=["a"], seed=0), DataError, "1 groups for 2 values"),
        (
            lambda: bootstrap_interval([1, 2], level=95, seed=0),
            ConfigurationError,
            "level is 95; allowed is 0 <",
        ),
        (lambda: bootstrap_interval([1, 2], n=0, seed=0), ConfigurationError, "n is 0 samples"),
        (
            lambda: paired_difference_interval([1], [1, 2], seed=0),
            DataError,
            "first has 1 units, second has 2",
        ),
    ],
)
def test_refusals_name_what_was_seen(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()


def test_the_paired_test_is_exact_where_exchanges_can_be_counted() -> None:
    # Five units that all differ alike: 2 of 32 exchanges are as far from 0 as the one seen.
    p = paired_p_value([1, 2, 3, 4, 5], [0, 1, 2, 3, 4], seed=0, n=200_000)
    assert p == pytest.approx(2 / 32, abs=0.003)
    # Kept together as one group, exchanging them changes nothing but the sign.
    assert paired_p_value([1, 2, 3], [0, 1, 2], groups=["a"] * 3, seed=0) == 1.0
    assert paired_p_value([1, 2, math.nan], [1, 2, 9], seed=0) == 1.0


def test_the_paired_test_is_level_under_the_null() -> None:
    rng = np.random.default_rng(4)
    found = [
        paired_p_value(*rng.normal(size=(2, 30)) + rng.normal(size=30), seed=k, n=499) for k in range(300)
    ]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.09


@pytest.mark.parametrize("second", [[1.0], [math.nan, math.nan]])
def test_the_paired_test_refuses_scores_that_are_no_pairs(second) -> None:
    with pytest.raises(DataError, match="scores of the same units in the same order"):
        paired_p_value([1.0, 2.0], second, seed=0)


def test_blocks_of_exchanges_change_nothing_and_bound_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    first = np.random.default_rng(0).normal(0.1, 1, size=203)
    whole = paired_p_value(first, np.zeros(203), seed=0)
    monkeypatch.setattr("image2reg.intervals._BLOCK_ENTRIES", 5000)
    assert paired_p_value(first, np.zeros(203), seed=0) == whole
    tracemalloc.start()
    paired_p_value(first, np.zeros(203), seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 203 * 4999  # a byte for each sign


def test_samples_in_which_the_statistic_is_undefined_are_no_interval_without_a_reason():
    def spread_of_any(values, axis):
        return np.where(np.ptp(values, axis=axis) > 0, np.mean(values, axis=axis), np.nan)

    found = bootstrap_interval([1.0, 2.0], seed=0, statistic=spread_of_any, n=100)
    assert found.value == 1.5
    assert np.isnan([found.low, found.high]).all()
    assert re.fullmatch(r"the statistic is undefined in \d\d of 100 bootstrap samples", found.reason)


@pytest.mark.parametrize("groups", [np.array([1, 1, np.nan]), ["a", "a", np.nan]])
def test_units_without_a_group_are_neither_one_group_nor_each_its_own(groups):
    with pytest.raises(DataError, match=r"1 of 3 units have no group \(NaN\)"):
        bootstrap_interval([0.1, 0.2, 0.3], seed=0, groups=groups)
    with pytest.raises(DataError, match=r"1 of 3 units have no group \(NaN\)"):
        paired_p_value([0.1, 0.2, 0.3], [0.0, 0.1, 0.2], seed=0, groups=groups)
