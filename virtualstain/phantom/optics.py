"""Image formation: partially coherent bright field and incoherent fluorescence, by Fourier optics.

Bright field is the first Born approximation under Koehler illumination. An illuminating plane wave with
lateral frequency ``s`` and a scattered one with ``s + q`` interfere at the camera; summing over the condenser
gives a linear map from the index contrast ``dn + i kappa`` to the relative intensity change (Streibl, J. Opt.
Soc. Am. A 2, 121, 1985; Noda, Kawata & Minami, Appl. Opt. 29, 3810, 1990)::

    A(q, zeta) = 1/N * integral S(s) P(s + q) / k_z(s + q) * exp(i zeta (k_z(s + q) - k_z(s))) ds
    I / I0 - 1 = 2 Re[ i k0^2 n_m A (*) (dn + i kappa) ],        N = integral S(s) P(s) ds

with condenser ``S``, objective ``P``, ``k_z(s) = sqrt((n_m k0)^2 - s^2)`` and ``zeta`` the distance from the
scatterer to the focal plane along the light. The correlation over ``s`` is a product in space, so one kernel
plane costs two small FFTs. ``A(q, -zeta)`` is the conjugate of ``A(q, zeta)``: the phase kernel is odd in
defocus, and a pure phase object therefore fades at focus.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from image2reg.errors import ConfigurationError

__all__ = [
    "Transfer",
    "WeakObjectTransfer",
    "check_sampling",
    "confocal_sigma_um",
    "weak_object_transfer",
    "widefield_transfer",
]

Volume = NDArray[np.float32]


class Transfer(NamedTuple):
    """A transfer function on the `scipy.fft.rfftn` grid of a padded volume."""

    spectrum: NDArray
    grid: tuple[int, int, int]

    def __call__(self, volume: Volume) -> Volume:
        """Image of `volume` (Z, Y, X), which may be smaller than the grid; same shape, float32."""
        z, y, x = volume.shape
        image = fft.irfftn(fft.rfftn(volume, self.grid) * self.spectrum, self.grid)
        return np.ascontiguousarray(image[:z, :y, :x], dtype=np.float32)


class WeakObjectTransfer(NamedTuple):
    """Transfer functions to ``I / I0 - 1`` of the real (phase) and imaginary (absorption) index contrast."""

    phase: Transfer
    absorption: Transfer


def check_sampling(
    voxel_um: tuple[float, float, float],
    aperture: float,
    condenser: float,
    wavelength_um: float,
    index: float,
) -> None:
    """Refuse an impossible microscope, or a grid too coarse for the cut-off ``(NA_obj + NA_cond) / lambda``.

    Raises
    ------
    ConfigurationError
        An aperture is not below the index, the condenser exceeds the objective, or a lateral voxel exceeds
        half a period of the cut-off, or an axial voxel half a period of the axial cut-off.
    """
    if aperture >= index:
        raise ConfigurationError(
            f"phantom: numerical_aperture={aperture:g} is not below medium_index={index:g}. "
            "Use a smaller aperture, or the index of the immersion the cells are mounted in."
        )
    if condenser > aperture:
        raise ConfigurationError(
            f"phantom: condenser_aperture={condenser:g} exceeds numerical_aperture={aperture:g}, which is "
            f"dark field; allowed is up to {aperture:g}. Close the condenser."
        )
    lateral = wavelength_um / (2 * (aperture + condenser))
    axial = wavelength_um / (2 * (index - np.sqrt(index**2 - aperture**2)))
    limits = {"z": axial, "y": lateral, "x": lateral}
    for (axis, limit), size in zip(limits.items(), voxel_um, strict=True):
        if size > limit * (1 + 1e-9):
            raise ConfigurationError(
                f"phantom: voxel_um {axis} is {size:g}, but NA {aperture:g} + condenser {condenser:g} "
                f"at {wavelength_um:g} um needs {limit:.3g} um or less. Use smaller voxels, then bin."
            )


def _axial_frequency(
    shape: tuple[int, int], pixel_um: tuple[float, float], wavelength_um: float, index: float
) -> tuple[NDArray, NDArray]:
    """Lateral radius and k_z (both in rad/um) on the FFT grid; k_z is 0 where the wave is evanescent."""
    ky = 2 * np.pi * fft.fftfreq(shape[0], pixel_um[0])[:, None]
    kx = 2 * np.pi * fft.fftfreq(shape[1], pixel_um[1])[None, :]
    radius = np.hypot(ky, kx)
    k = 2 * np.pi * index / wavelength_um
    return radius, np.sqrt(np.maximum(k**2 - radius**2, 0.0))


def _pupil(
    radius: NDArray,
    aperture: float,
    wavelength_um: float,
    shape: tuple[int, int],
    pixel_um: tuple[float, float],
) -> NDArray:
    """Disc of radius NA/lambda whose rim falls linearly over one sample, which keeps its area exact."""
    step = 2 * np.pi / np.sqrt(shape[0] * pixel_um[0] * shape[1] * pixel_um[1])
    return np.clip((2 * np.pi * aperture / wavelength_um - radius) / step + 0.5, 0.0, 1.0)


@lru_cache(maxsize=4)
def weak_object_transfer(
    shape: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    *,
    aperture: float,
    condenser: float,
    wavelength_um: float,
    index: float,
) -> WeakObjectTransfer:
    """Three-dimensional weak-object transfer functions for phase and absorption.

    Parameters
    ----------
    shape : (z, y, x)
        Size of the padded grid.
    voxel_um : (z, y, x), micrometres
    aperture, condenser : float
        Numerical apertures of objective and condenser.
    wavelength_um, index : float
        Vacuum wavelength, refractive index of the medium.

    Returns
    -------
    WeakObjectTransfer
        ``phase(n - n_medium) + absorption(kappa)`` is ``I / I0 - 1``. Light travels towards smaller z
        (inverted microscope: lamp above, objective below).
    """
    check_sampling(voxel_um, aperture, condenser, wavelength_um, index)
    n_z, lateral, pixel_um = shape[0], shape[1:], voxel_um[1:]
    radius, k_z = _axial_frequency(lateral, pixel_um, wavelength_um, index)
    objective = _pupil(radius, aperture, wavelength_um, lateral, pixel_um)
    source = _pupil(radius, condenser, wavelength_um, lateral, pixel_um)
    k0 = 2 * np.pi / wavelength_um
    # sum -> integral: ifft2 / pixel area for each kernel, d^2s / (2 pi)^2 for the background intensity
    background = (source * objective).sum() / (lateral[0] * lateral[1] * pixel_um[0] * pixel_um[1])
    scale = -2 * k0**2 * index * voxel_um[0] / (background * pixel_um[0] * pixel_um[1])
    scattered = np.where(objective > 0, objective / np.where(k_z > 0, k_z, 1.0), 0.0)
    retardation = k_z - k0 * index  # the common carrier cancels in the product below

    kernel = np.zeros(shape, np.complex64)
    for plane in range(n_z // 2 + 1):
        wave = np.exp(1j * plane * voxel_um[0] * retardation)
        product = np.conj(fft.ifft2(source * wave)) * fft.ifft2(scattered * wave)
        # the light runs against z: a focal plane below the scatterer (negative lag) is downstream of it
        kernel[(n_z - plane) % n_z] = scale * product
        kernel[plane] = scale * np.conj(product) if plane and 2 * plane != n_z else scale * product.real
    return WeakObjectTransfer(*(Transfer(fft.rfftn(part), shape) for part in (kernel.imag, kernel.real)))


def confocal_sigma_um(
    aperture: float, index: float, excitation_um: float, emission_um: float
) -> tuple[float, float, float]:
    """Gaussian widths (z, y, x) of a confocal point spread function with a closed pinhole.

    Product of the paraxial wide-field Gaussians at the two wavelengths (Zhang, Zerubia & Olivo-Marin,
    Appl. Opt. 46, 1819, 2007: lateral ``sqrt(2) / (k NA)``, axial ``2 sqrt(6) n / (k NA^2)`` with the vacuum
    wave number k).
    """
    k = np.hypot(2 * np.pi / excitation_um, 2 * np.pi / emission_um)
    lateral = float(np.sqrt(2) / (k * aperture))
    return float(2 * np.sqrt(6) * index / (k * aperture**2)), lateral, lateral


@lru_cache(maxsize=6)
def widefield_transfer(
    shape: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    *,
    aperture: float,
    emission_um: float,
    index: float,
) -> Transfer:
    """Incoherent transfer function of a wide-field microscope on the `rfftn` grid, scalar and non-paraxial.

    Each plane of the point spread function carries the same light, so planes far from focus become haze. The
    scale makes a thin layer in focus as bright as under a Gaussian of the paraxial axial width, so wide field
    and confocal share their units.
    """
    n_z, lateral = shape[0], shape[1:]
    fine = (2 * lateral[0], 2 * lateral[1])  # intensity has twice the bandwidth of the amplitude
    pixel_um = (voxel_um[1] / 2, voxel_um[2] / 2)
    radius, k_z = _axial_frequency(fine, pixel_um, emission_um, index)
    pupil = _pupil(radius, aperture, emission_um, fine, pixel_um).astype(np.float32)
    k0 = 2 * np.pi / emission_um
    retardation = np.where(pupil > 0, k_z - k0 * index, 0.0)
    axial_um = 2 * np.sqrt(6) * index / (k0 * aperture**2)
    scale = voxel_um[0] / (np.sqrt(2 * np.pi) * axial_um)
    keep_y, keep_x = lateral[0] // 2, lateral[1] // 2 + 1
    planes = np.zeros((n_z, lateral[0], keep_x), np.complex64)
    for plane in range(n_z // 2 + 1):
        amplitude = fft.ifft2((pupil * np.exp(1j * plane * voxel_um[0] * retardation)).astype(np.complex64))
        spread = fft.rfft2(np.abs(amplitude) ** 2)
        spread *= scale / spread[0, 0].real
        rows = np.concatenate([spread[: lateral[0] - keep_y], spread[fine[0] - keep_y :]])[:, :keep_x]
        planes[plane] = planes[(n_z - plane) % n_z] = rows
    return Transfer(fft.fft(planes, axis=0), shape)
