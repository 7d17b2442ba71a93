"""Features of nucleus crops: crops laid side by side as one field and measured by `image2reg.nuclei`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["central_masks", "channels_of", "checked_crops", "crop_features", "nucleus_masks"]

_BATCH, _PER_ROW = 1024, 32
# The plateau of the nucleus is the median of its brightest pixels, and its outline lies where the brightness above
# the background falls to this share of it.
_PLATEAU_PX, _EDGE = 150, 0.35
# Fewer pixels are no nucleus.
_LEAST_PX = 12


def checked_crops(
    crops: NDArray[np.floating] | Sequence[NDArray[np.floating]], *, what: str
) -> NDArray[np.float32]:
    """Crops as one (N, C, Y, X) float32 array.

    Raises
    ------
    DataError
        None at all, mixed sizes or channel counts (each named with how many have it), other axes, or values that
        are not finite.
    """
    if not isinstance(crops, np.ndarray):
        crops = list(crops)
        shapes, counts = np.unique([str(np.shape(crop)) for crop in crops], return_counts=True)
        if len(shapes) > 1:
            seen = ", ".join(f"{shape} ({n} crops)" for shape, n in zip(shapes, counts, strict=True))
            raise DataError(
                f"{what}: crops of mixed size or channel count: {seen}. Allowed is one (C, Y, X) for all; cut or pad "
                "them to one size, and leave out or add the channels that only some have."
            )
        crops = np.stack(crops) if crops else np.zeros((0, 1, 1, 1), np.float32)
    if crops.ndim != 4 or 0 in crops.shape:
        raise DataError(
            f"{what}: array of shape {crops.shape}; allowed is (N, C, Y, X) with at least one of each."
        )
    crops = crops.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(crops).all(axis=(1, 2, 3)))
    if len(bad):
        raise DataError(
            f"{what}: {len(bad)} of {len(crops)} crops hold NaN or infinity, first crop {bad[0]}."
        )
    return crops


def nucleus_masks(images: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Outline the nucleus of each crop by a share of its own brightness, all pieces of it.

    Parameters
    ----------
    images : (N, Y, X) float
        The stain of the nucleus; one nucleus per crop, brighter than the background.

    Returns
    -------
    (N, Y, X) bool
        Empty where nothing stands out.
    """
    flat = images.reshape(len(images), -1)
    n_plateau = min(_PLATEAU_PX, flat.shape[1] // 4)
    top = np.partition(flat, -n_plateau, axis=1)[:, -n_plateau:]
    background = np.percentile(flat, 5, axis=1)
    plateau = np.median(top, axis=1) - background
    masks = images > (background + _EDGE * plateau)[:, None, None]
    enough = (masks.sum(axis=(1, 2)) >= _LEAST_PX) & (plateau > 0)
    return masks & enough[:, None, None]


def central_masks(images: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Outline only the piece nearest the middle of each crop, for crops that show neighbours too.

    Parameters and result as in `nucleus_masks`.
    """
    from scipy import ndimage

    masks = nucleus_masks(images)
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, n_pieces = ndimage.label(masks, in_plane)
    if not n_pieces:
        return masks
    y, x = (np.arange(size) - (size - 1) / 2 for size in masks.shape[1:])
    distance = np.broadcast_to(np.hypot(y[:, None], x[None]), masks.shape)
    pieces = np.arange(1, n_pieces + 1)
    nearest = ndimage.minimum(distance, labels, pieces)
    large = ndimage.sum_labels(masks, labels, pieces) >= _LEAST_PX
    crop = ndimage.maximum(np.broadcast_to(np.arange(len(masks))[:, None, None], masks.shape), labels, pieces)
    order = np.lexsort((nearest, ~large, crop))
    first = order[np.unique(crop[order], return_index=True)[1]]
    kept = np.zeros(n_pieces + 1, bool)
    kept[pieces[first][large[first]]] = True
    return kept[labels]


def crop_features(
    crops: NDArray[np.floating],
    *,
    masks: NDArray[np.bool_] | None = None,
    channels: Sequence[str] = ("DNA",),
    nucleus_channel: int = 0,
) -> pd.DataFrame:
    """Measure every crop's nucleus.

    Parameters
    ----------
    crops : (N, C, Y, X) float
        Any linear units, the same for all crops that are compared; 0 is the background.
    masks : (N, Y, X) bool, optional
        Outlines; by default `nucleus_masks` of the nucleus channel.
    channels : sequence of str
        Names of the C channels.
    nucleus_channel : int
        The one the outline is taken from.

    Returns
    -------
    DataFrame, N rows
        ``Nuclei_*`` features of `image2reg.nuclei.features`, those of texture averaged over the four directions, the
        orientation left out; a row of NaN where no nucleus was found.

    Raises
    ------
    DataError
        As `checked_crops`; names and channels, or masks and crops, do not fit.
    """
    crops = checked_crops(crops, what="crops")
    n, n_channels, height, width = crops.shape
    if n_channels != len(channels):
        raise DataError(
            f"crops: {n_channels} channels and {len(channels)} names {list(channels)}; give one each."
        )
    if masks is None:
        masks = nucleus_masks(crops[:, nucleus_channel])
    if masks.shape != (n, height, width):
        raise DataError(
            f"crops: masks {masks.shape} for crops {crops.shape}; allowed is {(n, height, width)}."
        )
    parts = [
        _measured(crops[start : start + _BATCH], masks[start : start + _BATCH], channels)
        for start in range(0, n, _BATCH)
    ]
    return pd.concat(parts, ignore_index=True)


def channels_of(feature: str, channels: Sequence[str]) -> list[str]:
    """Give the channels whose whole name stands in that of a feature; none for a feature of shape.

    Examples
    --------
    >>> channels_of("Nuclei_Intensity_MeanIntensity_DNA_2", ["DNA", "DNA_2"])
    ['DNA_2']
    """
    rest, found = f"_{feature}_", set()
    for name in sorted(channels, key=len, reverse=True):
        if f"_{name}_" in rest:
            found.add(name)
            rest = rest.replace(f"_{name}_", "__")
    return [name for name in channels if name in found]


def _measured(crops: NDArray[np.float32], masks: NDArray[np.bool_], channels: Sequence[str]) -> pd.DataFrame:
    from image2reg.nuclei.features import measure

    # A dark frame keeps neighbouring tiles from touching, and is wide enough to be what `measure` takes for the
    # background: 0, whatever other crops happen to be in the batch.
    frame = ((0, 0), (2, 2), (2, 2))
    labels = np.pad(masks, frame) * np.arange(1, len(masks) + 1, dtype=np.int32)[:, None, None]
    planes = [_side_by_side(np.pad(crops[:, c], frame)) for c in range(crops.shape[1])]
    table = measure(np.stack(planes), _side_by_side(labels), channels=channels)
    table = table.set_index("Metadata_Object").filter(regex="^Nuclei_")
    table = table.drop(columns=[name for name in table if name.endswith("AreaShape_Orientation")])
    textures = table.filter(regex="^Nuclei_Texture_.*_0[0-3]_256$")
    averaged = (
        textures.T.groupby(textures.columns.str.replace(r"_0[0-3]_256$", "", regex=True), sort=False).mean().T
    )
    table = pd.concat([table.drop(columns=textures.columns), averaged], axis=1)
    return table.reindex(np.arange(1, len(masks) + 1)).reset_index(drop=True)


def _side_by_side(tiles: NDArray) -> NDArray:
    n, height, width = tiles.shape
    rows = -(-n // _PER_ROW)
    sheet = np.zeros((rows * _PER_ROW, height, width), tiles.dtype)
    sheet[:n] = tiles
    return (
        sheet.reshape(rows, _PER_ROW, height, width).swapaxes(1, 2).reshape(rows * height, _PER_ROW * width)
    )
