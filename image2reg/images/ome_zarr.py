"""OME-Zarr images: read lazily (0.4, 0.5), written block by block (0.5)."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.atomic import atomic_directory
from image2reg.errors import ConfigurationError
from image2reg.images.door import reading
from image2reg.images.image import AXES, Image
from image2reg.images.lazy import LazyArray, LazyView
from image2reg.images.ome_zarr_metadata import image_attributes, read_multiscale
from image2reg.images.streaming import pieces
from image2reg.images.zarr_store import ChunkWriter, ZarrArray, create_array, create_group, group_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import DTypeLike, NDArray

    from image2reg.images.units import VoxelSize

__all__ = ["OmeZarrWriter", "copy_voxels", "default_chunks", "image_store", "read_ome_zarr", "write_ome_zarr"]

# One chunk of float32 is at most 1 MiB: large enough for fast disks, small enough to write a strip of tiles
# through.
_VOLUME_CHUNK = {"T": 1, "C": 1, "Z": 16, "Y": 128, "X": 128}
_PLANE_CHUNK = {"T": 1, "C": 1, "Z": 1, "Y": 512, "X": 512}


def read_ome_zarr(path: Path, *, max_bytes: int | None = None) -> Image:
    """Open the full resolution of an OME-Zarr image; only metadata are read.

    Raises
    ------
    DataError
        Damaged, of another version, or a plate.
    ResourceError
        One chunk is over `max_bytes`.
    """
    with reading(path, "OME-Zarr"):
        said = read_multiscale(path, group_attributes(path))
        data: LazyArray = ZarrArray(path / said.path, max_bytes=max_bytes)
        axes = "".join(letter for letter in AXES if letter in said.axes)
        if axes != said.axes and len(said.axes) == data.ndim:
            data = LazyView(data, [said.axes.index(letter) for letter in axes])
        return Image(data, axes, said.voxel_um, said.channels, str(path), max_bytes, said.annotations)


def default_chunks(shape: Sequence[int], axes: str) -> tuple[int, ...]:
    """Chunks of one channel and time point: 16 x 128 x 128 of a stack, 512 x 512 of a plane, at most."""
    sizes = dict(zip(axes, shape, strict=True))
    largest = _VOLUME_CHUNK if sizes.get("Z", 1) > 1 else _PLANE_CHUNK
    return tuple(min(n, largest[letter]) for letter, n in sizes.items())


def image_store(directory: Path, image: Image, name: str, chunks: Sequence[int] | None = None) -> ChunkWriter:
    """Write the metadata of a 0.5 image into `directory`; return its empty array. No voxel is read."""
    create_group(directory, image_attributes(image, name))
    sizes = default_chunks(image.shape, image.axes) if chunks is None else tuple(chunks)
    names = [letter.lower() for letter in image.axes]
    return create_array(directory / "0", image.shape, image.dtype, sizes, names)


def _image_name(path: Path) -> str:
    return path.name.removesuffix(".zarr").removesuffix(".ome")


def copy_voxels(image: Image, array: ChunkWriter) -> None:
    """Write all voxels of an image into an array from `image_store`, piece by piece."""
    for box in pieces(image.shape, image.dtype, array.chunks):
        array[box] = np.asarray(image.data[box])


class _Unwritten(LazyArray):
    """Stands for voxels that are about to be written."""

    def _read(self, box: tuple[slice, ...]) -> NDArray[Any]:
        raise ConfigurationError(f"voxels {box} are not written yet.")


class OmeZarrWriter:
    """Write an OME-Zarr 0.5 image piece by piece, in memory that does not grow with it.

    Use as a context manager. The image appears under its final name when the block ends without an error;
    until then, and after an error, nothing is there (and what was there before stays).

    Parameters
    ----------
    path : Path or str
        Usually ``name.ome.zarr``.
    shape : lengths in the order of `axes`
    axes : str
        Some of ``"TCZYX"`` in that order, ending in ``"YX"``.
    dtype : numpy dtype
    voxel_um : (z, y, x), micrometres, None where unknown
    channels : sequence of str
        One name per channel.
    annotations : mapping of str to str, optional
        As `Image.annotations`.
    chunks : lengths, optional
        `default_chunks` when None. Pieces that are whole chunks write fastest.
    overwrite : bool
        Replace an existing image once the new one is complete.

    Raises
    ------
    DataError
        `path` exists and `overwrite` is False; or shape, axes and names do not fit together.
    ResourceError
        The disk is full or read-only, or zarr 3 is not installed.

    Examples
    --------
    >>> with OmeZarrWriter("out.ome.zarr", shape=(64, 512, 512), axes="ZYX", dtype="float32",
    ...                    voxel_um=(0.5, 0.1, 0.1), channels=["DNA"]) as out:  # doctest: +SKIP
    ...     out[0:16, :, :] = block
    """

    def __init__(
        self,
        path: Path | str,
        *,
        shape: Sequence[int],
        axes: str,
        dtype: DTypeLike,
        voxel_um: VoxelSize,
        channels: Sequence[str],
        annotations: Mapping[str, str] | None = None,
        chunks: Sequence[int] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.image = Image(
            _Unwritten(shape, np.dtype(dtype)),
            axes,
            voxel_um,
            tuple(channels),
            str(path),
            None,
            annotations or {},
        )
        self._chunks, self._overwrite = chunks, overwrite
        self._exit = contextlib.ExitStack()
        self._array: ChunkWriter | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths in the order of the axes."""
        return self.image.shape

    def __enter__(self) -> OmeZarrWriter:
        """Make the temporary directory and its metadata."""
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(atomic_directory(self.path, overwrite=self._overwrite))
            self._array = image_store(directory, self.image, _image_name(self.path), self._chunks)
            self._exit = stack.pop_all()
        return self

    def __setitem__(self, index: Any, values: NDArray[Any]) -> None:
        """Write `values` to a box, indexed as an array is."""
        if self._array is None:
            raise ConfigurationError(f"{self.path}: write inside 'with OmeZarrWriter(...) as out:'.")
        self._array[index] = values

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Publish the image, or remove what was written when an error came."""
        self._array = None
        return self._exit.__exit__(kind, error, trace)


def write_ome_zarr(image: Image, path: Path, *, overwrite: bool = False) -> None:
    """Write an image as OME-Zarr 0.5; a lazy one is streamed. Raises as `OmeZarrWriter` does."""
    with atomic_directory(path, overwrite=overwrite) as directory:
        copy_voxels(image, image_store(directory, image, _image_name(path)))
