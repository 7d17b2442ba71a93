"""Geometry of adherent cells: footprints, heights, nuclei and the occupancy of each in a voxel grid.

All lengths are micrometres unless a name ends in ``_px``; z = 0 is the substrate and grows into the medium.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = [
    "Cell",
    "Culture",
    "Grid",
    "gaussian_response",
    "grow_culture",
    "nucleus_occupancy",
    "place_cells",
    "smooth_noise",
]

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Voxel centres of the simulated volume: ``z = z_first_um + k * dz``, ``y = j * dy``, ``x = i * dx``."""

    shape: tuple[int, int, int]
    voxel_um: tuple[float, float, float]
    z_first_um: float

    @property
    def z_um(self) -> NDArray:
        """(Z, 1, 1) heights over the substrate."""
        return (self.z_first_um + np.arange(self.shape[0]) * self.voxel_um[0]).astype(np.float32)[
            :, None, None
        ]

    def window(self, centre: NDArray, radius: float) -> tuple[slice, slice, slice] | None:
        """Box of voxels within `radius` of `centre` (z, y, x), or None when it misses the grid."""
        index = (np.asarray(centre) - (self.z_first_um, 0, 0)) / self.voxel_um
        reach = radius / np.asarray(self.voxel_um)
        low = np.maximum(np.floor(index - reach), 0).astype(int)
        high = np.minimum(np.ceil(index + reach) + 1, self.shape).astype(int)
        if (high <= low).any():
            return None
        return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))  # type: ignore[return-value]

    def offsets(self, box: tuple[slice, slice, slice], centre: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Broadcastable z, y and x distances from `centre` of the voxels in `box`."""
        first = (self.z_first_um, 0.0, 0.0)
        axes = [
            (first[i] + np.arange(box[i].start, box[i].stop) * self.voxel_um[i] - centre[i]).astype(
                np.float32
            )
            for i in range(3)
        ]
        return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]


@dataclass(frozen=True)
class Cell:
    """One cell: where it sits, how far it spreads, and its nucleus."""

    centre: tuple[float, float, float]  # of the nucleus, z y x
    semi_axes: tuple[float, float, float]  # of the nucleus, in its own frame
    rotation: NDArray  # (3, 3), nucleus frame -> z y x
    waves: NDArray  # (n, 5) amplitude, three wave numbers, phase: the nuclear surface is no perfect ellipsoid
    spread: tuple[float, float]  # in-plane radii of the footprint; equal to the ball's radius when rounded
    angle: float
    rounded: bool
    dna: float  # 1 in G1, 2 in G2 and mitosis
    expression: tuple[float, float]  # membrane and mitochondria dye, relative


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], *sigmas_px: tuple[float, ...]
) -> NDArray[np.float32]:
    """Periodic Gaussian random field of unit variance; its correlation lengths contribute equally."""
    spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    response: NDArray = np.zeros((), np.float32)
    for sigma_px in sigmas_px:
        one = gaussian_response(shape, sigma_px)
        response = response + one / np.sqrt(np.mean(one**2))
    field = fft.irfftn(spectrum * response, shape)
    field -= field.mean()
    return field / max(float(field.std()), 1e-12)


def gaussian_response(shape: tuple[int, ...], sigma_px: tuple[float, ...]) -> NDArray[np.float32]:
    """Transfer function of a unit-sum Gaussian blur on the `rfftn` grid."""
    response: NDArray = np.ones((1,) * len(shape), np.float32)
    for axis, (size, sigma) in enumerate(zip(shape, sigma_px, strict=True)):
        last = axis == len(shape) - 1
        frequency = fft.rfftfreq(size) if last else fft.fftfreq(size)
        decay = np.exp(-2 * (np.pi * sigma * frequency) ** 2).astype(np.float32)
        response = response * decay.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return response


def _rotation(rng: np.random.Generator, *, flat: bool) -> NDArray:
    """Rotation about z with a slight tilt, or any rotation for a cell in mitosis."""
    turn, tilt, roll = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.12), rng.normal(0, 0.12)
    if not flat:
        tilt, roll = np.arccos(rng.uniform(-1, 1)), rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    about_z = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_y = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    about_x = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _new_cell(rng: np.random.Generator, y: float, x: float, *, rounded: bool) -> Cell:
    n_waves = 7
    waves = np.column_stack(
        [
            rng.normal(0, 0.024, n_waves),
            rng.normal(0, 2.6, (n_waves, 3)),
            rng.uniform(0, 2 * np.pi, n_waves),
        ]
    )
    expression = (float(np.exp(rng.normal(0, 0.25))), float(np.exp(rng.normal(0, 0.25))))
    if rounded:
        radius = rng.uniform(6.0, 7.5)
        axes = (rng.uniform(1.8, 2.4), rng.uniform(4.2, 5.2), rng.uniform(3.6, 4.6))
        height = radius * rng.uniform(0.85, 1.0)
        return Cell(
            (height, y, x),
            axes,
            _rotation(rng, flat=False),
            waves,
            (radius, radius),
            angle=0.0,
            rounded=True,
            dna=2.0,
            expression=expression,
        )
    dna = float(np.clip(rng.choice([1.0, rng.uniform(1, 2), 2.0], p=[0.55, 0.25, 0.2]), 1, 2))
    size = dna ** (1 / 3) * np.exp(rng.normal(0, 0.09))
    elongation = np.exp(abs(rng.normal(0, 0.18)))
    axes = (
        2.9 * size * np.exp(rng.normal(0, 0.1)),
        6.3 * size / np.sqrt(elongation),
        6.3 * size * np.sqrt(elongation),
    )
    reach, stretch = rng.uniform(13, 20), np.exp(abs(rng.normal(0, 0.4)))
    return Cell(
        (axes[0] + rng.uniform(0.5, 1.1), y, x),
        axes,
        _rotation(rng, flat=True),
        waves,
        (reach / np.sqrt(stretch), reach * np.sqrt(stretch)),
        angle=rng.uniform(0, np.pi),
        rounded=False,
        dna=dna,
        expression=expression,
    )


def place_cells(
    rng: np.random.Generator, area_um: tuple[float, float], n_cells: int, rounded_fraction: float
) -> list[Cell]:
    """Throw cells on the substrate; one that lands on another's nucleus is thrown again, up to 30 times."""
    spacing, cells = 15.0, []
    places = np.empty((0, 2))
    for _ in range(n_cells):
        for _attempt in range(30):
            place = rng.uniform((0, 0), area_um)
            if not len(places) or np.hypot(*(places - place).T).min() > spacing:
                places = np.vstack([places, place])
                cells.append(_new_cell(rng, *place, rounded=bool(rng.random() < rounded_fraction)))
                break
    return cells


def nucleus_occupancy(cell: Cell, grid: Grid) -> tuple[tuple[slice, slice, slice], Volume, Volume] | None:
    """Box, occupancy 0..1 and depth below the nuclear surface (um, negative outside) of one nucleus.

    The surface is an ellipsoid whose radius is modulated by a few plane waves in its own frame.
    """
    mean_radius = float(np.cbrt(np.prod(cell.semi_axes)))
    box = grid.window(np.asarray(cell.centre), 1.35 * max(cell.semi_axes))
    if box is None:
        return None
    z, y, x = grid.offsets(box, np.asarray(cell.centre))
    frame = [
        ((column[0] * z + column[1] * y + column[2] * x) / axis).astype(np.float32)
        for column, axis in zip(cell.rotation.T, cell.semi_axes, strict=True)
    ]
    level = 1.0 - np.sqrt(frame[0] ** 2 + frame[1] ** 2 + frame[2] ** 2)
    for amplitude, k0, k1, k2, phase in cell.waves.astype(np.float32):
        level += amplitude * np.sin(k0 * frame[0] + k1 * frame[1] + k2 * frame[2] + phase)
    depth = level * np.float32(mean_radius)
    return box, np.clip(depth / grid.voxel_um[1] + 0.5, 0, 1).astype(np.float32), depth


@dataclass(frozen=True)
class Culture:
    """Occupancies 0..1 (Z, Y, X) float32, plus what later steps need to place organelles."""

    cells: list[Cell]
    owner: NDArray[np.int32]  # (Y, X): index of the cell over each pixel, -1 where none
    height: NDArray[np.float32]  # (Y, X): top of the adherent cell layer
    body: Volume  # everything inside a plasma membrane
    membrane: Volume  # stain density of the plasma membrane
    nuclei: Volume
    depth: Volume  # um below the nuclear surface, negative outside, -9 far away
    labels: NDArray[np.int32]


def _footprints(
    rng: np.random.Generator, cells: list[Cell], grid: Grid
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Owner, own and second-best relative distance, and the dome over the nuclei, each (Y, X)."""
    (_, n_y, n_x), (_, d_y, d_x) = grid.shape, grid.voxel_um
    coarse, fine = (5.0 / d_y, 5.0 / d_x), (1.1 / d_y, 1.1 / d_x)
    warp = [
        2.6 * smooth_noise(rng, (n_y, n_x), coarse) + 0.5 * smooth_noise(rng, (n_y, n_x), fine)
        for _ in range(2)
    ]
    owner = np.full((n_y, n_x), -1, np.int32)
    best, second = np.full((2, n_y, n_x), 9.0, np.float32)
    dome = np.zeros((n_y, n_x), np.float32)
    for index, cell in enumerate(cells):
        if cell.rounded:
            continue
        box = grid.window(np.asarray((0.0, *cell.centre[1:])), 1.6 * max(cell.spread))
        if box is None:
            continue
        view = box[1:]
        _, y, x = grid.offsets(box, np.asarray(cell.centre))
        nucleus = [
            (rotated[0] * y[0] + rotated[1] * x[0]) / (axis + 2.4)
            for rotated, axis in zip(cell.rotation[1:, 1:].T, cell.semi_axes[1:], strict=True)
        ]
        level = nucleus[0] ** 2 + nucleus[1] ** 2
        top = (cell.centre[0] + cell.semi_axes[0] + 0.7) * np.exp(-(level**1.3))
        y, x = y[0] + warp[0][view], x[0] + warp[1][view]
        cos, sin = np.cos(cell.angle), np.sin(cell.angle)
        distance = np.hypot((cos * y + sin * x) / cell.spread[0], (cos * x - sin * y) / cell.spread[1])
        # neighbours give way to a nucleus: a border does not run through one
        beyond = np.clip(np.sqrt(level) - 0.8, 0, 1)
        distance *= 0.35 + 0.65 * beyond**2 * (3 - 2 * beyond)
        nearer = distance < best[view]
        second[view] = np.where(nearer, best[view], np.minimum(second[view], distance))
        best[view] = np.where(nearer, distance, best[view])
        owner[view] = np.where(nearer & (distance < 1.0), index, owner[view])
        dome[view] = np.maximum(dome[view], np.where(nearer, top, 0.0))
    return owner, best, second, dome


def grow_culture(rng: np.random.Generator, cells: list[Cell], grid: Grid) -> Culture:
    """Spread the cells over the substrate, put up their membranes and fill in their nuclei."""
    owner, best, second, dome = _footprints(rng, cells, grid)
    (_, n_y, n_x), (d_z, d_y, d_x) = grid.shape, grid.voxel_um
    reach = np.array([np.mean(c.spread) for c in cells] + [1.0], np.float32)[owner]
    to_edge = np.maximum(1.0 - best, 0.0) * reach
    to_neighbour = np.maximum(second - best, 0.0) * reach / 2
    ruffles = 1 + 0.15 * smooth_noise(rng, (n_y, n_x), (1.5 / d_y, 1.5 / d_x))
    flank = 0.6 + 3.2 * np.maximum(1 - best**2, 0)
    height = np.maximum(flank * ruffles, dome) * (1 - np.exp(-to_edge / 1.2))
    height *= 1 - 0.45 * np.exp(
        -((to_neighbour / 1.3) ** 2)
    )  # a groove, or domes would end in cliffs at the border
    height = np.where(owner >= 0, np.maximum(height, 0), 0).astype(np.float32)
    height = ndimage.gaussian_filter(height, (0.6 / d_y, 0.6 / d_x))

    z = grid.z_um
    body = np.clip((height - z) / d_z + 0.5, 0, 1) * np.clip(z / d_z + 0.5, 0, 1)
    slope_y, slope_x = np.gradient(height, d_y, d_x)
    tilt = np.sqrt(1 + slope_y**2 + slope_x**2)
    covered = np.minimum(height / 0.3, 1)
    width = 0.22  # um: the membrane is thinner than any voxel, so only its density matters
    top = np.exp(-0.5 * (np.abs(z - height) / (np.maximum(width, d_z / 2) * tilt)) ** 2) * covered
    bottom = 0.6 * np.exp(-0.5 * (z / max(width, d_z / 2)) ** 2) * covered
    wall = body * 1.6 * np.exp(-0.5 * (to_neighbour / (1.3 * width)) ** 2) * (second < 1.15)
    membrane = np.maximum(np.maximum(top, bottom), wall) * np.where(body + top > 0.02, 1, 0)
    membrane *= np.array([c.expression[0] for c in cells] + [0.0], np.float32)[owner]

    nuclei, depth = np.zeros(grid.shape, np.float32), np.full(grid.shape, -9, np.float32)
    labels = np.zeros(grid.shape, np.int32)
    body, membrane = body.astype(np.float32), membrane.astype(np.float32)
    for index, cell in enumerate(cells):
        if cell.rounded:
            _round_up(cell, grid, body, membrane)
        found = nucleus_occupancy(cell, grid)
        if found is None:
            continue
        box, occupancy, below = found
        if not cell.rounded:
            occupancy = occupancy * body[box]
        free = nuclei[box] < 0.5
        labels[box] = np.where((occupancy > 0.5) & free, index + 1, labels[box])
        nuclei[box] = np.maximum(nuclei[box], occupancy)
        depth[box] = np.maximum(depth[box], below)
    return Culture(cells, owner, height, body, membrane, nuclei, depth, labels)


def _round_up(cell: Cell, grid: Grid, body: Volume, membrane: Volume) -> None:
    """Draw the ball of a dividing cell into the occupancy and the membrane, in place."""
    radius = cell.spread[0]
    box = grid.window(np.asarray(cell.centre), 1.2 * radius)
    if box is None:
        return
    z, y, x = grid.offsets(box, np.asarray(cell.centre))
    distance = np.sqrt(z**2 + y**2 + x**2)
    bumps = np.zeros_like(distance)
    for amplitude, k0, k1, k2, phase in cell.waves.astype(np.float32):
        bumps += amplitude * np.sin((k0 * z + k1 * y + k2 * x) / radius + phase)
    inside = radius * (1 + 0.5 * bumps) - distance
    soft = float(np.mean(grid.voxel_um))
    body[box] = np.maximum(body[box], np.clip(inside / soft + 0.5, 0, 1))
    shell = 1.2 * cell.expression[0] * np.exp(-0.5 * (inside / max(0.22, soft / 2)) ** 2)
    membrane[box] = np.maximum(membrane[box], shell)
