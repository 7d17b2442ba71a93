"""Decode one TIFF page, also where tifffile alone cannot."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.pictures import open_picture

if TYPE_CHECKING:
    from pathlib import Path

    import tifffile
    from numpy.typing import NDArray

__all__ = ["decode_page"]

_DEFLATE = {8, 32946}
# Compressed segments up to this size cannot expand far enough to matter (deflate: at most 1032 times).
_SMALL_SEGMENT_BYTES = 2**20


def decode_page(file: Path, tif: tifffile.TiffFile, index: int) -> NDArray[Any]:
    """Decode page `index`.

    tifffile needs the imagecodecs package for LZW and a few other codecs. Where that is missing, Pillow
    (scikit-image brings it) decodes the page instead.

    Raises
    ------
    DataError
        Neither can decode it, or a segment inflates to more than its part of the page (a bomb).
    """
    page: Any = tif.pages[index]
    if int(page.keyframe.compression) in _DEFLATE:
        _refuse_bomb(file, tif, page, index)
    try:
        return np.asarray(page.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    return _decode_with_pillow(file, page, index)


def _refuse_bomb(file: Path, tif: tifffile.TiffFile, page: Any, index: int) -> None:
    """Inflate large segments with a limit before anything inflates them without one."""
    keyframe = page.keyframe
    n_samples = int(np.prod(keyframe.chunks))
    expected = -(-n_samples * keyframe.bitspersample // 8)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count <= _SMALL_SEGMENT_BYTES:
            continue
        inflater, left, n_inflated = zlib.decompressobj(), count, 0
        tif.filehandle.seek(offset)
        while not inflater.eof:
            data = inflater.unconsumed_tail
            if not data:
                data = tif.filehandle.read(min(left, 2**20))
                left -= len(data)
            if not data:
                break
            n_inflated += len(inflater.decompress(data, 2**20))
            if n_inflated > expected:
                raise DataError(
                    f"{file}: plane {index}: a compressed segment holds more than the {expected} bytes its "
                    "metadata declare. The file is damaged or hostile; it is not decoded."
                )


def _decode_with_pillow(file: Path, page: Any, index: int) -> NDArray[Any]:
    codec = getattr(page.keyframe.compression, "name", page.keyframe.compression)
    try:
        with open_picture(file) as picture:
            picture.seek(index)
            values = np.array(picture)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{file}: plane {index} is compressed with {codec}, which needs the imagecodecs package: "
            "pip install imagecodecs. Or export the file uncompressed."
        ) from error
    if values.shape != page.keyframe.shape:
        raise DataError(
            f"{file}: plane {index} ({codec}) decodes to {values.shape}, its metadata say "
            f"{page.keyframe.shape}. Install the imagecodecs package, or export the file uncompressed."
        )
    return values.astype(page.keyframe.dtype, copy=False)
