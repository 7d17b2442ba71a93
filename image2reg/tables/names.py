"""Plate, well, site, time and channel as they stand in file and folder names.

Names are read in pieces between separators (``_``, ``-``, blank, ``.``, ``/``), so that
``A01_s2_t003_BF`` has the pieces A01, s2, t003 and BF, while ``Aligned`` holds no well A1.
"""

from __future__ import annotations

import re
from functools import lru_cache

from image2reg.errors import ConfigurationError

__all__ = ["has_token", "parse_metadata", "without_token"]

_EDGE_LEFT, _EDGE_RIGHT = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
# Rows A to P, columns 1 to 24: every plate up to 384 wells. `0?` also takes A01 and A1 for the same well.
_WELL = re.compile(rf"{_EDGE_LEFT}([A-Pa-p])0?([1-9]|1\d|2[0-4]){_EDGE_RIGHT}")
_SITE = re.compile(rf"{_EDGE_LEFT}(?:site|field|fov|pos|xy|s|f)[-_ ]?0*(\d+){_EDGE_RIGHT}", re.IGNORECASE)
_TIME = re.compile(rf"{_EDGE_LEFT}(?:time|frame|tp|t)[-_ ]?0*(\d+){_EDGE_RIGHT}", re.IGNORECASE)
_PLATE = re.compile(rf"{_EDGE_LEFT}plate[-_ ]?([A-Za-z0-9]+){_EDGE_RIGHT}", re.IGNORECASE)

# A field of an OME-Zarr plate: name.zarr/row/column/field, or row/column/field in the plate itself.
_PLATE_FIELD = re.compile(r"(?:(?:.*/)?([^/]+?)(?:\.ome)?\.zarr/)?([A-P])/0*([1-9]\d?)/([A-Za-z0-9]+)\Z")


@lru_cache(maxsize=1024)
def _token(name: str) -> re.Pattern[str]:
    """Compile a channel name to whole pieces of a file name; blank, dash and underscore inside it are one."""
    pieces = [re.escape(piece) for piece in re.split(r"[-_ ]+", name.strip()) if piece]
    return re.compile(_EDGE_LEFT + r"[-_ ]?".join(pieces) + _EDGE_RIGHT, re.IGNORECASE)


def has_token(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as whole pieces, whatever the case.

    Examples
    --------
    >>> has_token("A01_s1_BF", "bf"), has_token("A01_BFX", "bf")
    (True, False)
    """
    return bool(_token(name).search(text))


def without_token(text: str, name: str) -> str:
    """Cut every occurrence of `name` out of `text`, each together with one separator.

    Examples
    --------
    >>> without_token("A01_s1_BF", "bf"), without_token("BF_A01", "BF"), without_token("BF/A_BF_s1", "BF")
    ('A01_s1', 'A01', '/A_s1')
    """
    while found := _token(name).search(text):
        left, right = text[: found.start()], text[found.end() :]
        if left and left[-1] in "-_ .":
            left = left[:-1]
        elif right and right[0] in "-_ .":
            right = right[1:]
        text = left + right
    return text


def parse_metadata(key: str, pattern: str | None = None) -> dict[str, str]:
    r"""Read plate, well, site and time from the name of a field.

    Parameters
    ----------
    key : str
        Path of the field without suffix and channel, with ``/``.
    pattern : str, optional
        A regular expression with named groups, e.g. ``(?P<Plate>\w+)/(?P<Well>[A-H]\d\d)_(?P<Site>\d)``. Its
        groups replace what is recognised here, and each becomes ``Metadata_<name>``.

    Returns
    -------
    dict
        ``Metadata_Plate``, ``Metadata_Well`` … for what was found. Without a ``plate…`` piece, the first of
        several folders is the plate.

    Raises
    ------
    ConfigurationError
        The pattern is no regular expression or has no named group.

    Examples
    --------
    >>> parse_metadata("plate7/b3_s02")
    {'Metadata_Well': 'B03', 'Metadata_Site': '2', 'Metadata_Plate': 'plate7'}
    """
    if pattern is not None:
        return {f"Metadata_{k}": v for k, v in _groups(pattern, key).items()}
    if field := _PLATE_FIELD.match(key):
        of_plate = {"Metadata_Plate": field[1]} if field[1] else {}
        return of_plate | {"Metadata_Well": f"{field[2]}{int(field[3]):02d}", "Metadata_Site": field[4]}
    found = {}
    name = key.rpartition("/")[2]
    if well := (_WELL.search(name) or _WELL.search(key)):
        found["Metadata_Well"] = f"{well[1].upper()}{int(well[2]):02d}"
    if site := _SITE.search(name):
        found["Metadata_Site"] = site[1]
    if time := _TIME.search(name):
        found["Metadata_Time"] = time[1]
    if "/" in key:
        found["Metadata_Plate"] = key.partition("/")[0]
    elif plate := _PLATE.search(key):
        found["Metadata_Plate"] = plate[1]
    return found


def _groups(pattern: str, key: str) -> dict[str, str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(f"pattern {pattern!r} is no regular expression: {error}.") from error
    if not expression.groupindex:
        raise ConfigurationError(
            f"pattern {pattern!r} has no named group; write for example "
            r"'(?P<Plate>\w+)_(?P<Well>[A-P]\d\d)_s(?P<Site>\d+)'."
        )
    found = expression.search(key)
    return {name: value for name, value in found.groupdict().items() if value is not None} if found else {}
