"""What a screen is read from: a manifest, a folder, or profiles that are there already; and a plate layout beside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from image2reg.errors import ConfigurationError, DataError
from image2reg.screen.planned_fields import plate_names
from image2reg.screen.plates import PLATE, WELL, parse_well, well_name
from image2reg.screen.predicted import with_source_names
from image2reg.tables.cells import read_csv
from image2reg.tables.fields import IDENTITY
from image2reg.tables.folder import from_folder
from image2reg.tables.manifest import Manifest
from image2reg.tables.names import numbers_wells
from image2reg.tables.profiles import Profiles
from image2reg.wording import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "fields_in_layout",
    "looks_nuclear",
    "nuclear_channel",
    "open_screen",
    "plates_in_layout",
    "with_layout",
]

_NUCLEAR = ("hoechst", "dapi", "dna", "nuclei", "nucleus")


def open_screen(
    data: Path, *, channels: Sequence[str] = (), pattern: str | None = None, layout: Path | None = None
) -> Manifest | Profiles:
    """Open what ``--data`` names.

    Parameters
    ----------
    data : Path
        A folder of images, a manifest (a table with a column ``path``) or profiles (any other table).
    channels : sequence of str
        For a folder: its channels, ``GFP`` or ``GFP=Channel1`` (name=what stands in the file names).
    pattern : str, optional
        For a folder: regular expression with the groups Plate, Well, Site (`image2reg.tables.from_folder`).
    layout : Path, optional
        CSV with what was in which well, added to every row of it.

    Raises
    ------
    DataError
        Missing, or not one of these; a folder with an image in whose name there is no well.
    ConfigurationError
        Options for a folder with something else, a folder without channels, or a pattern that gives no wells.
    """
    if not data.exists():
        raise DataError(f"--data {data}: no such file or folder. Check the path.")
    if data.is_dir():
        if not channels:
            raise ConfigurationError(
                f"--data {data}: a folder needs its channels, for example --channel DNA=w1 --channel GFP=w2 (name=what "
                "stands in the file names, or what the images call the channel)."
            )
        folder = from_folder(data, inputs=channels, pattern=pattern, strict=False)
        _refuse_no_wells(folder, pattern)
        opened, plates = with_source_names(folder, [] if layout is None else plates_in_layout(layout))
    else:
        if channels or pattern:
            raise ConfigurationError("--channel and --pattern are for folders; a manifest says these itself.")
        table = _columns(data)
        if "path" not in table:
            profiles = Profiles.read(data)
            return profiles if layout is None else profiles.replace(with_layout(profiles.frame, layout))
        opened = Manifest.read(data)
        plates = plate_names(opened)
    if layout is None:
        return opened
    frame = with_layout(opened.frame.assign(**{PLATE: plates}), layout)
    notes = _without_images(frame, layout)
    return opened.replace(frame.assign(**{PLATE: plate_names(opened).to_numpy()}), notes=notes)


def _refuse_no_wells(opened: Manifest | Profiles, pattern: str | None) -> None:
    """Refuse a folder with an image that has no well, before the well is looked for in a layout."""
    frame = opened.frame.drop_duplicates(WELL)
    for path, well in zip(frame["path"], frame[WELL], strict=True):
        try:
            parse_well(well)
        except DataError as error:
            said = f"its Well is {well!r}" if well else "there is no well"
            if pattern is not None:
                groups = list(re.compile(pattern).groupindex)
                raise ConfigurationError(
                    f"--pattern {pattern!r}: {said} in {path}; its groups are {groups}. Let the group Well hold row "
                    "and column, for example (?P<Well>[A-P]\\d\\d)."
                ) from error
            if numbers_wells(path):
                raise DataError(
                    f"{opened.source}: wells are numbered in the names, such as {path}, and a number is one well on "
                    "plates of 96 and another on plates of 384. Rename the files, or list them in a manifest with row "
                    "and column in Metadata_Well (A01)."
                ) from error
            raise DataError(
                f"{opened.source}: {said} in the name of {path}. Say with --pattern where it stands, for example "
                "'(?P<Well>[A-Z]+\\d\\d)_s(?P<Site>\\d+)', or take the file away."
            ) from error


def _columns(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".parquet" and path.is_file():
        try:
            return list(pq.read_schema(path).names)
        except Exception as error:  # the door: pyarrow raises many kinds for damaged files
            raise DataError(
                f"{path}: cannot be read as Parquet ({type(error).__name__}: {error})."
            ) from error
    try:
        with path.open(encoding="utf-8-sig") as handle:
            return [cell.strip('"\r\n') for cell in handle.readline().split(",")]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). --data is a manifest, a table of profiles or a folder of images."
        ) from error


def with_layout(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add the columns of a layout to the rows of its wells.

    Parameters
    ----------
    frame : DataFrame
        With ``Metadata_Plate`` and ``Metadata_Well``.
    path : Path
        CSV with ``Metadata_Well``, others, and ``Metadata_Plate`` where plates differ. Column names without
        ``Metadata_`` get it.

    Raises
    ------
    DataError
        No column for wells, a well twice in the layout, or a well of the data that it lacks.
    """
    layout = _read_layout(path)
    key = [name for name in (PLATE, WELL) if name in layout]
    doubled = layout[layout.duplicated(key)]
    if len(doubled):
        raise DataError(
            f"{path}: more than one row each for {counted(len(doubled), 'well')}, such as {doubled[WELL].iloc[0]}. "
            "Keep one row each."
        )
    wells = frame.assign(**{WELL: [well_name(*parse_well(well)) for well in frame[WELL]]})
    new = [name for name in layout if name not in key]
    joined = wells.drop(columns=[n for n in new if n in wells]).merge(
        layout, on=key, how="left", indicator="_found"
    )
    lacking = joined[joined["_found"] != "both"]
    if len(lacking):
        named = [(name, plate) for name, plate in ((path, layout), ("the data", wells)) if PLATE in key]
        plates = "; ".join(f"plates of {name}: {of[PLATE].unique().tolist()[:5]}" for name, of in named)
        raise DataError(
            f"{path}: no row for {counted(len(lacking.drop_duplicates([PLATE, WELL])), 'well')} of the data, such as "
            f"{lacking[WELL].iloc[0]}{plates and f' ({plates})'}. Describe every well that has images; if the wells of "
            "a folder were read wrongly, say with --pattern where its names hold them."
        )
    return joined.drop(columns="_found")


def plates_in_layout(path: Path) -> list[str]:
    """Give the plates that a layout names; empty where it has one row per well of any plate."""
    layout = _read_layout(path)
    return sorted(layout[PLATE].unique()) if PLATE in layout else []


def fields_in_layout(path: Path) -> list[list[str]]:
    """Give what a layout says that names fields: rows of its wells with Site or Time; empty where it has neither."""
    layout = _read_layout(path)
    named = [name for name in IDENTITY if name in layout]
    rows: list[list[str]] = layout[named].to_numpy().tolist()
    return rows if {*named} - {PLATE, WELL} else []


def _without_images(frame: pd.DataFrame, path: Path) -> list[str]:
    """Note which wells of a layout have no image."""
    layout, plates = _read_layout(path), frame[PLATE].unique().tolist()
    if PLATE not in layout:
        layout = layout.merge(frame[[PLATE]].drop_duplicates(), how="cross")
    there = set(zip(frame[PLATE], frame[WELL], strict=True))
    absent = [place for place in zip(layout[PLATE], layout[WELL], strict=True) if place not in there]
    named = ", ".join("/".join(place) if len(plates) > 1 else place[1] for place in absent[:5])
    return (
        [f"{path.name}: {counted(len(absent), 'well')} without an image, such as {named}"] if absent else []
    )


def _read_layout(path: Path) -> pd.DataFrame:
    """Read a layout: as spreadsheets leave it, with blanks around cells and rows that are empty to the end."""
    layout = read_csv(path)
    layout = layout.apply(lambda column: column.str.strip())
    names = [str(name).strip() for name in layout.columns]
    names = [name if name.startswith("Metadata_") else f"Metadata_{name}" for name in names]
    known = {name.lower(): name for name in IDENTITY}
    names = [known.get(name.lower(), name) for name in names]  # plate and well are Plate and Well
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: columns {doubled} appear more than once. Rename or remove one of each.")
    layout = layout.set_axis(names, axis=1)
    if WELL not in layout:
        raise DataError(f"{path}: no column Well (or Metadata_Well); there are {names}.")
    layout = layout[layout.ne("").any(axis=1)]
    try:
        wells = [well_name(*parse_well(well)) for well in layout[WELL]]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return layout.assign(**{WELL: wells})


def looks_nuclear(channel: str) -> bool:
    """Whether the name of a channel says that it shows nuclei."""
    return any(word in channel.lower() for word in _NUCLEAR)


def nuclear_channel(manifest: Manifest, asked: str) -> str:
    """Name of the channel with the nuclei.

    Raises
    ------
    ConfigurationError
        Not there, or several could be it.
    """
    inputs = manifest.frame[manifest.frame["role"] == "input"]["channel"].unique().tolist()
    if asked:
        if asked not in inputs:
            raise ConfigurationError(f"--nuclei {asked}: no such input channel; there are {inputs}.")
        return asked
    likely = [name for name in inputs if looks_nuclear(name)]
    found = inputs if len(inputs) == 1 else likely
    if len(found) != 1:
        raise ConfigurationError(f"which of the channels {inputs} shows the nuclei? Pass --nuclei NAME.")
    return str(found[0])
