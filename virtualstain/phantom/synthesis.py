"""One call from a seed to a brightfield stack, its stains, and the truth behind both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from virtualstain.phantom.cells import Grid, gaussian_response, grow_culture, place_cells, smooth_noise
from virtualstain.phantom.optics import Transfer, confocal_sigma_um, weak_object_transfer, widefield_transfer
from virtualstain.phantom.organelles import Specimen, fill_cells
from virtualstain.phantom.settings import PhantomSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.images import Image

__all__ = ["STAINS", "Phantom", "make_phantom"]

# excitation and emission peaks, micrometres: Hoechst 33342, a green membrane dye, a red mitochondrial dye
STAINS = {"hoechst": (0.405, 0.461), "membrane": (0.488, 0.520), "mitochondria": (0.561, 0.600)}
_CELL_LAYER_UM = (-1.5, 15.5)  # what must be simulated whatever part of it the stack shows
_MARGIN_UM = 8.0  # cut away: neighbours just outside the field blur into it, and the FFT wraps round


@dataclass(frozen=True)
class Phantom:
    """A simulated field. Arrays are (Z, Y, X), z counted from the lowest plane (nearest the objective).

    Attributes
    ----------
    brightfield, hoechst, membrane, mitochondria : uint16, camera counts
        ``round(gain * electrons + offset)`` with Poisson and read noise.
    noise_free : dict of float32
        The same four without noise, in the same counts: the truth, and the ceiling of any score.
    nuclei : int32
        Label 0 is background; label i is the nucleus of DNA content ``dna_content[i - 1]``.
    refractive_index : float32
    dna_content : (n,) float
        1 in G1, 2 in G2 and mitosis, for every cell of the simulated area, also those outside the crop.
    settings, seed
        Remake the same bytes.
    """

    brightfield: NDArray[np.uint16]
    hoechst: NDArray[np.uint16]
    membrane: NDArray[np.uint16]
    mitochondria: NDArray[np.uint16]
    noise_free: dict[str, NDArray[np.float32]]
    nuclei: NDArray[np.int32]
    refractive_index: NDArray[np.float32]
    dna_content: NDArray[np.float64]
    settings: PhantomSettings
    seed: int

    def targets(self, *, noisy: bool = True) -> NDArray:
        """(C, Z, Y, X) float32: Hoechst, membrane, mitochondria."""
        source = {name: getattr(self, name) for name in STAINS} if noisy else self.noise_free
        return np.stack([source[name] for name in STAINS]).astype(np.float32)

    def ceiling(self, name: str) -> float:
        """Pearson r of a noisy channel with its noise-free self: the score of a perfect model."""
        return float(np.corrcoef(getattr(self, name).ravel(), self.noise_free[name].ravel())[0, 1])

    def image(self, *names: str, noisy: bool = True) -> Image:
        """Channels by name as one `image2reg.images.Image` with axes CZYX; all four when no name is given."""
        from image2reg.images import Image

        names = names or ("brightfield", *STAINS)
        arrays = [getattr(self, name) if noisy else self.noise_free[name] for name in names]
        return Image(np.stack(arrays), "CZYX", self.settings.voxel_um, names, source=f"phantom:{self.seed}")


def make_phantom(settings: PhantomSettings | None = None, seed: int = 0) -> Phantom:
    """Grow a small culture, image it in bright field and in three stains, and keep the truth.

    Parameters
    ----------
    settings : PhantomSettings, optional
    seed : int
        Same settings and seed, same bytes. Different parts draw from separate streams, so changing the camera
        does not move the cells.

    Returns
    -------
    Phantom

    Raises
    ------
    ConfigurationError
        The optics are impossible or the voxels too coarse for them.

    Notes
    -----
    What it does not model: multiple scattering (first Born approximation: the contrast of thick and of
    round cells is exaggerated), spherical aberration and the glass itself, polarisation, the lamp's spectrum,
    spectral cross-talk, bleaching, scattering of fluorescence, motion between channels, registration error.
    Shapes are plausible, not fitted to a cell line. A score on phantoms shows that a method works, not how
    well it works on real cells.
    """
    settings = settings or PhantomSettings()
    streams = [np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(seed).spawn(4)]
    placing, growing, filling, recording = streams

    grid, crop = _grid(settings, placing)
    area_um = (grid.shape[1] * grid.voxel_um[1], grid.shape[2] * grid.voxel_um[2])
    area_mm2 = area_um[0] * area_um[1] * 1e-6
    n_cells = int(placing.poisson(settings.cells_per_mm2 * area_mm2)) if settings.cells_per_mm2 else 0
    cells = place_cells(placing, area_um, n_cells, settings.rounded_fraction)
    culture = grow_culture(growing, cells, grid)
    n_debris = int(placing.poisson(settings.debris_per_mm2 * area_mm2))
    specimen = fill_cells(filling, culture, grid, medium=settings.medium_index, n_debris=n_debris)

    electrons = {"brightfield": _brightfield(specimen, grid, settings, recording)[crop]}
    for name, wavelengths in STAINS.items():
        density = _blur(getattr(specimen, name), grid, settings, wavelengths)[crop]
        peak = getattr(settings, f"{name}_electrons")
        electrons[name] = np.maximum(density, 0) * peak + settings.background_electrons
    noise_free = {
        name: (settings.gain * mean + settings.offset).astype(np.float32) for name, mean in electrons.items()
    }
    recorded = {name: _record(recording, mean, settings) for name, mean in electrons.items()}
    return Phantom(
        **recorded,
        noise_free=noise_free,
        nuclei=np.ascontiguousarray(culture.labels[crop]),
        refractive_index=specimen.index_contrast[crop] + np.float32(settings.medium_index),
        dna_content=np.array([cell.dna for cell in cells]),
        settings=settings,
        seed=seed,
    )


def _grid(settings: PhantomSettings, rng: np.random.Generator) -> tuple[Grid, tuple[slice, slice, slice]]:
    """Volume to simulate, which holds whole cells and a margin, and where the returned stack lies in it."""
    (n_z, n_y, n_x), (d_z, d_y, d_x) = settings.shape, settings.voxel_um
    middle = settings.focus_um + rng.uniform(-1, 1) * settings.focus_jitter_um
    first = middle - (n_z - 1) / 2 * d_z
    below = max(int(np.ceil((first - _CELL_LAYER_UM[0]) / d_z)), 0)
    above = max(int(np.ceil((_CELL_LAYER_UM[1] - first) / d_z)) + 1 - n_z, 0)
    margin_y, margin_x = int(np.ceil(_MARGIN_UM / d_y)), int(np.ceil(_MARGIN_UM / d_x))
    size_y = fft.next_fast_len(n_y + 2 * margin_y, real=True)
    size_x = fft.next_fast_len((n_x + 2 * margin_x + 1) // 2, real=True) * 2  # even, for the half spectrum
    grid = Grid((below + n_z + above, size_y, size_x), settings.voxel_um, first - below * d_z)
    return grid, (slice(below, below + n_z), slice(margin_y, margin_y + n_y), slice(margin_x, margin_x + n_x))


def _padded(grid: Grid) -> tuple[int, int, int]:
    """Twice the depth, so that the top of the stack does not blur into its bottom."""
    return (fft.next_fast_len(2 * grid.shape[0], real=True), *grid.shape[1:])


def _brightfield(
    specimen: Specimen, grid: Grid, settings: PhantomSettings, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Photo-electrons expected behind the specimen."""
    transfer = weak_object_transfer(
        _padded(grid),
        grid.voxel_um,
        aperture=settings.numerical_aperture,
        condenser=settings.condenser_aperture,
        wavelength_um=settings.wavelength_um,
        index=settings.medium_index,
    )
    relative = 1 + transfer.phase(specimen.index_contrast) + transfer.absorption(specimen.absorption)
    size = grid.shape[1:]
    lamp = smooth_noise(rng, size, (size[0] / 3, size[1] / 3))
    lamp = 1 + settings.illumination_variation * (lamp - lamp.mean()) / max(
        float(np.abs(lamp - lamp.mean()).max()), 1e-6
    )
    return np.maximum(relative * lamp, 0) * np.float32(settings.brightfield_electrons)


def _blur(
    density: NDArray[np.float32], grid: Grid, settings: PhantomSettings, wavelengths_um: tuple[float, float]
) -> NDArray[np.float32]:
    """Stain density seen through the microscope's fluorescence path."""
    aperture, index = settings.numerical_aperture, settings.medium_index
    if settings.fluorescence == "widefield":
        transfer = widefield_transfer(
            _padded(grid), grid.voxel_um, aperture=aperture, emission_um=wavelengths_um[1], index=index
        )
        return transfer(density)
    sigma_um = confocal_sigma_um(aperture, index, *wavelengths_um)
    sigma_px = tuple(s / v for s, v in zip(sigma_um, grid.voxel_um, strict=True))
    return Transfer(gaussian_response(grid.shape, sigma_px), grid.shape)(density)


def _record(
    rng: np.random.Generator, mean: NDArray[np.float32], settings: PhantomSettings
) -> NDArray[np.uint16]:
    """Camera counts: Poisson electrons, Gaussian read noise, gain, offset, 16 bits."""
    electrons = rng.poisson(mean) + settings.read_noise_electrons * rng.standard_normal(
        mean.shape, dtype=np.float32
    )
    return np.clip(np.rint(settings.gain * electrons + settings.offset), 0, 65535).astype(np.uint16)
