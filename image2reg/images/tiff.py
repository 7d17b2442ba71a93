"""TIFF, ImageJ TIFF and OME-TIFF as lazy images: metadata first, planes when they are asked for."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.door import reading
from image2reg.images.image import AXES, Image
from image2reg.images.lazy import LazyArray, LazyView
from image2reg.images.limits import n_bytes, refuse_oversized
from image2reg.images.tiff_metadata import TiffMetadata, describe
from image2reg.images.tiff_planes import Plane, TiffPlanes, quiet
from image2reg.images.tiff_structure import directories

if TYPE_CHECKING:
    import tifffile

__all__ = ["read_tiff"]

_logger = logging.getLogger(__name__)

# None of these codecs expands more than this (LZW with 12-bit codes; deflate reaches 1032); others know no bound.
_MAX_EXPANSION, _BOUNDED = 4096, {5, 8, 32773, 32946}


def read_tiff(
    path: Path, *, axes: str | None = None, max_bytes: int | None = None, n_names: int = 0
) -> Image:
    """Open a TIFF; nothing but metadata is read.

    Parameters
    ----------
    path : Path
    axes : str, optional
        Letters for the axes of a file that does not name them.
    max_bytes : int, optional
        Limit for one plane now and for the whole image when it is loaded.
    n_names : int
        Number of channel names the caller has; an unnamed axis of that length is then C, else Z.

    Raises
    ------
    DataError
        Damaged, truncated, or its axes cannot be told.
    ResourceError
        One plane is over the limit.
    """
    import tifffile

    with reading(path, "TIFF"), quiet():
        chain = directories(path)
        # A stack of MetaMorph is one directory; of its pages, tifffile would give the first one only.
        with tifffile.TiffFile(path, is_stk=None if len(chain) == 1 else False) as tif:
            metadata = describe(path, tif, len(chain))
            if not tif.series:
                raise DataError(f"{path}: holds no image series. Export it again.")
            series = _own_series(path, tif)
            planes, letters = _planes(path, tif, series, chain, max_bytes)
        data, letters = _name_axes(path, planes, letters, axes=axes, n_names=n_names)
        _cross_check(path, metadata, dict(zip(letters, data.shape, strict=True)), data.dtype)
        data, letters = _in_order(data, letters)
        n_channels = dict(zip(letters, data.shape, strict=True)).get("C", 1)
        names = metadata.channels if len(metadata.channels) == n_channels else ()
        return Image(data, letters, metadata.voxel_um, names, str(path), max_bytes, metadata.annotations)


def _own_series(path: Path, tif: tifffile.TiffFile) -> Any:
    """First image with planes in this file (a set's files each list all images of the set); say if it has more.

    Raises
    ------
    DataError
        Several images that no OME-XML tells apart: the others may be a damaged part of the first.
    """
    if tif.is_lsm:
        return tif.series[0]  # the other one holds the thumbnails
    shapes = [series.shape for series in tif.series]
    if len(shapes) > 1 and not tif.is_ome:
        if loop := _written_one_by_one(tif.series):
            return loop
        raise DataError(
            f"{path}: holds {len(shapes)} images, of shapes {shapes[:4]}, and not one stack; or its pages are "
            "damaged. Save the wanted image as a file of its own, or all planes as one stack."
        )
    own = [series for series in tif.series if any(_lies_in(tif, page) for page in series.pages)]
    if len(own) > 1:
        _logger.warning("%s: holds %d images; the first one, %s, is read.", path, len(own), own[0].shape)
    return own[0] if own else tif.series[0]


def _written_one_by_one(several: list[Any]) -> Any | None:
    """Join planes that were each written as an image of its own, equal but for their values; None of others."""
    import tifffile

    first = several[0]
    if any(
        series.kind != "shaped" or len(series.pages) != 1 or len(series.shape) != len(series.keyframe.shape)
        or (series.shape, series.dtype, series.axes) != (first.shape, first.dtype, first.axes)
        for series in several
    ):  # fmt: skip
        return None
    pages = [series.pages[0] for series in several]
    return tifffile.TiffPageSeries(pages, (len(pages), *first.shape), first.dtype, "I" + first.axes)


def _lies_in(tif: tifffile.TiffFile, page: Any) -> bool:
    return page is not None and page.parent.filehandle.path == tif.filehandle.path


def _planes(
    path: Path, tif: tifffile.TiffFile, series: Any, chain: list[Any], max_bytes: int | None
) -> tuple[TiffPlanes, str]:
    """Check every page against the file and describe where the planes lie."""
    page_axes = series.keyframe.axes
    if tif.is_lsm:
        page_axes = page_axes.replace("S", "C")
    page_axes = "".join(letter for letter in page_axes if letter in series.axes)
    page_shape = series.shape[len(series.shape) - len(page_axes) :]
    lead = series.shape[: len(series.shape) - len(page_axes)]
    if not series.axes.endswith(page_axes) or math.prod(page_shape) != math.prod(series.keyframe.shape):
        raise DataError(
            f"{path}: pages of axes {series.keyframe.axes} and shape {series.keyframe.shape} in a series "
            f"{series.axes} {series.shape} are not supported. Export one plane per page."
        )
    dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
    if dtype.kind not in "buif":
        raise DataError(f"{path}: voxels of type {dtype} are not supported; allowed are integers and floats.")
    offset = series.dataoffset
    if offset is not None and _lies_in(tif, series.keyframe) and not series.is_multifile:
        size, needed = path.stat().st_size, n_bytes(series.shape, dtype)
        if offset + needed > size:
            raise DataError(
                f"{path}: truncated: {series.axes} {series.shape} of {dtype} needs {needed} bytes from byte "
                f"{offset}, but the file ends at byte {size}. Copy the file again from its source."
            )
        refuse_oversized(path, page_shape, dtype, max_bytes=max_bytes, what="plane")
        return TiffPlanes(
            path, series.shape, dtype, [], n_page_axes=len(page_axes), offset=offset
        ), series.axes
    # Each page of an LSM has the bits of two channels in a place of its own, which reads as a difference.
    own = {} if tif.is_lsm else {directory.offset: (n, directory.layout) for n, directory in enumerate(chain)}
    planes = []
    files: dict[str, _FileOfSet] = {}
    for index in range(math.prod(lead)):
        page = series[index]
        if page is None:
            raise DataError(
                f"{path}: plane {index} of {math.prod(lead)} ({series.axes} {series.shape}) is missing "
                f"from the file. Copy the file again, with all files of its set{_where_a_link_leads(path)}."
            )
        name = page.parent.filehandle.path
        if name not in files:
            files[name] = _file_of_set(path, Path(name), index)
        planes.append(_checked_page(path, files[name], page, index, own))
    refuse_oversized(path, page_shape, dtype, max_bytes=max_bytes, what="plane")
    wanted = TiffPlanes(path, series.shape, dtype, planes, n_page_axes=len(page_axes), offset=None)
    return wanted, series.axes


def _where_a_link_leads(path: Path) -> str:
    folder = path.resolve().parent
    return f", into {folder}: this one is a link there" if folder != path.parent.resolve() else ""


@dataclasses.dataclass(frozen=True)
class _FileOfSet:
    """One file that planes lie in; most often the one that is read."""

    path: Path
    is_first: bool
    n_bytes: int


def _file_of_set(path: Path, file: Path, index: int) -> _FileOfSet:
    """Refuse a file that only claims to belong to a set."""
    if file.resolve().parent != path.resolve().parent:
        raise DataError(
            f"{path}: plane {index} is said to be in {file}, outside the folder of this file. Refused."
        )
    return _FileOfSet(file, file.resolve() == path.resolve(), file.stat().st_size)


def _checked_page(path: Path, file: _FileOfSet, page: Any, index: int, own: dict[int, Any]) -> Plane:
    """Refuse a plane whose bytes are not all in its file, or whose directory contradicts the first one.

    `own` has the number and the layout of each directory of the file that is read, by offset.
    """
    number = None
    if file.is_first and page.offset in own:
        number, layout = own[page.offset]
        _, first = own.get(page.keyframe.offset, own[page.offset])
        if layout != first:
            raise DataError(
                f"{path}: plane {index} differs from the first one in size, type or compression "
                f"({dict(layout)} against {dict(first)}, by TIFF tag). The file is damaged."
            )
    size = file.n_bytes
    offsets, counts = page.dataoffsets, page.databytecounts
    n_segments = math.prod(page.keyframe.chunked)
    held = sum(counts)
    problem = ""
    if len(offsets) != n_segments or len(counts) != n_segments:
        problem = f"has {len(offsets)} pieces where its size asks for {n_segments}"
    elif any(count <= 0 or offset + count > size for offset, count in zip(offsets, counts, strict=True)):
        problem = f"lies outside the file, which ends at byte {size} (truncated?)"
    elif page.keyframe.compression == 1 and held * 8 < page.keyframe.size * page.keyframe.bitspersample:
        problem = f"holds {held} bytes where {page.keyframe.shape} of {page.keyframe.dtype} needs more"
    elif page.keyframe.compression in _BOUNDED and held * _MAX_EXPANSION < page.keyframe.nbytes:
        problem = f"cannot fill {page.keyframe.nbytes} bytes from {held} compressed ones"
    elif held > 2 * page.keyframe.nbytes + 65536:
        problem = f"holds {held} compressed bytes for {page.keyframe.nbytes} bytes of voxels"
    if problem:
        raise DataError(
            f"{path}: plane {index} {problem}. The file is damaged; copy it again from its source."
        )
    return Plane(file.path, page.index, page.offset if number == page.index else None)


def _name_axes(
    path: Path, data: LazyArray, letters: str, *, axes: str | None, n_names: int
) -> tuple[LazyArray, str]:
    """Turn tifffile's letters into TCZYX: samples are channels; one unnamed axis is Z, or C, or as asked."""
    sizes = dict(zip(letters, data.shape, strict=True))
    if axes is not None:
        if len(axes) != len(letters) or set(axes) - set(AXES) or len(set(axes)) != len(axes):
            raise DataError(
                f"{path}: axes={axes!r} does not fit shape {data.shape} (stored as {letters}): give one of "
                f"{AXES!r} per axis, each once."
            )
        return data, axes
    if {"S", "C"} <= sizes.keys():
        raise DataError(
            f"{path}: each of its {sizes['C']} channels is a colour picture of {sizes['S']} samples (axes {letters} of "
            f"shape {data.shape}), not a grey image. Export the channels as grey images, or each picture as one file."
        )
    letters = letters.replace("S", "C")
    unknown = [letter for letter in letters if letter not in AXES]
    if len(unknown) == 1:
        guess = "C" if n_names == sizes.get(unknown[0]) and "C" not in letters else "Z"
        if guess not in letters:
            if guess == "Z":
                _logger.warning(
                    "%s: its %d planes have no axis name; they are read as Z (for channels, save it as ImageJ "
                    "or OME-TIFF with named axes; Python: read(path, axes='CYX')).",
                    path,
                    sizes[unknown[0]],
                )
            letters, unknown = letters.replace(unknown[0], guess), []
    if unknown:
        raise DataError(
            f"{path}: axes {letters} of shape {data.shape}: {', '.join(unknown)} cannot be told apart. "
            f"Name them when reading (Python: read(path, axes=...), letters of {AXES!r})."
        )
    return data, letters


def _in_order(data: LazyArray, letters: str) -> tuple[LazyArray, str]:
    ordered = "".join(letter for letter in AXES if letter in letters)
    if ordered == letters:
        return data, letters
    return LazyView(data, [letters.index(letter) for letter in ordered]), ordered


def _cross_check(path: Path, metadata: TiffMetadata, sizes: dict[str, int], dtype: np.dtype) -> None:
    """Refuse a file whose description and whose pages tell two stories."""
    if metadata.n_planes is not None:
        found = math.prod(n for letter, n in sizes.items() if letter not in "YX")
        if found != metadata.n_planes:
            raise DataError(
                f"{path}: truncated or damaged: its {metadata.kind} metadata promise {metadata.n_planes} "
                "planes, "
                f"{found} were found. Copy the file again from its source."
            )
    for letter, n in metadata.sizes.items():
        if sizes.get(letter, 1) != n:
            raise DataError(
                f"{path}: its {metadata.kind} metadata say Size{letter}={n}, its pages have "
                f"{sizes.get(letter, 1)}. "
                "The file is damaged or was edited; export it again."
            )
    if metadata.dtype not in {None, dtype.name}:
        raise DataError(
            f"{path}: its {metadata.kind} metadata say {metadata.dtype}, its pages hold {dtype.name}. "
            "Export it again."
        )
