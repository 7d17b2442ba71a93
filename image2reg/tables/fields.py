"""Fields of view: the rows of a manifest that belong together, ready to be opened."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from image2reg.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.images import Image

__all__ = ["IDENTITY", "ImageField", "ImageSource", "image_fields", "source_channel"]

IDENTITY = ("Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Time")


@dataclass(frozen=True)
class ImageSource:
    """One channel of one file.

    Attributes
    ----------
    path : Path
        Where the file is.
    channel : str
        What the manifest calls the channel.
    source_channel : str, int or None
        Name or position of the channel inside the file; None for a file with one.
    n_channels : int or None
        Number of channels, for a TIFF of pages that does not name its axes.
    voxel_um : (z, y, x)
        Micrometres from the manifest; None keeps the file's own.
    """

    path: Path
    channel: str
    source_channel: str | int | None = None
    n_channels: int | None = None
    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None)

    def open(self, *, max_bytes: int | None = None) -> Image:
        """Read the image (lazily where the format allows), with this one channel under the manifest's name.

        Raises
        ------
        DataError
            The file is missing or damaged, lacks the channel, or has several and the manifest does not
            say which.
        """
        from image2reg.images import read

        names = None if self.n_channels is None else [str(index) for index in range(self.n_channels)]
        image = read(self.path, channels=names, voxel_um=self.voxel_um, max_bytes=max_bytes)
        if (channel := self.source_channel) is not None:
            # A number beyond the positions may be a name: the wavelength of a laser.
            beyond = isinstance(channel, int) and channel >= len(image.channels)
            is_name = beyond and str(channel) in image.channels
            image = image.select(channel=str(channel) if is_name else channel)
        if len(image.channels) != 1:
            raise DataError(
                f"{self.path}: has {len(image.channels)} channels {list(image.channels)}, and the manifest does not "
                f"say which is {self.channel!r}. Write its name or position in the column 'source_channel'."
            )
        return image.replace(channels=(self.channel,))


@dataclass(frozen=True)
class ImageField:
    """One field of view: its input, target and mask channels.

    Attributes
    ----------
    name : str
        Plate, well, site and time that are not empty, joined by ``/``.
    metadata : dict
        Every ``Metadata_*`` column of the manifest, from the field's first row.
    split : str
        Empty when none was assigned.
    inputs, targets, masks : dict of channel name to ImageSource
        A channel that this field lacks is absent.
    """

    name: str
    metadata: dict[str, str]
    split: str
    inputs: dict[str, ImageSource] = field(default_factory=dict)
    targets: dict[str, ImageSource] = field(default_factory=dict)
    masks: dict[str, ImageSource] = field(default_factory=dict)


def image_fields(frame: pd.DataFrame, root: Path) -> list[ImageField]:
    """Group the rows of a checked manifest frame to fields, in order of appearance."""
    # Column by column: a million rows as dictionaries are gigabytes.
    column = {name: frame[name].tolist() for name in frame.columns}
    metadata = [(name, column[name]) for name in frame.columns if name.startswith("Metadata_")]
    voxels = zip(
        *([None if math.isnan(v) else v for v in column[f"voxel_{axis}_um"]] for axis in "zyx"), strict=True
    )
    sources = zip(
        column["role"], column["path"], column["channel"], column["source_channel"], voxels, strict=True
    )
    fields: dict[tuple[str, ...], ImageField] = {}
    for row, (key, (role, path, channel, source, voxel_um)) in enumerate(
        zip(zip(*(column[name] for name in IDENTITY), strict=True), sources, strict=True)
    ):
        item = fields.get(key)
        if item is None:
            name = "/".join(part for part in key if part)
            item = ImageField(name, {m: str(values[row]) for m, values in metadata}, column["split"][row])
            fields[key] = item
        group = {"input": item.inputs, "target": item.targets, "mask": item.masks}[role]
        group[channel] = ImageSource(root / path, channel, *source_channel(source), voxel_um)
    return list(fields.values())


def source_channel(text: str) -> tuple[str | int | None, int | None]:
    """Name or position, and the number of channels where the cell reads ``1/3`` (position 1 of 3 pages)."""
    if text == "":
        return None, None
    if pages := re.fullmatch(r"([0-9]+)/([0-9]+)", text):
        return int(pages[1]), int(pages[2])
    return (int(text) if re.fullmatch(r"[0-9]+", text) else text), None
