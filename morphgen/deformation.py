"""Seven known deformations of a nucleus: the phenotypes of the planted benchmark.

Each is smooth in its parameter, and all parameters at rest leave the image as it is. Geometry is one backward warp
about the nucleus's own centroid and axes; everything else acts on the warped image. Works on whole batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from image2reg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PARAMETERS", "RANGES", "Nuclei", "deform"]

Floats = NDArray[np.float32]

RANGES: Mapping[str, tuple[float, float]] = {
    "area": (-0.45, 0.45),
    "elongation": (-0.30, 0.40),
    "intensity": (-0.50, 0.55),
    "texture_scale": (-1.20, 1.20),
    "radial_shift": (-0.45, 0.45),
    "spot_count": (0.0, 9.0),
    "fragmentation": (0.0, 0.85),
}
"""Largest effect either way; at rest each parameter is 0.

``area``, ``elongation``, ``intensity``: natural logarithm of the factor on the nucleus's area, on the ratio of its
axes and on its brightness. ``texture_scale``: natural logarithm of the gain of coarse texture (2 to 4 pixels) and of
the loss of fine texture (1 to 2 pixels). ``radial_shift``: brightness moved from centre to rim, as the relative
difference of rim and mean. ``spot_count``: expected number of bright spots. ``fragmentation``: depth of the dark
gaps that cut the nucleus into four pieces, and with it how far they move apart.

The range is that of real perturbations: nuclear area by a factor of 0.64 to 1.57 (S- to G2-arrest and polyploidy,
spread of shrinking and swelling compounds), brightness by 0.6 to 1.7 (DNA content and condensation).
"""

PARAMETERS: tuple[str, ...] = tuple(RANGES)

_MAX_SPOTS, _SPOT_SIGMA_PX, _SPOT_HEIGHT = 18, 1.3, (0.5, 0.9)
_PIECES, _GAP_PX, _DRIFT_PX = 4, 1.6, 3.0
_FINE_PX, _MIDDLE_PX, _COARSE_PX = 1.0, 2.0, 4.0
_BATCH = 512


@dataclass(frozen=True)
class Nuclei:
    """Real nuclei, each alone in the middle of its window.

    Attributes
    ----------
    images : (N, Y, X) float32
        Background 0.
    masks : (N, Y, X) bool
        The nucleus's own outline.
    """

    images: Floats
    masks: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, and empty outlines."""
        if self.images.shape != self.masks.shape or self.images.ndim != 3:
            raise DataError(
                f"nuclei: images {self.images.shape} and masks {self.masks.shape}; both must be (N, Y, X)."
            )
        empty = np.flatnonzero(~self.masks.any(axis=(1, 2)))
        if len(empty):
            raise DataError(f"nuclei: {len(empty)} of {len(self.masks)} masks are empty, first {empty[0]}.")

    @cached_property
    def rims(self) -> Floats:
        """(N, Y, X) float32: 0 in the middle of the nucleus, 1 at and beyond its outline."""
        padded = np.pad(self.masks, ((0, 0), (1, 1), (1, 1)))
        # One transform for the stack: the planes lie too far apart to see each other.
        depth = ndimage.distance_transform_edt(padded, sampling=(1e6, 1, 1))[:, 1:-1, 1:-1]
        return (1 - depth / depth.max(axis=(1, 2), keepdims=True)).astype(np.float32)

    def take(self, rows: NDArray[np.integer] | slice) -> Nuclei:
        """Give the nuclei in `rows`, which may repeat."""
        taken = Nuclei(self.images[rows], self.masks[rows])
        vars(taken)["rims"] = self.rims[rows]
        return taken


def deform(nuclei: Nuclei, parameters: NDArray[np.floating], rng: np.random.Generator) -> Floats:
    """Deform each nucleus by its own parameters.

    Parameters
    ----------
    nuclei : Nuclei
        (N, Y, X); returned unchanged in size.
    parameters : (N, 7) float
        In the order of `PARAMETERS`, in the units of `RANGES`.
    rng : Generator
        Places of spots and of the lines of fragmentation.

    Returns
    -------
    (N, Y, X) float32
        In the units of the input; not clipped.

    Raises
    ------
    DataError
        Another number or order of parameters, or one that is not finite.
    """
    parameters = np.asarray(parameters, np.float32)
    if parameters.shape != (len(nuclei.images), len(PARAMETERS)) or not np.isfinite(parameters).all():
        raise DataError(
            f"deformation: parameters {parameters.shape} for {len(nuclei.images)} nuclei; allowed are finite "
            f"numbers ({len(nuclei.images)}, {len(PARAMETERS)}) in the order {', '.join(PARAMETERS)}."
        )
    made = np.empty(nuclei.images.shape, np.float32)
    for start in range(0, len(made), _BATCH):
        part = slice(start, start + _BATCH)
        made[part] = _deformed(nuclei.take(part), parameters[part].T, rng)
    return made


def _deformed(nuclei: Nuclei, parameters: Floats, rng: np.random.Generator) -> Floats:
    p = dict(zip(PARAMETERS, parameters[:, :, None, None], strict=True))
    y, x, axes = _own_frame(nuclei.masks)
    edges, drift_y, drift_x = _pieces(nuclei.masks, y, x, p["fragmentation"], rng)
    at_y, at_x = _warped_grid(nuclei.images.shape[1:], y, x, axes, p)
    at_y, at_x = at_y - drift_y, at_x - drift_x
    images, rim = _sampled(nuclei.images, at_y, at_x, 0.0), _sampled(nuclei.rims, at_y, at_x, 1.0)

    inside = rim < 1
    images = _textured(images, inside, np.minimum(4 * (1 - rim), 1), p["texture_scale"])
    tilt = 2 * rim**2 - 1
    reshaped = images * (1 + p["radial_shift"] * np.where(inside, tilt, 1))
    images = reshaped * (_total(images) / np.maximum(_total(reshaped), 1e-6))
    images = images * (1 - p["fragmentation"] * edges)
    mean = _total(images * inside) / np.maximum(_total(inside), 1)
    images = images + mean * _spots(inside & (rim > 0.1), p["spot_count"][:, 0, 0], rng)
    return np.maximum(images * np.exp(p["intensity"]), 0)


def _total(images: NDArray) -> NDArray:
    return images.sum(axis=(1, 2), keepdims=True, dtype=np.float32)


def _own_frame(masks: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Centroid (N, 1, 1) each, and angle of the major axis from the x axis (N, 1, 1), from second moments."""
    rows, columns = (np.arange(n, dtype=np.float32) for n in masks.shape[1:])
    grid_y, grid_x = rows[:, None], columns[None]
    weight = masks.astype(np.float32)
    area = _total(weight)
    y, x = _total(weight * grid_y) / area, _total(weight * grid_x) / area
    dy, dx = grid_y - y, grid_x - x
    yy, xx, xy = (_total(weight * product) for product in (dy * dy, dx * dx, dy * dx))
    return y, x, 0.5 * np.arctan2(2 * xy, xx - yy)


def _warped_grid(
    shape: tuple[int, ...], y: Floats, x: Floats, angle: Floats, p: Mapping[str, Floats]
) -> tuple[Floats, Floats]:
    """Where each output pixel comes from: stretched along and across the nucleus's own major axis."""
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - y
    dx = np.arange(shape[1], dtype=np.float32)[None] - x
    cosine, sine = np.cos(angle), np.sin(angle)
    along = (dx * cosine + dy * sine) * np.exp(-0.5 * (p["area"] + p["elongation"]))
    across = (dy * cosine - dx * sine) * np.exp(-0.5 * (p["area"] - p["elongation"]))
    return y + along * sine + across * cosine, x + along * cosine - across * sine


def _sampled(images: Floats, at_y: Floats, at_x: Floats, outside: float) -> Floats:
    """Bilinear values at (N, Y, X) coordinates; `outside` beyond the window."""
    n, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=outside)
    at_y, at_x = np.clip(at_y + 1, 0, height + 0.999), np.clip(at_x + 1, 0, width + 0.999)
    top, left = at_y.astype(np.int32), at_x.astype(np.int32)
    fy, fx = (at_y - top).astype(np.float32), (at_x - left).astype(np.float32)
    flat = padded.ravel()
    first = (
        top * (width + 2)
        + left
        + (np.arange(n, dtype=np.int32) * ((height + 2) * (width + 2)))[:, None, None]
    )
    upper = flat[first] * (1 - fx) + flat[first + 1] * fx
    first += width + 2
    return upper * (1 - fy) + (flat[first] * (1 - fx) + flat[first + 1] * fx) * fy


def _textured(images: Floats, inside: NDArray[np.bool_], share: Floats, scale: Floats) -> Floats:
    """Weigh the coarse band of the texture up and the fine band down, or the other way round; fading to the rim."""
    weight = inside.astype(np.float32)
    fine, middle, coarse = (
        ndimage.gaussian_filter(images * weight, (0, s, s))
        / np.maximum(ndimage.gaussian_filter(weight, (0, s, s)), 1e-3)
        for s in (_FINE_PX, _MIDDLE_PX, _COARSE_PX)
    )
    change = np.expm1(-scale) * (fine - middle) + np.expm1(scale) * (middle - coarse)
    return images + share * change


def _pieces(
    masks: NDArray[np.bool_], y: Floats, x: Floats, strength: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Voronoi pieces of each nucleus: closeness to a border (0 to 1) and the drift of the piece, in pixels."""
    n, height, width = masks.shape
    radius = np.sqrt(masks.sum(axis=(1, 2)) / np.pi).astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi, (n, 1)) + np.arange(_PIECES) * (2 * np.pi / _PIECES)
    turn = (turn + rng.uniform(-0.3, 0.3, (n, _PIECES))).astype(np.float32)[:, :, None, None]
    broken = np.flatnonzero(strength > 0)  # the others keep their shape
    y, x, radius, turn = y[broken], x[broken], radius[broken], turn[broken]
    reach = (0.55 * radius)[:, None, None, None]
    grid_y = np.arange(height, dtype=np.float32)[:, None]
    grid_x = np.arange(width, dtype=np.float32)[None]
    distance = np.hypot(
        grid_y - (y[:, None] + reach * np.sin(turn)), grid_x - (x[:, None] + reach * np.cos(turn))
    )
    own_turn = turn[np.arange(len(broken))[:, None, None], distance.argmin(axis=1), 0, 0]
    distance.partition(1, axis=1)
    edges, drift_y, drift_x = np.zeros((3, n, height, width), np.float32)
    edges[broken] = np.exp(-(((distance[:, 1] - distance[:, 0]) / 2 / _GAP_PX) ** 2))
    drift_y[broken] = _DRIFT_PX * strength[broken] * np.sin(own_turn)
    drift_x[broken] = _DRIFT_PX * strength[broken] * np.cos(own_turn)
    return edges, drift_y, drift_x


def _spots(inside: NDArray[np.bool_], expected: Floats, rng: np.random.Generator) -> Floats:
    """Sum of Gaussian spots at random places of each nucleus, a Poisson number of them, in nuclear means."""
    n, height, width = inside.shape
    count = np.minimum(rng.poisson(expected), _MAX_SPOTS)
    keys = rng.random((n, height * width), np.float32) + inside.reshape(n, -1)
    places = np.argpartition(keys, -_MAX_SPOTS, axis=1)[:, -_MAX_SPOTS:]
    places = rng.permuted(places, axis=1)
    heights = rng.uniform(*_SPOT_HEIGHT, (n, _MAX_SPOTS)) * (np.arange(_MAX_SPOTS) < count[:, None])
    rows = np.arange(height, dtype=np.float32) - (places // width)[:, :, None]
    columns = np.arange(width, dtype=np.float32) - (places % width)[:, :, None]
    along_y = np.exp(-0.5 * (rows / _SPOT_SIGMA_PX) ** 2) * heights[:, :, None].astype(np.float32)
    return np.matmul(along_y.swapaxes(1, 2), np.exp(-0.5 * (columns / _SPOT_SIGMA_PX) ** 2))
