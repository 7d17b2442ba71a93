"""What fills the cells: mitochondria, droplets, granules, chromatin, nucleoli; their index and stains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from virtualstain.phantom.cells import Culture, Grid, smooth_noise

__all__ = ["Specimen", "fill_cells"]

Volume = NDArray[np.float32]

# Refractive indices of living cells near 600 nm. Nuclei lie *below* the cytoplasm: Schuermann et al.,
# J. Biophotonics 9, 1068, 2016. Organelles: ranges collected by Liu et al., Lab Chip 16, 634, 2016.
CYTOPLASM, NUCLEUS, NUCLEOLUS, MITOCHONDRION, MEMBRANE = 1.362, 1.357, 1.378, 1.388, 1.372
DROPLET, DEBRIS = (1.41, 1.46), (1.36, 1.45)


@dataclass(frozen=True)
class Specimen:
    """The object itself, each (Z, Y, X) float32: index contrast, absorption (kappa), stain densities."""

    index_contrast: Volume
    absorption: Volume
    hoechst: Volume
    membrane: Volume
    mitochondria: Volume


def _sigma(um: float, grid: Grid) -> tuple[float, float, float]:
    return um / grid.voxel_um[0], um / grid.voxel_um[1], um / grid.voxel_um[2]


def _splat(points: NDArray, weights: NDArray, grid: Grid) -> Volume:
    """Add points (n, 3) in micrometres to the grid with trilinear weights; points outside are dropped."""
    index = (points - (grid.z_first_um, 0, 0)) / grid.voxel_um
    inside = ((index >= 0) & (index < np.asarray(grid.shape) - 1)).all(axis=1)
    index, weights = index[inside], weights[inside]
    low = np.floor(index).astype(np.int64)
    part = index - low
    total = np.zeros(int(np.prod(grid.shape)))
    for corner in np.ndindex(2, 2, 2):
        share = np.prod(np.where(corner, part, 1 - part), axis=1) * weights
        flat = np.ravel_multi_index(tuple((low + corner).T), grid.shape)
        total += np.bincount(flat, share, minlength=total.size)
    return total.reshape(grid.shape).astype(np.float32)


def _look_up(volume: NDArray, points: NDArray, grid: Grid) -> NDArray:
    """Nearest voxel's value at points (n, 3) in micrometres, clamped to the grid."""
    index = np.rint((points - (grid.z_first_um, 0, 0)) / grid.voxel_um).astype(np.int64)
    index = np.clip(index, 0, np.asarray(grid.shape) - 1)
    return volume[tuple(index.T)] if volume.ndim == 3 else volume[tuple(index[:, 1:].T)]


def _scatter(
    rng: np.random.Generator, culture: Culture, grid: Grid, per_cell: tuple[int, int], spread: float
) -> tuple[NDArray, NDArray]:
    """Points in the cytoplasm, denser near the nucleus: (n, 3) positions and the cell index of each."""
    owners = np.repeat(np.arange(len(culture.cells)), rng.integers(*per_cell, len(culture.cells)))
    if not len(owners):
        return np.empty((0, 3)), owners
    centres = np.array([c.centre for c in culture.cells])[owners]
    reach = np.array([min(c.spread) if not c.rounded else 0.55 * c.spread[0] for c in culture.cells])[owners]
    polar = rng.uniform(0, 2 * np.pi, len(owners))
    radius = np.abs(rng.normal(0.45, spread, len(owners))) * reach
    points = centres + np.column_stack(
        [np.zeros_like(radius), radius * np.sin(polar), radius * np.cos(polar)]
    )
    rounded = np.array([c.rounded for c in culture.cells])[owners]
    points[:, 0] = np.where(
        rounded,
        centres[:, 0] + rng.normal(0, 0.45, len(owners)) * reach,
        rng.uniform(0.12, 0.85, len(owners)) * _look_up(culture.height, points, grid),
    )
    inside = (_look_up(culture.body, points, grid) > 0.6) & (_look_up(culture.depth, points, grid) < -0.3)
    return points[inside], owners[inside]


def _spheres(
    grid: Grid, centres: NDArray, radii: NDArray, values: NDArray, into: Volume, soft_um: float
) -> None:
    """Blend spheres into a volume in place: inside, the volume takes the sphere's value."""
    for centre, radius, value in zip(centres, radii, values, strict=True):
        box = grid.window(centre, radius + soft_um)
        if box is None:
            continue
        z, y, x = grid.offsets(box, centre)
        share = np.clip((radius - np.sqrt(z**2 + y**2 + x**2)) / soft_um + 0.5, 0, 1)
        into[box] += share * (value - into[box])


def _mitochondria(rng: np.random.Generator, culture: Culture, grid: Grid) -> Volume:
    """Occupancy of a curvilinear network: persistent random walks that radiate from the nucleus."""
    seeds, owners = _scatter(rng, culture, grid, (150, 260), 0.3)
    if not len(seeds):
        return np.zeros(grid.shape, np.float32)
    step_um, n_steps = 0.18, 60
    centres = np.array([c.centre for c in culture.cells])[owners]
    outward = seeds - centres
    heading = np.arctan2(outward[:, 1], outward[:, 2]) + rng.normal(0, 0.9, len(seeds))
    bend = np.cumsum(rng.normal(0, 0.16, (len(seeds), n_steps)), axis=1) + rng.normal(
        0, 0.03, (len(seeds), 1)
    ) * (np.arange(n_steps))
    angle = heading[:, None] + bend
    climb = np.cumsum(rng.normal(0, 0.02, (len(seeds), n_steps)), axis=1)
    path = np.stack([climb, np.sin(angle), np.cos(angle)], axis=-1) * step_um
    points = seeds[:, None, :] + np.cumsum(path, axis=1)
    alive = np.arange(n_steps) < rng.integers(10, n_steps + 1, len(seeds))[:, None]
    points, owner_of = points[alive], np.repeat(owners, alive.sum(axis=1))
    rounded = np.array([c.rounded for c in culture.cells])[owner_of]
    ceiling = _look_up(culture.height, points, grid)
    points[:, 0] = np.where(
        rounded, points[:, 0], np.clip(points[:, 0], 0.3, np.maximum(0.85 * ceiling, 0.3))
    )
    inside = (_look_up(culture.body, points, grid) > 0.5) & (_look_up(culture.depth, points, grid) < -0.2)
    lines = _splat(points[inside], np.full(int(inside.sum()), step_um), grid)
    tube_um = 0.2
    density = ndimage.gaussian_filter(
        lines / np.float32(np.prod(grid.voxel_um)), _sigma(tube_um, grid), truncate=3.0
    )
    # a straight line has density 1 / (2 pi sigma^2) on its axis; crossing tubes saturate instead of adding up
    return 1 - np.exp(-1.5 * density * (2 * np.pi * tube_um**2))


def _nucleoli(rng: np.random.Generator, culture: Culture, grid: Grid) -> Volume:
    """Occupancy of one to four dense bodies per interphase nucleus."""
    volume = np.zeros(grid.shape, np.float32)
    for cell in culture.cells:
        if cell.rounded:
            continue
        n = int(rng.integers(1, 5))
        within = rng.normal(0, 0.32, (n, 3)) * np.asarray(cell.semi_axes)
        radii = rng.uniform(0.7, 1.5, n)
        _spheres(grid, np.asarray(cell.centre) + within @ cell.rotation.T, radii, np.ones(n), volume, 0.5)
    return volume * (culture.depth > 0.25)


def fill_cells(
    rng: np.random.Generator, culture: Culture, grid: Grid, *, medium: float, n_debris: int
) -> Specimen:
    """Give every voxel of a culture its refractive index, absorption and stain densities.

    Parameters
    ----------
    culture : Culture
    medium : float
        Index of the medium; the index contrast returned is relative to it.
    n_debris : int
        Absorbing specks scattered over the whole area, on the cells as well as between them.
    """
    nuclei, body = culture.nuclei, culture.body
    mitochondria = _mitochondria(rng, culture, grid)
    nucleoli = _nucleoli(rng, culture, grid)
    chromatin = smooth_noise(rng, grid.shape, _sigma(0.3, grid), _sigma(0.9, grid))
    texture = smooth_noise(rng, grid.shape, _sigma(0.45, grid))

    offset = np.array([rng.normal(0, 0.0015) for _ in culture.cells] + [0.0], np.float32)
    per_nucleus = np.concatenate([[0.0], offset[:-1] * 0.7]).astype(np.float32)[culture.labels]
    granularity = np.minimum(culture.height / 3.0, 1.2)
    index = CYTOPLASM + offset[culture.owner] + 0.0022 * texture * granularity
    index += (MITOCHONDRION - index) * mitochondria
    index += (MEMBRANE - index) * np.minimum(culture.membrane, 1) * 0.5
    points, _ = _scatter(rng, culture, grid, (60, 140), 0.35)
    _spheres(
        grid, points, rng.uniform(0.15, 0.4, len(points)), rng.uniform(1.375, 1.40, len(points)), index, 0.3
    )
    points, owners = _scatter(rng, culture, grid, (2, 26), 0.3)
    fatness = rng.uniform(0.3, 1.0, len(culture.cells))[owners]
    radii = 0.2 + 0.7 * fatness * rng.random(len(points))
    _spheres(grid, points, radii, rng.uniform(*DROPLET, len(points)), index, 0.3)

    rounded = np.array([False] + [c.rounded for c in culture.cells])[culture.labels]
    inside = NUCLEUS + per_nucleus + 0.0016 * chromatin + np.float32(0.02) * rounded
    inside += (NUCLEOLUS - inside) * nucleoli
    envelope = np.exp(-0.5 * ((culture.depth - 0.05) / 0.2) ** 2) * (body > 0.5)
    index += (inside - index) * nuclei + 0.004 * envelope
    contrast = ((index - medium) * np.maximum(body, nuclei)).astype(np.float32)

    absorption = np.zeros(grid.shape, np.float32)
    _, n_y, n_x = grid.shape
    specks = rng.uniform((0, 0, 0), (12.0, n_y * grid.voxel_um[1], n_x * grid.voxel_um[2]), (n_debris, 3))
    sizes = 0.2 + 0.5 * rng.random(n_debris) ** 2
    _spheres(grid, specks, sizes, rng.uniform(*DEBRIS, n_debris) - medium, contrast, 0.3)
    _spheres(grid, specks, sizes, rng.uniform(0.0, 0.02, n_debris), absorption, 0.3)

    return Specimen(
        contrast,
        absorption,
        _hoechst(rng, culture, grid, chromatin, nucleoli),
        culture.membrane * (1 + 0.2 * np.clip(texture, -2, 2)),
        _by_cell(culture, 1)
        * mitochondria
        * np.exp(0.25 * smooth_noise(rng, grid.shape[1:], _sigma(2.0, grid)[1:])),
    )


def _by_cell(culture: Culture, dye: int) -> NDArray[np.float32]:
    """(Y, X) expression of a dye by the cell over each pixel; 1 where only a rounded cell is."""
    return np.array([c.expression[dye] for c in culture.cells] + [1.0], np.float32)[culture.owner]


def _hoechst(
    rng: np.random.Generator, culture: Culture, grid: Grid, chromatin: Volume, nucleoli: Volume
) -> Volume:
    """Bound Hoechst: total per nucleus proportional to its DNA, patterned by chromatin, low in nucleoli."""
    density = culture.nuclei * np.maximum(1 + 0.28 * chromatin, 0.05) * (1 - 0.75 * nucleoli)
    own, n_labels = culture.labels[culture.labels > 0], len(culture.cells) + 1
    voxel_um3 = np.prod(grid.voxel_um)
    totals = np.bincount(own, density[culture.labels > 0], minlength=n_labels)[1:] * voxel_um3
    # whole nuclei only: the total must come from the shape, not from what the grid's edge left of it
    volume = np.array([4 / 3 * np.pi * np.prod(c.semi_axes) for c in culture.cells])
    kept = np.minimum(np.bincount(own, minlength=n_labels)[1:] * voxel_um3 / np.maximum(volume, 1e-9), 1.0)
    dna = np.array([c.dna for c in culture.cells]) * np.exp(rng.normal(0, 0.06, len(culture.cells)))
    reference_um3 = 480.0  # a G1 nucleus of this volume has stain density 1
    factor = np.concatenate([[1.0], dna * kept * reference_um3 / np.maximum(totals, 1e-9)])
    return density * factor.astype(np.float32)[culture.labels]
