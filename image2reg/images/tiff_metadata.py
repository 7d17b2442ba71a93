"""What a TIFF says about itself: OME-XML, ImageJ's text, tifffile's JSON, or the resolution tags."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import TYPE_CHECKING, Any

from image2reg.errors import DataError
from image2reg.images.image import own_annotations
from image2reg.images.ome_xml import read_description
from image2reg.images.tiff_makers import maker_metadata
from image2reg.images.units import VoxelSize, micrometres, voxel_size

if TYPE_CHECKING:
    from pathlib import Path

    import tifffile

__all__ = ["INFO", "TiffMetadata", "describe"]

INFO = "virtualstain: "  # begins our line of ImageJ's Info

_INCH, _CENTIMETRE = 2, 3
# Resolution tags of coarser pixels than this come from printers' settings (72, 300, 2400 dpi), not from
# microscopes.
_COARSEST_TAG_UM = 10.0


@dataclasses.dataclass(frozen=True)
class TiffMetadata:
    """Promises of a TIFF's description, to be checked against its pages.

    Parameters
    ----------
    kind : str
        ``OME-XML``, ``ImageJ``, ``microscope``, ``shape`` or ``TIFF``.
    sizes : dict of axis letter to length
        Promised lengths (OME-XML only).
    n_planes : int, optional
        Promised number of Y, X planes, samples counted.
    dtype : str, optional
    voxel_um : (z, y, x), micrometres
    channels : tuple of str
    annotations : dict of str to str
        Those that this package wrote.
    """

    kind: str
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    n_planes: int | None = None
    dtype: str | None = None
    voxel_um: VoxelSize = (None, None, None)
    channels: tuple[str, ...] = ()
    annotations: dict[str, str] = dataclasses.field(default_factory=dict)


def describe(path: Path, tif: tifffile.TiffFile, n_pages: int) -> TiffMetadata:
    """Collect a file's promises from the richest description it has.

    Parameters
    ----------
    path : Path
    tif : tifffile.TiffFile
        Its pages are not decoded, and tifffile's own reading of OME-XML, which fills gaps, is not asked.
    n_pages : int
        Directories of the file.

    Raises
    ------
    DataError
        Its OME-XML is damaged, or describes fewer planes than the file has.
    """
    page: Any = tif.pages[0]
    if "openmicroscopy.org/Schemas/OME" in page.description:
        ome = read_description(path, page.description)
        if ome.n_planes is not None and ome.n_planes < n_pages:
            raise DataError(
                f"{path}: its OME-XML describes {ome.n_planes} planes, but the file has {n_pages} pages. "
                "It was edited or damaged; export it again."
            )
        return TiffMetadata(
            "OME-XML", ome.sizes, None, ome.dtype, ome.voxel_um, ome.channels, ome.annotations
        )
    if path.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.btf", ".ome.tf8", ".ome.tf2")):
        raise DataError(
            f"{path}: named OME-TIFF, but it holds no readable OME-XML: damaged, or another kind of TIFF. "
            "Copy the file again, or rename it to .tif to read it as a plain one."
        )
    _refuse_half_description(path, tif, page.description)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej(tif, page)
    maker = maker_metadata(tif, page.description)
    if maker is not None:
        return TiffMetadata(
            "microscope", n_planes=maker.n_planes, voxel_um=maker.voxel_um, channels=maker.channels
        )
    shaped = tif.shaped_metadata[0] if tif.is_shaped and tif.shaped_metadata else {}
    shape = shaped.get("shape")
    # Planes that were written one by one are an image each.
    shapes = [part.get("shape") or () for part in tif.shaped_metadata or ()] if shape else []
    is_known = page.axes == "YX" and shapes and all(len(part) >= 2 for part in shapes)
    n_planes = sum(math.prod(part[:-2]) for part in shapes) if is_known else None
    said = _sizes(shaped.get("voxel_um"))
    return TiffMetadata(
        "shape" if shape else "TIFF",
        n_planes=n_planes,
        voxel_um=said or voxel_size(None, *_resolution(page)),
        channels=_names(shaped.get("channel_names")),
        annotations=own_annotations(shaped.get("annotations")),
    )


def _sizes(value: Any) -> VoxelSize | None:
    """Three voxel sizes as this package's own JSON has them, or None."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    z, y, x = (micrometres(size, "um") if isinstance(size, int | float) else None for size in value)
    return z, y, x


def _refuse_half_description(path: Path, tif: tifffile.TiffFile, text: str) -> None:
    """Refuse ImageJ's text or tifffile's JSON that is damaged: without it the axes would be guessed."""
    kind = "ImageJ" if re.search(r"^(images|slices|channels|frames)=", text, re.MULTILINE) else ""
    kind = "JSON" if re.search(r'"(shape|axes)": *["\[]', text) else kind
    if (kind == "ImageJ" and not tif.is_imagej) or (kind == "JSON" and not tif.is_shaped):
        raise DataError(
            f"{path}: its {kind} description is damaged ({text[:60]!r}), so its axes cannot be trusted. "
            "Copy the file again from its source."
        )


def _names(value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    return tuple(value) if is_list else ()


def _imagej(tif: tifffile.TiffFile, page: Any) -> TiffMetadata:
    said = tif.imagej_metadata or {}
    unit, (y, x) = str(said.get("unit", "")), _pixel_lengths(page)
    spacing = said.get("spacing")
    # The sign of ImageJ's spacing is the direction the stack was scanned in.
    z = micrometres(abs(spacing) if isinstance(spacing, int | float) else None, str(said.get("zunit", unit)))
    y, x = micrometres(y, str(said.get("yunit", unit))), micrometres(x, unit)
    if "unit" not in said:  # as ImageJ does; files that Python programs write have the unit of the tags only
        y, x = _resolution(page)
    n_images = said.get("images")
    samples = page.samplesperpixel
    n_planes = int(n_images) * samples if isinstance(n_images, int) else None
    return TiffMetadata(
        "ImageJ", n_planes=n_planes, voxel_um=(z, y, x), channels=_channel_labels(said),
        annotations=_from_info(said.get("Info")),
    )  # fmt: skip


def _from_info(text: Any) -> dict[str, str]:
    """Read the line of ImageJ's Info in which `image2reg.images.write` keeps annotations."""
    lines = text.splitlines() if isinstance(text, str) else []
    found = [line.removeprefix(INFO) for line in lines if line.startswith(INFO)]
    try:
        return own_annotations(json.loads(found[0])) if found else {}
    except ValueError:
        return {}


def _channel_labels(said: dict[str, Any]) -> tuple[str, ...]:
    """Channel names from slice labels: the ones this package writes repeat one label through z."""
    labels, n_channels = said.get("Labels"), said.get("channels", 1)
    labels = [labels] if isinstance(labels, str) else labels
    if not isinstance(labels, list | tuple) or not isinstance(n_channels, int) or n_channels < 1:
        return ()
    names = tuple(str(label) for label in labels[:n_channels])
    repeats = len(labels) % n_channels == 0 and tuple(map(str, labels)) == names * (len(labels) // n_channels)
    return names if repeats and len(set(names)) == n_channels else ()


def _pixel_lengths(page: Any) -> tuple[float | None, float | None]:
    """Length of a pixel along y and x in the file's resolution unit."""
    lengths = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        pixels, units = tag.value if tag is not None else (0, 0)
        lengths.append(units / pixels if pixels > 0 and units > 0 else None)
    return lengths[0], lengths[1]


def _resolution(page: Any) -> tuple[float | None, float | None]:
    tag = page.tags.get("ResolutionUnit")
    unit = {_INCH: "inch", _CENTIMETRE: "cm"}.get(int(tag.value)) if tag is not None else None
    y, x = (micrometres(length, unit) for length in _pixel_lengths(page))
    if y is None or x is None or max(y, x) > _COARSEST_TAG_UM:
        return None, None
    return y, x
