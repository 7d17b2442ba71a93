"""OME-NGFF metadata: the dictionaries of images, as read (0.4, 0.5) and as written (0.5).

Reference: OME-NGFF specification 0.4 and 0.5, sections multiscales and omero.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.image import own_annotations
from image2reg.images.units import VoxelSize, micrometres, voxel_size

if TYPE_CHECKING:
    from pathlib import Path

    from image2reg.images.image import Image

__all__ = ["VERSION", "Multiscale", "image_attributes", "inner_path", "read_multiscale", "version_of"]

VERSION = "0.5"
_OWN = "virtualstain"  # beside "ome": what this package says about an image's values
_READABLE = ("0.4", "0.5")
_TYPES = {"T": "time", "C": "channel"}
# Display colours by position: white alone, else distinguishable in red-green blindness.
_COLOURS = ("FFFFFF", "00FFFF", "FF00FF", "FFFF00", "0080FF", "FF8000", "00FF80")


@dataclasses.dataclass(frozen=True)
class Multiscale:
    """What an image group says: axes as stored, path of the full resolution, voxel size, names, annotations."""

    axes: str
    path: str
    voxel_um: VoxelSize
    channels: tuple[str, ...]
    annotations: dict[str, str]


def version_of(path: Path, attributes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """OME-NGFF version of a group and the dictionary that holds its metadata.

    Raises
    ------
    DataError
        A version other than 0.4 and 0.5.
    """
    said = attributes.get("ome", attributes)
    if not isinstance(said, dict):
        raise DataError(f"{path}: 'ome' is {type(said).__name__}, not a JSON object. Export the image again.")
    version = said.get("version")
    if version is None:
        for key in ("multiscales", "plate", "well"):
            held = said.get(key)
            held = held[0] if isinstance(held, list) and held else held
            version = held.get("version") if isinstance(held, dict) else version
    version = "0.4" if version is None and "ome" not in attributes else str(version)
    if version not in _READABLE:
        raise DataError(
            f"{path}: OME-Zarr version {version} is not read; allowed are {' and '.join(_READABLE)}."
        )
    return version, said


def inner_path(path: Path, name: Any) -> str:
    """Check that a path stays inside its group."""
    pure = PurePosixPath(name) if isinstance(name, str) else None
    if (
        pure is None
        or not pure.parts
        or pure.is_absolute()
        or ".." in pure.parts
        or "\\" in str(name)
        or "\0" in name
    ):
        raise DataError(f"{path}: path {name!r} in its metadata must be a relative path inside the folder.")
    return str(pure)


def read_multiscale(path: Path, attributes: dict[str, Any]) -> Multiscale:
    """Interpret the metadata of an image group.

    Raises
    ------
    DataError
        Another version, no image, or metadata that do not follow the specification.
    """
    _, said = version_of(path, attributes)
    if "multiscales" not in said:
        hint = "export it again"
        if kind := next((key for key in ("plate", "well") if key in said), None):
            hint = f"it is a {kind}: give one field, {path}/row/column/field (Python: read_plate)"
        elif "bioformats2raw.layout" in said:
            hint = f"it is a collection of images: give one, for example {path}/0"
        raise DataError(f"{path}: OME-Zarr group without an image ('multiscales'); {hint}.")
    first = said["multiscales"][0]
    entries = [axis if isinstance(axis, dict) else {"name": axis} for axis in first["axes"]]
    letters = "".join(str(axis["name"]).upper() for axis in entries)
    if len(letters) != len(entries) or set(letters) - set("TCZYX") or len(set(letters)) != len(letters):
        names = [axis["name"] for axis in entries]
        raise DataError(f"{path}: axes {names} are not read; allowed are t, c, z, y, x, each at most once.")
    dataset = first["datasets"][0]
    said_of = [part for holder in (dataset, first) for part in holder.get("coordinateTransformations", [])]
    scales = [np.asarray(part["scale"], dtype=float) for part in said_of if part.get("type") == "scale"]
    scale = np.prod(scales, axis=0) if scales else np.full(len(letters), np.nan)  # not known: never 1
    sizes = {
        letter: micrometres(float(size), axis.get("unit"))
        for letter, axis, size in zip(letters, entries, scale, strict=True)
    }
    labels = [channel.get("label") or "" for channel in said.get("omero", {}).get("channels", [])]
    named = (
        tuple(str(label) or f"channel_{index}" for index, label in enumerate(labels)) if any(labels) else ()
    )
    inner = inner_path(path, dataset["path"])
    voxel = voxel_size(sizes.get("Z"), sizes.get("Y"), sizes.get("X"))
    return Multiscale(letters, inner, voxel, named, own_annotations(attributes.get(_OWN)))


def _window(dtype: np.dtype) -> dict[str, float]:
    low, high = (0.0, 1.0) if dtype.kind in "fb" else map(float, (np.iinfo(dtype).min, np.iinfo(dtype).max))
    return {"min": low, "max": high, "start": low, "end": high}


def image_attributes(image: Image, name: str, array: str = "0") -> dict[str, Any]:
    """Attributes of a 0.5 image group with one resolution level.

    A voxel size that is unknown is written as scale 1 *without* a unit, and read back as unknown.
    """
    sizes = dict(zip("ZYX", image.voxel_um, strict=True))
    axes: list[dict[str, str]] = []
    for letter in image.axes:
        axis = {"name": letter.lower(), "type": _TYPES.get(letter, "space")}
        if sizes.get(letter) is not None:
            axis["unit"] = "micrometer"
        axes.append(axis)
    scale = [sizes.get(letter) or 1.0 for letter in image.axes]
    multiscale = {
        "name": name,
        "axes": axes,
        "datasets": [{"path": array, "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }
    channels = [
        {
            "label": label,
            "color": _COLOURS[index % len(_COLOURS) if len(image.channels) > 1 else 0],
            "active": True,
            "window": _window(image.dtype),
        }
        for index, label in enumerate(image.channels)
    ]
    if not all(math.isfinite(size) for size in scale):
        raise DataError(f"{name}: voxel size {image.voxel_um} cannot be written.")
    said = {"ome": {"version": VERSION, "multiscales": [multiscale], "omero": {"channels": channels}}}
    return said | ({_OWN: dict(image.annotations)} if image.annotations else {})
