"""A folder of images becomes a manifest.

Three ways of keeping channels are understood, also mixed:

- one file per field with several channels (``field1.tif``), picked by name or position;
- one file per channel, the channel in the name (``A01_s1_BF.tif``, ``A01_s1_Hoechst.tif``);
- one folder per channel with equal file names (``brightfield/x.tif``, ``hoechst/x.tif``).
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image2reg.errors import ConfigurationError, DataError
from image2reg.tables.fields import IDENTITY
from image2reg.tables.listing import image_paths, stem
from image2reg.tables.names import has_token, parse_metadata, without_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from image2reg.tables.manifest import Manifest

__all__ = ["Channels", "from_folder"]

Channels = str | int | Iterable[str | int] | Mapping[str, str | int]
VoxelSize = tuple[float | None, float | None, float | None]

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


@dataclass(frozen=True)
class _Wanted:
    """A channel to look for: its role, its name in the manifest, and what to look for in names or files."""

    role: str
    channel: str
    source: str | int


def from_folder(
    folder: Path | str,
    *,
    inputs: Channels,
    targets: Channels = (),
    masks: Channels = (),
    channels: Sequence[str] | None = None,
    pattern: str | None = None,
    voxel_um: VoxelSize | None = None,
) -> Manifest:
    r"""Find the images of a folder and its sub-folders and say which field, role and channel each one is.

    Parameters
    ----------
    folder : Path
        Links to other folders are not followed; names that start with ``.`` are skipped.
    inputs, targets, masks : str, int, several of them, or mapping of name to source
        Channels by role. A source is what stands in the file name (``BF``), the name of a sub-folder, the
        name of a channel inside the files, or its position there (from 0). ``"brightfield=BF"`` and
        ``{"brightfield": "BF"}`` call source BF brightfield; a name alone is its own source.
    channels : sequence of str, optional
        Names of the channels inside multi-channel files, in order, for files that do not name them.
    pattern : str, optional
        Regular expression with named groups (Plate, Well, Site, Time, Batch …), searched in the path of a
        field without suffix and channel. Without it wells (A01 … P24), ``s1`` or ``site1``, ``t3`` and a
        folder as plate are recognised.
    voxel_um : (z, y, x), optional
        Micrometres for files that do not say themselves.

    Returns
    -------
    Manifest
        Rooted at `folder`, sorted by field. A field may lack targets and masks but no input. Files that were
        left out, and why, are in `Manifest.notes`.

    Raises
    ------
    DataError
        Nothing found, a channel found nowhere, a field without an input, two files for one channel of a
        field, a field that `pattern` does not fit; with what was looked for and what was seen.
    ConfigurationError
        No input asked for, a channel asked for twice, or a wrong pattern.
    """
    import pandas as pd

    from image2reg.tables.manifest import Manifest

    folder = Path(folder)
    roles: tuple[tuple[str, Channels], ...] = (("input", inputs), ("target", targets), ("mask", masks))
    wanted = [w for role, given in roles for w in _wanted(role, given)]
    _refuse_unusable(wanted)
    search = _Search(folder, wanted, channels, voxel_um)
    search.run(image_paths(folder))
    _refuse_incomplete(folder, search.fields, wanted)
    metadata = _identities(folder, sorted(search.fields), pattern, search.notes)
    place = {(w.role, w.channel): number for number, w in enumerate(wanted)}
    rows = [
        row | metadata[key]
        for key, found in sorted(search.fields.items())
        for row in sorted(found, key=lambda row: place[row["role"], row["channel"]])
    ]
    return Manifest(pd.DataFrame(rows), folder, notes=search.notes)


def _wanted(role: str, given: Channels) -> list[_Wanted]:
    if isinstance(given, Mapping):
        return [_Wanted(role, name, source) for name, source in given.items()]
    found = []
    for item in [given] if isinstance(given, (str, int)) else given:
        name, _, source = str(item).partition("=")
        text = (source or name).strip()
        found.append(_Wanted(role, name.strip(), int(text) if text.isascii() and text.isdigit() else text))
    return found


def _refuse_unusable(wanted: list[_Wanted]) -> None:
    if not any(w.role == "input" for w in wanted):
        raise ConfigurationError("from_folder: no input channel given; name one, e.g. inputs='brightfield'.")
    for what in ("channel", "source"):
        names = [(w.role == "mask", str(getattr(w, what))) for w in wanted]
        wrong = sorted({name for is_mask, name in names if not name or names.count((is_mask, name)) > 1})
        if wrong:
            raise ConfigurationError(
                f"from_folder: {what} {wrong} is empty or given twice; each is named once."
            )


class _Search:
    """Goes through the images once; fills `fields` (rows by field key) and `notes`."""

    def __init__(
        self, folder: Path, wanted: list[_Wanted], channels: Sequence[str] | None, voxel_um: VoxelSize | None
    ) -> None:
        self.folder, self.wanted, self.channels = folder, wanted, channels
        self.voxel_um = voxel_um or (None, None, None)
        self.fields: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.notes: list[str] = []
        self._opened: dict[str, tuple[list[str], VoxelSize, bool]] = {}

    def run(self, paths: list[str]) -> None:
        by_name = {path: self._named(path) for path in paths}
        for path, w in by_name.items():
            if w is not None:
                self._add(_key(without_token(stem(path), str(w.source))), path, w)
        inside = [w for w in self.wanted if w not in by_name.values()]
        found: set[_Wanted] = set()
        for path in (path for path, w in by_name.items() if w is None):
            names = self._channels(path)[0] if inside else []
            held = [
                w
                for w in inside
                if (w.source in names if isinstance(w.source, str) else w.source < len(names))
            ]
            found.update(held)
            for w in held:
                self._add(_key(stem(path)), path, w)
            if not held:
                self.notes.append(
                    f"{path}: left out, no channel asked for is in its name"
                    + (f" or in {names}" if names else "")
                )
        for w in inside:
            if w not in found:
                raise DataError(self._nowhere(w, paths))

    def _named(self, path: str) -> _Wanted | None:
        """Find the one channel that the name of the file or of its folder gives; None where it gives none."""
        name = stem(path)
        found = [w for w in self.wanted if isinstance(w.source, str) and has_token(name, w.source)]
        if len(found) > 1:  # BF_to_Hoechst/A01_BF.tif: the file's own name decides
            found = [w for w in found if has_token(name.rpartition("/")[2], str(w.source))] or found
        if len(found) > 1:
            if len(self._channels(path)[0]) > 1:
                return None
            raise DataError(
                f"{self.folder / path}: the name holds several of the channels, {[w.source for w in found]}. "
                "Rename the file, or say what stands only in the names of one: NAME=TEXT_IN_THE_NAME."
            )
        return found[0] if found else None

    def _channels(self, path: str) -> tuple[list[str], VoxelSize, bool]:
        """Names of the channels, voxel size, and whether the channels are pages that the file does not name."""
        if path not in self._opened:
            from image2reg.images import read

            image = read(self.folder / path)
            n_channels, n_pages = len(image.channels), image.sizes.get("Z", 1)
            names, paged = list(image.channels), False
            last = max((w.source for w in self.wanted if isinstance(w.source, int)), default=0)
            if self.channels is not None and len(self.channels) == n_channels > 1:
                names = list(self.channels)
            elif n_channels == 1 and (n_pages == len(self.channels) if self.channels else 0 < last < n_pages):
                # A TIFF that does not name its axes is read as a stack; with as many names, as channels.
                names = list(self.channels or map(str, range(n_pages)))
                with contextlib.suppress(DataError):
                    read(self.folder / path, channels=names)
                    paged = True
                names = names if paged else list(image.channels)
            self._opened[path] = names, image.voxel_um, paged
        return self._opened[path]

    def _add(self, key: str, path: str, w: _Wanted) -> None:
        names, own, paged = self._channels(path)
        source = ""
        if len(names) > 1:
            if w.source not in names and not isinstance(w.source, int):
                raise DataError(
                    f"{self.folder / path}: {w.source!r} is in the name, but the file has {len(names)} channels "
                    f"{names}. Give the position of the channel, {w.channel}=0, and files without it in the name."
                )
            # Names given by the caller are not in the file, so the position is kept.
            source = str(names.index(w.source) if self.channels and isinstance(w.source, str) else w.source)
            source += f"/{len(names)}" if paged else ""
        z, y, x = (a if a is not None else b for a, b in zip(own, self.voxel_um, strict=True))
        self.fields[key].append(
            {"path": path, "role": w.role, "channel": w.channel, "source_channel": source,
             "voxel_z_um": z, "voxel_y_um": y, "voxel_x_um": x}
        )  # fmt: skip

    def _nowhere(self, w: _Wanted, paths: list[str]) -> str:
        folders = sorted({part for path in paths for part in path.split("/")[:-1]})
        names = sorted({name for opened in self._opened.values() for name in opened[0]})
        what = f"position {w.source}" if isinstance(w.source, int) else repr(w.source)
        return (
            f"{self.folder}: {w.role} channel {w.channel!r} found nowhere. Looked for {what} in the names of "
            f"{len(paths)} images (e.g. {paths[:3]}), of folders ({folders[:8] or 'none'}) and of channels inside "
            f"files ({names[:8] or 'none'}). Say where it is: {w.channel}=TEXT_IN_THE_NAME, or {w.channel}=0 for "
            "the first channel of multi-channel files."
        )


def _key(name: str) -> str:
    """Name the field: the path without suffix, channel and folders that say nothing."""
    *folders, last = name.split("/")
    kept = [piece for piece in folders if piece and piece.lower() not in _NEUTRAL]
    return "/".join([*kept, last] if last else kept)


def _refuse_incomplete(folder: Path, fields: dict[str, list[dict[str, Any]]], wanted: list[_Wanted]) -> None:
    for w in wanted:
        counts = {
            key: sum((row["role"], row["channel"]) == (w.role, w.channel) for row in rows)
            for key, rows in sorted(fields.items())
        }
        doubled = [key for key, count in counts.items() if count > 1]
        missing = [key for key, count in counts.items() if count == 0]
        if doubled:
            raise DataError(
                f"{folder}: {len(doubled)} fields have several files for {w.role} {w.channel!r}, e.g. "
                f"{doubled[:3]}. Keep one file per field and channel."
            )
        if w.role == "input" and missing:
            raise DataError(
                f"{folder}: {len(missing)} of {len(counts)} fields have no input {w.channel!r}, e.g. {missing[:3]}. "
                "A target may be missing, an input may not: add the images or move these fields away."
            )


def _identities(
    folder: Path, keys: list[str], pattern: str | None, notes: list[str]
) -> dict[str, dict[str, str]]:
    """Metadata of each field; where names do not tell the fields apart, the whole name becomes the site."""
    found = {key: parse_metadata(key, pattern) for key in keys}
    unfit = [key for key in keys if pattern is not None and not found[key]]
    if unfit:
        raise DataError(
            f"{folder}: pattern {pattern!r} does not fit {len(unfit)} of {len(keys)} fields, e.g. {unfit[:3]}."
        )
    identities = [tuple(found[key].get(name, "") for name in IDENTITY) for key in keys]
    if len(set(identities)) < len(keys) or not all(any(identity[1:]) for identity in identities):
        for key in keys:
            plate = found[key].get("Metadata_Plate", "")
            found[key]["Metadata_Site"] = key.removeprefix(f"{plate}/")
        notes.append(
            "well, site and time in the names do not tell the fields apart: the whole name is the site"
        )
    return found
