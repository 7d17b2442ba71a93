"""PNG and JPEG pictures as two-dimensional images."""

from __future__ import annotations

import contextlib
import threading
from typing import IO, TYPE_CHECKING

import numpy as np

from image2reg.errors import DataError
from image2reg.images.door import reading
from image2reg.images.image import Image
from image2reg.images.limits import refuse_oversized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.ImageFile import ImageFile

__all__ = ["open_picture", "read_picture"]

# What the names stand for that `read` takes for pictures; Pillow has more formats, and runs programs for some.
_FORMATS = ("PNG", "JPEG", "BMP")
_GREY = {"L": np.uint8, "1": np.bool_, "I;16": np.uint16, "I;16B": np.uint16, "I": np.int32, "F": np.float32}


@contextlib.contextmanager
def open_picture(path: Path | IO[bytes], formats: tuple[str, ...] = _FORMATS) -> Iterator[ImageFile]:
    """Open with Pillow, without its warning about large pictures: our own limit is checked instead."""
    from PIL import Image as Picture

    with _no_limit(), Picture.open(path, formats=formats) as picture:
        yield picture


class _NoLimit:
    """Pillow's limit is one for the process: the first thread in takes it away, the last one out puts it back."""

    def __init__(self) -> None:
        self._lock, self._n_inside = threading.Lock(), 0
        self._limit: int | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        from PIL import Image as Picture

        with self._lock:
            if not self._n_inside:
                self._limit, Picture.MAX_IMAGE_PIXELS = Picture.MAX_IMAGE_PIXELS, None
            self._n_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1
                if not self._n_inside:
                    Picture.MAX_IMAGE_PIXELS = self._limit


_no_limit = _NoLimit()


def read_picture(path: Path, *, max_bytes: int | None = None) -> Image:
    """Decode a picture: grey as (Y, X), colour as (C, Y, X) uint8 with channels R, G, B.

    Palettes are expanded, those of greys only to grey, and transparency is dropped. A picture has no voxel size.

    Raises
    ------
    DataError
        Damaged or truncated, it holds several frames, or more than 8 bits of a colour.
    ResourceError
        Larger than `max_bytes` decoded; checked from its header.
    """
    with reading(path, "picture"), open_picture(path) as picture:
        grey = _GREY.get(picture.mode)
        shape = picture.size[::-1] if grey else (*picture.size[::-1], 4)
        refuse_oversized(path, shape, grey or np.uint8, max_bytes=max_bytes)
        n_frames = int(getattr(picture, "n_frames", 1))
        if n_frames > 1:
            raise DataError(f"{path}: holds {n_frames} frames. Save each as one file, or all as one TIFF.")
        if grey is not None:
            return Image(np.array(picture), "YX", source=str(path), max_bytes=max_bytes)
        if any("16" in str(tile[3]) for tile in picture.tile):
            raise DataError(
                f"{path}: holds 16 bits per colour, of which 8 would be read. Save it as TIFF, or each channel as "
                "a grey picture."
            )
        if picture.mode == "LA" or (picture.mode == "P" and _is_grey(picture.getpalette("RGB") or [])):
            return Image(np.array(picture.convert("L")), "YX", source=str(path), max_bytes=max_bytes)
        values = np.ascontiguousarray(np.moveaxis(np.array(picture.convert("RGB")), -1, 0))
    return Image(values, "CYX", channels=("R", "G", "B"), source=str(path), max_bytes=max_bytes)


def _is_grey(palette: list[int]) -> bool:
    """Whether red, green and blue are the same: as ImageJ saves pictures of 8 bits."""
    return palette[0::3] == palette[1::3] == palette[2::3]
