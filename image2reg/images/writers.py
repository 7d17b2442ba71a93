"""One `write` for every format we emit; each appears whole under its final name or not at all."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.atomic import atomic_file
from image2reg.errors import ConfigurationError, DataError
from image2reg.images.limits import n_bytes
from image2reg.images.ome_xml import compose
from image2reg.images.streaming import chunks_of
from image2reg.images.tiff_metadata import INFO
from image2reg.images.tiff_structure import LENGTH_TAG, WIDTH_TAG, directories

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from image2reg.images.image import Image

__all__ = ["refuse_unwritable", "write", "write_tiff"]

# Classic TIFF ends at 4 GiB; readers with signed offsets end at 2 GiB.
_BIGTIFF_BYTES = 2 * 2**30
_CENTIMETRE = 3
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")


def write(image: Image, path: Path | str, *, overwrite: bool = False) -> None:
    """Write an image in the format its name asks for; a lazy image is streamed.

    Parameters
    ----------
    image : Image
    path : Path or str
        ``.ome.tif`` / ``.ome.tiff``: OME-TIFF, keeps everything. ``.tif`` / ``.tiff``: ImageJ TIFF (or, for
        types ImageJ does not know, TIFF with a JSON description), keeps voxel size to 1e-6 and channel
        names. ``.zarr`` / ``.ome.zarr``: OME-Zarr 0.5, keeps everything. TIFF does not keep axes of length
        one.
    overwrite : bool
        Replace what is there, once the new file is complete.

    Raises
    ------
    ConfigurationError
        Another suffix.
    DataError
        `path` exists and `overwrite` is False; or the format cannot hold the image's type.
    ResourceError
        The disk is full or read-only; or OME-Zarr is asked for without zarr 3.
    """
    path = Path(path)
    refuse_unwritable(path)
    name = path.name.lower()
    if name.endswith(".zarr"):
        from image2reg.images.ome_zarr import write_ome_zarr

        write_ome_zarr(image, path, overwrite=overwrite)
    else:
        write_tiff(image, path, ome=name.endswith((".ome.tif", ".ome.tiff")), overwrite=overwrite)


def refuse_unwritable(path: Path) -> None:
    """Raise `ConfigurationError` for a name that `write` knows no format for; to be asked before the work."""
    if not path.name.lower().endswith((".zarr", ".tif", ".tiff")):
        raise ConfigurationError(
            f"{path}: no writer for {path.suffix or 'a name without suffix'!r}; allowed are .ome.tif, "
            ".tif, .ome.zarr (and .tiff, .zarr). Choose one of these for --out."
        )


def _planes(image: Image, lead: str) -> Iterator[NDArray[Any]]:
    """(Y, X) planes, the axes of `lead` in that order, the last one fastest."""
    present = [letter for letter in lead if letter in image.axes]
    stored = image.axes[:-2]
    # As many planes at a time as one chunk holds, so that no chunk is decoded once for each of its planes.
    depth = chunks_of(image.data)[stored.index(present[-1])] if present else 1
    ranges = [range(image.sizes[letter]) for letter in present[:-1]]
    for outer in itertools.product(*ranges):
        where: dict[str, int | slice] = dict(zip(present, outer, strict=False))
        for low in range(0, image.sizes[present[-1]] if present else 1, depth):
            if present:
                where[present[-1]] = slice(low, low + depth)
            planes = np.asarray(image.data[tuple(where[letter] for letter in stored)])
            for plane in planes.reshape(-1, *image.shape[-2:]):
                yield np.ascontiguousarray(plane)


def write_tiff(image: Image, path: Path, *, ome: bool, overwrite: bool = False) -> None:
    """Write an OME-TIFF (`ome`) or an ImageJ-compatible TIFF, uncompressed; see `write`."""
    import tifffile

    if image.dtype == np.bool_:
        image = image.replace(data=np.asarray(image.load().data, dtype=np.uint8))
    # BigTIFF where the voxels and some room for the directories pass 2 GiB.
    big = n_bytes(image.shape, image.dtype) + 2**25 > _BIGTIFF_BYTES
    imagej = not ome and not big and _imagej_can_hold(image)
    lead = "TCZ" if ome else "TZC"
    order = "".join(letter for letter in lead if letter in image.axes)
    shape = tuple(image.sizes[letter] for letter in order + "YX")
    options: dict[str, Any] = {"photometric": "minisblack", "software": "virtualstain"}
    if ome:
        options |= {"description": compose(path, image).encode("utf-8"), "metadata": None}
    elif imagej:
        options |= {"metadata": _imagej_metadata(image, order + "YX"), "resolution": _resolution(image)}
    else:
        options |= _json_description(image, shape, order + "YX")
    with atomic_file(path, overwrite=overwrite) as partial:
        with tifffile.TiffWriter(partial, bigtiff=big, imagej=imagej) as tif:
            tif.write(_planes(image, lead), shape=shape, dtype=image.dtype, **options)
        _refuse_turned(path, partial, shape)


def _refuse_turned(path: Path, partial: Path, shape: tuple[int, ...]) -> None:
    """Refuse what old tifffile makes of images of width one: it takes the axis away."""
    first = dict(directories(partial)[0].layout)
    if (first[LENGTH_TAG], first[WIDTH_TAG]) != shape[-2:]:
        raise DataError(
            f"{path}: this version of tifffile cannot write planes of {shape[-2]} x {shape[-1]} voxels. "
            "Install a newer tifffile, or write OME-Zarr."
        )


def _imagej_can_hold(image: Image) -> bool:
    """Whether ImageJ's metadata lose nothing: its types, and one unit for all axes or for none."""
    known = [image.voxel_um["ZYX".index(letter)] is not None for letter in "ZYX" if letter in image.axes]
    return image.dtype.name in _IMAGEJ_TYPES and image.sizes["X"] > 1 and len(set(known)) == 1


def _imagej_metadata(image: Image, axes: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes, "mode": "grayscale"}
    z, y, _ = image.voxel_um
    if y is not None:
        metadata["unit"] = "um"
        if z is not None and "Z" in axes:
            metadata["spacing"] = z
    if image.channels != tuple(f"channel_{index}" for index in range(len(image.channels))):
        metadata["Labels"] = list(image.channels) * (image.sizes.get("T", 1) * image.sizes.get("Z", 1))
    if image.annotations:
        metadata["Info"] = INFO + json.dumps(dict(image.annotations))
    return metadata


def _json_description(image: Image, shape: tuple[int, ...], axes: str) -> dict[str, Any]:
    """Options for types ImageJ does not know: tifffile's JSON, and resolution tags for other programs."""
    said: dict[str, Any] = {
        "shape": shape,
        "axes": axes,
        "channel_names": image.channels,
        "voxel_um": image.voxel_um,
    }
    if image.annotations:
        said["annotations"] = dict(image.annotations)
    options: dict[str, Any] = {"description": json.dumps(said), "metadata": None}
    if image.voxel_um[1] and image.voxel_um[2]:
        x, y = _resolution(image)
        options |= {"resolution": (x * 1e4, y * 1e4), "resolutionunit": _CENTIMETRE}
    return options


def _resolution(image: Image) -> tuple[float, float]:
    """Pixels per micrometre along x and y; ImageJ's 'no calibration' is 1."""
    _, y, x = image.voxel_um
    return (1.0 / x if x else 1.0, 1.0 / y if y else 1.0)
