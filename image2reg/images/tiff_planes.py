"""The planes of TIFF files as one lazy array."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import logging
import math
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.door import reading
from image2reg.images.lazy import LazyArray
from image2reg.images.tiff_codec import OpenFiles, decode_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Plane", "TiffPlanes", "quiet"]

# Decoded planes kept for the next box, of all images together: of a data set that stays on disk, thousands are open.
_CACHE_BYTES = 256 * 2**20
# Of this thread only: a logger that is switched off and on again is so for all, in whatever order they end.
_IS_QUIET: contextvars.ContextVar[bool] = contextvars.ContextVar("is_quiet", default=False)
logging.getLogger("tifffile").addFilter(lambda record: not _IS_QUIET.get())


@dataclasses.dataclass(frozen=True)
class Plane:
    """Where one plane lies: a page of a file, and where the page's directory lies if that is known."""

    file: Path
    page: int
    offset: int | None = None


class _Cache:
    """Decoded planes, so that neighbouring tiles do not decode one again; the longest unused leave first."""

    def __init__(self) -> None:
        self._planes: OrderedDict[tuple[int, Plane], NDArray[Any]] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.RLock()  # `forget` is called wherever an image is collected, also inside `put`

    def get(self, owner: int, plane: Plane) -> NDArray[Any] | None:
        """Give the plane, None where it is not held."""
        with self._lock:
            if (owner, plane) not in self._planes:
                return None
            self._planes.move_to_end((owner, plane))
            return self._planes[owner, plane]

    def put(self, owner: int, plane: Plane, values: NDArray[Any]) -> None:
        """Hold a plane; one is held whatever its size."""
        with self._lock:
            self._remove((owner, plane))
            while self._planes and self._n_bytes + values.nbytes > _CACHE_BYTES:
                self._remove(next(iter(self._planes)))
            self._planes[owner, plane] = values
            self._n_bytes += values.nbytes

    def forget(self, owner: int) -> None:
        """Drop the planes of an image that is gone."""
        with self._lock:
            for key in [key for key in self._planes if key[0] == owner]:
                self._remove(key)

    def _remove(self, key: tuple[int, Plane]) -> None:
        held = self._planes.pop(key, None)
        self._n_bytes -= 0 if held is None else held.nbytes


_CACHE = _Cache()


class TiffPlanes(LazyArray):
    """Planes of a TIFF file, decoded one by one when a box needs them.

    Parameters
    ----------
    path : Path
    shape : lengths of the leading axes, then of one page
    dtype : numpy dtype
    planes : one `Plane` for each position of the leading axes
    n_page_axes : int
        Trailing axes that one page holds, 2 or (with samples) 3.
    offset : int, optional
        First byte of the voxels when all of them follow each other uncompressed; they are mapped then.
    """

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        dtype: np.dtype,
        planes: Sequence[Plane],
        *,
        n_page_axes: int,
        offset: int | None,
    ) -> None:
        super().__init__(shape, dtype)
        self.path, self.planes, self.offset, self.stored = path, list(planes), offset, dtype
        self.lead, self.page_shape = self.shape[:-n_page_axes], self.shape[-n_page_axes:]
        weakref.finalize(self, _CACHE.forget, id(self)).atexit = False

    def _read(self, box: tuple[slice, ...]) -> NDArray[Any]:
        with reading(self.path, "planes"), quiet():
            if self.offset is not None:
                mapped = np.memmap(self.path, self.stored, "r", self.offset, self.shape)
                return np.array(mapped[box], dtype=self.dtype)
            values = np.empty([part.stop - part.start for part in box], dtype=self.dtype)
            n_lead = len(self.lead)
            grid = np.arange(math.prod(self.lead)).reshape(self.lead)[box[:n_lead]]
            with OpenFiles() as files:
                for position, index in np.ndenumerate(grid):
                    values[position] = self._plane(files, self.planes[index])[box[n_lead:]]
            return values

    def _plane(self, files: OpenFiles, plane: Plane) -> NDArray[Any]:
        held = _CACHE.get(id(self), plane)
        if held is not None:
            return held
        values = decode_page(plane.file, files, plane.page, plane.offset)
        if values.size != math.prod(self.page_shape) or values.dtype != self.dtype:
            raise DataError(
                f"{plane.file}: plane {plane.page} decodes to {values.shape} {values.dtype}; its metadata "
                "said "
                f"{self.page_shape} {self.dtype}. The file is damaged; copy or export it again."
            )
        values = values.reshape(self.page_shape)
        _CACHE.put(id(self), plane, values)
        return values


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep tifffile's log of a damaged file off the terminal; what matters of it is in our one message."""
    token = _IS_QUIET.set(True)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _IS_QUIET.reset(token)
