"""The images of a folder: what counts as one, and what its name is without the suffix."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from image2reg.errors import DataError

__all__ = ["SUFFIXES", "image_paths", "is_picture", "is_thumbnail", "plate_fields", "stem", "walk"]

_FILES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".stk", ".lsm", ".png", ".czi", ".nd2", ".lif")
_PICTURES = (".jpg", ".jpeg", ".bmp")
_FOLDERS = (".ome.zarr", ".zarr")
# Of what is taken for an image in a folder; of two that fit a name, the longer one first.
SUFFIXES = (*_FOLDERS, *_FILES, *_PICTURES)
# MetaXpress writes a small picture beside every image: A01_s1_w1_thumb and a GUID.
_THUMBNAIL = re.compile(r"_w\d+_thumb[-0-9A-F]*\.tiff?", re.IGNORECASE)


def image_paths(folder: Path) -> list[str]:
    """Image files and OME-Zarr folders below `folder`: relative, with '/', sorted.

    An OME-Zarr plate, below `folder` or `folder` itself, gives one path per field: ``plate.zarr/B/03/0``.
    JPEG and BMP count where there is nothing else (`is_picture`).
    What is skipped, and which links are followed, says `walk`.

    Raises
    ------
    DataError
        No such folder, no image in it (with what was looked for and what was seen), or see `walk`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Check the path.")
    own_fields = plate_fields(folder)
    if own_fields:
        return own_fields
    found, seen = [], []
    for prefix, zarrs, files in walk(folder):
        images = [*zarrs, *(name for name in files if name.lower().endswith((*_FILES, *_PICTURES)))]
        for name in images:
            fields = plate_fields(folder / prefix / name) if name in zarrs else []
            found += [f"{prefix}{name}/{field}" for field in fields] or [prefix + name]
        seen += [prefix + name for name in files]
    if not found:
        what = f"{len(seen)} other files, e.g. {sorted(seen)[:3]}" if seen else "an empty folder"
        raise DataError(f"{folder}: no image found. Looked for {list(SUFFIXES)}; seen was {what}.")
    return sorted([path for path in found if not is_picture(path)] or found)


def is_picture(name: str) -> bool:
    """Whether a file is a JPEG or BMP: beside images of other formats in a folder it is a preview of one."""
    return name.lower().endswith(_PICTURES)


def is_thumbnail(name: str) -> bool:
    """Whether a file is the small picture that MetaXpress writes beside an image."""
    return _THUMBNAIL.search(name) is not None


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Go through a folder and all below: path of each with '/', its OME-Zarrs and its files.

    Names that start with ``.`` and the thumbnails of MetaXpress are skipped. Links to folders are followed, each folder
    once: not those to a folder that is listed under its own name.

    Raises
    ------
    DataError
        A link leads to a folder that holds one of those listed, whose images would be there twice or without end.
    """
    listed = [Path(os.path.realpath(folder))]
    for here, folders, files in os.walk(folder, followlinks=True):
        relative = Path(here).relative_to(folder).as_posix()
        shown = [name for name in sorted(folders) if not name.startswith(".")]
        zarrs = [name for name in shown if name.lower().endswith(_FOLDERS)]
        others = [name for name in shown if name not in zarrs]
        folders[:] = [name for name in others if _is_to_be_listed(Path(here, name), listed)]
        kept = [name for name in files if not name.startswith(".") and not is_thumbnail(name)]
        yield "" if relative == "." else f"{relative}/", zarrs, kept


def _is_to_be_listed(folder: Path, listed: list[Path]) -> bool:
    """Whether a folder is none that is listed already; adds where it leads to `listed` if it is a link."""
    if not folder.is_symlink():
        return True
    target = Path(os.path.realpath(folder))
    if any(target.is_relative_to(other) for other in listed):
        return False
    if held := next((other for other in listed if other.is_relative_to(target)), None):
        raise DataError(
            f"{folder}: this link leads to {target}, which holds {held}, listed already. Link the folders that are "
            "meant, or remove the link."
        )
    listed.append(target)
    return True


def plate_fields(folder: Path) -> list[str]:
    """Fields of an OME-Zarr plate as row/column/field; none when the folder is something else."""
    metadata = [folder / "zarr.json", folder / ".zattrs"]
    if not any(file.is_file() and '"plate"' in file.read_text(errors="replace") for file in metadata):
        return []
    from image2reg.images import read_plate

    return sorted(f"{well}/{field}" for well, field in read_plate(folder))


def stem(path: str) -> str:
    """Path without the image suffix.

    Examples
    --------
    >>> stem("a/x.ome.tif"), stem("a/x.zarr")
    ('a/x', 'a/x')
    """
    suffix = next((s for s in SUFFIXES if path.lower().endswith(s)), "")
    return path[: len(path) - len(suffix)]
