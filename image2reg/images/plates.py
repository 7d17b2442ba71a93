"""OME-Zarr plates (HCS): wells and their fields, read lazily and written field by field.

Reference: OME-NGFF specification 0.5, sections plate and well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image2reg.atomic import atomic_directory, atomic_file, publish_directory, refuse_existing
from image2reg.errors import ConfigurationError, DataError
from image2reg.images.door import reading
from image2reg.images.ome_zarr import copy_voxels, image_store, read_ome_zarr
from image2reg.images.ome_zarr_metadata import VERSION, inner_path, version_of
from image2reg.images.zarr_store import ChunkWriter, create_group, group_attributes
from image2reg.locking import run_lock
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from image2reg.images.image import Image

__all__ = ["Plate", "PlateWriter", "read_plate", "refuse_incomplete", "write_plate"]

# In the folder of an unfinished plate: the plate, a file per field that is complete, what the fields are made of.
_PLATE, _DONE, _ABOUT = "plate", ".done", ".about.json"
_NAME = re.compile(r"[A-Za-z0-9]+")


@dataclasses.dataclass(frozen=True)
class Plate:
    """A plate on disk.

    Parameters
    ----------
    path : Path
    name : str
    fields : dict of well to tuple of field names
        Wells as ``"B/03"`` (row/column), in the order of the file.
    max_bytes : int, optional
        Limit handed to every image.
    """

    path: Path
    name: str
    fields: dict[str, tuple[str, ...]]
    max_bytes: int | None = None

    def image(self, well: str, field: str) -> Image:
        """One field, lazy.

        Raises
        ------
        DataError
            No such well or field; the message lists what there is.
        """
        if well not in self.fields or field not in self.fields[well]:
            held = self.fields.get(well)
            there = f"well {well} has fields {list(held)}" if held else f"wells are {list(self.fields)[:12]}"
            raise DataError(f"{self.path}: no field {field!r} in well {well!r}; {there}. Use one of these.")
        return read_ome_zarr(self.path / well / field, max_bytes=self.max_bytes)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Every (well, field)."""
        return ((well, field) for well, fields in self.fields.items() for field in fields)


def read_plate(path: Path | str, *, max_bytes: int | None = None) -> Plate:
    """Open a plate, 0.4 or 0.5; only metadata are read.

    Raises
    ------
    DataError
        No plate, damaged, or a well or field path that leaves the plate.
    """
    path = Path(path)
    with reading(path, "plate"):
        if not path.is_dir():
            raise DataError(f"{path}: no such folder (a plate is an OME-Zarr folder). Check the path.")
        _, said = version_of(path, group_attributes(path))
        if "plate" not in said:
            raise DataError(f"{path}: not a plate: its metadata have {sorted(said)}. For an image use read.")
        fields: dict[str, tuple[str, ...]] = {}
        for entry in said["plate"]["wells"]:
            well = inner_path(path, entry["path"])
            _, content = version_of(path / well, group_attributes(path / well))
            fields[well] = tuple(
                inner_path(path / well, image["path"]) for image in content["well"]["images"]
            )
        return Plate(path, str(said["plate"].get("name", "")), fields, max_bytes)


def refuse_incomplete(path: Path, places: Sequence[tuple[str, str]]) -> None:
    """Refuse to resume a plate of results that lacks some of the (well, field) it was made for.

    Raises
    ------
    ConfigurationError
    """
    there = set(read_plate(path))
    missing = [f"{well}/{name}" for well, name in places if (well, name) not in there]
    if missing:
        raise ConfigurationError(
            f"--resume: {path} is written as a whole, so that the {counted(len(missing), 'field')} it lacks "
            f"({', '.join(missing[:3])}) cannot be added. Pass --overwrite without --resume to do every field again."
        )


class PlateWriter:
    """Write an OME-Zarr 0.5 plate field by field; it appears whole when the block ends without an error.

    Parameters
    ----------
    path : Path or str
    name : str, optional
        Name of the plate; the file's name when empty.
    overwrite : bool
    about : mapping, optional
        What the fields are made of and how (JSON). Then what `write` completed outlives an interruption, in a hidden
        folder beside `path`, and a writer of the same `about` can go on from there.
    resume : bool
        Go on from such a folder. Without it, and without `overwrite`, one with complete fields is refused.

    Examples
    --------
    >>> with PlateWriter("plate.ome.zarr") as plate:  # doctest: +SKIP
    ...     plate.write("B/03", "0", image)
    """

    def __init__(
        self,
        path: Path | str,
        *,
        name: str = "",
        overwrite: bool = False,
        about: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self._about, self._resume = about, resume
        self.name = name or self.path.name.removesuffix(".zarr").removesuffix(".ome")
        self._overwrite = overwrite
        self._fields: dict[tuple[str, str], list[str]] = {}
        self._directory: Path | None = None
        self._work = self.path.parent / f".{self.path.name}.unfinished"
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> PlateWriter:
        """Make the temporary directory, or take up the one that an interrupted writer left."""
        with contextlib.ExitStack() as stack:
            if self._about is None:
                self._directory = stack.enter_context(atomic_directory(self.path, overwrite=self._overwrite))
            else:
                self._directory = self._take_up(stack, json.dumps(self._about, sort_keys=True, default=str))
            self._exit = stack.pop_all()
        return self

    def _take_up(self, stack: contextlib.ExitStack, about: str) -> Path:
        refuse_existing(self.path, overwrite=self._overwrite)
        work = self._work
        stack.enter_context(run_lock(work))
        done, begun = len(list((work / _DONE).glob("*"))), work / _ABOUT
        if done and not self._resume and not self._overwrite:
            raise DataError(
                f"{self.path}: an interrupted run left {counted(done, 'field')} of it in {work}. Pass --resume to go "
                "on from there, or --overwrite to begin anew."
            )
        if done and self._resume and begun.read_text(encoding="utf-8") != about:
            raise ConfigurationError(
                f"--resume: {self.path} was begun with other images, model or options ({begun} has them). Repeat "
                "those, or pass --overwrite without --resume to begin anew."
            )
        if not (done and self._resume):
            _empty(work)
        with atomic_file(begun, overwrite=True) as partial:
            partial.write_text(about, encoding="utf-8")
        (work / _PLATE).mkdir(exist_ok=True)
        return work / _PLATE

    def done(self, well: str, field: str) -> dict[str, Any] | None:
        """Give the facts of a field that an interrupted writer completed; None for one that is to be written."""
        marker = self._marker(well, field)
        if self._about is None or not marker.is_file() or not (self._work / _PLATE / well / field).is_dir():
            return None
        row, _, column = well.partition("/")
        self._fields.setdefault((row, column), []).append(field)
        return json.loads(marker.read_text(encoding="utf-8"))

    def _marker(self, well: str, field: str) -> Path:
        return self._work / _DONE / f"{well.replace('/', '-')}-{field}"

    def field(
        self, well: str, field: str, image: Image, *, chunks: tuple[int, ...] | None = None
    ) -> ChunkWriter:
        """Begin a field with the metadata of `image` (its voxels are not read); index what returns to write.

        Raises
        ------
        ConfigurationError
            A well that is not row/column, a name with other than letters and digits, or a field written
            before.
        """
        row, _, column = well.partition("/")
        names = (row, column, field)
        if self._directory is None or not all(_NAME.fullmatch(name) for name in names):
            raise ConfigurationError(
                f"{self.path}: well {well!r}, field {field!r}: give row/column and field in letters and "
                "digits, "
                "for example 'B/03' and '0', inside 'with PlateWriter(...)'."
            )
        written = self._fields.setdefault((row, column), [])
        if field in written:
            raise ConfigurationError(f"{self.path}: field {field!r} of well {well!r} is written twice.")
        written.append(field)
        return image_store(self._directory / row / column / field, image, f"{well}/{field}", chunks)

    def write(self, well: str, field: str, image: Image, *, facts: Mapping[str, Any] | None = None) -> None:
        """Write one field; a lazy image is streamed. What `done` says of it later are its `facts` (JSON)."""
        if self._about is not None and self._directory is not None:
            shutil.rmtree(
                self._directory / well / field, ignore_errors=True
            )  # half-written by a run that was killed
        copy_voxels(image, self.field(well, field, image))
        if self._about is not None:
            with atomic_file(self._marker(well, field), overwrite=True) as partial:
                partial.write_text(json.dumps(dict(facts or {}), default=float), encoding="utf-8")

    def _finish(self, directory: Path) -> None:
        rows = sorted({row for row, _ in self._fields})
        columns = sorted({column for _, column in self._fields}, key=lambda name: (len(name), name))
        for row in rows:
            create_group(directory / row, {})
        wells = []
        for (row, column), fields in sorted(self._fields.items()):
            images = [{"path": field, "acquisition": 0} for field in fields]
            content = {"ome": {"version": VERSION, "well": {"images": images}}}
            create_group(directory / row / column, content)
            wells.append(
                {"path": f"{row}/{column}", "rowIndex": rows.index(row), "columnIndex": columns.index(column)}
            )
        plate = {
            "version": VERSION,
            "name": self.name,
            "acquisitions": [{"id": 0}],
            "columns": [{"name": column} for column in columns],
            "rows": [{"name": row} for row in rows],
            "wells": wells,
            "field_count": max(map(len, self._fields.values())),
        }
        create_group(directory, {"ome": {"version": VERSION, "plate": plate}})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the plate's metadata and publish it, or remove everything when an error came."""
        with self._exit:
            directory, self._directory = self._directory, None
            if error is not None:
                if self._about is not None and not any((self._work / _DONE).glob("*")):
                    shutil.rmtree(self._work, ignore_errors=True)
                raise error
            if not self._fields:
                raise ConfigurationError(f"{self.path}: a plate needs at least one field.")
            if directory is not None:
                self._finish(directory)
                if self._about is not None:
                    refuse_existing(self.path, overwrite=self._overwrite)
                    publish_directory(directory, self.path)
                    shutil.rmtree(self._work, ignore_errors=True)


def _empty(work: Path) -> None:
    """Remove all but the lock that is held there."""
    for child in work.iterdir():
        if child.is_dir():
            shutil.rmtree(child)
        elif child.name == _ABOUT:
            child.unlink()


def write_plate(
    path: Path | str, images: Mapping[tuple[str, str], Image], *, name: str = "", overwrite: bool = False
) -> None:
    """Write a plate from images by (well, field), for example ``{("B/03", "0"): image}``.

    Raises as `PlateWriter` does.
    """
    with PlateWriter(path, name=name, overwrite=overwrite) as plate:
        for (well, field), image in images.items():
            plate.write(well, field, image)
