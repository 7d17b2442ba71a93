"""OME-XML: the few elements an image needs, read and written.

Reference: OME data model, schema 2016-06 (Image, Pixels, Channel, TiffData).
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import DataError
from image2reg.images.units import VoxelSize, micrometres

if TYPE_CHECKING:
    from pathlib import Path

    from image2reg.images.image import Image

__all__ = ["OmeDescription", "compose", "pixel_type", "read_description"]

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
# Of the annotations that this package writes; those of others are not read.
_OWN = "virtualstain"
_MAX_CHARACTERS = 64 * 2**20
_PIXEL_TYPES = {
    "int8": "int8", "int16": "int16", "int32": "int32",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32",
    "float32": "float", "float64": "double",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OmeDescription:
    """What one Image element says.

    Parameters
    ----------
    sizes : dict of axis letter to length
    dtype : str
        numpy name, or the OME name where numpy has none.
    voxel_um : (z, y, x), micrometres, None where unknown
    channels : tuple of str
        Empty where the file names none.
    n_planes : int, optional
        Planes of all images together; None when some of them are in other files.
    annotations : dict of str to str
        Those that this package wrote.
    """

    sizes: dict[str, int]
    dtype: str
    voxel_um: VoxelSize
    channels: tuple[str, ...]
    n_planes: int | None
    annotations: dict[str, str]


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _children(element: ET.Element, name: str) -> list[ET.Element]:
    return [child for child in element if _local(child.tag) == name]


def read_description(path: Path, xml: str) -> OmeDescription:
    """Read sizes, type, voxel size and channel names of the first image that has planes in this file.

    Raises
    ------
    DataError
        Not well-formed, a document type declaration (it could expand without end), no image, or sizes that
        are no positive integers.
    """
    if len(xml) > _MAX_CHARACTERS or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise DataError(
            f"{path}: OME-XML of {len(xml)} characters refused: more than {_MAX_CHARACTERS}, or with entity "
            "declarations, which OME-XML never has. The file is damaged or hostile."
        )
    try:
        root = ET.fromstring(xml)
    except (ET.ParseError, ValueError) as error:
        raise DataError(
            f"{path}: its OME-XML is not well-formed ({error}). Export the file again."
        ) from error
    images = _children(root, "Image")
    pixels = _children(_own_image(root, images, path.name), "Pixels") if images else []
    if not pixels:
        companion = [child.get("MetadataFile") for child in _children(root, "BinaryOnly")]
        hint = (
            f" Its metadata are in {companion[0]!r}; open that set with bioio and save one file."
            if companion
            else ""
        )
        raise DataError(
            f"{path}: its OME-XML describes no image.{hint} Export the file again as one OME-TIFF."
        )
    first, sizes = pixels[0], _sizes(path, pixels[0])
    z, y, x = (
        micrometres(first.get(f"PhysicalSize{letter}"), first.get(f"PhysicalSize{letter}Unit", "µm"))
        for letter in "ZYX"
    )
    names = [channel.get("Name") or "" for channel in _children(first, "Channel")]
    dtype = {ome: name for name, ome in _PIXEL_TYPES.items()}.get(
        first.get("Type", ""), first.get("Type", "")
    )
    named = tuple(name or f"channel_{index}" for index, name in enumerate(names)) if any(names) else ()
    return OmeDescription(sizes, dtype, (z, y, x), named, _n_planes(path, root), _annotations(root))


def _own_image(root: ET.Element, images: list[ET.Element], name: str) -> ET.Element:
    """First image with planes in the file of this name: every file of a set describes the images of all of them."""
    uuid = root.get("UUID")
    for image in images:
        for data in (data for pixels in _children(image, "Pixels") for data in _children(pixels, "TiffData")):
            place = _children(data, "UUID")
            if not place or (uuid is not None and place[0].text == uuid):
                return image
            if place[0].get("FileName", "").lower() == name.lower():
                return image
    return images[0]


def _annotations(root: ET.Element) -> dict[str, str]:
    """Key and value pairs of our own map annotations."""
    maps = [element for element in root.iter() if _local(element.tag) == "MapAnnotation"]
    values = [value for m in maps if m.get("Namespace") == _OWN for value in _children(m, "Value")]
    return {m.get("K", ""): m.text or "" for value in values for m in _children(value, "M")}


def _sizes(path: object, pixels: ET.Element) -> dict[str, int]:
    sizes = {}
    for letter in "TCZYX":
        text = pixels.get(f"Size{letter}", "")
        if not text.isdecimal() or int(text) < 1:
            raise DataError(
                f"{path}: its OME-XML says Size{letter}={text!r}; it must be an integer of at least 1. "
                "The file is damaged; export it again."
            )
        sizes[letter] = int(text)
    return sizes


def _n_planes(path: object, root: ET.Element) -> int | None:
    """Planes that the Image elements describe; samples of one pixel share a plane."""
    files = {element.get("FileName") for element in root.iter() if _local(element.tag) == "UUID"}
    if len(files) > 1:
        return None
    n_planes = 0
    for pixels in (pixels for image in _children(root, "Image") for pixels in _children(image, "Pixels")):
        sizes = _sizes(path, pixels)
        samples = [int(channel.get("SamplesPerPixel", 1)) for channel in _children(pixels, "Channel")]
        n_planes += sizes["T"] * sizes["Z"] * (sizes["C"] if sum(samples) != sizes["C"] else len(samples))
    return n_planes


def pixel_type(path: object, dtype: np.dtype) -> str:
    """OME name of a numpy type; refuses the ones OME-TIFF has no name for."""
    name = _PIXEL_TYPES.get(np.dtype(dtype).name)
    if name is None:
        raise DataError(
            f"{path}: OME-TIFF has no pixel type for {np.dtype(dtype)}; allowed are {sorted(_PIXEL_TYPES)}. "
            "Convert the image first, or write OME-Zarr."
        )
    return name


def compose(path: object, image: Image) -> str:
    """OME-XML of one image whose planes follow each other as X, Y, Z, C, T.

    Raises
    ------
    DataError
        The type has no name in OME-XML.
    """
    ET.register_namespace("", _NAMESPACE)
    root = ET.Element(f"{{{_NAMESPACE}}}OME", {"Creator": "virtualstain"})
    element = ET.SubElement(root, f"{{{_NAMESPACE}}}Image", {"ID": "Image:0", "Name": "Image0"})
    sizes = {letter: image.sizes.get(letter, 1) for letter in "TCZYX"}
    attributes = {
        "ID": "Pixels:0",
        "DimensionOrder": "XYZCT",
        "Type": pixel_type(path, image.dtype),
        **{f"Size{letter}": str(n) for letter, n in sizes.items()},
    }
    for letter, size in zip("ZYX", image.voxel_um, strict=True):
        if size is not None:
            attributes |= {f"PhysicalSize{letter}": repr(size), f"PhysicalSize{letter}Unit": "µm"}
    pixels = ET.SubElement(element, f"{{{_NAMESPACE}}}Pixels", attributes)
    for index, name in enumerate(image.channels):
        _refuse_unprintable(path, "channel name", name)
        channel = {"ID": f"Channel:0:{index}", "Name": name, "SamplesPerPixel": "1"}
        ET.SubElement(pixels, f"{{{_NAMESPACE}}}Channel", channel)
    planes = sizes["T"] * sizes["C"] * sizes["Z"]
    ET.SubElement(pixels, f"{{{_NAMESPACE}}}TiffData", {"IFD": "0", "PlaneCount": str(planes)})
    if image.annotations:
        ET.SubElement(element, f"{{{_NAMESPACE}}}AnnotationRef", {"ID": "Annotation:0"})
        held = ET.SubElement(root, f"{{{_NAMESPACE}}}StructuredAnnotations")
        about = {"ID": "Annotation:0", "Namespace": _OWN}
        value = ET.SubElement(
            ET.SubElement(held, f"{{{_NAMESPACE}}}MapAnnotation", about), f"{{{_NAMESPACE}}}Value"
        )
        for key, text in image.annotations.items():
            _refuse_unprintable(path, "annotation", key + text)
            ET.SubElement(value, f"{{{_NAMESPACE}}}M", {"K": key}).text = text
    return '<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(root, encoding="unicode")


def _refuse_unprintable(path: object, what: str, text: str) -> None:
    if not text.isprintable():
        raise DataError(f"{path}: {what} {text!r} has control characters; OME-XML cannot hold it. Rename it.")
