"""Plate, well, site, time and channel as they stand in file and folder names.

Names are read in pieces between separators (``_``, ``-``, blank, ``.``, ``/``), so that
``A01_s2_t003_BF`` has the pieces A01, s2, t003 and BF, while ``Aligned`` holds no well A1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from image2reg.errors import ConfigurationError

__all__ = [
    "has_token",
    "numbers_wells",
    "parse_metadata",
    "says_place_only",
    "wells_of_1536",
    "without_plane",
    "without_token",
    "without_wavelength",
]

_EDGE_LEFT, _EDGE_RIGHT = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
# Rows A to P, columns 1 to 24: every plate up to 384 wells. `0?` also takes A01 and A1 for the same well.
_WELL = re.compile(rf"{_EDGE_LEFT}(?:[Ww]ell[-_ ]?)?([A-Pa-p])0?([1-9]|1\d|2[0-4]){_EDGE_RIGHT}")
_PADDED = re.compile(r"(?:[Ww]ell[-_ ]?)?[A-P]\d\d")
_OF_1536 = re.compile(r"(A?[A-Z])(0[1-9]|[1-3]\d|4[0-8])")
_IN_WORDS = r"site|field|fov|fld|pos|position|xy"
# CellVoyager: W0013F0001T0001Z01C1; ScanR, and the images of MitoCheck: W00013--P00001.
_NUMBERED = re.compile(r"(?<![A-Za-z0-9])W\d{4,5}(?=F\d|[-_ ])")
_SITE = re.compile(rf"{_EDGE_LEFT}(?:{_IN_WORDS}|s|f)[-_ ]?0*(\d+){_EDGE_RIGHT}", re.IGNORECASE)
_TIME = re.compile(
    rf"{_EDGE_LEFT}(?:time[-_ ]?point|time|frame|tp|t)[-_ ]?0*(\d+){_EDGE_RIGHT}", re.IGNORECASE
)
_HOURS = re.compile(rf"{_EDGE_LEFT}0*(\d+)h{_EDGE_RIGHT}")
_PLATE = re.compile(rf"{_EDGE_LEFT}plate[-_ ]?([A-Za-z0-9]+){_EDGE_RIGHT}", re.IGNORECASE)
# Of folders: a letter and a number there may be anything.
_SITE_FOLDER = re.compile(rf"{_EDGE_LEFT}(?:{_IN_WORDS})[-_ ]?0*(\d+){_EDGE_RIGHT}", re.IGNORECASE)
_TIME_FOLDER = re.compile(rf"{_EDGE_LEFT}time[-_ ]?point[-_ ]?0*(\d+){_EDGE_RIGHT}", re.IGNORECASE)

# Names that microscopes give and that are not in pieces: Harmony, CV7000 and CV8000, IN Cell, Cellomics, Incucyte,
# Leica's matrices (wells from 0), BBBC013.
_ROW = "(?P<row>A[A-F]|[A-Z])"
_MICROSCOPES = tuple(
    re.compile(_EDGE_LEFT + form)
    for form in (
        r"r(?P<row>\d\d)c(?P<column>\d\d)f(?P<site>\d+)p\d+(?:-(?:ch\d+-?)?sk(?P<time>\d+))?",
        rf"{_ROW}(?P<column>\d\d)_T(?P<time>\d{{4}})F(?P<site>\d{{3}})L\d\d(?:A\d\d)?Z\d\d",
        rf"{_ROW} - (?P<column>\d\d?)\(fld (?P<site>\d+)",
        rf"{_ROW}(?P<column>\d\d)f(?P<site>\d\d)(?:d\d)?{_EDGE_RIGHT}",
        r"(?P<row>[A-P])(?P<column>\d\d?)_(?P<site>\d+)_(?P<time>(?:\d{4}y\d\dm)?\d\dd_?\d\dh\d\dm)",
        r"U(?P<column_0>\d\d)--V(?P<row_0>\d\d)--J\d\d--E\d\d--O\d\d--(?P<site>X\d\d--Y\d\d)--T(?P<time>\d{4})",
        rf"\d\d-(?P<row>[A-P])-(?P<column>\d\d){_EDGE_RIGHT}",
    )
)
# What stands behind a channel without a separator: the GUID of MetaXpress, the sequence of Harmony; a Cellomics channel
# behind its field, and that of a CV7000 or CellVoyager behind the plane. What a CV7000 did when (A01) goes with the
# channel, and does not tell fields apart. ZEN and NIS write site, plane and channel as one piece: s1z2c1.
_GUID = re.compile(
    r"(?:(?<=w\d)|(?<=w\d\d))[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}" + _EDGE_RIGHT, re.IGNORECASE
)
_WAVELENGTH = re.compile(rf"{_EDGE_LEFT}(?:w|ch|channel)\d{{1,2}}{_EDGE_RIGHT}", re.IGNORECASE)
_GLUED = re.compile(
    rf"(?<=-ch\d)(?=sk\d+fk\d)|(?<=[A-Z]\d\df\d\d)(?=d\d{_EDGE_RIGHT})"
    rf"|(?<=F\d{{3}}L\d\dA\d\dZ\d\d)(?=C\d\d{_EDGE_RIGHT})"
    rf"|(?:(?<=F\d{{4}}T\d{{4}}Z\d\d)|(?<=F\d{{4}}T\d{{4}}Z\d{{3}}))(?=C\d{_EDGE_RIGHT})"
)
_ACTION = re.compile(r"(?<=F\d{3}L\d\d)A\d\d(?=Z\d\d-C\d\d)")
_RUN = re.compile(rf"{_EDGE_LEFT}(?:(?:xy|[tszmc])\d+)+c\d+{_EDGE_RIGHT}")
# Cytation: well, read and channel by number, tile, plane, channel by name, time. The numbers go with the channel.
_CYTATION = re.compile(
    r"(?:(?<=/)|^)(A?[A-Z]\d\d?(?:ROI\d+)?)_-?\d\d?_\d_(\d+)(?:Z(\d+))?_([A-Za-z0-9 ,\[\]]+)_(\d{3})$"
)
_PLANE = re.compile(
    rf"{_EDGE_LEFT}(?:z(?:step|slice|pos)?|plane)[-_ ]?\d+{_EDGE_RIGHT}"
    r"|(?<=img_\d{9})_\d{3}$|(r\d\dc\d\df\d+)p\d+|(F\d{3}L\d\d(?:A\d\d)?|F\d{4}T\d{4})Z\d{2,3}"
    r"|(?<=_)(\d+)Z\d+(?=_)",
    re.IGNORECASE,
)

# A field of an OME-Zarr plate: name.zarr/row/column/field, or row/column/field in the plate itself.
_PLATE_FIELD = re.compile(r"(?:(?:.*/)?([^/]+?)(?:\.ome)?\.zarr/)?([A-P])/0*([1-9]\d?)/([A-Za-z0-9]+)\Z")


@lru_cache(maxsize=1024)
def _token(name: str) -> re.Pattern[str]:
    """Compile a channel name to whole pieces of a file name; blank, dash and underscore inside it are one."""
    pieces = [re.escape(piece) for piece in re.split(r"[-_ ]+", name.strip()) if piece]
    return re.compile(_EDGE_LEFT + r"[-_ ]*".join(pieces) + _EDGE_RIGHT, re.IGNORECASE)


def _in_pieces(text: str) -> str:
    text = _GUID.sub("", _said_by_cytation(text))
    text = _RUN.sub(lambda run: re.sub(r"(?<=\d)(?=[a-z])", "-", run[0]), text)
    return _ACTION.sub("", _GLUED.sub("-", text))


def _said_by_cytation(text: str) -> str:
    """Write ``A1_02_1_3Z0_Tsf[DAPI 377,447]_001`` as ``A1_s3_z0_DAPI_t001``: what was made of an image is its copy."""
    if (found := _CYTATION.search(text)) is None:
        return text
    well, tile, plane, channel, time = found.groups()
    channel = re.sub(r"\w+\[|\]| \d+,\d+", "", channel)
    return f"{text[: found.start()]}{well}_s{tile}_{f'z{plane}_' if plane else ''}{channel}_t{time}"


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


def without_plane(text: str) -> str:
    """Cut out what says which plane of a stack an image is.

    Examples
    --------
    >>> without_plane("A01_s1_z03"), without_plane("r01c02f03p04-sk1fk1fl1"), without_plane("ZStep_2/A01_s1")
    ('A01_s1_', 'r01c02f03-sk1fk1fl1', '/A01_s1')
    """
    return _PLANE.sub(r"\1\2\3", text)


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
    or nothing else can be the well. What Harmony, CV7000, IN Cell, Cellomics, Cytation, Incucyte and Leica write
    (``r01c02f03p01``, ``A01_T0001F001L01…``, ``A - 01(fld 1``, ``A01f00d0``, ``A1_02_1_1_DAPI_001``,
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
    *folders, name = _said_by_cytation(key).split("/")
    name, prefix = _GUID.sub("", name), None
    if known := next(filter(None, (form.search(name) for form in _MICROSCOPES)), None):
        found = _of_microscope(known.groupdict())
    else:
        found, prefix = _of_pieces(folders, name)
    if "Metadata_Time" not in found and (time := _TIME.search(name) or _HOURS.search(name)):
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
