"""Bright field is linear and shift-invariant; its phase part is odd, its absorption part even in z."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from virtualstain.phantom.optics import Transfer, weak_object_transfer

SHAPE = (6, 16, 16)
VOXEL = (0.5, 0.25, 0.25)

volumes = arrays(np.float32, SHAPE, elements=st.floats(-1, 1, width=32))
microscopes = st.fixed_dictionaries(
    {"aperture": st.sampled_from([0.4, 0.6, 0.75]), "condenser": st.sampled_from([0.1, 0.3, 0.4])}
)


def parts(scope: dict, grid: tuple[int, int, int] = SHAPE) -> tuple[Transfer, Transfer]:
    return weak_object_transfer(grid, VOXEL, **scope, wavelength_um=0.6, index=1.337)


@given(volumes, volumes, st.floats(-3, 3, width=32), microscopes)
@settings(max_examples=25)
def test_linear(first, second, factor, scope) -> None:
    for part in parts(scope):
        np.testing.assert_allclose(
            part(first + factor * second), part(first) + factor * part(second), atol=2e-4
        )


@given(volumes, st.tuples(*[st.integers(-5, 5)] * 3), microscopes)
@settings(max_examples=25)
def test_shift_invariant_on_the_periodic_grid(volume, shift, scope) -> None:
    for part in parts(scope):
        np.testing.assert_allclose(
            part(np.roll(volume, shift, (0, 1, 2))), np.roll(part(volume), shift, (0, 1, 2)), atol=2e-4
        )


@given(volumes, microscopes)
@settings(max_examples=25)
def test_phase_is_odd_and_absorption_even_in_defocus(volume, scope) -> None:
    phase, absorption = parts(scope, (12, 16, 16))  # twice the depth: no wrap, so that a flip is a flip
    np.testing.assert_allclose(phase(volume[::-1].copy()), -phase(volume)[::-1], atol=2e-4)
    np.testing.assert_allclose(absorption(volume[::-1].copy()), absorption(volume)[::-1], atol=2e-4)


@given(volumes, microscopes)
@settings(max_examples=25)
def test_each_plane_keeps_its_light_behind_a_phase_object(volume, scope) -> None:
    np.testing.assert_allclose(parts(scope)[0](volume).mean(axis=(1, 2)), 0, atol=1e-4)
