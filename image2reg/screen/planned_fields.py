"""The fields of a screen in the order of its plan, kept as columns: a genome-wide screen has millions of them."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.engine.plan import SEEN
from image2reg.errors import DataError
from image2reg.screen.plates import PLATE, WELL, parse_well, well_name
from image2reg.tables.fields import IDENTITY, source_channel
from image2reg.tables.listing import stem
from image2reg.tables.problems import refuse_problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import pyarrow as pa

    from image2reg.tables.manifest import Manifest

__all__ = ["PlannedFields", "planned_fields", "plate_names", "seen_images"]

# Written with every OME-Zarr image, of version 2 or 3; its chunks may be thousands and are not looked at.
_ZARR_METADATA = ("zarr.json", ".zattrs", ".zarray")
_VOXELS = ("voxel_z_um", "voxel_y_um", "voxel_x_um")


@dataclass(frozen=True)
class PlannedFields:
    """Fields, plate by plate and well by well; each is a unit of the engine.

    Attributes
    ----------
    root : Path
        Folder that the paths of images are relative to.
    nuclei : str
        The channel with the nuclei.
    names : (fields,) object
        Plate, well, site and time that are not empty, joined by ``/``.
    metadata : DataFrame, one row per field
        Columns ``Metadata_*`` in which any field has a value; text, "" for nothing.
    channels : dict of channel to (fields,) int64
        Which row of `images` it is; -1 where a field lacks the channel.
    images : dict of column to (images,) array
        ``path, source_channel, sha256`` and voxel sizes of the manifest.
    lacking : dict of position to list of str
        Channels that other fields of the plate have, or the nuclei, and this field has not.
    """

    root: Path
    nuclei: str
    names: NDArray[np.object_]
    metadata: pd.DataFrame
    channels: dict[str, NDArray[np.int64]]
    images: dict[str, NDArray[Any]]
    lacking: dict[int, list[str]]

    def __len__(self) -> int:
        """Count the fields."""
        return len(self.names)

    @cached_property
    def said(self) -> pa.Table:
        """`metadata` as dictionaries of text, null for nothing: what is put before what was measured.

        It is no part of a unit: what was in a well may be corrected without measuring anything again.
        """
        import pandas as pd
        import pyarrow as pa

        columns = {}
        for name in self.metadata:
            codes, values = pd.factorize(self.metadata[name].replace("", None))
            columns[name] = pa.DictionaryArray.from_arrays(
                pa.array(codes, pa.int32(), mask=codes < 0), pa.array(values, pa.string())
            )
        return pa.table(columns)

    def unit(self, position: int) -> dict[str, Any]:
        """Describe a field as JSON values: name, images by channel, what is lacking."""
        return next(self._units(range(position, position + 1)))

    def units(self) -> Iterator[dict[str, Any]]:
        """Describe field after field, with what its images without a hash look like now (`seen_images`)."""
        for unit in self._units(range(len(self))):
            if found := seen_images(unit, self.root):
                unit[SEEN] = found
            yield unit

    def _units(self, positions: range) -> Iterator[dict[str, Any]]:
        paths, sources, hashes = (self.images[name] for name in ("path", "source_channel", "sha256"))
        voxels = [self.images[name] for name in _VOXELS]
        for at in positions:
            images = {}
            for channel, rows in self.channels.items():
                if (row := rows[at]) < 0:
                    continue
                source, pages = source_channel(sources[row])
                images[channel] = {
                    "path": paths[row],
                    "channel": source,
                    "pages": pages,
                    "voxel_um": [
                        None if math.isnan(size := column[row]) else float(size) for column in voxels
                    ],
                    "sha256": hashes[row],
                }
            unit = {"name": self.names[at], "images": images}
            if at in self.lacking:
                unit["lacking"] = self.lacking[at]
            yield unit


def plate_names(manifest: Manifest) -> pd.Series:
    """Plate of each row; the name of the folder where none is said, of an OME-Zarr plate as in a folder of plates."""
    return manifest.frame[PLATE].replace("", stem(manifest.root.resolve().name) or "plate")


def planned_fields(manifest: Manifest, nuclei: str) -> PlannedFields:
    """Put the fields of a manifest in the order in which they are measured.

    A field without the nuclear channel, or without one that other fields of its plate have, says so in ``lacking``: it
    fails when it is read, as a field does whose file is missing.

    Raises
    ------
    DataError
        The manifest has problems other than missing files, or a field has no well.
    """
    import pandas as pd

    frame = manifest.frame
    bare = frame[frame[WELL] == ""]
    if len(bare):
        raise DataError(
            f"{manifest.source}: {len(bare)} rows have no Metadata_Well, the first is {bare['path'].iloc[0]}. Fill it "
            "in, or give --pattern for a folder."
        )
    wells = {well: well_name(*parse_well(well)) for well in frame[WELL].unique()}
    # Column by column, without a copy of the others: a genome-wide table has millions of rows.
    columns = {name: frame[name] for name in frame} | {
        WELL: frame[WELL].map(wells),
        PLATE: plate_names(manifest),
    }
    frame = pd.DataFrame(columns, copy=False)
    refuse_problems(frame, manifest.root, manifest.source, files=False, hashes=False)
    field = frame.groupby(list(IDENTITY), sort=False).ngroup().to_numpy()
    first = np.flatnonzero(~pd.Series(field).duplicated().to_numpy())
    names = _names(frame, first)
    order = _order(frame, first, names)
    place = np.empty_like(order)  # of each field, by order of appearance, in the plan
    place[order] = np.arange(len(order))
    is_input = (frame["role"] == "input").to_numpy()
    channel_of = frame["channel"].to_numpy()
    channels = {}
    for channel in sorted(frame["channel"][is_input].unique()):
        rows = np.flatnonzero(is_input & (channel_of == channel))
        channels[channel] = np.full(len(order), -1)
        channels[channel][place[field[rows]]] = rows
    metadata = _metadata(frame, first[order])
    return PlannedFields(
        manifest.root,
        nuclei,
        names[order],
        metadata,
        channels,
        {name: frame[name].to_numpy() for name in ("path", "source_channel", "sha256", *_VOXELS)},
        _lacking(channels, metadata[PLATE], nuclei),
    )


def _names(frame: pd.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    parts = zip(*(frame[name].to_numpy()[rows] for name in IDENTITY), strict=True)
    return np.array(["/".join(filter(None, each)) for each in parts], dtype=object)


def _order(frame: pd.DataFrame, rows: NDArray[np.int64], names: NDArray[np.object_]) -> NDArray[np.int64]:
    """Order of fields: plates as they appear, wells by row and column, then names."""
    import pandas as pd

    plate, _ = pd.factorize(frame[PLATE])
    well, wells = pd.factorize(frame[WELL])
    rank = np.empty(len(wells), np.int64)
    rank[sorted(range(len(wells)), key=lambda number: parse_well(wells[number]))] = np.arange(len(wells))
    by_name = np.empty(len(names), np.int64)
    by_name[np.argsort(names, kind="stable")] = np.arange(len(names))
    return np.lexsort((by_name, rank[well[rows]], plate[rows]))


def _metadata(frame: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Give the columns of metadata that say anything, of these rows, as text."""
    import pandas as pd

    columns = {}
    for name in (name for name in frame if name.startswith("Metadata_")):
        codes, values = pd.factorize(frame[name].to_numpy()[rows], use_na_sentinel=False)
        text = np.array([str(value) for value in values], dtype=object)
        if any(text):
            columns[name] = text[codes]
    return pd.DataFrame(columns)


def _lacking(
    channels: Mapping[str, NDArray[np.int64]], plates: pd.Series, nuclei: str
) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    plate = plates.factorize()[0]
    for channel in sorted(channels, key=lambda name: (name != nuclei, name)):
        there = channels[channel] >= 0
        expected = np.bincount(plate, weights=there) > 0  # of each plate: plates may differ in their stains
        if channel == nuclei:
            expected[:] = True
        for position in np.flatnonzero(expected[plate] & ~there).tolist():
            found.setdefault(position, []).append(channel)
    return found


def seen_images(unit: Mapping[str, Any], root: Path) -> dict[str, list[int]]:
    """Look at a field's images that have no hash, so that one replaced later is noticed.

    Parameters
    ----------
    unit : mapping
        Of `PlannedFields`.
    root : Path

    Returns
    -------
    dict of path to [bytes, ns]
        Size and time of each file that is there; of an OME-Zarr, of its metadata.
    """
    found: dict[str, list[int]] = {}  # as JSON gives them back: they are compared with those of a plan
    for image in unit["images"].values():
        if image["sha256"]:
            continue
        name = image["path"]
        with contextlib.suppress(OSError):
            said = os.stat(f"{root}/{name}")  # noqa: PTH116  a Path costs more than the look
            if not stat.S_ISDIR(said.st_mode):
                found[name] = [said.st_size, said.st_mtime_ns]
                continue
            for each in (f"{name}/{level}{file}" for level in ("", "0/") for file in _ZARR_METADATA):
                with contextlib.suppress(OSError):
                    said = os.stat(f"{root}/{each}")  # noqa: PTH116
                    found[each] = [said.st_size, said.st_mtime_ns]
    return found
