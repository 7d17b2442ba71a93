"""Pictures: what a pixel's grey or colour means, which plane is shown, and how long the scale bar is."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image as PillowImage

from image2reg.errors import DataError
from image2reg.report.figures import (
    ERROR_COLOURS,
    Cut,
    FieldPanel,
    Limits,
    busiest_window,
    contrast_limits,
    draw_error,
    draw_grey,
    one_cut,
    scale_bar,
)

FLAT = Cut(None, 1, None)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_grey_runs_from_the_low_limit_to_the_high_one_and_nan_is_mid_grey() -> None:
    image = np.array([[10.0, 15.0, 20.0, 99.0, -99.0, np.nan, np.inf, -np.inf]])
    drawn = pixels(draw_grey(image, FLAT, Limits(10, 20, ""), max_side=64, z_stretch=1).plane)
    assert drawn[0, :, 0].tolist() == [0, 128, 255, 255, 0, 128, 255, 0]


def test_error_is_white_at_zero_blue_below_and_red_above() -> None:
    real = np.zeros((1, 5))
    predicted = np.array([[-2.0, -9.0, 0.0, 2.0, 9.0]])
    picture, bias, beyond = draw_error(predicted, real, FLAT, 2.0, max_side=64, z_stretch=1)
    drawn = pixels(picture.plane)[0]
    assert np.abs(drawn[2] - ERROR_COLOURS[2]).max() <= 2
    assert drawn[0].tolist() == drawn[1].tolist() == list(ERROR_COLOURS[0])
    assert drawn[3].tolist() == drawn[4].tolist() == list(ERROR_COLOURS[-1])
    assert bias == 0
    assert beyond == pytest.approx(2 / 5)


def test_unsigned_images_do_not_wrap_in_the_error() -> None:
    predicted, real = np.full((4, 4), 5, np.uint16), np.full((4, 4), 7, np.uint16)
    _, bias, _ = draw_error(predicted, real, FLAT, 2.0, max_side=64, z_stretch=1)
    assert bias == -2


def test_large_pictures_are_averaged_not_sampled() -> None:
    checks = np.indices((300, 200)).sum(axis=0) % 2 * 255.0
    picture = draw_grey(checks, FLAT, Limits(0, 255, ""), max_side=100, z_stretch=1)
    drawn = pixels(picture.plane)
    assert picture.size_px == drawn.shape[:2] == (100, 67)
    assert np.abs(drawn - 127.5).max() < 30


def test_cut_takes_the_plane_and_row_with_the_signal_and_draws_the_side_view_top_up() -> None:
    stack = np.zeros((8, 32, 32), np.float32)
    stack[5, 20, 10:20] = 100
    cut = one_cut(stack)
    assert cut.plane == 5
    assert abs(cut.row - 20) <= 2
    picture = draw_grey(stack, Cut(5, 8, 20), Limits(0, 100, ""), max_side=64, z_stretch=2.0)
    side = pixels(picture.side)[..., 0]
    assert side.shape == (16, 32)  # two rows per plane: a plane is twice as thick as a pixel is wide
    bright = np.flatnonzero(side.max(axis=1))
    assert bright.tolist() == [4, 5]  # plane 5 of 0..7 lies two planes below the top


def test_one_plane_needs_no_side_view_and_a_deeper_input_shows_its_middle() -> None:
    assert one_cut(np.ones((4, 4))) == FLAT
    assert one_cut(np.ones((1, 4, 4))) == FLAT
    stack = np.stack([np.full((4, 4), float(z)) for z in range(5)])
    drawn = pixels(draw_grey(stack, FLAT, Limits(0, 4, ""), max_side=8, z_stretch=1).plane)
    assert (drawn == 128).all()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((4, 4), 7.0), "real is constant"),
        (np.full((4, 4), np.nan), "no finite value in real"),
        (np.arange(1000.0).reshape(20, 50), "0.5\N{EN DASH}99.8 % of real"),
    ],
)
def test_limits_say_where_they_come_from_and_are_never_empty(image, words) -> None:
    limits = contrast_limits(image, FLAT, percentiles=(0.5, 99.8), of="real")
    assert limits.origin == words
    assert limits.high > limits.low
    assert math.isfinite(limits.low)


def test_detail_window_finds_the_structure() -> None:
    image = np.zeros((600, 500))
    image[300:340, 100:140] = np.random.default_rng(0).random((40, 40))
    y, x = busiest_window(image, FLAT, 100)
    assert y.start <= 300
    assert y.stop >= 340
    assert x.start <= 100
    assert x.stop >= 140


@pytest.mark.parametrize(
    ("width", "pixel", "label", "length"),
    [
        (512, 0.25, "20 µm", 20),
        (1000, 0.1, "20 µm", 20),
        (64, 0.05, "0.5 µm", 0.5),
        (8000, 0.65, "1 mm", 1000),
    ],
)
def test_scale_bar_is_a_round_length_of_at_most_a_quarter(width, pixel, label, length) -> None:
    share, text = scale_bar(width, pixel)
    assert text == label
    assert share == pytest.approx(length / (width * pixel))
    assert 0.09 < share <= 0.25


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"predicted": {"DNA": np.ones((2, 3, 4, 4))}},
            ["(2, 3, 4, 4)", "'DNA'", "(Z, Y, X)", "one channel"],
        ),
        ({"predicted": {"DNA": np.ones((0, 4))}}, ["(0, 4)", "non-empty"]),
        ({"predicted": {}}, ["'A1' has no predicted channel"]),
        ({"real": {"DNA": np.ones((4, 5))}}, ["predicted is (4, 4), real is (4, 5)", "Crop or resample"]),
        ({"input": np.ones((5, 5))}, ["input is (5, 5), the stains (4, 4)"]),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, words) -> None:
    arguments = {"name": "A1", "input": np.ones((4, 4)), "predicted": {"DNA": np.ones((4, 4))}, **change}
    with pytest.raises(DataError) as caught:
        FieldPanel(**arguments)
    assert all(word in str(caught.value) for word in words), str(caught.value)
