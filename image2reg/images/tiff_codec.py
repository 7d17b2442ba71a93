"""Decode TIFF pages, also where tifffile alone cannot."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import lzma
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.pictures import open_picture

if TYPE_CHECKING:
    from pathlib import Path

    import tifffile
    from numpy.typing import NDArray

__all__ = ["OpenFiles", "decode_page"]

_DEFLATE, _LZMA, _ZSTANDARD = {8, 32946}, 34925, {50000, 34926}
_MIN_IS_WHITE, _PALETTE = 0, 3


class OpenFiles(contextlib.ExitStack):
    """TIFF files opened once per read, closed together."""

    def __init__(self) -> None:
        super().__init__()
        self._tiffs: dict[Path, tifffile.TiffFile] = {}

    def page(self, path: Path, index: int, offset: int | None) -> Any:
        """Give a page as tifffile reads it: at its offset if that is known, else by going through those before it."""
        import tifffile

        if path not in self._tiffs:
            self._tiffs[path] = self.enter_context(tifffile.TiffFile(path))
        tif = self._tiffs[path]
        if offset is None:
            return tif.pages[index]
        tif.filehandle.seek(offset)
        return tifffile.TiffPage(tif, index)


def decode_page(file: Path, files: OpenFiles, index: int, offset: int | None) -> NDArray[Any]:
    """Decode page `index` of a file, whose directory lies at `offset` if that is known.

    tifffile needs the imagecodecs package for LZW and a few other codecs. Where that is missing, Pillow
    (scikit-image brings it) decodes the page instead.

    Raises
    ------
    DataError
        Neither can decode it, or a segment inflates to more than its part of the page (a bomb).
    """
    page: Any = files.page(file, index, offset)
    # Without imagecodecs, tifffile inflates Zstandard without a limit, or, before Python 3.14, not at all.
    if int(page.keyframe.compression) in _ZSTANDARD and importlib.util.find_spec("imagecodecs") is None:
        return _decode_with_pillow(file, page, index)
    _inflate_with_limit(file, page.keyframe, index)
    try:
        return np.asarray(page.asarray())
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
    return _decode_with_pillow(file, page, index)


def _inflate_with_limit(file: Path, keyframe: Any, index: int) -> None:
    """Have tifffile decode what is inflated here, where it would inflate without a limit."""
    codec = int(keyframe.compression)
    inflate = _inflate_lzma if codec == _LZMA else _inflate_deflate
    if (codec not in _DEFLATE and codec != _LZMA) or keyframe.fillorder != 1:
        return
    row = (
        keyframe.chunks[-2:]
        if keyframe.planarconfig == 1 and keyframe.samplesperpixel > 1
        else keyframe.chunks[-1:]
    )
    n_rows = math.prod(keyframe.chunks) // math.prod(row)
    limit = n_rows * -(-math.prod(row) * keyframe.bitspersample // 8)
    keyframe.__dict__.pop("decode", None)
    keyframe.compression = 1
    plain = keyframe.decode
    keyframe.compression = codec

    def decode(data: bytes, *position: int, **options: Any) -> Any:
        inflated = inflate(data, limit + 1)
        if len(inflated) > limit:
            raise DataError(
                f"{file}: plane {index}: a compressed segment holds more than the {limit} bytes its "
                "metadata declare. The file is damaged or hostile; it is not decoded."
            )
        return plain(inflated, *position, **options)

    keyframe.decode = decode


def _inflate_deflate(data: bytes, limit: int) -> bytes:
    """Give the first `limit` bytes of a stream."""
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, limit)
    if len(inflated) < limit and not inflater.eof:
        raise zlib.error("the stream ends early")
    return inflated


def _inflate_lzma(data: bytes, limit: int) -> bytes:
    """Give the first `limit` bytes of streams, which may follow each other."""
    parts: list[bytes] = []
    while data and limit > 0:
        inflater = lzma.LZMADecompressor()
        try:
            parts.append(inflater.decompress(data, limit))
        except lzma.LZMAError:
            if not parts:
                raise
            break  # not a stream any more
        limit -= len(parts[-1])
        if limit > 0 and not inflater.eof:
            raise lzma.LZMAError("the stream ends early")
        data = inflater.unused_data
    return b"".join(parts)


class _PageAlone(io.BufferedReader):
    """A TIFF whose header leads to one page; from the first page, Pillow would read all those before it."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(io.FileIO(path))
        header = super().read(16)
        order = "<" if header[:2] == b"II" else ">"
        is_big = struct.unpack(order + "H", header[2:4])[0] == 43
        self._header = header[:8] if is_big else header[:4]
        self._header += struct.pack(order + ("Q" if is_big else "I"), offset)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as from the file, but for the header."""
        place = self.tell()
        found = super().read(size)
        return self._header[place : place + len(found)] + found[max(0, len(self._header) - place) :]


def _decode_with_pillow(file: Path, page: Any, index: int) -> NDArray[Any]:
    keyframe = page.keyframe
    codec, n_bits = getattr(keyframe.compression, "name", keyframe.compression), int(keyframe.bitspersample)
    try:
        with _PageAlone(file, page.offset) as alone, open_picture(alone, ("TIFF",)) as picture:
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
