"""Growth over time: lines through correlated frames, rates by series, and which files are frames of what."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import tifffile

from image2reg.errors import ConfigurationError, DataError
from image2reg.growth.rates import CONFLUENT, doubling_time, fit_line, growth_rates, in_words
from image2reg.growth.series import list_frames


def correlated(n: int, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Errors of a first-order autoregression, standard deviation 1."""
    error = rng.normal(size=n)
    for i in range(1, n):
        error[i] = correlation * error[i - 1] + math.sqrt(1 - correlation**2) * error[i]
    return error


def test_independent_errors_give_the_line_of_least_squares():
    stats = pytest.importorskip("scipy.stats")
    x = np.arange(400.0)
    y = 3 + 0.5 * x + np.random.default_rng(3).normal(size=400)
    line, plain = fit_line(x, y), stats.linregress(x, y)
    assert line.slope == pytest.approx(plain.slope, rel=1e-3)
    assert line.high - line.slope == pytest.approx(1.966 * plain.stderr, rel=0.15)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_interval_holds_the_slope_about_as_often_as_it_says(correlation):
    rng, x, n = np.random.default_rng(0), np.arange(60.0), 200
    lines = [fit_line(x, 0.1 * x + correlated(60, correlation, rng)) for _ in range(n)]
    assert np.mean([line.low <= 0.1 <= line.high for line in lines]) > 0.88
    if correlation:  # of least squares it is three in four
        assert np.median([line.correlation for line in lines]) == pytest.approx(correlation, abs=0.15)


def test_missing_frames_do_not_move_the_line():
    x = np.delete(np.arange(30.0), [3, 4, 5, 17])
    line = fit_line(x, 2 * x + 1)
    assert (line.slope, line.intercept) == pytest.approx((2, 1))
    assert line.high - line.low < 1e-9


@pytest.mark.parametrize(
    ("x", "y"), [([0, 1, 2, 3], [0, 1, 2, 3]), ([0, 1, 1, 2, 3], range(5)), (range(5), [0, 1, np.nan, 3, 4])]
)
def test_no_line_through_too_little(x, y):
    with pytest.raises(DataError, match="fit_line"):
        fit_line(x, y)


def frames(values, *, measure="n_objects", flags=None, hours=None):
    hours = np.arange(len(values)) * 2.0 if hours is None else hours
    return pd.DataFrame(
        {"series": "a", "hours": hours, measure: values, "flags": flags or [""] * len(values)}
    )


def test_doubling_time_of_exponential_growth():
    hours = np.arange(12) * 2.0
    (row,) = growth_rates(frames(100 * 2 ** (hours / 15))).to_dict("records")
    assert (row["doubling_h"], row["doubling_h_low"], row["doubling_h_high"]) == pytest.approx((15, 15, 15))
    assert row["exponential_at_0"] == pytest.approx(100)
    assert in_words(row) == "doubles in 15 h (15 to 15)"


def test_what_does_not_grow_has_no_doubling_time():
    line = fit_line(range(6), [5, 4, 3, 2, 1, 0])
    assert doubling_time(line) == (math.inf,) * 3
    (row,) = growth_rates(frames(100 * 0.9 ** np.arange(8.0))).to_dict("records")
    assert in_words(row).startswith("does not grow: rate -0.0527 per h")


def test_blurred_and_empty_frames_and_full_fields_are_kept_out():
    hours = np.arange(12) * 2.0
    values = 0.1 * 2 ** (hours / 5)  # full after 15 h
    values[3] = 0.7
    (row,) = growth_rates(
        frames(
            np.minimum(values, 1), measure="confluence", flags=["", "", "", "saturated;blurred", *[""] * 8]
        )
    ).to_dict("records")
    assert row["doubling_h"] == pytest.approx(5)
    assert row["n_frames"] == 11
    assert f"{CONFLUENT:.0%}" in row["note"]
    assert "1 blurred" in row["note"]
    (row,) = growth_rates(frames([0, 0, 8, 16, 32, 64, 128])).to_dict("records")
    assert row["doubling_h"] == pytest.approx(2)
    assert "2 empty" in row["note"]


def test_a_rate_needs_frames():
    (row,) = growth_rates(frames([1, 2, 4])).to_dict("records")
    assert math.isnan(row["rate_per_h"])
    assert math.isnan(row["doubling_h"])
    assert "5 frames" in row["note"]
    assert in_words(row) == "no rate"


def touched(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, np.zeros((16, 16), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("names", "series", "hours"),
    [
        (["ctrl_t001", "ctrl_t002", "drug_t001", "drug_t002"], ["ctrl", "drug"], [0, 0.5]),
        (["t1/A01_s1", "t2/A01_s1", "t10/A01_s1"], ["A01_s1"], [0, 0.5, 4.5]),
        (["TimePoint_1/A01_s1_w1", "TimePoint_2/A01_s1_w1"], ["A01_s1_w1"], [0, 0.5]),
        (["r01c02f01p01-ch1sk1fk1fl1", "r01c02f01p01-ch1sk3fk1fl1"], ["r01c02f01p01-ch1fk1fl1"], [0, 1]),
        (["A01_T0001F001L01A01Z01C01", "A01_T0002F001L01A01Z01C01"], ["A01_F001L01A01Z01C01"], [0, 0.5]),
        (
            [f"{n}/B3_0_0_Fluorescence_405_nm_Ex" for n in (0, 1)],
            ["B3_s0_z0_Fluorescence_405_nm_Ex"],
            [0, 0.5],
        ),
        ([f"A1_02_1_1_DAPI_{n:03d}" for n in (1, 2)], ["A1_s1_DAPI"], [0, 0.5]),
        (["x/img000", "x/img005", "y/img000", "y/img005"], ["x/img", "y/img"], [0, 2.5]),
    ],
)
def test_numbers_of_frames_in_names(tmp_path, names, series, hours):
    root, found = list_frames([touched(tmp_path, *(f"{name}.tif" for name in names))], minutes=30)
    assert root == tmp_path
    assert sorted({frame.series for frame in found}) == series
    for each in series:
        assert [frame.hours for frame in found if frame.series == each] == pytest.approx(hours)


@pytest.mark.parametrize(
    ("names", "hours"),
    [
        (["A1_1_00d00h00m", "A1_1_00d04h30m", "A1_1_01d00h00m"], [0, 4.5, 24]),
        (["A1_1_2026y02m28d_22h00m", "A1_1_2026y03m01d_01h30m"], [0, 3.5]),
        (["B03_0h", "B03_24h", "B03_48h"], [0, 24, 48]),
        (["day1/B03", "day3/B03"], [0, 48]),
    ],
)
def test_hours_in_names(tmp_path, names, hours):
    folder = touched(tmp_path, *(f"{name}.tif" for name in names))
    _, found = list_frames([folder])
    assert [frame.hours for frame in found] == pytest.approx(hours)
    assert len({frame.series for frame in found}) == 1
    with pytest.raises(ConfigurationError, match="hours already"):
        list_frames([folder], minutes=10)


def test_a_file_with_a_time_axis_is_a_series(tmp_path):
    tifffile.imwrite(tmp_path / "cells.ome.tif", np.zeros((3, 16, 16), np.uint8), metadata={"axes": "TYX"})
    _, found = list_frames([tmp_path / "cells.ome.tif"], minutes=15)
    assert [(f.series, f.hours, f.time) for f in found] == [
        ("cells", 0, 0),
        ("cells", 0.25, 1),
        ("cells", 0.5, 2),
    ]


@pytest.mark.parametrize(
    ("names", "minutes", "error", "words"),
    [
        (["A01", "A02"], 10, DataError, "do not say when"),
        (["a_t1", "b"], 10, DataError, "do not say when"),
        (["a_t1", "a_t2"], None, ConfigurationError, "--minutes 20"),
        (["a_t1", "a_t2"], 0, ConfigurationError, "above 0"),
        (["a_t1", "b_t1"], 10, DataError, "one frame"),
        (["a_t1", "a_t01", "a_t2"], 10, DataError, "both are series 'a'"),
        (["a_w1_t1", "a_w2_t1"], 10, ConfigurationError, "--channel"),
        (["a_2026y02m30d_22h00m", "a_2026y03m01d_01h30m"], None, DataError, "is no date"),
    ],
)
def test_names_that_leave_a_doubt_are_refused(tmp_path, names, minutes, error, words):
    folder = touched(tmp_path, *(f"{name}.tif" for name in names))
    with pytest.raises(error, match=words):
        list_frames([folder], minutes=minutes)


def test_of_files_with_one_channel_each_names_choose(tmp_path):
    names = [f"a_{channel}_t{n}.tif" for channel in ("DAPI", "GFP") for n in (0, 1)]
    _, found = list_frames([touched(tmp_path, *names)], minutes=10, channel="DAPI")
    assert [(frame.path, frame.is_named) for frame in found] == [
        ("a_DAPI_t0.tif", True),
        ("a_DAPI_t1.tif", True),
    ]
