"""Plate, well, site and time as they stand in file and folder names.

Names are read in pieces (`image2reg.tables.tokens`), so that ``A01_s2_t003_BF`` has the pieces A01, s2, t003 and BF,
while ``Aligned`` holds no well A1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from image2reg.errors import ConfigurationError
from image2reg.tables.tokens import EDGE_LEFT, EDGE_RIGHT, GUID, TIME, in_usual_order, without_plane

__all__ = [
    "numbers_wells",
    "parse_metadata",
    "says_place_only",
    "wells_of_1536",
]

# Rows A to P, columns 1 to 24: every plate up to 384 wells. `0?` also takes A01 and A1 for the same well.
_WELL = re.compile(rf"{EDGE_LEFT}(?:[Ww]ell[-_ ]?)?([A-Pa-p])0?([1-9]|1\d|2[0-4]){EDGE_RIGHT}")
_PADDED = re.compile(r"(?:[Ww]ell[-_ ]?)?[A-P]\d\d")
_OF_1536 = re.compile(r"(A?[A-Z])(0[1-9]|[1-3]\d|4[0-8])")
_IN_WORDS = r"site|field|fov|fld|pos|position|xy"
# CellVoyager: W0013F0001T0001Z01C1; ScanR, and the images of MitoCheck: W00013--P00001.
_NUMBERED = re.compile(r"(?<![A-Za-z0-9])W\d{4,5}(?=F\d|[-_ ])")
_SITE = re.compile(rf"{EDGE_LEFT}(?:{_IN_WORDS}|s|f)[-_ ]?0*(\d+){EDGE_RIGHT}", re.IGNORECASE)
_HOURS = re.compile(rf"{EDGE_LEFT}0*(\d+)h{EDGE_RIGHT}")
_PLATE = re.compile(rf"{EDGE_LEFT}plate[-_ ]?([A-Za-z0-9]+){EDGE_RIGHT}", re.IGNORECASE)
# Of folders: a letter and a number there may be anything.
_SITE_FOLDER = re.compile(rf"{EDGE_LEFT}(?:{_IN_WORDS})[-_ ]?0*(\d+){EDGE_RIGHT}", re.IGNORECASE)
_TIME_FOLDER = re.compile(rf"{EDGE_LEFT}time[-_ ]?point[-_ ]?0*(\d+){EDGE_RIGHT}", re.IGNORECASE)

# Names that microscopes give and that are not in pieces: Harmony, CV7000 and CV8000, IN Cell, Cellomics, Incucyte,
# Leica's matrices (wells from 0), BBBC013.
_ROW = "(?P<row>A[A-F]|[A-Z])"
_MICROSCOPES = tuple(
    re.compile(EDGE_LEFT + form)
    for form in (
        r"r(?P<row>\d\d)c(?P<column>\d\d)f(?P<site>\d+)p\d+(?:-(?:ch\d+-?)?sk(?P<time>\d+))?",
        rf"{_ROW}(?P<column>\d\d)_T(?P<time>\d{{4}})F(?P<site>\d{{3}})L\d\d(?:A\d\d)?Z\d\d",
        rf"{_ROW} - (?P<column>\d\d?)\(fld (?P<site>\d+)",
        rf"{_ROW}(?P<column>\d\d)f(?P<site>\d\d)(?:d\d)?{EDGE_RIGHT}",
        r"(?P<row>[A-P])(?P<column>\d\d?)_(?P<site>\d+)_(?P<time>(?:\d{4}y\d\dm)?\d\dd_?\d\dh\d\dm)",
        r"U(?P<column_0>\d\d)--V(?P<row_0>\d\d)--J\d\d--E\d\d--O\d\d--(?P<site>X\d\d--Y\d\d)--T(?P<time>\d{4})",
        rf"\d\d-(?P<row>[A-P])-(?P<column>\d\d){EDGE_RIGHT}",
    )
)
# A field of an OME-Zarr plate: name.zarr/row/column/field, or row/column/field in the plate itself.
_PLATE_FIELD = re.compile(r"(?:(?:.*/)?([^/]+?)(?:\.ome)?\.zarr/)?([A-P])/0*([1-9]\d?)/([A-Za-z0-9]+)\Z")


@lru_cache(maxsize=8192)
def says_place_only(folder: str, well: str = "") -> bool:
    """Whether the name of a folder says site, time or plane, or this well, and nothing else.

    Examples
    --------
    >>> says_place_only("TimePoint_1"), says_place_only("B3-Site_0", "B03"), says_place_only("plate1")
    (True, True, False)
    """
    left = without_plane(_TIME_FOLDER.sub("", _SITE_FOLDER.sub("", folder)))
    left = _WELL.sub(lambda found: "" if _well_name(found) == well else found[0], left)
    return not any(map(str.isalnum, left))


def wells_of_1536(names: Sequence[str]) -> dict[str, str]:
    """Find the wells of a plate of 1536, AA01 to AF48 among them, where all names have a well at the same place.

    Parameters
    ----------
    names : sequence of str
        Of fields; what stands before the last ``/`` is not looked at.

    Returns
    -------
    dict of name to well
        Empty where it is not sure. Beside A01 to P24, AB12 is a well only where wells of rows Q to Z or of columns 25
        to 48 are there too; of two places with wells neither is taken.

    Examples
    --------
    >>> wells_of_1536(["x_B07_s1", "x_Q07_s1", "x_AB12_s1"]), wells_of_1536(["B07_s1", "AB12_s1"])
    ({'x_B07_s1': 'B07', 'x_Q07_s1': 'Q07', 'x_AB12_s1': 'AB12'}, {})
    """
    pieces = [re.split(r"[-_ .]+", name.rpartition("/")[2]) for name in names]
    places = list(zip(*pieces, strict=False))
    large = [wells for wells in places if _are_of_1536(wells)]
    # AB12_A01: a sample and its well; AB12_F01 is field 1 of a well, as A01_F01 is.
    usual = [
        wells for wells in places if all(_PADDED.fullmatch(well) and well[0] not in "FP" for well in wells)
    ]
    return dict(zip(names, large[0], strict=True)) if len(large) == 1 and not usual else {}


def _are_of_1536(wells: Sequence[str]) -> bool:
    if not all(map(_OF_1536.fullmatch, wells)) or all(len(well) == 3 for well in wells):
        return False
    short = [_WELL.fullmatch(well) is not None for well in wells if len(well) == 3]
    return not all(short) or not short


def numbers_wells(name: str) -> bool:
    """Whether a name tells its well by a number: which row and column that is depends on the plate."""
    return _NUMBERED.search(name) is not None


def parse_metadata(key: str, pattern: str | None = None, *, well: str = "") -> dict[str, str]:
    r"""Read plate, well, site and time from the name of a field.

    Parameters
    ----------
    key : str
        Path of the field without suffix and channel, with ``/``.
    pattern : str, optional
        A regular expression with named groups, e.g. ``(?P<Plate>\w+)/(?P<Well>[A-H]\d\d)_(?P<Site>\d)``. Its
        groups replace what is recognised here, and each becomes ``Metadata_<name>``.
    well : str
        The piece of the name that is known to be the well (`wells_of_1536`).

    Returns
    -------
    dict
        ``Metadata_Plate``, ``Metadata_Well`` … for what was found. The first of several folders is the plate, but one
        that says site, time or plane only; without folders a ``plate…`` piece is, or ``P1`` before the well.

    Notes
    -----
    Of several pieces that could be wells, the last one written as A01 is the well, ``P…`` only without another and as a
    first folder not at all (P1 is a plate). F02 is field 2 beside a well, and a well where another piece says the site
    or nothing else can be the well. What Harmony, CV7000, IN Cell, Cellomics, Cytation, Incucyte, Leica and Squid
    write (``r01c02f03p01``, ``A01_T0001F001L01…``, ``A - 01(fld 1``, ``A01f00d0``, ``A1_02_1_1_DAPI_001``,
    ``A1_1_00d04h00m``, ``U00--V00--J08…``), and the images of BBBC013 (``01-A-01``), is known.

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
    if well:  # read as if it were A01
        start, _, last = key.rpartition(well)
        return parse_metadata(f"{start}A01{last}") | {"Metadata_Well": well}
    *folders, name = in_usual_order(key).split("/")
    name, prefix = GUID.sub("", name), None
    if known := next(filter(None, (form.search(name) for form in _MICROSCOPES)), None):
        found = _of_microscope(known.groupdict())
    else:
        found, prefix = _of_pieces(folders, name)
    if "Metadata_Time" not in found and (time := TIME.search(name) or _HOURS.search(name)):
        found["Metadata_Time"] = time[1]
    for folder in reversed(folders):
        for what, form in (("Metadata_Site", _SITE_FOLDER), ("Metadata_Time", _TIME_FOLDER)):
            if what not in found and (said := form.search(folder)):
                found[what] = said[1]
    plates = [folder for folder in folders if not says_place_only(folder)]
    if plates:
        found["Metadata_Plate"] = plates[0]
    elif plate := _PLATE.search(key):
        found["Metadata_Plate"] = plate[1]
    elif prefix:
        found["Metadata_Plate"] = prefix
    return found


def _of_microscope(said: dict[str, str | None]) -> dict[str, str]:
    if number := said.get("row_0"):
        row, column = chr(65 + int(number)), int(str(said["column_0"])) + 1
    else:
        row, column = str(said["row"]), int(str(said["column"]))
    if row.isdigit():  # row 27 of 32 is AA
        row = chr(64 + int(row)) if int(row) <= 26 else f"A{chr(38 + int(row))}"
    others = {"Metadata_Site": said.get("site"), "Metadata_Time": said.get("time")}
    return {"Metadata_Well": f"{row}{column:02d}"} | {
        name: str(int(value)) if value.isdigit() else value
        for name, value in others.items()
        if value is not None
    }


def _of_pieces(folders: Sequence[str], name: str) -> tuple[dict[str, str], str | None]:
    """Well and site from the pieces of a name, and ``P1`` where it stands before the well."""
    sites = list(_SITE.finditer(name))
    sure = next((site for site in sites if not _WELL.fullmatch(site[0])), None)
    here, *above = (list(_WELL.finditer(part)) for part in (name, *reversed(folders)))
    if numbers_wells(name):
        here = [w for w in here if w[1].isupper()]
    if above:
        above[-1] = [w for w in above[-1] if w[1] not in "Pp" or _PADDED.fullmatch(w[0])]
    nearest: list[re.Match[str]] = next(filter(None, above), [])
    if sure is None:  # A01_F02 is field 2 of A01, and so is A01/f02; P1_F02 is well F02 of plate P1
        if any(w[1] not in "Ff" and (w[1] not in "Pp" or _PADDED.fullmatch(w[0])) for w in here):
            here = [w for w in here if w[1] not in "Ff"]
        elif nearest and all(w[1] == "f" for w in here):
            here = []
    found, wells = {}, here or nearest
    prefixes = [w for w in wells if w[1] in "Pp" and any(other[1].isupper() for other in _behind(w, wells))]
    left = [w for w in wells if w not in prefixes]
    if left:
        well = max(left, key=lambda w: (_PADDED.fullmatch(w[0]) is not None, w[1] not in "Pp", w.start()))
        found["Metadata_Well"] = _well_name(well)
        sites = [site for site in sites if (site.string, site.span()) != (well.string, well.span())]
    if site := sure or next(iter(sites), None):
        found["Metadata_Site"] = site[1]
    return found, prefixes[0][0] if prefixes else None


def _well_name(found: re.Match[str]) -> str:
    return f"{found[1].upper()}{int(found[2]):02d}"


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
