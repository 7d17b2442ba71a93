"""Pictures of the report: the same cut, the same stated contrast for predicted and real, and a signed error.

Everything is numpy and Pillow: no plotting state, and PNG bytes that do not depend on fonts.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "ERROR_COLOURS",
    "Cut",
    "FieldPanel",
    "Limits",
    "Picture",
    "busiest_window",
    "contrast_limits",
    "draw_error",
    "draw_grey",
    "one_cut",
    "scale_bar",
]

# Blue, white, red of equal lightness steps: readable with red-green blindness, and white is no error.
ERROR_COLOURS = ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43))
_NO_DATA_GREY = 128


@dataclass(frozen=True)
class FieldPanel:
    """One field of view, as the report shows it.

    Attributes
    ----------
    name : str
    input : (Y, X) or (Z, Y, X) array, or None
        What the model saw, where that is known. A stack over flat stains is shown by its middle plane.
    predicted : mapping of channel name to (Y, X) or (Z, Y, X) array
    real : mapping of channel name to array of the same shape
        May lack channels, or be empty: then nothing is compared.
    voxel_um : (z, y, x) micrometres or None
        For the scale bar and the proportions of the side view.
    input_name, units : str
        E.g. "brightfield", and the unit of the stains ("counts").
    score : float or None
        What fields are ranked by; `score_name` says what it is.
    """

    name: str
    input: NDArray | None
    predicted: Mapping[str, NDArray]
    real: Mapping[str, NDArray] = field(default_factory=dict)
    voxel_um: tuple[float | None, float | None, float | None] | None = None
    input_name: str = "input"
    units: str = ""
    score: float | None = None
    score_name: str = "Pearson r"

    def __post_init__(self) -> None:
        """Refuse arrays that cannot be shown side by side."""
        for channel, image in self.predicted.items():
            if image.ndim not in {2, 3} or 0 in image.shape:
                raise DataError(
                    f"report: field {self.name!r}, predicted {channel!r} has shape {image.shape}; "
                    "allowed are non-empty (Y, X) and (Z, Y, X). Pass one channel and one time point."
                )
            real = self.real.get(channel)
            if real is not None and real.shape != image.shape:
                raise DataError(
                    f"report: field {self.name!r}, channel {channel!r}: predicted is {image.shape}, real is "
                    f"{real.shape}. Crop or resample them to one shape before the report."
                )
        if not self.predicted:
            raise DataError(f"report: field {self.name!r} has no predicted channel. Pass at least one.")
        plane = next(iter(self.predicted.values())).shape[-2:]
        if self.input is not None and (self.input.ndim not in {2, 3} or self.input.shape[-2:] != plane):
            raise DataError(
                f"report: field {self.name!r}: input is {self.input.shape}, the stains {plane} in (Y, X). "
                "Pass (Y, X) or (Z, Y, X) of the same width and height."
            )

    @property
    def pixel_um(self) -> tuple[float, float, float] | None:
        """Voxel size where y and x are known; an unknown z counts as x."""
        if self.voxel_um is None:
            return None
        z, y, x = self.voxel_um
        return None if y is None or x is None else (z or x, y, x)


@dataclass(frozen=True)
class Cut:
    """Which plane and which side view are shown; the same for input, predicted, real and error."""

    plane: int | None
    n_planes: int
    row: int | None


@dataclass(frozen=True)
class Limits:
    """Contrast limits, and the words that state where they come from."""

    low: float
    high: float
    origin: str


@dataclass(frozen=True)
class Picture:
    """PNG bytes of a plane, and of the side view below it where there is one."""

    plane: bytes
    side: bytes | None
    size_px: tuple[int, int]


def one_cut(image: NDArray) -> Cut:
    """Plane with the largest spread of intensity, and its row with the largest spread for the side view."""
    if image.ndim == 2 or image.shape[0] == 1:
        return Cut(None, 1, None)
    finite = np.nan_to_num(np.asarray(image, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    plane = int(np.argmax(finite.std(axis=(1, 2))))
    row = int(np.argmax(np.convolve(finite[plane].std(axis=1), np.ones(5) / 5, mode="same")))
    return Cut(plane, image.shape[0], min(row, image.shape[1] - 1))


def busiest_window(image: NDArray, cut: Cut, side: int) -> tuple[slice, slice]:
    """Square of `side` pixels of largest intensity spread in the shown plane, in steps of half its side."""
    plane = np.nan_to_num(_views(image, cut)[0], nan=0.0, posinf=0.0, neginf=0.0)
    corners = [
        (y, x)
        for y in range(0, max(plane.shape[0] - side, 0) + 1, max(side // 2, 1))
        for x in range(0, max(plane.shape[1] - side, 0) + 1, max(side // 2, 1))
    ]
    y, x = max(corners, key=lambda at: float(plane[at[0] : at[0] + side, at[1] : at[1] + side].std()))
    return slice(y, min(y + side, plane.shape[0])), slice(x, min(x + side, plane.shape[1]))


def _views(image: NDArray, cut: Cut) -> tuple[NDArray, NDArray | None]:
    """Plane and XZ side view (highest z on top) of an array by a cut."""
    if image.ndim == 2:
        return np.asarray(image, np.float32), None
    plane = cut.plane if cut.plane is not None and image.shape[0] == cut.n_planes else image.shape[0] // 2
    side = image[::-1, cut.row] if cut.row is not None and image.shape[0] == cut.n_planes else None
    return np.asarray(image[plane], np.float32), None if side is None else np.asarray(side, np.float32)


def contrast_limits(image: NDArray, cut: Cut, *, percentiles: tuple[float, float], of: str) -> Limits:
    """Limits by percentiles of the shown plane; a constant plane gets limits one apart, and says so."""
    values = _views(image, cut)[0]
    values = values[np.isfinite(values)]
    if not values.size:
        return Limits(0.0, 1.0, f"no finite value in {of}")
    low, high = (float(v) for v in np.percentile(values, percentiles))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return Limits(low, low + 1.0, f"{of} is constant")
    return Limits(low, high, f"{percentiles[0]:g}\N{EN DASH}{percentiles[1]:g} % of {of}")


def _shrink(image: NDArray, max_side: int) -> NDArray:
    """Mean over blocks so that no side exceeds `max_side`; a partial block at the rim counts as it is."""
    step = math.ceil(max(image.shape) / max_side)
    if step <= 1:
        return image
    starts = [np.arange(0, n, step) for n in image.shape]
    total = np.add.reduceat(np.add.reduceat(image, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff(np.append(s, n)) for s, n in zip(starts, image.shape, strict=True)]
    return total / np.outer(*sizes)


def _png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> bytes:
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        picture.putpalette(palette.tobytes())  # turns the 8-bit picture into an indexed one
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw(
    image: NDArray,
    cut: Cut,
    limits: tuple[float, float],
    max_side: int,
    z_stretch: float,
    palette: NDArray | None,
) -> Picture:
    def pixels(view: NDArray) -> NDArray[np.uint8]:
        scaled = (view.astype(np.float64) - limits[0]) / (limits[1] - limits[0])
        grey = np.rint(255 * np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1))
        return np.where(np.isnan(view), _NO_DATA_GREY, grey).astype(np.uint8)

    plane, side = _views(image, cut)
    small = _shrink(plane, max_side)
    side_png = None
    if side is not None:
        ratio = small.shape[1] / side.shape[1]
        rows = max(1, round(side.shape[0] * z_stretch * ratio))
        columns = _shrink_columns(side, small.shape[1])
        nearest = np.minimum((np.arange(rows) + 0.5) * side.shape[0] / rows, side.shape[0] - 1).astype(int)
        side_png = _png(pixels(columns[nearest]), palette)
    return Picture(_png(pixels(small), palette), side_png, (small.shape[0], small.shape[1]))


def _shrink_columns(side: NDArray, n_columns: int) -> NDArray:
    """Mean over blocks along x only."""
    starts = np.linspace(0, side.shape[1], n_columns, endpoint=False).astype(int)
    return np.add.reduceat(side, starts, axis=1) / np.diff(np.append(starts, side.shape[1]))


def draw_grey(image: NDArray, cut: Cut, limits: Limits, *, max_side: int, z_stretch: float) -> Picture:
    """Plane and side view in grey between stated limits; NaN is mid-grey.

    Parameters
    ----------
    image : (Y, X) or (Z, Y, X)
    cut : Cut
        A stack of another depth than the cut's is shown by its middle plane.
    limits : Limits
    max_side : int
        Longer sides are reduced by averaging blocks.
    z_stretch : float
        Height of one plane in units of a pixel's width, for true proportions.
    """
    return _draw(image, cut, (limits.low, limits.high), max_side, z_stretch, None)


def draw_error(
    predicted: NDArray, real: NDArray, cut: Cut, full: float, *, max_side: int, z_stretch: float
) -> tuple[Picture, float, float]:
    """Predicted minus real, blue to red, full colour at ``+- full``.

    Returns
    -------
    Picture, float, float
        The picture, the mean error of the shown plane, and the share of its pixels beyond the colours.
    """
    error = np.asarray(predicted, np.float32) - np.asarray(real, np.float32)
    shown = _views(error, cut)[0]
    shown = shown[np.isfinite(shown)]
    bias = float(shown.mean()) if shown.size else math.nan
    beyond = float((np.abs(shown) > full).mean()) if shown.size else math.nan
    stops = np.linspace(0, 255, len(ERROR_COLOURS))
    palette = np.stack(
        [np.interp(np.arange(256), stops, channel) for channel in zip(*ERROR_COLOURS, strict=True)], 1
    )
    picture = _draw(error, cut, (-full, full), max_side, z_stretch, np.rint(palette).astype(np.uint8))
    return picture, bias, beyond


def scale_bar(width_px: int, pixel_um: float) -> tuple[float, str]:
    """Length as a share of the width, and its label: 1, 2 or 5 times a power of ten nearest below a quarter.

    >>> scale_bar(512, 0.25)
    (0.15625, '20 µm')
    """
    width_um = width_px * pixel_um
    power = 10.0 ** math.floor(math.log10(width_um / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= width_um / 4 * (1 + 1e-9))
    label = f"{length:g} µm" if length < 1000 else f"{length / 1000:g} mm"
    return length / width_um, label
