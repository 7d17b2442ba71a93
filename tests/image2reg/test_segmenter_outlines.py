"""Outlines drawn anew: what the rule learns, what it leaves, and that it treats every direction alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from image2reg.models.rounding import restored, rounded
from image2reg.nuclei.segmenters import outlines
from image2reg.nuclei.segmenters.designs import find_design
from image2reg.nuclei.segmenters.outlines import MEASURES, OutlineRule, TaughtPoints, redrawn
from tests.small_nuclei import discs, grid


def planted(seed: int):
    """Synthetic: bright nuclei are drawn 2 px too wide, dim ones as they are; no map says so, their brightness does."""
    rng = np.random.default_rng(seed)
    centres = [(r + rng.uniform(-6, 6), c + rng.uniform(-6, 6)) for r, c in grid(5)]
    _, truth = discs((256, 256), centres, float(rng.uniform(22, 30)))
    bright = np.append(0.0, rng.choice([0.2, 0.8], len(centres)))
    image = ndimage.gaussian_filter(bright[truth], 1).astype(np.float32)
    away = ndimage.distance_transform_edt(truth == 0, return_indices=True)
    owner = truth[tuple(away[1])]
    drawn = np.where((away[0] <= np.where(bright[owner] > 0.5, 2, 0)), owner, 0).astype(np.int32)
    inside = ndimage.distance_transform_edt(drawn > 0) - ndimage.distance_transform_edt(drawn == 0)
    depth = np.clip(inside / 12, 0, 1)
    maps = np.stack([inside, np.full_like(inside, -6), depth]).astype(np.float32)
    return drawn, maps, image, truth


def wrong(labels, truth) -> int:
    return int(np.count_nonzero(labels != truth))


@pytest.fixture(scope="module", autouse=True)
def short():
    """A shorter training on fewer nuclei: what is planted is simple."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlines, "_FEWEST", 500)
        patch.setattr(outlines, "_STEPS", 600)
        yield


@pytest.fixture(scope="module")
def points():
    held = TaughtPoints()
    for seed in range(24):
        held.add(*planted(seed))
    return held


@pytest.fixture(scope="module")
def rule(points):
    made = OutlineRule()
    assert made.fit(points)
    return made


def test_what_an_outline_depends_on_is_learned_and_survives_rounding(points, rule):
    drawn, maps, image, truth = planted(99)
    stored = OutlineRule()
    stored.load_state_dict(restored(rounded(rule.state_dict())))
    labels, inside = redrawn(stored, drawn, maps, image)
    assert wrong(labels, truth) < 0.2 * wrong(drawn, truth)
    np.testing.assert_array_equal(labels > 0, (inside > 0) & (labels > 0))
    again = OutlineRule()
    before = torch.random.get_rng_state()
    again.fit(points)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in rule.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_turned_field_gets_the_same_outlines_turned(rule):
    drawn, maps, image, _ = planted(98)
    turned = [np.ascontiguousarray(np.rot90(a, axes=(-2, -1))) for a in (drawn, maps, image)]
    labels, _ = redrawn(rule, drawn, maps, image)
    found, _ = redrawn(rule, *turned)
    assert wrong(found, np.rot90(labels)) < 0.01 * np.count_nonzero(labels)


def test_nuclei_keep_their_own_pixels_and_nothing_changes_farther_than_four_pixels(rule):
    drawn, maps, image, _ = planted(97)
    drawn[:, 120:] = np.where(drawn[:, 120:] > 0, drawn[:, 120:] + 40, 0)  # some are cut in two that touch
    labels, _ = redrawn(rule, drawn, maps, image)
    both = (drawn > 0) & (labels > 0)
    np.testing.assert_array_equal(labels[both], drawn[both])
    assert not labels[ndimage.distance_transform_edt(drawn == 0) > 4].any()
    deep = ndimage.distance_transform_edt(drawn > 0) > 4
    np.testing.assert_array_equal(labels[deep], drawn[deep])


def test_a_field_without_nuclei_stays_one(rule):
    labels, inside = redrawn(
        rule, np.zeros((20, 30), np.int32), np.zeros((3, 20, 30), np.float32), np.zeros((20, 30), np.float32)
    )
    assert not labels.any()
    assert (inside == -1).all()


def test_too_few_nuclei_teach_nothing_whatever_was_learned_before(points):
    rule = OutlineRule()
    assert rule.fit(points)
    few = TaughtPoints()
    few.add(*planted(0))
    assert not rule.fit(few)
    for name, value in OutlineRule().state_dict().items():
        assert torch.equal(value, rule.state_dict()[name]), name


def test_nuclei_whose_true_outline_is_not_known_teach_nothing():
    drawn, maps, image, truth = planted(0)
    held = TaughtPoints()
    held.add(drawn, maps, image, np.zeros_like(truth))
    assert held.n_nuclei == 0
    assert held.columns()[0].shape == (0, len(MEASURES))


def test_of_many_pixels_an_even_sample_is_held(monkeypatch):
    monkeypatch.setattr(outlines, "_MOST", 500)
    held = TaughtPoints()
    for seed in range(6):
        held.add(*planted(seed))
    measures, inside, weight = held.columns()
    assert len(measures) == len(inside) == len(weight) == 500
    first = TaughtPoints()
    first.add(*planted(0))
    from_first = (measures[:, None] == first.columns()[0][None]).all(-1).any(1).sum()
    assert 30 < from_first < 170  # a sixth of them, give or take


def test_an_untaught_rule_leaves_what_the_maps_draw():
    design = find_design("distance_unet")
    torch.manual_seed(0)
    network = design.build().eval()
    x = torch.rand(1, 2, 64, 64)
    labels, foreground = design.read(network, x)
    network.outlines = torch.nn.Identity()
    as_drawn, same = design.read(network, x)
    np.testing.assert_array_equal(labels, as_drawn)
    np.testing.assert_array_equal(foreground, same)
