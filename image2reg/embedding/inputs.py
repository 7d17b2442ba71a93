"""From crops to what an encoder is shown: the nucleus alone, the region around it, or their masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.nuclei.crops import OWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.embedding.recipe import EncoderRecipe, Variant
    from image2reg.nuclei.crops import Crops

__all__ = ["Scale", "measure_scale", "prepare"]


@dataclass(frozen=True)
class Scale:
    """Per channel, the level of the empty background and the mean of nuclei above it, in the crops' units."""

    background: tuple[float, ...]
    nuclear: tuple[float, ...]


def measure_scale(crops: Crops) -> Scale:
    """Measure the scale on training crops: one number for all, so that brightness stays a feature.

    Raises
    ------
    DataError
        A channel whose nuclei are no brighter or darker than the background.
    """
    masks = _masks(crops)
    images = np.asarray(crops.images)
    background, nuclear = [], []
    for index, name in enumerate(crops.channels):
        plane = images[:, index]
        empty = plane[masks == 0]
        level = float(np.median(empty)) if empty.size else float(plane.min())
        mean = float(plane[masks == OWN].mean()) - level
        if not abs(mean) > 0:
            raise DataError(
                f"{crops.source}: channel {name!r} is the same in nuclei and around them ({level:g}), so it cannot be "
                "scaled. Leave the channel out (--set channels=[...])."
            )
        background.append(level)
        nuclear.append(abs(mean))
    return Scale(tuple(background), tuple(nuclear))


def _masks(crops: Crops) -> NDArray[np.uint8]:
    if crops.masks is None:
        raise DataError(f"{crops.source}: crops have no masks; cut them from labels (image2reg crops).")
    return np.asarray(crops.masks)


def prepare(
    crops: Crops, scale: Scale, recipe: EncoderRecipe, variant: Variant | None = None
) -> dict[str, NDArray[np.float16]]:
    """Make network inputs of crops.

    Parameters
    ----------
    crops : Crops in memory, with masks
    scale : Scale
    recipe : EncoderRecipe
        Its ``channels`` must be among the crops'.
    variant : str, optional
        The recipe's when not given.

    Returns
    -------
    dict of (N, C, Y, X) float16
        ``nucleus`` and ``context``, whichever the variant shows: 0 is background, 1 the typical nucleus. All variants
        have as many channels, so that their networks are the same.

    Raises
    ------
    DataError
        Channels are missing, or crops smaller than the window.
    """
    variant = variant or recipe.variant
    masks = _masks(crops)
    if crops.size_px < recipe.nucleus_px:
        raise DataError(
            f"{crops.source}: crops of {crops.size_px} px are smaller than nucleus_px={recipe.nucleus_px}. Cut larger "
            "crops (--size) or lower it (--set nucleus_px=...)."
        )
    chosen = [_position(crops, name) for name in (recipe.channels or crops.channels)]
    own = (masks == OWN)[:, None].astype(np.float32)
    if variant.startswith("binary"):
        shown = np.repeat((masks > 0)[:, None].astype(np.float32), len(chosen), axis=1)
    else:
        level, unit = (
            np.array(part, np.float32)[chosen, None, None] for part in (scale.background, scale.nuclear)
        )
        shown = (np.asarray(crops.images)[:, chosen].astype(np.float32) - level) / unit
    found: dict[str, NDArray[Any]] = {}
    if variant not in ("context", "region"):
        margin = (crops.size_px - recipe.nucleus_px) // 2
        window = slice(margin, margin + recipe.nucleus_px)
        found["nucleus"] = (shown * own)[:, :, window, window]
    if variant in ("both", "context", "region", "binary_both"):
        region = shown * (1 - own) if variant == "context" else shown
        found["context"] = _averaged(region, recipe.context_px)
    # half precision holds 1/1000 of the typical brightness, and halves the memory of a plate
    return {name: np.clip(value, -100, 1000).astype(np.float16) for name, value in found.items()}


def _position(crops: Crops, name: str) -> int:
    if name not in crops.channels:
        raise DataError(
            f"{crops.source}: channel {name!r} is missing; the crops have {list(crops.channels)}."
        )
    return crops.channels.index(name)


def _averaged(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Mean over a grid of `size` cells each way; crops that are smaller stay as they are."""
    if images.shape[-1] <= size:
        return images
    edges = np.linspace(0, images.shape[-1], size + 1).astype(int)
    widths = np.diff(edges).astype(np.float32)
    rows = np.add.reduceat(images, edges[:-1], axis=2) / widths[:, None]
    return (np.add.reduceat(rows, edges[:-1], axis=3) / widths).astype(np.float32, copy=False)
