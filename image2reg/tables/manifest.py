"""The manifest: one row per field and channel, saying which image plays which role.

A file with several channels serves several rows, told apart by `source_channel`. A field of view is what
shares plate, well, site and time. Reading refuses what is unsafe or not a manifest; what is merely wrong
with single rows (missing file, duplicate, wrong hash) is in `Manifest.problems`, row by row.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.atomic import atomic_file
from image2reg.errors import DataError
from image2reg.tables.cells import read_csv, write_csv
from image2reg.tables.fields import IDENTITY, ImageField, image_fields
from image2reg.tables.paths import locate, refuse_unsafe

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["COLUMNS", "ROLES", "Manifest"]

ROLES = ("input", "target", "mask")
_VOXELS = ("voxel_z_um", "voxel_y_um", "voxel_x_um")
_REQUIRED = ("path", "role", "channel")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
COLUMNS = (
    *_REQUIRED,
    "source_channel",
    *IDENTITY,
    "Metadata_Perturbation",
    "Metadata_Dose_uM",
    "Metadata_Control",
    "Metadata_CellLine",
    *_VOXELS,
    "split",
    "sha256",
)


class Manifest:
    r"""A table of images, with the folder its paths are relative to.

    Parameters
    ----------
    frame : DataFrame
        Columns ``path, role, channel`` at least; see `COLUMNS` for all. Others are kept, and missing ones
        come empty. ``role`` is input, target or mask; ``source_channel`` the name or position (from 0) of
        the channel inside the file (``1/3``: page 1 of 3 where a TIFF does not name its axes), empty for
        a file with one; voxel sizes are micrometres or empty; the rest is text.
    root : Path
        Folder of the manifest.
    notes : sequence of str
        What was assumed or left out when the table was made.
    source : str
        What messages call it; the root when empty.
    follow_links : bool
        Files and folders may be links out of the folder: for a listing of a folder that the user named, whose links are
        the user's own. The links of a table may be somebody else's choice.

    Raises
    ------
    DataError
        A required column is missing, the table has no row, a role or voxel size is not one, a cell holds
        a control character, or a path is unsafe (absolute, ``..``, ``\\``, network, NUL, or a link out of
        the folder).
    """

    def __init__(
        self, frame: pd.DataFrame, root: Path | str, *, notes: Sequence[str] = (), source: str = "",
        follow_links: bool = False,
    ) -> None:  # fmt: skip
        self.root = Path(root)
        self.notes = tuple(notes)
        self.source = source or str(self.root)
        self.frame: pd.DataFrame = _typed(frame, self.source)
        self._follow_links = follow_links
        refuse_unsafe(self.frame["path"], self.root, self.source, follow_links=follow_links)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.frame)

    def __repr__(self) -> str:
        """Say how many rows, fields and which channels."""
        channels = {role: sorted(rows["channel"].unique()) for role, rows in self.frame.groupby("role")}
        return f"Manifest({len(self)} rows, {self.n_fields} fields, {channels}, {self.source})"

    @property
    def n_fields(self) -> int:
        """Number of fields of view."""
        return int(self.frame.groupby(list(IDENTITY), sort=False).ngroups)

    @classmethod
    def read(cls, path: Path | str) -> Manifest:
        """Read a manifest from ``.csv`` or ``.parquet``; its paths are relative to the folder it lies in."""
        path = Path(path)
        if path.suffix.lower() == ".csv":
            frame = read_csv(path)
        elif path.suffix.lower() == ".parquet":
            frame = _read_parquet(path)
        else:
            raise DataError(
                f"{path}: a manifest is a .csv or .parquet file. For a folder of images use from_folder."
            )
        return cls(frame, path.parent, source=str(path))

    def write(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write ``.csv`` (formula cells escaped) or ``.parquet``, atomically.

        The file must lie in the manifest's folder or above it, because its paths may not climb out; a link
        out of the folder is refused now, because it would be where the manifest is read.
        """
        path = Path(path)
        if self._follow_links:
            self._refuse_links_out(path)
        frame = self.frame
        here, there = path.parent.resolve(), self.root.resolve()
        if here != there:
            if not there.is_relative_to(here):
                raise DataError(
                    f"{path}: a manifest lies in the folder of its images ({there}) or above it, so that its paths "
                    f"stay inside. Write it to {there / path.name}."
                )
            frame = frame.assign(path=there.relative_to(here).as_posix() + "/" + frame["path"])
        if path.suffix.lower() == ".csv":
            write_csv(frame, path, overwrite=overwrite)
        elif path.suffix.lower() == ".parquet":
            with atomic_file(path, overwrite=overwrite) as partial:
                frame.to_parquet(partial, index=False)
        else:
            raise DataError(f"{path}: a manifest is written as .csv or .parquet.")

    def _refuse_links_out(self, path: Path) -> None:
        _, inside = locate(self.frame["path"], self.root)
        outside = np.flatnonzero(~inside)
        if outside.size:
            raise DataError(
                f"{path}: {outside.size} of {len(self)} rows name links out of {self.root} (the first is "
                f"{self.frame['path'].iloc[outside[0]]}), which are followed in a folder and refused in a manifest. "
                "Give the commands the folder itself, or copy the images into it."
            )

    def replace(self, frame: pd.DataFrame, *, notes: Sequence[str] = ()) -> Manifest:
        """Return a manifest of other rows or columns over the same images; paths are checked again, `notes` added."""
        notes = (*self.notes, *notes)
        return Manifest(frame, self.root, notes=notes, source=self.source, follow_links=self._follow_links)

    def where(self, **values: str) -> Manifest:
        """Keep the rows with these values, e.g. ``where(split="test")``.

        Raises
        ------
        DataError
            No such column, or no such row; the values that occur are named.
        """
        frame = self.frame
        for column, value in values.items():
            if column not in frame:
                raise DataError(f"{self.source}: no column {column!r}; there are {list(frame.columns)}.")
            kept = frame[frame[column] == value]
            if kept.empty:
                seen = sorted(frame[column].astype(str).unique())[:8]
                raise DataError(f"{self.source}: no row has {column}={value!r}; found {seen}.")
            frame = kept
        return self.replace(frame)

    def fields(self) -> list[ImageField]:
        """Group the rows to fields of view, in order of appearance.

        Raises
        ------
        DataError
            The table has problems other than missing files; the first ones are named.
        """
        self.refuse_problems(files=False)
        return image_fields(self.frame, self.root)

    def problems(self, *, files: bool = True, hashes: bool = False) -> pd.DataFrame:
        """List what is wrong with single rows.

        Parameters
        ----------
        files : bool
            Look whether the files exist.
        hashes : bool
            Read every file that has a ``sha256`` and compare.

        Returns
        -------
        DataFrame
            ``row`` (1 is the first below the header), ``path``, ``problem``; empty when all is well.
        """
        from image2reg.tables.problems import find_problems

        return find_problems(self.frame, self.root, files=files, hashes=hashes)

    def refuse_problems(self, *, files: bool = True, hashes: bool = False) -> None:
        """Raise `DataError` with the number of problems and the first five of them, if there are any."""
        from image2reg.tables.problems import refuse_problems

        refuse_problems(self.frame, self.root, self.source, files=files, hashes=hashes)

    def with_hashes(self) -> Manifest:
        """Fill ``sha256`` of every file that is there; folders (OME-Zarr) have none."""
        from image2reg.tables.problems import file_hashes

        return self.replace(self.frame.assign(sha256=file_hashes(self.frame["path"], self.root)))


def _typed(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """All columns, standard ones first; text as str with "" for nothing, voxel sizes as float with NaN."""
    import pandas as pd

    missing = [name for name in _REQUIRED if name not in frame]
    if missing:
        raise DataError(
            f"{source}: columns {missing} are missing; found {list(map(str, frame.columns))[:12]}. "
            f"Needed are {list(_REQUIRED)}."
        )
    if frame.empty:
        raise DataError(f"{source}: the manifest has no row. List at least one image.")
    columns: dict[str, Any] = {}
    for name in (*COLUMNS, *(c for c in frame.columns if c not in COLUMNS)):
        if name not in frame:
            columns[name] = np.nan if name in _VOXELS else ""
        elif name in _VOXELS:
            columns[name] = _voxel(frame[name], source)
        elif name in COLUMNS or frame[name].dtype == object:
            columns[name] = _text(frame[name], source)
        else:
            columns[name] = frame[name].to_numpy()
    typed = pd.DataFrame(columns, index=range(len(frame)), copy=False)
    wrong = ~typed["role"].isin(ROLES)
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy()))
        raise DataError(
            f"{source}: {int(wrong.sum())} rows have another role than {list(ROLES)}, first row {row + 1} with "
            f"{typed['role'].iloc[row]!r}."
        )
    return typed


def _text(column: pd.Series, source: str) -> np.ndarray[Any, Any]:
    codes, values = column.factorize()  # few distinct values, so the text work is done once for each
    cells = np.array([*(_plain(value) for value in values), ""], dtype=object)
    bad = [cell for cell in cells if _CONTROL.search(cell)]
    if bad:
        raise DataError(
            f"{source}: column {column.name!r} holds a control character in {bad[0]!r}. "
            "Remove tabs, line ends and NUL from the cells."
        )
    return cells[codes]


def _plain(value: Any) -> str:
    """Text of a cell; a whole number that a spreadsheet turned into 3.0 is 3 again."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _voxel(column: pd.Series, source: str) -> np.ndarray[Any, Any]:
    import pandas as pd

    given = column.astype(object).where(column.notna(), "").astype(str).str.strip() != ""
    sizes = pd.to_numeric(column.where(given), errors="coerce").astype(float)
    wrong = given & ~(np.isfinite(sizes) & (sizes > 0))
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy()))
        raise DataError(
            f"{source}: {int(wrong.sum())} cells of {column.name!r} are no size, first row {row + 1} with "
            f"{column.iloc[row]!r}. Write micrometres above 0, or leave it empty."
        )
    return sizes.to_numpy()


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path)
        pa.default_memory_pool().release_unused()  # of a million rows a gigabyte, which it would keep
        return frame
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Check the path.") from error
    except Exception as error:  # the door: pyarrow raises a dozen kinds for damaged files
        raise DataError(f"{path}: cannot be read as Parquet ({type(error).__name__}: {error}).") from error
