"""Pieces of file names: whether a channel stands in one, and what is left without channel, wavelength or plane.

Names are read in pieces between separators (``_``, ``-``, blank, ``.``, ``/``); what microscopes write without a
separator is split first.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = [
    "EDGE_LEFT",
    "EDGE_RIGHT",
    "GUID",
    "TIME",
    "has_token",
    "in_usual_order",
    "without_plane",
    "without_token",
    "without_wavelength",
]

EDGE_LEFT, EDGE_RIGHT = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
# Number of a time point: t003, time-3, TimePoint_3, frame 12.
TIME = re.compile(rf"{EDGE_LEFT}(?:time[-_ ]?point|time|frame|tp|t)[-_ ]?0*(\d+){EDGE_RIGHT}", re.IGNORECASE)
# What stands behind a channel without a separator: the GUID of MetaXpress, the sequence of Harmony; a Cellomics channel
# behind its field, and that of a CV7000 or CellVoyager behind the plane. What a CV7000 did when (A01) goes with the
# channel, and does not tell fields apart. ZEN and NIS write site, plane and channel as one piece: s1z2c1.
GUID = re.compile(
    r"(?:(?<=w\d)|(?<=w\d\d))[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}" + EDGE_RIGHT, re.IGNORECASE
)
_WAVELENGTH = re.compile(rf"{EDGE_LEFT}(?:w|ch|channel)\d{{1,2}}{EDGE_RIGHT}", re.IGNORECASE)
_GLUED = re.compile(
    rf"(?<=-ch\d)(?=sk\d+fk\d)|(?<=[A-Z]\d\df\d\d)(?=d\d{EDGE_RIGHT})"
    rf"|(?<=F\d{{3}}L\d\dA\d\dZ\d\d)(?=C\d\d{EDGE_RIGHT})"
    rf"|(?:(?<=F\d{{4}}T\d{{4}}Z\d\d)|(?<=F\d{{4}}T\d{{4}}Z\d{{3}}))(?=C\d{EDGE_RIGHT})"
)
_ACTION = re.compile(r"(?<=F\d{3}L\d\d)A\d\d(?=Z\d\d-C\d\d)")
_RUN = re.compile(rf"{EDGE_LEFT}(?:(?:xy|[tszmc])\d+)+c\d+{EDGE_RIGHT}")
# Cytation: well, read and channel by number, tile, plane, channel by name, time. The numbers go with the channel.
_CYTATION = re.compile(
    r"(?:(?<=/)|^)(A?[A-Z]\d\d?(?:ROI\d+)?)_-?\d\d?_\d_(\d+)(?:Z(\d+))?_([A-Za-z0-9 ,\[\]]+)_(\d{3})$"
)
# Squid: a folder for each time point; in it region (a well), field, plane and channel, by the name that it has there.
# Without that folder two numbers may be column and row of a field, as older ones wrote them.
_SQUID = re.compile(
    r"(?:(?<=/)|^)(\d+)/(A?[A-Z]\d\d?)_(\d+)_(\d+)_((?:Fluorescence_\d+_nm|[BD]F_LED_matrix)[^/]*)$"
)
_PLANE = re.compile(
    rf"{EDGE_LEFT}(?:z(?:step|slice|pos)?|plane)[-_ ]?\d+{EDGE_RIGHT}"
    r"|(?<=img_\d{9})_\d{3}$|(r\d\dc\d\df\d+)p\d+|(F\d{3}L\d\d(?:A\d\d)?|F\d{4}T\d{4})Z\d{2,3}"
    r"|(?<=_)(\d+)Z\d+(?=_)",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def _token(name: str) -> re.Pattern[str]:
    """Compile a channel name to whole pieces of a file name; blank, dash and underscore inside it are one."""
    pieces = [re.escape(piece) for piece in re.split(r"[-_ ]+", name.strip()) if piece]
    return re.compile(EDGE_LEFT + r"[-_ ]*".join(pieces) + EDGE_RIGHT, re.IGNORECASE)


def _in_pieces(text: str) -> str:
    text = GUID.sub("", in_usual_order(text))
    text = _RUN.sub(lambda run: re.sub(r"(?<=\d)(?=[a-z])", "-", run[0]), text)
    return _ACTION.sub("", _GLUED.sub("-", text))


def in_usual_order(text: str) -> str:
    """Write ``A1_02_1_3Z0_Tsf[DAPI 377,447]_001`` as ``A1_s3_z0_DAPI_t001``: what was made of an image is its copy.

    A folder may belong to the name: ``0/B3_1_0_Fluorescence_405_nm_Ex`` is ``B3_s1_z0_Fluorescence_405_nm_Ex_t0``.
    """
    if found := _CYTATION.search(text):
        well, tile, plane, channel, time = found.groups()
        channel = re.sub(r"\w+\[|\]| \d+,\d+", "", channel)
    elif found := _SQUID.search(text):
        time, well, tile, plane, channel = found.groups()
    else:
        return text
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
