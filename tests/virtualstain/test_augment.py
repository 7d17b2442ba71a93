"""Augmentation moves input, target and mask together, and leaves what it must not touch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from virtualstain.augment import AugmentSettings, augment_photometry, gaussian_blur, warp_to_patch
from virtualstain.normalise import ChannelScale
from virtualstain.patches import PatchSampler, StainField


def test_no_augmentation_is_the_identity() -> None:
    settings = AugmentSettings.none()
    assert settings.reach == 1
    x = torch.randn(2, 1, 3, 8, 8)
    assert torch.equal(augment_photometry(x, settings, np.random.default_rng(0)), x)
    patch = warp_to_patch(x[0], (8, 8), settings, np.random.default_rng(0))
    assert torch.allclose(patch, x[0], atol=1e-5)


@given(seed=st.integers(0, 10_000))
def test_what_is_registered_stays_registered(seed: int) -> None:
    field = torch.randn(1, 1, 64, 64)
    pair = torch.cat([field, 2 * field + 1])
    warped = warp_to_patch(pair, (24, 24), AugmentSettings(), np.random.default_rng(seed))
    inside = (
        warp_to_patch(torch.ones(1, 1, 64, 64), (24, 24), AugmentSettings(), np.random.default_rng(seed))
        > 0.999
    )
    assert torch.allclose(warped[1][inside[0]], 2 * warped[0][inside[0]] + 1, atol=1e-3)


def test_mirroring_alone_moves_input_and_target_together_without_resampling() -> None:
    rows = np.broadcast_to(np.arange(12, dtype=np.float32), (1, 1, 12, 12))
    one = (ChannelScale(),)
    field = StainField("f", "g", rows, rows + 1, np.array([True]), input_scale=one, target_scale=one)
    settings = AugmentSettings.none().model_copy(update={"flip": True})
    drawn = PatchSampler([field], (1, 12, 12), settings).draw(32, np.random.default_rng(0))
    assert torch.equal(drawn["target"], drawn["input"] + 1)
    rising = (drawn["input"][:, 0, 0, 0, 0] == 0).sum()
    assert 8 <= int(rising) <= 24
    assert torch.equal(drawn["input"].amax((1, 2, 3, 4)), torch.full((32,), 11.0))


@given(seed=st.integers(0, 10_000))
def test_a_window_of_the_stated_reach_fills_the_patch(seed: int) -> None:
    settings = AugmentSettings()
    side = int(np.ceil(32 * settings.reach))
    warped = warp_to_patch(torch.ones(1, 1, side, side), (32, 32), settings, np.random.default_rng(seed))
    assert float(warped[0, 0, 8:-8, 8:-8].min()) > 0.999


def test_magnification_changes_the_size_of_things_by_the_stated_factor() -> None:
    y, x = np.mgrid[-40:40, -40:40] + 0.5
    disc = torch.tensor((y**2 + x**2 < 10**2).astype(np.float32))[None, None]
    settings = AugmentSettings(magnification=1.4, shear=0)
    areas = [
        float(warp_to_patch(disc, (64, 64), settings, np.random.default_rng(s)).sum()) for s in range(60)
    ]
    radii = np.sqrt(np.array(areas) / np.pi)
    assert 10 / 1.45 < radii.min() < 10 / 1.25
    assert 10 * 1.25 < radii.max() < 10 * 1.45


def test_photometry_is_decided_by_the_generator() -> None:
    x = torch.randn(3, 1, 1, 16, 16)
    first = augment_photometry(x, AugmentSettings(), np.random.default_rng(5))
    assert torch.equal(first, augment_photometry(x, AugmentSettings(), np.random.default_rng(5)))
    assert not torch.equal(first, augment_photometry(x, AugmentSettings(), np.random.default_rng(6)))
    assert torch.isfinite(first).all()


def test_blur_keeps_the_mean_and_removes_detail() -> None:
    x = torch.randn(1, 1, 2, 33, 31)
    blurred = gaussian_blur(x, 1.5)
    assert blurred.shape == x.shape
    assert float(blurred.std()) < 0.4 * float(x.std())
    assert torch.allclose(gaussian_blur(torch.full((1, 1, 1, 9, 9), 3.0), 2.0), torch.tensor(3.0), atol=1e-5)


def test_strengths_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="magnification"):
        AugmentSettings(magnification=0.5)
