"""Plate, well, site, time and channel as they stand in file and folder names.

Names are read in pieces between separators (``_``, ``-``, blank, ``.``, ``/``), so that
``A01_s2_t003_BF`` has the pieces A01, s2, t003 and BF, while ``Aligned`` holds no well A1.
"""

from __future__ import annotations

import re
from functools import lru_cache

from image2reg.errors import ConfigurationError

__all__ = ["has_token", "parse_metadata", "without_token", "without_wavelength"]

_EDGE_LEFT, _EDGE_RIGHT = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
# Rows A to P, columns 1 to 24: every plate up to 384 wells. `0?` also takes A01 and A1 for the same well.
_WELL = re.compile(rf"{_EDGE_LEFT}([A-Pa-p])0?([1-9]|1\d|2[0-4]){_EDGE_RIGHT}")
_PADDED = re.compile(r"[A-P]\d\d")
_SITE = re.compile(rf"{_EDGE_LEFT}(?:site|field|fov|fld|pos|xy|s|f)[-_ ]?0*(\d+){_EDGE_RIGHT}", re.IGNORECASE)
_TIME = re.compile(rf"{_EDGE_LEFT}(?:time|frame|tp|t)[-_ ]?0*(\d+){_EDGE_RIGHT}", re.IGNORECASE)
_PLATE = re.compile(rf"{_EDGE_LEFT}plate[-_ ]?([A-Za-z0-9]+){_EDGE_RIGHT}", re.IGNORECASE)

# Names that microscopes give and that are not in pieces: Harmony, CV7000 and CV8000, IN Cell, Cellomics, BBBC013.
_MICROSCOPES = tuple(
    re.compile(_EDGE_LEFT + form)
    for form in (
        r"r(?P<row>\d\d)c(?P<column>\d\d)f(?P<site>\d+)p\d+(?:-(?:ch\d+-?)?sk(?P<time>\d+))?",
        r"(?P<row>[A-P])(?P<column>\d\d)_T(?P<time>\d{4})F(?P<site>\d{3})L\d\d(?:A\d\d)?Z\d\d",
        r"(?P<row>[A-P]) - (?P<column>\d\d?)\(fld (?P<site>\d+)",
        rf"(?P<row>[A-P])(?P<column>\d\d)f(?P<site>\d\d)(?:d\d)?{_EDGE_RIGHT}",
        rf"\d\d-(?P<row>[A-P])-(?P<column>\d\d){_EDGE_RIGHT}",
    )
)
# What stands behind a channel without a separator: the GUID of MetaXpress, the sequence of Harmony; a Cellomics channel
# behind its field, and that of a CV7000 or CellVoyager behind the plane. What a CV7000 did when (A01) goes with the
# channel, and does not tell fields apart.
_GUID = re.compile(
    r"(?:(?<=w\d)|(?<=w\d\d))[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}" + _EDGE_RIGHT, re.IGNORECASE
)
_WAVELENGTH = re.compile(rf"{_EDGE_LEFT}(?:w|ch|channel)\d{{1,2}}{_EDGE_RIGHT}", re.IGNORECASE)
_GLUED = re.compile(
    rf"(?<=-ch\d)(?=sk\d+fk\d)|(?<=[A-P]\d\df\d\d)(?=d\d{_EDGE_RIGHT})"
    rf"|(?<=F\d{{3}}L\d\dA\d\dZ\d\d)(?=C\d\d{_EDGE_RIGHT})|(?<=F\d{{4}}T\d{{4}}Z\d\d)(?=C\d{_EDGE_RIGHT})"
)
_ACTION = re.compile(r"(?<=F\d{3}L\d\d)A\d\d(?=Z\d\d-C\d\d)")

# A field of an OME-Zarr plate: name.zarr/row/column/field, or row/column/field in the plate itself.
_PLATE_FIELD = re.compile(r"(?:(?:.*/)?([^/]+?)(?:\.ome)?\.zarr/)?([A-P])/0*([1-9]\d?)/([A-Za-z0-9]+)\Z")


@lru_cache(maxsize=1024)
def _token(name: str) -> re.Pattern[str]:
    """Compile a channel name to whole pieces of a file name; blank, dash and underscore inside it are one."""
    pieces = [re.escape(piece) for piece in re.split(r"[-_ ]+", name.strip()) if piece]
    return re.compile(_EDGE_LEFT + r"[-_ ]*".join(pieces) + _EDGE_RIGHT, re.IGNORECASE)


def _in_pieces(text: str) -> str:
    return _ACTION.sub("", _GLUED.sub("-", _GUID.sub("", text)))


def has_token(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as whole pieces, whatever the case; a GUID behind ``w1`` is not looked at.

    Examples
    --------
    >>> has_token("A01_s1_BF", "bf"), has_token("A01_BFX", "bf")
    (True, False)
    """
    return bool(_token(name).search(_in_pieces(text)))


def without_token(text: str, name: str) -> str:
    """Cut every occurrence of `name` out of `text`, each together with one separator.

    Examples
    --------
    >>> without_token("A01_s1_BF", "bf"), without_token("BF_A01", "BF"), without_token("BF/A_BF_s1", "BF")
    ('A01_s1', 'A01', '/A_s1')
    """
    text = _in_pieces(text)
    while found := _token(name).search(text):
        left, right = text[: found.start()], text[found.end() :]
        if left and left[-1] in "-_ .":
            left = left[:-1]
        elif right and right[0] in "-_ .":
            right = right[1:]
        text = left + right
    return text


def without_wavelength(text: str) -> str:
    """Cut the number of the channel out of the name of a file whose channel is named inside it.

    Examples
    --------
    >>> without_wavelength("A01_s1_w2"), without_wavelength("A01_s1_ch00"), without_wavelength("A01_s1")
    ('A01_s1', 'A01_s1', 'A01_s1')
    """
    found = _WAVELENGTH.findall(_in_pieces(text))
    return without_token(text, found[-1]) if found else text


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
        ``Metadata_Plate``, ``Metadata_Well`` … for what was found. The first of several folders is the plate;
        without folders a ``plate…`` piece is, or ``P1`` before the well.

    Notes
    -----
    Of several pieces that could be wells, the last one written as A01 is the well, ``P…`` only without another. F02 is
    field 2 beside a well, and a well where another piece says the site or nothing else can be the well. What
    Harmony, CV7000, IN Cell and Cellomics write (``r01c02f03p01``, ``A01_T0001F001L01…``, ``A - 01(fld 1``,
    ``A01f00d0``), and the images of BBBC013 (``01-A-01``), is known.

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
    name = key.rpartition("/")[2]
    if form := next(filter(None, (form.search(name) for form in _MICROSCOPES)), None):
        found, prefix = _of_microscope(form.groupdict()), None
    else:
        found, prefix = _of_pieces(key, name)
    if "/" in key:
        found["Metadata_Plate"] = key.partition("/")[0]
    elif plate := _PLATE.search(key):
        found["Metadata_Plate"] = plate[1]
    elif prefix:
        found["Metadata_Plate"] = prefix
    return found


def _of_microscope(said: dict[str, str | None]) -> dict[str, str]:
    row = str(said["row"])
    if row.isdigit():  # row 27 of 32 is AA
        row = chr(64 + int(row)) if int(row) <= 26 else f"A{chr(38 + int(row))}"
    numbers = {"Metadata_Site": said.get("site"), "Metadata_Time": said.get("time")}
    return {"Metadata_Well": f"{row}{int(str(said['column'])):02d}"} | {
        name: str(int(value)) for name, value in numbers.items() if value is not None
    }


def _of_pieces(key: str, name: str) -> tuple[dict[str, str], str | None]:
    """Well, site and time from the pieces of a name, and ``P1`` where it stands before the well."""
    name = _GUID.sub("", name)
    sites = list(_SITE.finditer(name))
    sure = next((site for site in sites if not _WELL.fullmatch(site[0])), None)
    here, *above = (list(_WELL.finditer(part)) for part in (name, *reversed(key.split("/")[:-1])))
    folders: list[re.Match[str]] = next(filter(None, above), [])
    if sure is None:  # A01_F02 is field 2 of A01, and so is A01/f02; P1_F02 is well F02 of plate P1
        if any(w[1] not in "Ff" and (w[1] not in "Pp" or _PADDED.fullmatch(w[0])) for w in here):
            here = [w for w in here if w[1] not in "Ff"]
        elif folders and all(w[1] == "f" for w in here):
            here = []
    found, wells = {}, here or folders
    prefixes = [w for w in wells if w[1] in "Pp" and any(other[1].isupper() for other in _behind(w, wells))]
    left = [w for w in wells if w not in prefixes]
    if left:
        well = max(left, key=lambda w: (_PADDED.fullmatch(w[0]) is not None, w[1] not in "Pp", w.start()))
        found["Metadata_Well"] = f"{well[1].upper()}{int(well[2]):02d}"
        sites = [site for site in sites if (site.string, site.span()) != (well.string, well.span())]
    if site := sure or next(iter(sites), None):
        found["Metadata_Site"] = site[1]
    if time := _TIME.search(name):
        found["Metadata_Time"] = time[1]
    return found, prefixes[0][0] if prefixes else None


def _behind(well: re.Match[str], wells: list[re.Match[str]]) -> list[re.Match[str]]:
    return [other for other in wells if other.start() > well.start()]


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
