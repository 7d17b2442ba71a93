"""Decode TIFF pages, also where tifffile alone cannot."""

from __future__ import annotations

import contextlib
import lzma
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.pictures import open_picture

if TYPE_CHECKING:
    from pathlib import Path

    import tifffile
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

__all__ = ["OpenFiles", "decode_page"]

_DEFLATE, _LZMA = {8, 32946}, 34925
_MIN_IS_WHITE, _PALETTE = 0, 3
# Compressed segments up to this size cannot expand far enough to matter (deflate: at most 1032 times).
_SMALL_SEGMENT_BYTES = 2**20


class OpenFiles(contextlib.ExitStack):
    """TIFF files opened once per read, closed together."""

    def __init__(self) -> None:
        super().__init__()
        self._tiffs: dict[Path, tifffile.TiffFile] = {}
        self._pictures: dict[Path, ImageFile] = {}

    def tiff(self, path: Path) -> tifffile.TiffFile:
        """Give the file as tifffile opens it."""
        import tifffile

        if path not in self._tiffs:
            self._tiffs[path] = self.enter_context(tifffile.TiffFile(path))
        return self._tiffs[path]

    def picture(self, path: Path) -> ImageFile:
        """Give the file as Pillow opens it; opened for each page, it would look for each from the first one on."""
        if path not in self._pictures:
            self._pictures[path] = self.enter_context(open_picture(path, ("TIFF",)))
        return self._pictures[path]


def decode_page(file: Path, files: OpenFiles, index: int) -> NDArray[Any]:
    """Decode page `index` of a file.

    tifffile needs the imagecodecs package for LZW and a few other codecs. Where that is missing, Pillow
    (scikit-image brings it) decodes the page instead.

    Raises
    ------
    DataError
        Neither can decode it, or a segment inflates to more than its part of the page (a bomb).
    """
    tif = files.tiff(file)
    page: Any = tif.pages[index]
    _refuse_bomb(file, tif, page, index)
    try:
        return np.asarray(page.asarray())
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
    return _decode_with_pillow(file, files, page, index)


def _refuse_bomb(file: Path, tif: tifffile.TiffFile, page: Any, index: int) -> None:
    """Inflate with a limit what could grow beyond measure, before anything inflates it without one."""
    keyframe = page.keyframe
    codec = int(keyframe.compression)
    if codec not in _DEFLATE and codec != _LZMA:
        return
    n_samples = int(np.prod(keyframe.chunks))
    expected = -(-n_samples * keyframe.bitspersample // 8)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if codec in _DEFLATE and count <= _SMALL_SEGMENT_BYTES:
            continue
        tif.filehandle.seek(offset)
        data = tif.filehandle.read(count)
        if (_exceeds_lzma if codec == _LZMA else _exceeds_deflate)(data, expected):
            raise DataError(
                f"{file}: plane {index}: a compressed segment holds more than the {expected} bytes its "
                "metadata declare. The file is damaged or hostile; it is not decoded."
            )


def _exceeds_deflate(data: bytes, limit: int) -> bool:
    inflater, n_inflated = zlib.decompressobj(), 0
    for start in range(0, len(data), 2**20):
        piece = data[start : start + 2**20]
        while piece and n_inflated <= limit and not inflater.eof:
            n_inflated += len(inflater.decompress(piece, 2**20))
            piece = inflater.unconsumed_tail
    return n_inflated > limit


def _exceeds_lzma(data: bytes, limit: int) -> bool:
    """Whether the streams, which may follow each other, hold more than `limit` bytes."""
    n_inflated = 0
    while data and n_inflated <= limit:
        inflater = lzma.LZMADecompressor()
        n_inflated += len(inflater.decompress(data, 2**20))
        while n_inflated <= limit and not (inflater.eof or inflater.needs_input):
            n_inflated += len(inflater.decompress(b"", 2**20))
        data = inflater.unused_data
    return n_inflated > limit


def _decode_with_pillow(file: Path, files: OpenFiles, page: Any, index: int) -> NDArray[Any]:
    keyframe = page.keyframe
    codec, n_bits = getattr(keyframe.compression, "name", keyframe.compression), int(keyframe.bitspersample)
    try:
        picture = files.picture(file)
        picture.seek(index)
        values = np.array(picture)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{file}: plane {index} is compressed with {codec}, which needs the imagecodecs package: "
            "pip install imagecodecs. Or export the file uncompressed."
        ) from error
    # Pillow keeps 8 bits of deep colours and 32 of floats, and spreads 2 and 4 bits of grey over 8.
    spread = n_bits in {2, 4} and int(keyframe.photometric) != _PALETTE
    if values.shape != keyframe.shape or values.itemsize < keyframe.dtype.itemsize or spread:
        raise DataError(
            f"{file}: plane {index} ({codec}) decodes to {values.shape} {values.dtype}, its metadata say "
            f"{keyframe.shape} {keyframe.dtype} of {n_bits} bits. Install the imagecodecs package, or export the file "
            "uncompressed."
        )
    values = values.astype(keyframe.dtype, copy=False)
    # Pillow shows what is white as the largest value; tifffile, as ImageJ, gives what is stored.
    return np.invert(values) if int(keyframe.photometric) == _MIN_IS_WHITE and n_bits in {1, 8} else values
