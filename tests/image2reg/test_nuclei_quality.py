"""A field is flagged when it is saturated, blurred or empty, and for nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from small_nuclei import discs, grid

from image2reg.errors import DataError
from image2reg.images.padding import continue_data
from image2reg.nuclei.quality import field_quality


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    return discs((240, 240), grid(5, 46, 26), noise=4.0)[0]


def test_a_sharp_field_has_no_flag(sharp) -> None:
    judged = field_quality(sharp.astype(np.uint16))
    assert judged["flags"] == []
    assert judged["saturated_share"] == 0
    assert judged["focus"] > 6


@pytest.mark.parametrize("change", [lambda x: 3 * x + 500, lambda x: ndimage.zoom(x, 2, order=1)])
def test_gain_offset_and_magnification_do_not_matter(sharp, change) -> None:
    assert field_quality(change(sharp))["focus"] == pytest.approx(field_quality(sharp)["focus"], rel=0.25)


def test_blur_lowers_the_focus_step_by_step_and_is_flagged(sharp) -> None:
    focus = [field_quality(ndimage.gaussian_filter(sharp, s))["focus"] for s in (0, 2, 3.5, 5.5)]
    assert focus == sorted(focus, reverse=True)
    assert field_quality(ndimage.gaussian_filter(sharp, 6.5))["flags"] == ["blurred"]
    assert field_quality(ndimage.gaussian_filter(sharp, 6.5), predicted=True)["flags"] == []


def test_nuclei_that_blur_has_merged_are_judged_by_their_own_size() -> None:
    crowded = discs((240, 240), grid(7, 33, 20), noise=0.0)[0]
    mush = ndimage.gaussian_filter(crowded, 10) + np.random.default_rng(0).normal(0, 1, crowded.shape)
    assert field_quality(mush)["flags"] == []  # one large thing with a sharp outline
    assert field_quality(mush, diameter_px=28.0)["flags"] == ["blurred"]
    assert field_quality(crowded, diameter_px=28.0) == field_quality(crowded)


def test_blur_takes_no_light_away(sharp) -> None:
    assert field_quality(ndimage.gaussian_filter(sharp, 4))["light"] == pytest.approx(
        field_quality(sharp)["light"], rel=0.1
    )


def test_a_pile_up_at_the_top_is_saturation(sharp) -> None:
    clipped = np.minimum(sharp, 560).astype(np.uint16)
    judged = field_quality(clipped)
    assert judged["flags"] == ["saturated"]
    assert judged["saturated_share"] == pytest.approx((clipped == 560).mean())
    few_levels = np.round(sharp / 20) * 20.0  # few grey values are not saturation
    assert field_quality(few_levels)["saturated_share"] == 0


@pytest.mark.parametrize("ceiling", [255, 4095])
def test_hard_clipping_that_leaves_no_grey_value_below_the_ceiling_is_saturation(sharp, ceiling) -> None:
    overexposed = np.clip((sharp - sharp.min()) * 60, 0, ceiling)
    clipped = np.where(overexposed > 0.9 * ceiling, ceiling, overexposed).astype(np.uint16)
    assert not ((clipped > 0.9 * ceiling) & (clipped < ceiling)).any()
    judged = field_quality(clipped)
    assert "saturated" in judged["flags"]
    assert judged["saturated_share"] == pytest.approx((clipped == ceiling).mean())


@pytest.mark.parametrize(
    "image", [np.full((60, 60), 9, np.uint8), np.random.default_rng(0).normal(100, 5, (200, 200))]
)
def test_a_field_without_nuclei_is_empty_and_nothing_else(image) -> None:
    judged = field_quality(image)
    assert judged["flags"] == ["empty"]
    assert np.isnan(judged["focus"])


def test_what_is_no_plane_or_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(2, 3, 4\); needed is one plane"):
        field_quality(np.zeros((2, 3, 4)))
    with pytest.raises(DataError, match=r"1 of 16 pixels are NaN or infinite, first at \(0, 1\)"):
        field_quality(np.where(np.arange(16).reshape(4, 4) == 1, np.inf, 0.0))


def test_what_registration_padded_does_not_count(sharp) -> None:
    haze = 100 + 0.1 * sharp  # an empty field's light is what tells it from a blurred one
    for field in (sharp, haze, ndimage.gaussian_filter(sharp, 6.5), np.minimum(sharp, 560)):
        whole = field_quality(field)
        padded = field.copy()
        padded[:10], padded[:, -6:] = 0, 0
        judged = field_quality(padded)
        assert judged["light"] == pytest.approx(whole["light"], rel=0.15)
        assert judged["focus"] == pytest.approx(whole["focus"], rel=0.15)
        assert judged["flags"] == whole["flags"]


def test_zeros_along_a_part_of_a_side_are_a_dark_sensors(sharp) -> None:
    dark = sharp.copy()
    dark[:150, 0] = 0
    plane, padded = continue_data(dark)
    assert padded is None
    assert plane is dark


def test_a_background_of_zero_around_one_clump_is_no_padding() -> None:
    clump = np.maximum(discs((240, 240), [(110, 110), (110, 140), (135, 125)])[0] - 120, 0)
    y, x = np.indices(clump.shape) - 120
    clump[y**2 + x**2 > 60**2] = 0
    assert field_quality(clump)["flags"] == []
    assert field_quality(clump)["light"] == pytest.approx(clump.mean())
