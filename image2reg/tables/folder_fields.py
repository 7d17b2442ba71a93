"""The fields of a folder: what tells them apart, and what they lack."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from image2reg.errors import DataError
from image2reg.tables.fields import IDENTITY
from image2reg.tables.names import parse_metadata, wells_of_1536
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["field_key", "identities", "incomplete"]

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


def field_key(name: str) -> str:
    """Name the field: the path without suffix, channel and folders that say nothing."""
    *folders, last = name.split("/")
    kept = [piece for piece in folders if piece and piece.lower() not in _NEUTRAL]
    return "/".join([*kept, last] if last else kept)


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

    Where names do not tell the fields apart, the whole name becomes the site, and `notes` gets a line that says so.

    Raises
    ------
    DataError
        `pattern` does not fit a field, or two names are one field written in two ways (``A1_s1``, ``A01_s01``).
    """
    wells = wells_of_1536(keys) if pattern is None else {}
    found = {key: parse_metadata(key, pattern, well=wells.get(key, "")) for key in keys}
    unfit = [key for key in keys if pattern is not None and not found[key]]
    if unfit:
        raise DataError(
            f"{folder}: pattern {pattern!r} does not fit {len(unfit)} of {len(keys)} fields, e.g. {unfit[:3]}."
        )
    identities = [tuple(found[key].get(name, "") for name in IDENTITY) for key in keys]
    spelled: dict[tuple[str, ...], str] = {}
    for key, identity in zip(keys, identities, strict=True):
        plain = re.sub(r"0+(?=\d)", "", key.lower())
        other = spelled.setdefault((plain, *identity), key)
        if other != key and found[key].get("Metadata_Well"):
            raise DataError(
                f"{folder}: {other!r} and {key!r} are the same field twice (well {found[key]['Metadata_Well']}): their "
                "names differ in zeros or capitals alone. Keep one, or give the other a name of its own."
            )
    if len(set(identities)) < len(keys) or not all(any(identity[1:]) for identity in identities):
        for key in keys:
            plate = found[key].get("Metadata_Plate", "")
            found[key]["Metadata_Site"] = key.removeprefix(f"{plate}/")
        notes.append(
            "well, site and time in the names do not tell the fields apart: the whole name is the site"
        )
    return found
