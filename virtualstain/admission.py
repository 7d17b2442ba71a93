"""Which images a model is given: which of their channels, at which scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.images.image import Image
from virtualstain.model import StainModel

__all__ = [
    "ALIASES",
    "COARSEST",
    "FINEST",
    "GIVE_VOXELS",
    "SMALL",
    "aliases",
    "channels_called",
    "choose_channels",
    "fluorescent",
    "resamplable",
]

ALIASES = {
    "brightfield": {
        "brightfield",
        "bright field",
        "bf",
        "transmitted",
        "transmitted light",
        "tl",
        "trans",
        "dic",
    },
    "phase": {"phase", "phase contrast", "ph", "phase2d", "phase3d"},
    "darkfield": {"darkfield", "dark field", "ssc"},
}
# Pixels so many times coarser than the model's no longer hold what it looks for; of those so many times finer, an
# image shows a few cells at another optical resolution.
COARSEST, FINEST = 2.5, 5.0
# Half of a field of light that went through cells lies at least this far up from its darkest to its brightest hundredth
# (0.28 to 0.71 in every brightfield, phase and quantitative phase field we saw); of fluorescence mostly below 0.15.
_MIDDLE = 0.2
_ENOUGH_PX = 250_000  # looked at for it
SMALL = 32  # pixels of the model: less than what it looks at around each pixel

GIVE_VOXELS = (
    "Pass --voxel-um Z,Y,X in micrometres, '-' where an axis is not known: a plane of 0.65 um pixels is "
    "--voxel-um -,0.65,0.65 (Python: read(path, voxel_um=(None, 0.65, 0.65)))."
)


def resamplable(ratio: float) -> bool:
    """Whether pixels this many times larger than a model's may be resampled to them."""
    return 1 / FINEST <= ratio <= COARSEST


def fluorescent(name: str, values: NDArray[Any]) -> bool:
    """Whether a plane that is given for a model's input looks like fluorescence, and the input is transmitted light.

    Parameters
    ----------
    name : str
        Of the input. Nothing is said of one that is neither brightfield nor phase.
    values : array of any shape
        The plane, or what of it registration did not pad.

    Examples
    --------
    >>> plane = np.full((100, 100), 90.0)
    >>> plane[40:60, 40:60] = 900
    >>> fluorescent("Brightfield", plane), fluorescent("DAPI", plane), fluorescent("Phase", 1000 - plane)
    (True, False, False)
    """
    if not any(name.lower() in ALIASES[kind] for kind in ("brightfield", "phase")):
        return False
    seen = values.ravel()[:: max(1, values.size // _ENOUGH_PX)].astype(np.float64)
    low, middle, high = np.percentile(seen, (1, 50, 99))
    return bool(middle - low < _MIDDLE * (high - low))


def aliases(name: str) -> set[str]:
    """Lower-case names under which a model's input is found: its own, and the usual ones."""
    return ALIASES.get(name.lower(), {name.lower()})


def channels_called(name: str, image: Image) -> list[str]:
    """Channels of an image with the name of a model's input, or a usual alias of it."""
    return [c for c in image.channels if c.lower().strip() in aliases(name)]


def choose_channels(model: StainModel, image: Image, given: Sequence[str | int]) -> Sequence[str | int]:
    """Find the model's inputs among an image's channels: as given, by name or usual alias, or the only one.

    Raises
    ------
    DataError
        Not found; the message lists the image's channels.
    """
    if given:
        if len(given) != len(model.inputs):
            raise DataError(
                f"{image.source or 'image'}: {len(given)} channels were given, model '{model.name}' takes "
                f"{len(model.inputs)}: {', '.join(model.inputs)}. Give one --channel for each, in that order."
            )
        return given
    if len(model.inputs) == 1 and len(image.channels) == 1:
        return [0]
    found: list[str | int] = []
    for name in model.inputs:
        hits = channels_called(name, image)
        if len(hits) != 1:
            what = "missing" if not hits else f"there {len(hits)} times"
            raise DataError(
                f"{image.source or 'image'}: channel '{name}' is {what}; the image has {list(image.channels)}. "
                f"Pass --channel NAME or its position (0 to {len(image.channels) - 1})."
            )
        found.append(hits[0])
    return found
