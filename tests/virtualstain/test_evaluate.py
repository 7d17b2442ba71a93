"""Score tables: floors, ceilings and intervals that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from virtualstain.evaluate import (
    METRICS,
    ScoredField,
    block_interval,
    noise_ceiling,
    score_field,
    score_table,
)


def field(
    name: str = "f",
    group: str = "g",
    *,
    seed: int = 0,
    error: float = 0.5,
    size: int = 96,
    noise: float = 0.0,
) -> ScoredField:
    rng = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(rng.standard_normal((1, size, size)), (0, 2, 2))
    truth /= truth.std()
    recorded = truth + noise * rng.standard_normal(truth.shape)
    prediction = truth + error * ndimage.gaussian_filter(rng.standard_normal(truth.shape), (0, 1, 1))
    inputs = np.stack(
        [rng.standard_normal(truth.shape[1:]), -0.4 * truth[0] + rng.standard_normal(truth.shape[1:])]
    )
    return ScoredField(
        name,
        group,
        "Hoechst",
        inputs[None],
        recorded,
        prediction,
        np.ones(truth.shape, bool),
        data_range=6,
        typical=0.0,
    )


def test_the_floor_is_the_best_single_plane_and_the_training_mean() -> None:
    item = field()
    row = score_field(item)
    best = max(abs(np.corrcoef(p.ravel(), item.truth.ravel())[0, 1]) for p in item.inputs[0])
    assert row["floor_pearson"] == pytest.approx(best)
    assert row["floor_nrmse"] == pytest.approx(np.sqrt((item.truth**2).mean()) / 6)
    assert row["pearson"] > row["floor_pearson"]
    assert row["psnr"] > row["floor_psnr"]


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
def test_the_noise_ceiling_is_what_a_perfect_prediction_reaches(noise: float) -> None:
    item = field(noise=noise, error=0, size=256)
    reached = np.corrcoef(item.prediction.ravel(), item.truth.ravel())[0, 1]
    assert noise_ceiling(item.truth) == pytest.approx(reached, abs=0.03)


def test_a_noiseless_image_has_ceiling_one_and_a_constant_none() -> None:
    assert noise_ceiling(field().truth) > 0.995
    assert np.isnan(noise_ceiling(np.zeros((1, 9, 9))))


def test_voxels_outside_the_mask_do_not_count() -> None:
    item = field()
    mask = item.mask.copy()
    mask[:, :20] = False
    spoilt = item.prediction.copy()
    spoilt[:, :20] = 1e6
    kept = ScoredField(**{**item.__dict__, "mask": mask})
    wild = ScoredField(**{**item.__dict__, "mask": mask, "prediction": spoilt})
    assert score_field(kept) == pytest.approx(score_field(wild), nan_ok=True)


def test_groups_are_resampled_whole() -> None:
    near = [field(f"a{i}", "one", seed=i, error=0.2) for i in range(4)]
    far = [field(f"b{i}", "two", seed=9 + i, error=2.0) for i in range(4)]
    table = score_table([*near, *far])
    alone = score_table([ScoredField(**{**f.__dict__, "group": f.name}) for f in (*near, *far)])
    width = {n: t.set_index("metric").loc["pearson"] for n, t in (("grouped", table), ("free", alone))}
    assert width["grouped"].level == "field in group"
    assert width["grouped"].high - width["grouped"].low > width["free"].high - width["free"].low
    assert set(table["metric"]) == set(METRICS)


def test_one_field_gets_its_interval_from_blocks() -> None:
    item = field(size=192, error=1.0)
    row = score_table([item]).set_index("metric").loc["pearson"]
    assert row.level == "block"
    assert row.n == 4
    assert row.low < row.value < row.high
    assert row.value == pytest.approx(np.corrcoef(item.prediction.ravel(), item.truth.ravel())[0, 1])


def test_pooled_blocks_give_the_correlation_of_the_field() -> None:
    item = field(size=100, error=0.7)
    whole = np.corrcoef(item.prediction.ravel(), item.truth.ravel())[0, 1]
    for block in (32, 50, 96):
        assert block_interval(item, block=block).value == pytest.approx(whole)


def test_the_ceiling_is_that_of_the_voxels_that_count() -> None:
    item = field(noise=0.5, error=0, size=256)
    padded = np.zeros((1, 256, 600))
    padded[..., :256] = item.truth + 50
    mask = padded != 0
    assert noise_ceiling(padded, mask) == pytest.approx(noise_ceiling(item.truth), abs=0.01)


def test_fields_without_a_score_are_not_counted() -> None:
    constant = ScoredField(**{**field("flat", seed=5).__dict__, "prediction": np.ones((1, 96, 96))})
    table = score_table([field("a", seed=1), field("b", seed=2), constant]).set_index("metric")
    assert table.loc["pearson", "n"] == 2
    assert table.loc["nrmse", "n"] == 3
    assert table.loc["pearson", "floor"] == pytest.approx(
        score_table([field("a", seed=1), field("b", seed=2)]).set_index("metric").loc["pearson", "floor"]
    )


def test_a_score_that_no_field_has_is_none_and_no_warning() -> None:
    constant = ScoredField(**{**field("flat").__dict__, "prediction": np.ones((1, 96, 96))})
    row = score_table([constant, constant]).set_index("metric").loc["pearson"]
    assert row.n == 0
    assert np.isnan([row.value, row["median"], row.floor]).all()


@pytest.mark.parametrize("size", [96, 143, 144, 145, 240])
def test_blocks_hold_every_voxel(size: int) -> None:
    item = field(size=size, error=0.7)
    whole = np.corrcoef(item.prediction.ravel(), item.truth.ravel())[0, 1]
    assert block_interval(item).value == pytest.approx(whole)
