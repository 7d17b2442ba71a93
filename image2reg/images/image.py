"""The image: an array that knows its axes, voxel size, channel names and where it came from."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import ConfigurationError, DataError
from image2reg.images.lazy import LazyView
from image2reg.images.limits import refuse_oversized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from image2reg.images.units import VoxelSize

__all__ = ["AXES", "PREDICTED_FROM", "Image", "own_annotations"]

AXES = "TCZYX"
# Annotation of a predicted image: name of the plate or folder that holds the image it was predicted from.
PREDICTED_FROM = "predicted_from"


@dataclasses.dataclass(frozen=True)
class Image:
    """A microscope image, in memory or still on disk.

    Parameters
    ----------
    data : array or lazy array, axes as in `axes`
        Anything with ``shape``, ``dtype`` and ``__getitem__``; nothing is decoded before it is indexed.
    axes : str
        Some of ``"TCZYX"``, in that order; always with Y and X.
    voxel_um : (z, y, x), micrometres
        None for each size that is unknown.
    channels : tuple of str
        One name per channel (one name where there is no C axis).
    source : str
        File the image came from; named in error messages.
    max_bytes : int, optional
        Limit that `load` keeps, a quarter of the memory when None.
    annotations : mapping of str to str
        What else has to be known about the values (their unit, the model that made them, from the images of
        which plate); kept in the file.

    Raises
    ------
    DataError
        Axes, shape, voxel size and channel names do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.zeros((2, 8, 8), np.uint16), "CYX", (None, 0.3, 0.3), ("BF", "DNA"))
    >>> image.select(channel="DNA").sizes
    {'C': 1, 'Y': 8, 'X': 8}
    """

    data: Any
    axes: str
    voxel_um: VoxelSize = (None, None, None)
    channels: tuple[str, ...] = ()
    source: str = ""
    max_bytes: int | None = None
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the parts fit together; give channels without a name one."""
        where, shape = self._where, tuple(self.data.shape)
        ordered = "".join(letter for letter in AXES if letter in self.axes)
        if self.axes != ordered or not self.axes.endswith("YX"):
            raise DataError(
                f"{where}: axes {self.axes!r} are not allowed; use some of {AXES!r} in that order, ending "
                "in 'YX'."
            )
        if len(shape) != len(self.axes) or min(shape) < 1:
            raise DataError(
                f"{where}: shape {shape} does not fit axes {self.axes!r}: one length >= 1 per axis."
            )
        object.__setattr__(self, "voxel_um", self._checked_voxel(tuple(self.voxel_um)))
        n_channels = self.sizes.get("C", 1)
        names = tuple(map(str, self.channels)) or tuple(f"channel_{index}" for index in range(n_channels))
        if len(names) != n_channels:
            raise DataError(
                f"{where}: {len(names)} channel names {list(names)} for {n_channels} channels (axes "
                f"{self.axes}, "
                f"shape {shape}). Give one name per channel."
            )
        object.__setattr__(self, "channels", names)

    def _checked_voxel(self, sizes: tuple[float | None, ...]) -> tuple[float | None, ...]:
        good = len(sizes) == 3 and all(size is None or (math.isfinite(size) and size > 0) for size in sizes)
        if not good:
            raise DataError(
                f"{self._where}: voxel size {sizes} is not (z, y, x) in micrometres, each positive or None."
            )
        return tuple(None if size is None else float(size) for size in sizes)

    @property
    def _where(self) -> str:
        return self.source or "image"

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths in the order of `axes`."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""
        return np.dtype(self.data.dtype)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis by its letter."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def is_lazy(self) -> bool:
        """Whether the voxels are still on disk."""
        return not isinstance(self.data, np.ndarray)

    def replace(self, **changes: Any) -> Image:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def channel_index(self, channel: str | int) -> int:
        """Position of a channel given by name or position.

        Raises
        ------
        DataError
            No such channel; the message names the file, what was wanted and what there is.
        """
        n_channels = len(self.channels)
        if isinstance(channel, str):
            found = [index for index, name in enumerate(self.channels) if name == channel]
            if len(found) == 1:
                return found[0]
            problem = (
                f"channel {channel!r} is missing"
                if not found
                else f"{len(found)} channels are named {channel!r}"
            )
        else:
            if 0 <= channel < n_channels:
                return int(channel)
            problem = f"channel {channel} is missing: positions run from 0 to {n_channels - 1}"
        raise DataError(
            f"{self._where}: {problem}; found {list(self.channels)}. Select one of these, or name the "
            "channels "
            "when reading (Python: read(path, channels=[...]); a manifest: column 'channel')."
        )

    def find_channel(self, typed: str | int) -> int:
        """Position of a channel as a user types it: a name, or else a position; names may be numbers (``"405"``).

        Raises
        ------
        DataError
            No such channel; the message names the file, what was wanted and what there is.

        Examples
        --------
        >>> image = Image(np.zeros((2, 8, 8), np.uint16), "CYX", channels=("405", "488"))
        >>> image.find_channel("488"), image.find_channel("0")
        (1, 0)
        """
        if isinstance(typed, str) and typed.isascii() and typed.isdigit() and typed not in self.channels:
            return self.channel_index(int(typed))
        return self.channel_index(typed)

    def select(self, *, channel: str | int | None = None, time: int | None = None) -> Image:
        """One channel (the C axis stays, of length one) or one time point (the T axis goes), without reading.

        Raises
        ------
        DataError
            No such channel or time point.
        """
        image = self
        if channel is not None:
            index = image.channel_index(channel)
            name = (image.channels[index],)
            if "C" in image.axes:
                image = image._narrow("C", slice(index, index + 1), keep=True).replace(channels=name)
        if time is not None:
            n_times = image.sizes.get("T", 1)
            if not 0 <= time < n_times:
                raise DataError(
                    f"{self._where}: time point {time} is missing; positions run from 0 to {n_times - 1}."
                )
            if "T" in image.axes:
                image = image._narrow("T", slice(time, time + 1), keep=False)
        return image

    def _narrow(self, letter: str, part: slice, *, keep: bool) -> Image:
        axis = self.axes.index(letter)
        axes = self.axes if keep else self.axes.replace(letter, "")
        data: Any
        if isinstance(self.data, np.ndarray):
            data = self.data[(slice(None),) * axis + (part if keep else part.start,)]
            channels = self.channels[part] if letter == "C" else self.channels
            return _changed(self, data, axes, channels)
        shown = [index for index in range(len(self.axes)) if keep or index != axis]
        data = LazyView(self.data, shown, {axis: part})
        return _changed(self, data, axes, self.channels[part] if letter == "C" else self.channels)

    def to_axes(self, axes: str) -> Image:
        """Return the same image with other axes: missing ones are added, those of length one may go.

        Parameters
        ----------
        axes : str
            For example ``"CZYX"``.

        Raises
        ------
        DataError
            An axis that would have to go is longer than one.
        ConfigurationError
            `axes` is not an ordered part of ``"TCZYX"`` ending in ``"YX"``.
        """
        if axes != "".join(letter for letter in AXES if letter in axes) or not axes.endswith("YX"):
            raise ConfigurationError(f"axes {axes!r} are not some of {AXES!r} in that order, ending in 'YX'.")
        too_long = {letter: n for letter, n in self.sizes.items() if letter not in axes and n > 1}
        if too_long:
            found = ", ".join(f"{letter}={n}" for letter, n in too_long.items())
            raise DataError(
                f"{self._where}: axes {axes} are wanted, but {found} (axes {self.axes}, shape {self.shape}). "
                "Select one channel or time point first, or use a model made for this many."
            )
        if axes == self.axes:
            return self
        shown = [self.axes.index(letter) if letter in self.axes else None for letter in axes]
        data: Any
        if isinstance(self.data, np.ndarray):
            data = self.data.reshape([self.sizes.get(letter, 1) for letter in axes])
        else:
            dropped = [index for index, letter in enumerate(self.axes) if letter not in axes]
            data = LazyView(self.data, shown, {index: slice(0, 1) for index in dropped})
        return _changed(self, data, axes, self.channels)

    def load(self, *, max_bytes: int | None = None) -> Image:
        """Return the image with all voxels in memory.

        Raises
        ------
        ResourceError
            It is larger than the limit (`max_bytes`, else the one it was read with).
        DataError
            The file turns out damaged.
        """
        if isinstance(self.data, np.ndarray):
            return self
        limit = self.max_bytes if max_bytes is None else max_bytes
        refuse_oversized(self._where, self.shape, self.dtype, max_bytes=limit)
        return self.replace(data=np.ascontiguousarray(self.data[...]))

    def voxel_for(self, letters: Sequence[str] | str) -> tuple[float, ...]:
        """Voxel sizes along some of Z, Y, X, micrometres; refuses where one is unknown.

        Raises
        ------
        DataError
            A size is unknown; the message says how to give it.
        """
        sizes = dict(zip("ZYX", self.voxel_um, strict=True))
        missing = [letter for letter in letters if sizes[letter] is None]
        if missing:
            raise DataError(
                f"{self._where}: the voxel size along {', '.join(missing)} is not known (found z, y, x = "
                f"{self.voxel_um} um). Pass --voxel-um Z,Y,X (Python: read(path, voxel_um=(z, y, x)))."
            )
        return tuple(float(sizes[letter]) for letter in letters)  # type: ignore[arg-type]

    def write(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write to TIFF, OME-TIFF or OME-Zarr, chosen by the name; see `image2reg.images.write`."""
        from image2reg.images.writers import write

        write(self, path, overwrite=overwrite)


def _changed(image: Image, data: Any, axes: str, channels: tuple[str, ...]) -> Image:
    return dataclasses.replace(image, data=data, axes=axes, channels=channels)


def own_annotations(value: Any) -> dict[str, str]:
    """`Image.annotations` as this package's JSON has them in a file; nothing where it is something else."""
    held = value if isinstance(value, dict) else {}
    return {str(key): text for key, text in held.items() if isinstance(text, str)}
