"""Every format we do not read ourselves (CZI, ND2, LIF ...): through bioio or aicsimageio, as installed."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.door import reading
from image2reg.images.image import Image
from image2reg.images.lazy import LazyArray, LazyView
from image2reg.images.limits import refuse_oversized

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_foreign"]

_logger = logging.getLogger(__name__)

# Tried in this order: bioio is the maintained successor of aicsimageio and offers the same properties.
_LIBRARIES = {"bioio": "BioImage", "aicsimageio": "AICSImage"}


class _DaskVoxels(LazyArray):
    """A dask array of one of the libraries, computed box by box."""

    def __init__(self, path: Path, array: Any) -> None:
        super().__init__(array.shape, array.dtype)
        self.path, self._array = path, array

    def _read(self, box: tuple[slice, ...]) -> NDArray[Any]:
        with reading(self.path, "voxels"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            part = self._array[box]
            return np.asarray(part.compute() if hasattr(part, "compute") else part)


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ValueError:  # in sys.modules without a spec
        return True


def read_foreign(path: Path, *, max_bytes: int | None = None) -> Image:
    """Open an image with bioio, else aicsimageio; only metadata are read.

    The first scene is taken, with a warning where there are several. Axes T, C and Z of length one are
    dropped, as for TIFF; colour samples are channels.

    Raises
    ------
    DataError
        Neither library is installed, or none of the installed ones reads the file; the message has their
        reasons.
    ResourceError
        One chunk is over `max_bytes`.
    """
    if path.suffix.lower() == ".zip":
        raise DataError(
            f"{path}: archives are not read. Unpack it, and give what is in it (an OME-Zarr is a folder)."
        )
    installed = [library for library in _LIBRARIES if _is_installed(library)]
    if not installed:
        kind = path.suffix or "a name without suffix"
        raise DataError(
            f"{path}: {kind} is not a built-in format (.tif, .ome.tiff, .stk, .lsm, .zarr, .png, .jpg). Others "
            "are "
            "read through bioio or aicsimageio, and neither is installed: pip install "
            "'virtualstain[bioio]' and the "
            "plug-in of the format (for .czi: bioio-czi), or, in an environment of its own, "
            "pip install 'virtualstain[aics]'. Or export the image as OME-TIFF."
        )
    reasons = []
    for library in installed:
        try:
            with reading(path, f"image through {library}"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                opened = getattr(importlib.import_module(library), _LIBRARIES[library])(path)
                return _as_image(path, opened, max_bytes)
        except DataError as error:
            reasons.append(f"{library}: {error.__cause__ or error}")
    raise DataError(
        f"{path}: no installed library could read it ({'; '.join(reasons)}). With bioio, install the "
        "plug-in of "
        "the format (for .czi: bioio-czi); otherwise export the image as OME-TIFF."
    )


def _as_image(path: Path, opened: Any, max_bytes: int | None) -> Image:
    stored = str(opened.dims.order)
    samples = "S" in stored and opened.dims.S > 1
    letters = "TCZYXS" if samples else "TCZYX"
    array = opened.get_image_dask_data(letters)
    largest = tuple(max(sizes) for sizes in array.chunks) if hasattr(array, "chunks") else array.shape
    refuse_oversized(path, largest, array.dtype, max_bytes=max_bytes, what="chunk")
    scenes = tuple(getattr(opened, "scenes", ()))
    if len(scenes) > 1:
        _logger.warning("%s: holds %d images; the first one, %s, is read.", path, len(scenes), scenes[0])
    names = tuple(str(name) for name in (opened.channel_names or ()))
    sizes = dict(zip(letters, array.shape, strict=True))
    if samples:
        if sizes["C"] > 1:
            raise DataError(
                f"{path}: {sizes['C']} channels of {sizes['S']} colour samples. Export it as grey channels."
            )
        letters = letters.replace("C", "_").replace("S", "C")
        names = ("R", "G", "B", "A")[: sizes["S"]] if sizes["S"] <= 4 else ()
    source = _DaskVoxels(path, array)
    kept = "".join(letter for letter in "TCZYX" if letter in "YX" or source.shape[letters.index(letter)] > 1)
    fixed = {axis: slice(0, 1) for axis, letter in enumerate(letters) if letter not in kept}
    data = LazyView(source, [letters.index(letter) for letter in kept], fixed)
    pixel = opened.physical_pixel_sizes
    z, y, x = (_known(getattr(pixel, letter, None)) for letter in "ZYX")
    n_channels = data.shape[kept.index("C")] if "C" in kept else 1
    return Image(data, kept, (z, y, x), names if len(names) == n_channels else (), str(path), max_bytes)


def _known(size: Any) -> float | None:
    """Return the size as a float, None when the library has none (it says None, 0 or NaN)."""
    return float(size) if size is not None and float(size) > 0 else None
