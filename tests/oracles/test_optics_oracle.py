"""Image formation against closed forms, a brute-force Abbe sum and, where installed, the waveorder library.

Tolerances: the Abbe sum shares grid and pupils with the transfer function, so only rounding separates them
(complex64: 1e-4 of the largest contrast). Closed forms know neither the grid nor the anti-aliased pupil rim:
2 % of the peak. waveorder tapers its kernel along z with a Hann window and has a hard pupil rim; with the
taper divided out, |r| > 0.999 and the constant 2 k0^2 n between its units (scattering potential) and ours
(index) within 3 % must remain; the sign is a matter of each side's conventions.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from virtualstain.phantom.optics import (
    _axial_frequency,
    _pupil,
    confocal_sigma_um,
    weak_object_transfer,
    widefield_transfer,
)

VOXEL = (0.5, 0.25, 0.25)
SCOPE = {"aperture": 0.75, "condenser": 0.4, "wavelength_um": 0.6, "index": 1.337}


def abbe_sum(contrast: np.ndarray, absorption: np.ndarray) -> np.ndarray:
    """I / I0 - 1 to first order, one illuminating plane wave after the other (no correlation theorem)."""
    n_z, n_y, n_x = contrast.shape
    radius, k_z = _axial_frequency((n_y, n_x), VOXEL[1:], SCOPE["wavelength_um"], SCOPE["index"])
    objective = _pupil(radius, SCOPE["aperture"], SCOPE["wavelength_um"], (n_y, n_x), VOXEL[1:])
    source = _pupil(radius, SCOPE["condenser"], SCOPE["wavelength_um"], (n_y, n_x), VOXEL[1:])
    k0 = 2 * np.pi / SCOPE["wavelength_um"]
    potential = 2 * k0**2 * SCOPE["index"] * (contrast + 1j * absorption)
    depth = -VOXEL[0] * np.arange(n_z)  # along the light, which runs against z
    y, x = np.meshgrid(np.arange(n_y) * VOXEL[1], np.arange(n_x) * VOXEL[2], indexing="ij")
    k_y, k_x = 2 * np.pi * fft.fftfreq(n_y, VOXEL[1]), 2 * np.pi * fft.fftfreq(n_x, VOXEL[2])
    change, total = np.zeros(contrast.shape), 0.0
    for j, i in zip(*np.nonzero(source), strict=True):
        lateral = np.exp(1j * (k_y[j] * y + k_x[i] * x))
        wave = lateral[None] * np.exp(1j * k_z[j, i] * depth)[:, None, None]
        scattered = fft.fft2(potential * wave, axes=(1, 2)) * VOXEL[0]
        for focus in range(n_z):
            away = (depth[focus] - depth)[:, None, None]
            green = np.where(objective > 0, 1j / (2 * np.where(k_z > 0, k_z, 1)), 0) * np.exp(1j * k_z * away)
            field = fft.ifft2((green * scattered).sum(axis=0) * objective)
            change[focus] += source[j, i] * 2 * np.real(np.conj(wave[focus]) * field)
        total += source[j, i] * objective[j, i]
    return change / total


def test_transfer_function_equals_the_abbe_sum() -> None:
    rng = np.random.default_rng(0)
    shape = (3, 24, 20)
    contrast, absorption = 0.01 * rng.standard_normal((2, *shape))
    padded = weak_object_transfer((6, 24, 20), VOXEL, **SCOPE)
    ours = padded.phase(contrast.astype(np.float32)) + padded.absorption(absorption.astype(np.float32))
    theirs = abbe_sum(contrast, absorption)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_uniform_absorber_follows_beer_and_lambert() -> None:
    kappa, n_z = 1e-3, 10
    transfer = weak_object_transfer((20, 64, 64), VOXEL, **SCOPE)
    slab = np.full((n_z, 64, 64), kappa, np.float32)
    exponent = 2 * (2 * np.pi / 0.6) * kappa * n_z * VOXEL[0]
    # oblique rays take the longer way 1 / cos: with condenser 0.4 in 1.337 that is 2 % on average
    np.testing.assert_allclose(transfer.absorption(slab), -exponent, rtol=0.03)


@pytest.mark.parametrize("defocus_planes", [2, 5, 9])
def test_thin_grating_in_coherent_light_follows_the_contrast_transfer_function(defocus_planes) -> None:
    """Closed condenser: I / I0 - 1 = -+ 2 phi sin(chi) cos(q x), chi = z (k - sqrt(k^2 - q^2))."""
    n, period_px = 128, 16
    transfer = weak_object_transfer(
        (40, n, n), VOXEL, aperture=0.75, condenser=0.012, wavelength_um=0.6, index=1.337
    )
    grating = np.zeros((20, n, n), np.float32)
    wave = np.cos(2 * np.pi * np.arange(n) / period_px)
    grating[10] = 1e-3 * wave[None, :]
    k, q = 2 * np.pi * 1.337 / 0.6, 2 * np.pi / (period_px * VOXEL[2])
    phase = 2 * np.pi / 0.6 * 1e-3 * VOXEL[0] * k / np.sqrt(k**2 - q**2)
    chi = defocus_planes * VOXEL[0] * (k - np.sqrt(k**2 - q**2))
    seen = transfer.phase(grating)[10 - defocus_planes, 0]  # downstream of the grating
    amplitude = 2 * (seen @ wave) / n
    assert amplitude == pytest.approx(2 * phase * np.sin(chi), abs=0.02 * 2 * phase)


def test_widefield_focus_plane_has_the_diffraction_limited_transfer_function() -> None:
    n, aperture, wavelength = 128, 0.75, 0.8
    otf = widefield_transfer((16, n, n), VOXEL, aperture=aperture, emission_um=wavelength, index=1.337)
    focus = np.abs(fft.ifft(otf.spectrum, axis=0)[0, 0])
    rho = np.minimum(fft.rfftfreq(n, VOXEL[2]) * wavelength / (2 * aperture), 1)
    exact = 2 / np.pi * (np.arccos(rho) - rho * np.sqrt(1 - rho**2))
    np.testing.assert_allclose(focus / focus[0], exact, atol=0.02)


def test_confocal_width_is_that_of_the_product_of_two_airy_patterns() -> None:
    """Numerical fit of [2 J1(v) / v]^2 at both wavelengths; Zhang et al. promise a few per cent laterally."""
    from scipy.special import j1

    aperture, excitation, emission = 0.6, 0.488, 0.52
    r = np.linspace(1e-6, 0.7, 4000)
    psf = np.ones_like(r)
    for wavelength in (excitation, emission):
        v = 2 * np.pi * aperture * r / wavelength
        psf *= (2 * j1(v) / v) ** 2
    half_width = r[np.argmin(np.abs(psf - 0.5))]
    sigma = confocal_sigma_um(aperture, 1.337, excitation, emission)[1]
    assert sigma * np.sqrt(2 * np.log(2)) == pytest.approx(half_width, rel=0.05)


def test_waveorder_agrees_in_shape_and_in_scale() -> None:
    model = pytest.importorskip(
        "waveorder.models.phase_thick_3d", reason="waveorder is not installed (pip install -e '.[phantom]')"
    )
    grid = (24, 128, 128)
    theirs_real, theirs_imaginary = model.calculate_transfer_function(
        grid,
        VOXEL[1],
        VOXEL[0],
        SCOPE["wavelength_um"],
        0,
        SCOPE["index"],
        numerical_aperture_illumination=SCOPE["condenser"],
        numerical_aperture_detection=SCOPE["aperture"],
    )
    ours = weak_object_transfer(grid, VOXEL, **SCOPE)
    taper = fft.ifftshift(np.hanning(grid[0]))
    keep = taper > 0.1
    for mine, other in zip(ours, (theirs_real, theirs_imaginary), strict=True):
        own = fft.fft2(fft.irfftn(mine.spectrum, grid), axes=(1, 2))[keep]
        reference = fft.ifft(other.numpy(), axis=0)[keep] / taper[keep][:, None, None]
        power = np.vdot(reference, reference).real
        correlation = np.vdot(reference, own) / np.sqrt(power * np.vdot(own, own).real)
        scale = np.vdot(reference, own) / power
        assert abs(correlation) > 0.999
        assert abs(scale) == pytest.approx(2 * (2 * np.pi / 0.6) ** 2 * SCOPE["index"], rel=0.03)
