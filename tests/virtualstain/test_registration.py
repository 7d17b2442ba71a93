"""Displaced pairs: found, cut to register, and put into the typical displacement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from virtualstain.patches import StainField
from virtualstain.registration import find_shift, register, typical_shift


def blobs(seed: int, n: int = 96) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((n, n)), 3)


@given(dy=st.integers(-8, 8), dx=st.integers(-8, 8), seed=st.integers(0, 99))
def test_a_planted_displacement_is_found_and_taken_out(dy: int, dx: int, seed: int) -> None:
    wide = blobs(seed, 128)
    predicted, real = wide[16:112, 16:112], wide[16 - dy : 112 - dy, 16 - dx : 112 - dx]
    shift, r = find_shift(predicted, real, np.ones(real.shape, bool), reach=10)
    assert shift == (dy, dx)
    assert r == pytest.approx(1, abs=1e-6)
    item = StainField("f", "g", predicted[None, None], real[None, None], np.array([True]), masks=real > 0)
    done = register(item, shift)
    assert np.array_equal(done.inputs[0], done.targets[0])
    assert np.array_equal(done.masks, done.targets[0, 0] > 0)
    assert done.plane == (96 - abs(dy), 96 - abs(dx))


def test_pixels_without_data_do_not_decide() -> None:
    wide = blobs(1, 128)
    predicted, real = wide[16:112, 16:112], wide[12:108, 16:112].copy()
    valid = np.ones(real.shape, bool)
    real[:, :20], valid[:, :20] = 99, False
    assert find_shift(predicted, real, valid, reach=8)[0] == (4, 0)


def test_the_typical_shift_comes_from_trusted_pairs_only() -> None:
    found = [((4, 0), 0.7), ((6, 2), 0.6), ((5, 1), 0.5), ((-9, -9), 0.1)]
    assert typical_shift(found, trust=0.3) == (5, 1)
    assert typical_shift(found, trust=0.9) == (0, 0)
