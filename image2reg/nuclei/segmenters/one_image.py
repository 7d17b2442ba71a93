"""One image of any axes to labels, and what they say of it: how many objects, how much of the field, how good."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.images.image import Image
from image2reg.images.padding import continue_data
from image2reg.nuclei.quality import field_quality
from image2reg.nuclei.segmenters.interface import diameter_in_pixels
from image2reg.nuclei.segmenters.phase import confluence
from image2reg.nuclei.segmenters.stack import segment_stack
from image2reg.nuclei.size import typical_diameter

if TYPE_CHECKING:
    from image2reg.nuclei.segmenters.interface import Segmenter

__all__ = ["facts_of", "one_channel", "segment_image"]

# A field above this many pixels is not judged: sharpness is a matter of single fields, not of scans.
_LARGEST_FIELD_PX = 25_000_000
# Right to about 30 % is enough for every segmenter; at twice or half the size objects are lost, merged or cut.
_FAR = 2.0


def segment_image(
    segmenter: Segmenter, image: Image, *, channel: str | int | None = None, **size: Any
) -> tuple[Image, dict[str, Any]]:
    """Label one image of any axes.

    Parameters
    ----------
    segmenter : Segmenter
    image : Image
        One channel, or several and `channel`; with Z planes are linked, every time point is labelled by itself.
    channel : str or int, optional
        By name or position; text that is no name and a number is a position.
    **size
        ``diameter_px`` or ``diameter_um``; the pixel size is the image's.

    Returns
    -------
    labels : Image
        Axes (T)(Z)YX, uint16 where the numbers fit, else int32; 0 is background.
    facts : dict
        ``n_objects`` (of all time points), ``confluence`` (of a single plane: of what registration did not pad); for
        single planes of a stain `field_quality` and, where objects are far from the size that was given, a ``note``.

    Raises
    ------
    DataError
        Several channels and none chosen, or what `Segmenter.segment` refuses.
    """
    plain = one_channel(image, channel)
    size = {"diameter_px": None, **size}
    size["voxel_um"] = None if size["diameter_px"] else plain.voxel_um
    frames = []
    for t in range(plain.sizes["T"]):
        frame = plain.select(time=t)
        frame = frame.load() if math.prod(frame.shape) <= _LARGEST_FIELD_PX else frame
        if frame.sizes["Z"] > 1:
            frames.append(segment_stack(segmenter, frame.load().data, **size))
        else:
            frames.append(segmenter.segment(frame.to_axes("YX").data, **size)[None])
    labels = np.stack(frames)
    facts = facts_of(segmenter, plain, labels)
    if note := _size_note(segmenter, labels, facts, size):
        facts["note"] = note
    kept = "".join(letter for letter in "TZ" if plain.sizes[letter] > 1) + "YX"
    labels = labels.astype(np.uint16 if labels.max() < 2**16 else np.int32)
    made = Image(labels, "TZYX", image.voxel_um, ("labels",), source=image.source)
    return made.to_axes(kept), facts


def one_channel(image: Image, channel: str | int | None) -> Image:
    """Give the channel that shows the objects, as (T, Z, Y, X); refused where several could."""
    if channel is None and len(image.channels) > 1:
        raise DataError(
            f"{image.source or 'image'}: has {len(image.channels)} channels {list(image.channels)}. Say which shows "
            "the objects: --channel NAME."
        )
    return image.select(channel=0 if channel is None else image.find_channel(channel)).to_axes("TZYX")


def facts_of(segmenter: Segmenter, plain: Image, labels: NDArray[np.integer]) -> dict[str, Any]:
    """Say what the labels of an image of one channel, both (T, Z, Y, X), hold, and how good a single plane is."""
    facts: dict[str, Any] = {
        "n_objects": sum(int(frame.max()) for frame in labels),
        "confluence": confluence(labels),
    }
    if max(labels.shape[:2]) > 1 or labels.size > _LARGEST_FIELD_PX:
        return facts
    plane = plain.to_axes("YX").load().data
    if (padded := continue_data(plane)[1]) is not None:
        facts["confluence"] = confluence(labels[0, 0][~padded])
    if not getattr(segmenter, "label_free", False):
        known, predicted = typical_diameter(labels[0, 0]), "model" in plain.annotations
        facts |= field_quality(plane, diameter_px=known, predicted=predicted)
    return facts


def _size_note(
    segmenter: Segmenter, labels: NDArray[np.integer], facts: dict[str, Any], size: dict[str, Any]
) -> str:
    """Say when a plane that is not empty has no nuclei, or they are far from the size they were looked for at."""
    given, found_any = diameter_in_pixels(**size), facts["n_objects"] > 0
    is_plane = max(labels.shape[:2]) == 1 and not getattr(segmenter, "label_free", False)
    if not is_plane or not (found_any or "empty" not in facts.get("flags", ())):
        return ""
    if given is None:
        return "" if found_any else "nothing found. Looked for are nuclei brighter than what is around them."
    advice = "Check the diameter and the pixel size."
    if not found_any:
        return f"nothing found at a diameter of {given:.3g} px. {advice}"
    found = typical_diameter(labels[0, 0])
    if max(found / given, given / found) <= _FAR:
        return ""
    return f"objects measure {found:.3g} px, looked for at {given:.3g} px. {advice}"
