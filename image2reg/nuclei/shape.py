"""Size and shape of nuclei, in two and three dimensions."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from image2reg.nuclei.hull import convex_hulls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.regions import Regions

__all__ = ["measure_shape"]

Columns = dict[str, "NDArray[np.float64]"]
# Weights of boundary pixels by 1 + 2 * face neighbours + 10 * diagonal ones on the boundary (scikit-image, after
# Benkrid & Crookes, Design and FPGA Implementation of a Perimeter Estimator, 2000).
_STRAIGHT, _DIAGONAL, _CORNER = (5, 7, 15, 17, 25, 27), (21, 33), (13, 23)


def measure_shape(regions: Regions, depth: NDArray[np.float64]) -> Columns:
    """Area, axes, hull, perimeter, Euler number, moments and distance-transform radii.

    Parameters
    ----------
    regions : Regions
    depth : (pixels,) float64
        From `image2reg.nuclei.depth.depth_inside`.

    Returns
    -------
    dict of (n,) float64
        CellProfiler names without ``Nuclei_AreaShape_``; lengths in X pixels, areas in pixels, `Orientation` in
        degrees. Planes: equal to `skimage.measure.regionprops` where it has the measure.
    """
    size = regions.counts.astype(np.float64)
    centre, covariance = _second_moments(regions)
    spread = np.sort(np.linalg.eigvalsh(covariance), axis=1)[:, ::-1].clip(0)
    boxes = np.prod(regions.high - regions.low, axis=0).astype(np.float64)
    voxel = float(np.prod(regions.aspect))
    found: Columns = {"Volume" if regions.ndim == 3 else "Area": size * voxel}
    found["BoundingBoxVolume" if regions.ndim == 3 else "BoundingBoxArea"] = boxes * voxel
    found["Extent"] = size / boxes
    ball = 2 * math.gamma(regions.ndim / 2 + 1) ** (1 / regions.ndim) / math.sqrt(math.pi)
    found["EquivalentDiameter"] = ball * (size * voxel) ** (1 / regions.ndim)
    # the axis of an ellipse (ellipsoid) with this variance along it
    axes = 2 * np.sqrt((regions.ndim + 2) * spread)
    found["MajorAxisLength"], found["MinorAxisLength"] = axes[:, 0], axes[:, -1]
    if regions.ndim == 3:
        found["MiddleAxisLength"] = axes[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        found["Eccentricity"] = np.nan_to_num(np.sqrt(1 - spread[:, -1] / spread[:, 0]))
    found["EulerNumber"] = _euler_numbers(regions)
    found["MaximumRadius"], found["MeanRadius"] = regions.highest(depth), regions.mean(depth)
    found["MedianRadius"] = regions.quantile(regions.sort_within(depth), 0.5)
    if regions.ndim == 3:
        found["SurfaceArea"] = _surface(regions)
        return found
    found["Orientation"] = np.degrees(
        0.5 * np.arctan2(2 * covariance[:, 0, 1], covariance[:, 0, 0] - covariance[:, 1, 1])
    )
    perimeter = _perimeters(regions)
    found["Perimeter"] = perimeter
    outline = np.where(perimeter > 0, perimeter, np.nan)  # of a single pixel it is 0
    found["FormFactor"] = 4 * math.pi * size / outline**2
    found["Compactness"] = perimeter**2 / (4 * math.pi * size)
    hull, found["MaxFeretDiameter"] = convex_hulls(regions)
    found["ConvexArea"], found["Solidity"] = hull.astype(np.float64), size / hull
    return found | _hu_moments(regions, centre)


def _second_moments(regions: Regions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre of mass from the box corner (axes, n), and covariance of the coordinates (n, axes, axes)."""
    coordinates = regions.local * np.array(regions.aspect)[:, None]
    centre = np.stack([regions.mean(axis) for axis in coordinates])
    away = coordinates - centre[:, regions.region]
    covariance = np.empty((regions.n, regions.ndim, regions.ndim))
    for i, j in itertools.combinations_with_replacement(range(regions.ndim), 2):
        covariance[:, i, j] = covariance[:, j, i] = regions.mean(away[i] * away[j])
    return centre, covariance


def _hu_moments(regions: Regions, centre: NDArray[np.float64]) -> Columns:
    """Hu's seven invariants (IRE Transactions on Information Theory 8:179, 1962) of the mask."""
    y, x = regions.local - centre[:, regions.region]
    yy, xx, xy = y * y, x * x, x * y
    size = regions.counts.astype(np.float64)
    n20, n02, n11 = (regions.total(product) / size**2 for product in (yy, xx, xy))
    n30, n03, n21, n12 = (regions.total(p) / size**2.5 for p in (yy * y, xx * x, yy * x, xx * y))
    a, b = n30 + n12, n21 + n03
    c, d = n30 - 3 * n12, 3 * n21 - n03
    hu = (
        n20 + n02,
        (n20 - n02) ** 2 + 4 * n11**2,
        c**2 + d**2,
        a**2 + b**2,
        c * a * (a**2 - 3 * b**2) + d * b * (3 * a**2 - b**2),
        (n20 - n02) * (a**2 - b**2) + 4 * n11 * a * b,
        d * a * (a**2 - 3 * b**2) - c * b * (3 * a**2 - b**2),
    )
    return {f"HuMoment_{i}": value for i, value in enumerate(hu)}


def _perimeters(regions: Regions) -> NDArray[np.float64]:
    edge = regions.edge()
    table = regions.map(edge.astype(np.int32) * (regions.region + 1).astype(np.int32)).reshape(-1)
    chosen, label = regions.index[edge], regions.region[edge] + 1

    def neighbours(steps: list[tuple[int, int]]) -> NDArray[np.int64]:
        return np.sum([table[chosen + regions.offset(step)] == label for step in steps], axis=0)

    code = 1 + 2 * neighbours([(-1, 0), (1, 0), (0, -1), (0, 1)])
    code += 10 * neighbours([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    weights = np.zeros(50)
    weights[list(_STRAIGHT)], weights[list(_DIAGONAL)] = 1, math.sqrt(2)
    weights[list(_CORNER)] = (1 + math.sqrt(2)) / 2
    return np.bincount(label - 1, weights[code], regions.n).astype(np.float64, copy=False)


def _euler_numbers(regions: Regions) -> NDArray[np.float64]:
    """Euler characteristic of the closed voxels: objects touch through corners (8- or 26-connectivity).

    Vertices, edges and faces are counted once each: by the first of the voxels that share them.
    """
    total = np.zeros(len(regions.index))
    for cell in itertools.product((-1, 0, 1), repeat=regions.ndim):
        sharing = itertools.product(*((0, side) if side else (0,) for side in cell))
        owned = np.ones(len(regions.index), bool)
        for step in sharing:
            if step < (0,) * regions.ndim:
                owned &= ~regions.same(step)
        total += (-1) ** cell.count(0) * owned
    return regions.total(total)


def _surface(regions: Regions) -> NDArray[np.float64]:
    """Area of the outer voxel faces, in squared X pixels; half as much again too large for a smooth body."""
    total = np.zeros(regions.n)
    for axis, length in enumerate(regions.aspect):
        face = float(np.prod(regions.aspect)) / length
        for side in (-1, 1):
            total += face * regions.total(~regions.same([side * (axis == other) for other in range(3)]))
    return total
