"""The images of a folder: what counts as one, and what its name is without the suffix."""

from __future__ import annotations

import os
import re
from pathlib import Path

from image2reg.errors import DataError

__all__ = ["SUFFIXES", "image_paths", "stem"]

_FILES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".stk", ".lsm", ".png", ".czi", ".nd2", ".lif")
_FOLDERS = (".ome.zarr", ".zarr")
# Of what is taken for an image in a folder; of two that fit a name, the longer one first.
SUFFIXES = (*_FOLDERS, *_FILES)
# MetaXpress writes a small picture beside every image: A01_s1_w1_thumb and a GUID.
_THUMBNAIL = re.compile(r"_w\d+_thumb[-0-9A-F]*\.tiff?", re.IGNORECASE)


def image_paths(folder: Path) -> list[str]:
    """Image files and OME-Zarr folders below `folder`: relative, with '/', sorted.

    An OME-Zarr plate, below `folder` or `folder` itself, gives one path per field: ``plate.zarr/B/03/0``.
    Links to files are followed, links to folders are not; names that start with ``.`` and the thumbnails of MetaXpress
    are skipped.

    Raises
    ------
    DataError
        No such folder, or no image in it; with what was looked for and what was seen.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Check the path.")
    own_fields = _plate_fields(folder)
    if own_fields:
        return own_fields
    found, seen, linked = [], [], []
    for here, folders, files in os.walk(folder):
        relative = Path(here).relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        zarrs = [name for name in folders if name.lower().endswith(_FOLDERS)]
        folders[:] = sorted(name for name in folders if name not in zarrs and not name.startswith("."))
        linked += [prefix + name for name in folders if Path(here, name).is_symlink()]
        images = [*zarrs, *(name for name in files if name.lower().endswith(_FILES))]
        for name in images:
            if name.startswith(".") or _THUMBNAIL.search(name):
                continue
            fields = _plate_fields(Path(here, name)) if name in zarrs else []
            found += [f"{prefix}{name}/{field}" for field in fields] or [prefix + name]
        seen += [prefix + name for name in files]
    if not found:
        what = f"{len(seen)} other files, e.g. {sorted(seen)[:3]}" if seen else "an empty folder"
        if linked:
            what += f", and links to folders, which are not followed: {linked[:3]}"
        raise DataError(f"{folder}: no image found. Looked for {list(SUFFIXES)}; seen was {what}.")
    return sorted(found)


def _plate_fields(folder: Path) -> list[str]:
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
