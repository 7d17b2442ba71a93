"""Training patches change how nuclei were recorded, never where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_nuclei import discs, grid

from image2reg.nuclei.segmenters.appearance import AugmentSettings, change_appearance
from image2reg.nuclei.segmenters.examples import NucleusField, Scaled, draw_patch

PLAIN = AugmentSettings(
    aligned=0,
    gamma=0,
    gain=0,
    offset=0,
    illumination=0,
    blur_px=0,
    noise=0,
    saturation=0,
    eight_bit=0,
    share=1,
)


def with_(**changes: float) -> AugmentSettings:
    return PLAIN.model_copy(update=changes)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    image, labels = discs((160, 160), grid(3, 50, 28), noise=4.0)
    return Scaled.of(NucleusField("a", "g", image, labels, diameter_px=28.0))


def test_aligned_patches_hold_the_pixels_of_the_field_turned_and_mirrored_only(scaled) -> None:
    rng = np.random.default_rng(0)
    known = {float(v) for v in scaled.image.ravel()}
    for _ in range(8):
        image, labels = draw_patch(scaled, 64, with_(aligned=1), rng)
        share = np.mean([min(abs(v - k) for k in known) < 1e-4 for v in image.numpy().ravel()[::97].tolist()])
        assert share > 0.9  # a reflected border is interpolated
        assert set(np.unique(labels)) <= set(np.unique(scaled.labels))


def test_a_drawn_cytoplasm_lights_the_surroundings_and_leaves_nuclei_the_brightest(scaled) -> None:
    lit = 0
    for seed in range(12):
        made = change_appearance(
            scaled.image, scaled.labels, with_(cytoplasm=0.8), np.random.default_rng(seed)
        ).numpy()
        added = made - scaled.image.numpy()
        assert added.min() > -1e-4
        near = scaled.labels == 0
        lit += added[near].mean() > 0.02
        assert made[scaled.labels > 0].mean() > made[near].mean() + 0.3
    assert lit >= 6


def test_each_nucleus_gets_a_brightness_of_its_own_and_the_background_none(scaled) -> None:
    made = change_appearance(
        scaled.image, scaled.labels, with_(nucleus_gain=0.4), np.random.default_rng(1)
    ).numpy()
    numbers = np.unique(scaled.labels)[1:]
    ratios = [
        made[scaled.labels == n].mean() / scaled.image.numpy()[scaled.labels == n].mean() for n in numbers
    ]
    assert np.std(np.log(ratios)) > 0.15
    far = scaled.labels == 0
    assert np.median(np.abs(made - scaled.image.numpy())[far]) < 0.02


def test_a_field_without_nuclei_is_left_as_it_is_by_what_changes_nuclei() -> None:
    image = torch.rand(40, 40, generator=torch.Generator().manual_seed(0))
    settings = with_(nucleus_gain=0.4, cytoplasm=0.8)
    made = change_appearance(image, np.zeros((40, 40), np.int32), settings, np.random.default_rng(0))
    torch.testing.assert_close(made, image)
