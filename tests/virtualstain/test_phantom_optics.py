"""What the image formation must do, whatever the specimen: the textbook facts of bright field."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from image2reg.errors import ConfigurationError
from virtualstain.phantom.optics import (
    check_sampling,
    confocal_sigma_um,
    weak_object_transfer,
    widefield_transfer,
)

VOXEL = (0.5, 0.25, 0.25)
GRID = (48, 96, 96)
SCOPE = {"aperture": 0.75, "condenser": 0.4, "wavelength_um": 0.6, "index": 1.337}


def sphere(radius_um: float, centre: tuple[int, int, int] = (12, 48, 48), shape=(24, 96, 96)) -> np.ndarray:
    axes = np.meshgrid(
        *[(np.arange(n) - c) * v for n, c, v in zip(shape, centre, VOXEL, strict=True)], indexing="ij"
    )
    return np.clip((radius_um - np.sqrt(sum(a**2 for a in axes))) / 0.3 + 0.5, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def transfer():
    return weak_object_transfer(GRID, VOXEL, **SCOPE)


def test_contrast_of_a_sphere_inverts_through_focus(transfer) -> None:
    image = transfer.phase(0.02 * sphere(1.5))
    along_axis = image[:, 48, 48]
    # light travels towards smaller z, and a dense sphere is a lens: it focuses behind itself
    assert along_axis[6] > 0.02
    assert along_axis[18] < -0.02
    np.testing.assert_allclose(along_axis[12 - 6 : 12], -along_axis[13:19][::-1], atol=2e-3)


def test_a_thin_phase_object_vanishes_in_focus_and_an_absorber_does_not(transfer) -> None:
    thin = np.zeros((24, 96, 96), np.float32)
    thin[12] = sphere(3.0)[12]
    phase, absorption = transfer.phase(0.02 * thin), transfer.absorption(0.02 * thin)
    assert np.abs(phase[12]).max() < 0.02 * np.abs(phase).max()
    # 2 k0 kappa dz, what an absorbing plate takes from the light; in its middle the disc is one
    assert absorption[12, 48, 48] == pytest.approx(-2 * (2 * np.pi / 0.6) * 0.02 * 0.5, rel=0.05)


def test_a_phase_object_moves_light_and_loses_none(transfer) -> None:
    whole = fft.irfftn(fft.rfftn(0.02 * sphere(2.0), GRID) * transfer.phase.spectrum, GRID)
    np.testing.assert_allclose(whole.mean(axis=(1, 2)), 0, atol=1e-6)
    assert np.abs(whole).max() > 0.05


def test_lateral_support_ends_at_the_sum_of_the_apertures(transfer) -> None:
    frequency = np.hypot(fft.fftfreq(96, 0.25)[:, None], fft.rfftfreq(96, 0.25)[None, :])
    cut_off = (SCOPE["aperture"] + SCOPE["condenser"]) / SCOPE["wavelength_um"]
    step = 1 / (96 * 0.25)
    for part in transfer:
        strength = np.abs(part.spectrum).max(axis=0)
        assert strength[frequency > cut_off + 2 * step].max() < 1e-4 * strength.max()
        # within half of the outermost octave something still passes: the support is not shorter than promised
        assert (
            strength[(frequency > 0.85 * cut_off) & (frequency < 0.9 * cut_off)].max() > 1e-3 * strength.max()
        )


def test_opening_the_condenser_lowers_the_contrast_of_a_defocused_object() -> None:
    wide = weak_object_transfer(GRID, VOXEL, **{**SCOPE, "condenser": 0.4}).phase(0.02 * sphere(1.5))
    narrow = weak_object_transfer(GRID, VOXEL, **{**SCOPE, "condenser": 0.1}).phase(0.02 * sphere(1.5))
    assert np.abs(narrow[2]).max() > 1.5 * np.abs(wide[2]).max()


def test_image_moves_with_the_object(transfer) -> None:
    here = transfer.phase(0.02 * sphere(1.0, (12, 40, 40)))
    there = transfer.phase(0.02 * sphere(1.0, (14, 47, 45)))
    np.testing.assert_allclose(there[4:22, 20:80, 20:80], here[2:20, 13:73, 15:75], atol=1e-5)


def test_widefield_planes_carry_equal_light_and_cut_off_at_twice_the_aperture() -> None:
    otf = widefield_transfer(GRID, VOXEL, aperture=0.75, emission_um=0.8, index=1.337)
    planes = fft.ifft(otf.spectrum, axis=0)
    np.testing.assert_allclose(np.abs(planes[:, 0, 0]), np.abs(planes[0, 0, 0]), rtol=1e-5)
    frequency = np.hypot(fft.fftfreq(96, 0.25)[:, None], fft.rfftfreq(96, 0.25)[None, :])
    beyond = frequency > 2 * 0.75 / 0.8 + 0.1
    assert np.abs(planes[:, beyond]).max() < 1e-5 * np.abs(planes[0, 0, 0])


def test_confocal_is_sharper_with_a_larger_aperture_and_longer_than_wide() -> None:
    low, high = confocal_sigma_um(0.5, 1.33, 0.488, 0.52), confocal_sigma_um(1.0, 1.33, 0.488, 0.52)
    assert high[0] == pytest.approx(low[0] / 4)
    assert high[1] == high[2] == pytest.approx(low[1] / 2)
    assert high[0] > high[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aperture": 1.4}, ["numerical_aperture=1.4", "medium_index=1.337", "Use a smaller aperture"]),
        ({"condenser": 0.8}, ["condenser_aperture=0.8", "numerical_aperture=0.75", "Close the condenser"]),
        ({"voxel_um": (0.5, 0.25, 0.4)}, ["voxel_um x is 0.4", "0.261 um or less", "then bin"]),
        ({"voxel_um": (2.0, 0.25, 0.25)}, ["voxel_um z is 2", "1.3 um or less"]),
    ],
)
def test_impossible_optics_are_refused_with_numbers(change, words) -> None:
    arguments = {"voxel_um": VOXEL, **SCOPE, **change}
    with pytest.raises(ConfigurationError) as caught:
        check_sampling(**arguments)
    assert all(word in str(caught.value) for word in words), str(caught.value)
