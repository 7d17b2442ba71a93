"""The fields of a folder: what tells them apart, and what they lack."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from image2reg.errors import DataError
from image2reg.tables.fields import IDENTITY
from image2reg.tables.listing import stem
from image2reg.tables.names import parse_metadata, says_place_only, wells_of_1536
from image2reg.tables.tokens import without_plane
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["field_key", "identities", "incomplete", "says_nothing"]

# Folders of these names say nothing about a field: images/x.tif and labels/x.tif are the same field x.
_NEUTRAL = {
    "image",
    "images",
    "img",
    "raw",
    "data",
    "stack",
    "stacks",
    "input",
    "inputs",
    "target",
    "targets",
}
# Of folders that hold the same wells; another one, t1 or day1, may be a plate.
_TIME = re.compile(
    r"(time|tp|t|day|week|hours?|frame)[-_ ]?0*(\d+)|0*(\d+)[-_ ]?(h|hrs?|hours?|min|days?)", re.IGNORECASE
)


def field_key(name: str) -> str:
    """Name the field: the path without suffix, channel and folders that say nothing."""
    *folders, last = name.split("/")
    kept = [piece for piece in folders if not says_nothing(piece)]
    return "/".join([*kept, last] if last else kept)


def says_nothing(folder: str) -> bool:
    """Whether the name of a folder, such as ``images``, tells neither plate nor field."""
    return not folder or folder.lower() in _NEUTRAL


def incomplete(
    folder: Path,
    fields: Mapping[str, Sequence[Mapping[str, Any]]],
    wanted: Iterable[tuple[str, str]],
    *,
    strict: bool,
) -> list[str]:
    """Look for fields with too many or too few files.

    Parameters
    ----------
    folder : Path
        For messages.
    fields : mapping of field key to rows of the manifest
    wanted : (role, channel)
    strict : bool
        Refuse a field without an input, which is noted otherwise.

    Returns
    -------
    list of str
        Notes for `Manifest.notes`.

    Raises
    ------
    DataError
        Several files for one channel of a field; if `strict`, a field without an input.
    """
    notes = []
    for role, channel in wanted:
        counts = {
            key: sum((row["role"], row["channel"]) == (role, channel) for row in rows)
            for key, rows in sorted(fields.items())
        }
        doubled = [key for key, count in counts.items() if count > 1]
        missing = [key for key, count in counts.items() if count == 0]
        if doubled:
            raise DataError(
                f"{folder}: {len(doubled)} fields have several files for {role} {channel!r}, e.g. "
                f"{doubled[:3]}. Keep one file per field and channel."
            )
        if role == "input" and missing and not strict:
            notes.append(f"{counted(len(missing), 'field')} without input {channel!r}, e.g. {missing[:3]}")
        elif role == "input" and missing:
            raise DataError(
                f"{folder}: {len(missing)} of {len(counts)} fields have no input {channel!r}, e.g. {missing[:3]}. "
                "A target may be missing, an input may not: add the images or move these fields away."
            )
    return notes


def identities(
    folder: Path, keys: Sequence[str], pattern: str | None, notes: list[str]
) -> dict[str, dict[str, str]]:
    """Read plate, well, site and time of each field from its key.

    Folders such as t1 and t2 that hold the same wells are time points. Where a first folder as plate does not tell the
    fields apart, all folders above the wells that differ are the plate; where names do not, the whole name becomes the
    site. `notes` gets a line that says so.

    Raises
    ------
    DataError
        `pattern` does not fit a field, two names are one field written in two ways (``A1_s1``, ``A01_s01``), or names
        differ in the plane of a stack alone.
    """
    wells = wells_of_1536(keys) if pattern is None else {}
    found = {key: parse_metadata(key, pattern, well=wells.get(key, "")) for key in keys}
    timed = _time_folders(found, notes) if pattern is None else {}
    for key, spelled in timed.items():
        found[key] = parse_metadata(spelled, well=wells.get(key, ""))
    unfit = [key for key in keys if pattern is not None and not found[key]]
    if unfit:
        raise DataError(
            f"{folder}: pattern {pattern!r} does not fit {len(unfit)} of {len(keys)} fields, e.g. {unfit[:3]}."
        )
    if pattern is None:
        _name_plates(found, timed, notes)
    _refuse_one_field_twice(folder, found)
    first: dict[tuple[str, ...], str] = {}
    alike = [
        (first[at], key) for key, said in found.items() if first.setdefault(at := _identity(said), key) != key
    ]
    if alike:
        _refuse_planes(folder, found)
    if alike or not all(any(identity[1:]) for identity in first):
        for key in keys:
            plate = found[key].get("Metadata_Plate", "")
            found[key]["Metadata_Site"] = key.removeprefix(f"{plate}/")
        such = f", such as {alike[0][0]!r} and {alike[0][1]!r}" if alike else ""
        notes.append(
            f"well, site and time in the names do not tell the fields apart{such}: the whole name is the site"
        )
    return found


def _identity(said: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(said.get(name, "") for name in IDENTITY)


def _time_folders(found: Mapping[str, Mapping[str, str]], notes: list[str]) -> dict[str, str]:
    """Spell folders of one level that are time points so that they are read as such: ``t1`` as ``TimePoint_1``.

    They are where all are called so, each has wells of another one, and nothing else says a time.

    Returns
    -------
    dict of key to key
        Empty where there are none.
    """
    if any("Metadata_Time" in said or not said.get("Metadata_Well") for said in found.values()):
        return {}
    for level in range(min((key.count("/") for key in found), default=0)):
        names = {key: key.split("/")[level] for key in found}
        times = {name: _TIME.fullmatch(name) for name in sorted(set(names.values()))}
        words = {(time[1] or time[4]).lower() for time in times.values() if time}
        if not all(times.values()) or len(words) > 1:
            continue
        number = {name: time[2] or time[3] for name, time in times.items() if time}
        within: dict[tuple[str, ...], set[str]] = defaultdict(set)
        spelled = {}
        for key, name in names.items():
            above, below = key.split("/")[:level], key.split("/")[level + 1 :]
            within[(*above, found[key]["Metadata_Well"])].add(number[name])
            spelled[key] = "/".join([*above, f"TimePoint_{number[name]}", *below])
        sharing = set().union(*(same for same in within.values() if len(same) > 1))
        if sharing < set(number.values()) or len(set(spelled.values())) < len(spelled):
            continue
        form = "|".join(times) if len(times) < 4 else "[^/]*"
        notes.append(
            f"folders {', '.join(list(times)[:5])} hold the same wells and are taken for {len(sharing)} time points; "
            f"if they are plates, say so: --pattern '(?P<Plate>{form})/.*(?P<Well>[A-P]\\d+)', with Site if there is "
            "one"
        )
        return spelled
    return {}


def _name_plates(found: dict[str, dict[str, str]], spelled: Mapping[str, str], notes: list[str]) -> None:
    """Make plates of folders: one that says the well is none, and of those that hold the same wells each is one."""
    own = [(said.get("Metadata_Plate", ""), said.get("Metadata_Well", "")) for said in found.values()]
    if all(plate and says_place_only(plate, well) for plate, well in own):
        for said in found.values():
            said.pop("Metadata_Plate")
    if len({_identity(said) for said in found.values()}) == len(found) or not all(well for _, well in own):
        return
    above = {
        key: _folders_above_well(spelled.get(key, key), said.get("Metadata_Well", ""))
        for key, said in found.items()
    }
    places: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for key, said in found.items():
        places[_identity(said)].add(above[key])
    if all(len(folders) == 1 for folders in places.values()):
        return
    levels = zip(*above.values(), strict=False)
    n_shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    for key, said in found.items():
        said["Metadata_Plate"] = "/".join(above[key][n_shared:]) or said.get("Metadata_Plate", "")
    plates = sorted({said["Metadata_Plate"] for said in found.values()})
    notes.append(f"folders that hold the same wells are taken for {len(plates)} plates, e.g. {plates[:3]}")


def _folders_above_well(key: str, well: str) -> tuple[str, ...]:
    above = []
    for folder in key.split("/")[:-1]:
        if says_place_only(folder):
            continue
        if says_place_only(folder, well):
            break
        above.append(stem(folder))
        if folder.lower().endswith(".zarr"):  # below it are rows and columns
            break
    return tuple(above)


def _refuse_one_field_twice(folder: Path, found: Mapping[str, Mapping[str, str]]) -> None:
    spelled: dict[tuple[str, ...], str] = {}
    for key, said in found.items():
        plain = re.sub(r"0+(?=\d)", "", key.lower())
        other = spelled.setdefault((plain, *_identity(said)), key)
        if other != key and said.get("Metadata_Well"):
            raise DataError(
                f"{folder}: {other!r} and {key!r} are the same field twice (well {said['Metadata_Well']}): their "
                "names differ in zeros or capitals alone. Keep one, or give the other a name of its own."
            )


def _refuse_planes(folder: Path, found: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse planes of one stack, each of which would count as a field."""
    planes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for key, said in found.items():
        planes[(without_plane(key), *_identity(said))].append(key)
    stacks = [keys for keys in planes.values() if len(keys) > 1]
    if stacks:
        raise DataError(
            f"{folder}: {len(stacks)} of {len(planes)} fields are stacks with a file for each plane, such as "
            f"{stacks[0][:3]}, and every plane would count as a field. Project each stack to one plane, keep the files "
            "of one plane in a folder of their own, or, for work in 3D, write each stack as one file."
        )
