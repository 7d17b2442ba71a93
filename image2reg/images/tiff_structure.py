"""Walk the directories of a TIFF file and see whether they, and the voxels they point to, are all there.

A TIFF is a chain of directories. A copy that was cut short often still opens: the chain just ends early,
and a stack of eight planes becomes one plane without a word. Reference: TIFF 6.0, section 2; BigTIFF.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, BinaryIO

from image2reg.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LENGTH_TAG", "WIDTH_TAG", "Directory", "directories"]

# Tags that must agree between the planes of one stack.
WIDTH_TAG, LENGTH_TAG, _BITS, _COMPRESSION, _SAMPLES, _FORMAT = 256, 257, 258, 259, 277, 339
_LAYOUT = {WIDTH_TAG: 0, LENGTH_TAG: 0, _BITS: 1, _COMPRESSION: 1, _SAMPLES: 1, _FORMAT: 1}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclasses.dataclass(frozen=True)
class Directory:
    """One directory: where it lies and what it says of its plane."""

    offset: int
    layout: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class _Flavour:
    """Sizes that differ between classic TIFF and BigTIFF; `order` is ``<`` or ``>``."""

    order: str
    big: bool

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    @property
    def entry_bytes(self) -> int:
        return 20 if self.big else 12


def _open_header(path: Path, handle: BinaryIO, size: int) -> tuple[_Flavour, int]:
    header = handle.read(16)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    version = struct.unpack(order + "H", header[2:4])[0] if order and len(header) >= 8 else None
    if order is None or version not in {42, 43}:
        raise DataError(
            f"{path}: not a TIFF file (it starts with {header[:4]!r} and has {size} bytes). "
            "Give the file its right suffix, or export it again."
        )
    flavour = _Flavour(order, version == 43)
    raw = header[8:16] if flavour.big else header[4:8]
    if len(raw) < flavour.offset.size:
        raise DataError(f"{path}: truncated inside the TIFF header ({size} bytes). Copy the file again.")
    return flavour, flavour.offset.unpack(raw)[0]


def directories(path: Path) -> list[Directory]:
    """Every directory of the main chain, in order, each proved to lie inside the file.

    Raises
    ------
    DataError
        Not a TIFF; a directory lies outside the file (truncated); the chain loops, or has no directory.
    """
    size = path.stat().st_size
    found: list[Directory] = []
    seen: set[int] = set()
    with path.open("rb") as handle:
        flavour, offset = _open_header(path, handle, size)
        while offset:
            if offset in seen:
                raise DataError(
                    f"{path}: directory {len(found)} points back to byte {offset}; the chain never ends. "
                    "The file is damaged; copy or export it again."
                )
            seen.add(offset)
            directory, offset = _read_directory(path, handle, flavour, offset, size, len(found))
            found.append(directory)
            # Directories cannot be more than the file has room for; a crafted chain could overlap them.
            if len(found) * (flavour.entry_bytes + flavour.count.size) > size:
                raise DataError(f"{path}: more directories than {size} bytes can hold; the file is damaged.")
    if not found:
        raise DataError(
            f"{path}: the TIFF has no directory, so no image ({size} bytes). Copy or export it again."
        )
    return found


def _read_directory(
    path: Path, handle: BinaryIO, flavour: _Flavour, offset: int, size: int, index: int
) -> tuple[Directory, int]:
    handle.seek(offset)
    raw = handle.read(flavour.count.size)
    n_entries = flavour.count.unpack(raw)[0] if len(raw) == flavour.count.size else 0
    length = n_entries * flavour.entry_bytes + flavour.offset.size
    if n_entries == 0 or offset + flavour.count.size + length > size:
        raise DataError(
            f"{path}: truncated: directory {index} should be at byte {offset} with {n_entries} entries, "
            "but the "
            f"file ends at byte {size}. {index} planes could be found. Copy the file again from its source."
        )
    body = handle.read(length)
    layout = dict(_LAYOUT)
    for start in range(0, n_entries * flavour.entry_bytes, flavour.entry_bytes):
        tag, kind = struct.unpack_from(flavour.order + "HH", body, start)
        if tag in layout and kind in _INTEGERS:
            value = struct.Struct(flavour.order + _INTEGERS[kind])
            n_values = flavour.offset.unpack_from(body, start + 4)[0]
            field = body[start + 4 + flavour.offset.size : start + flavour.entry_bytes]
            if n_values * value.size > len(field):  # of several samples: they lie elsewhere, the first counts
                handle.seek(flavour.offset.unpack(field)[0])
                field = handle.read(value.size)
            if len(field) >= value.size:
                layout[tag] = value.unpack_from(field)[0]
    return Directory(offset, tuple(sorted(layout.items()))), flavour.offset.unpack_from(
        body, length - flavour.offset.size
    )[0]
