"""The only module that touches the zarr library: opening and creating arrays, whichever zarr is installed.

zarr 3 reads both storage formats and writes format 3 (OME-Zarr 0.5). zarr 2, which aicsimageio needs, reads
format 2 (OME-Zarr 0.4) and nothing else.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError, ResourceError
from image2reg.images.door import reading
from image2reg.images.lazy import LazyArray, box_of
from image2reg.images.limits import refuse_oversized

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ChunkWriter", "ZarrArray", "create_array", "create_group", "group_attributes"]

# Metadata of one group; a plate of 1536 wells needs less than 1 MB.
_MAX_METADATA_BYTES = 64 * 2**20


def _version() -> str:
    import zarr

    return str(zarr.__version__)


def _has_zarr_3() -> bool:
    return int(_version().split(".")[0]) >= 3


def group_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a group, from ``zarr.json`` (format 3) or ``.zattrs`` (format 2).

    Raises
    ------
    DataError
        Neither file is there, or it is not a JSON object.
    """
    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        file = path / name
        if not file.is_file():
            continue
        with reading(file, "metadata"):
            if file.stat().st_size > _MAX_METADATA_BYTES:
                raise DataError(
                    f"{file}: {file.stat().st_size} bytes of metadata; at most {_MAX_METADATA_BYTES}."
                )
            content = json.loads(file.read_text(encoding="utf-8"))
            attributes = content.get(key, {}) if key else content
            if not isinstance(attributes, dict):
                raise DataError(f"{file}: attributes are {type(attributes).__name__}, not a JSON object.")
            return attributes
    if not path.name.lower().endswith(".zarr"):
        raise DataError(
            f"{path}: a folder is no image, unless it is an OME-Zarr group: it has neither zarr.json (0.5) nor .zattrs "
            "(0.4). Give one image of it."
        )
    raise DataError(
        f"{path}: not an OME-Zarr group: it has neither zarr.json (0.5) nor .zattrs (0.4). "
        "Give the folder that holds one of them."
    )


class ZarrArray(LazyArray):
    """A zarr array on disk; every read opens the door to `DataError`.

    Parameters
    ----------
    path : Path
        Directory of the array.
    max_bytes : int, optional
        One chunk must not be larger than this.

    Raises
    ------
    DataError
        Not an array, or damaged.
    ResourceError
        Its metadata declare a chunk over the limit.
    """

    def __init__(self, path: Path, *, max_bytes: int | None = None) -> None:
        import zarr

        self.path = path
        with reading(path, "zarr array"):
            if (path / "zarr.json").is_file() and not _has_zarr_3():
                raise DataError(
                    f"{path}: zarr format 3 (OME-Zarr 0.5) needs zarr 3; this environment has {_version()} "
                    "because "
                    "of aicsimageio. Read it in an environment without aicsimageio."
                )
            self._array = zarr.open_array(str(path), mode="r")
            super().__init__(self._array.shape, self._array.dtype)
            self._chunks = tuple(int(n) for n in self._array.chunks)
            if self.dtype.kind not in "buif":
                raise DataError(
                    f"{path}: voxels of type {self.dtype} are not supported; allowed: integers, floats."
                )
            refuse_oversized(path, self._chunks, self.dtype, max_bytes=max_bytes, what="chunk")

    @property
    def chunks(self) -> tuple[int, ...]:
        """Chunk lengths, as stored."""
        return self._chunks

    def _read(self, box: tuple[slice, ...]) -> NDArray[Any]:
        with reading(self.path, "chunks"):
            return np.asarray(self._array[box])


def create_group(path: Path, attributes: dict[str, Any]) -> None:
    """Make a format 3 group in directory `path` (made when missing)."""
    path.mkdir(parents=True, exist_ok=True)
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    (path / "zarr.json").write_text(text, encoding="utf-8")


class ChunkWriter:
    """Writes boxes into a zarr array, one chunk after the other.

    zarr itself writes the chunks of a box at the same time and, when one fails, leaves the others running:
    they would write into a folder that is being removed. One at a time also needs the memory of one chunk
    only.

    Parameters
    ----------
    array : zarr array
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(int(n) for n in array.shape)
        self.chunks = tuple(int(n) for n in array.chunks)

    def __setitem__(self, index: Any, values: Any) -> None:
        """Write `values` to a box (integers and slices without steps)."""
        box, rest = box_of(index, self.shape)
        if any(isinstance(part, slice) and part.step != 1 for part in rest):
            raise IndexError("an OME-Zarr is written without steps.")
        n_kept = [part.stop - part.start for part, left in zip(box, rest, strict=True) if left != 0]
        values = np.broadcast_to(values, n_kept).reshape([part.stop - part.start for part in box])
        edges = [
            [part.start, *range((part.start // size + 1) * size, part.stop, size), part.stop]
            for part, size in zip(box, self.chunks, strict=True)
        ]
        for cuts in itertools.product(*(itertools.pairwise(axis) for axis in edges)):
            target = tuple(slice(low, high) for low, high in cuts)
            source = tuple(
                slice(low - part.start, high - part.start)
                for (low, high), part in zip(cuts, box, strict=True)
            )
            self._array[target] = values[source]


def create_array(
    path: Path, shape: Sequence[int], dtype: Any, chunks: Sequence[int], names: Sequence[str]
) -> ChunkWriter:
    """Make an empty format 3 array; index it to write.

    Raises
    ------
    ResourceError
        zarr 3 is not installed.
    """
    import zarr

    if not _has_zarr_3():
        raise ResourceError(
            f"{path}: writing OME-Zarr 0.5 needs zarr 3; this environment has {_version()} because of "
            "aicsimageio. Write OME-TIFF, or work in an environment without aicsimageio."
        )
    array = zarr.create_array(
        store=str(path),
        shape=tuple(shape),
        dtype=np.dtype(dtype),
        chunks=tuple(chunks),
        dimension_names=list(names),
    )
    return ChunkWriter(array)
