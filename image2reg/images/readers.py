"""One `read` for every format; each format's own reader is chosen by what the path is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from image2reg.errors import DataError
from image2reg.images.door import reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from image2reg.images.image import Image
    from image2reg.images.units import VoxelSize

__all__ = ["read"]

_TIFF = (".tif", ".tiff", ".tf8", ".tf2", ".btf", ".stk", ".lsm")
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


def read(
    path: Path | str,
    *,
    channels: Sequence[str] | None = None,
    voxel_um: VoxelSize | None = None,
    axes: str | None = None,
    max_bytes: int | None = None,
) -> Image:
    """Open an image; where the format allows, only its metadata are read.

    Parameters
    ----------
    path : Path or str
        OME-TIFF, ImageJ, MetaXpress, MetaMorph or plain TIFF (``.tif``, ``.tiff``, ``.stk``); Zeiss ``.lsm``;
        OME-Zarr 0.4 or 0.5 (a directory; for a plate give ``plate.zarr/row/column/field``); PNG, JPEG; anything
        else (``.czi``, ``.nd2``, ``.lif`` ...) through bioio or aicsimageio, whichever is installed.
    channels : sequence of str, optional
        Names for the channels, replacing the file's.
    voxel_um : (z, y, x), micrometres, optional
        Replaces the file's voxel size; None in one place keeps the file's value there.
    axes : str, optional
        Letters of ``"TCZYX"`` in the file's own order, for a TIFF that does not name its axes. Without it one
        unnamed axis is read as Z, or as C when `channels` has as many names.
    max_bytes : int, optional
        Refuse before decoding what is larger: a plane or chunk now, the whole image at `Image.load`. A
        quarter of the memory this process may use when None.

    Returns
    -------
    Image
        Axes in the order TCZYX; a voxel size that the file does not give is None.

    Raises
    ------
    DataError
        Missing, damaged, truncated, of unknown format, or without the axes or channels asked for.
    ResourceError
        Over `max_bytes`.
    """
    path = Path(path)
    with reading(path):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder (seen from {Path.cwd()}). Check the path.")
        image = _open(path, axes=axes, max_bytes=max_bytes, n_names=len(channels or ()))
    if voxel_um is not None:
        given = tuple(voxel_um)
        if len(given) != 3:
            raise DataError(f"{path}: voxel_um={given} must be three sizes (z, y, x) in micrometres.")
        kept = zip(given, image.voxel_um, strict=True)
        image = image.replace(voxel_um=tuple(old if new is None else new for new, old in kept))
    if channels is not None:
        image = image.replace(channels=tuple(channels))
    return image


def _open(path: Path, *, axes: str | None, max_bytes: int | None, n_names: int) -> Image:
    suffix = path.suffix.lower()
    if path.is_dir():
        from image2reg.images.ome_zarr import read_ome_zarr

        return read_ome_zarr(path, max_bytes=max_bytes)
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy it again from its source.")
    if suffix in _TIFF:
        from image2reg.images.tiff import read_tiff

        return read_tiff(path, axes=axes, max_bytes=max_bytes, n_names=n_names)
    if suffix in _PICTURES:
        from image2reg.images.pictures import read_picture

        return read_picture(path, max_bytes=max_bytes)
    from image2reg.images.adapter import read_foreign

    return read_foreign(path, max_bytes=max_bytes)
