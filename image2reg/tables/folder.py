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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image2reg.errors import ConfigurationError, DataError, ProjectError
from image2reg.tables.folder_fields import field_key, identities, incomplete
from image2reg.tables.listing import image_paths, stem
from image2reg.tables.tokens import has_token, without_token, without_wavelength
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from image2reg.tables.manifest import Manifest

__all__ = ["Channels", "from_folder"]

Channels = str | int | Iterable[str | int] | Mapping[str, str | int]
VoxelSize = tuple[float | None, float | None, float | None]
# Names of the channels in a file, its voxel size, and whether the channels are pages that the file does not name.
_Content = tuple[list[str], VoxelSize, bool]
_UNKNOWN: _Content = ([], (None, None, None), False)


@dataclass(frozen=True)
class _Wanted:
    """A channel to look for: its role, its name in the manifest, and what to look for in names or files."""

    role: str
    channel: str
    source: str | int
    text: str


def from_folder(
    folder: Path | str,
    *,
    inputs: Channels,
    targets: Channels = (),
    masks: Channels = (),
    channels: Sequence[str] | None = None,
    pattern: str | None = None,
    voxel_um: VoxelSize | None = None,
    strict: bool = True,
) -> Manifest:
    r"""Find the images of a folder and its sub-folders and say which field, role and channel each one is.

    Parameters
    ----------
    folder : Path
        Links are followed; names that start with ``.`` are skipped.
    inputs, targets, masks : str, int, several of them, or mapping of name to source
        Channels by role. A source is what stands in the file name (``BF``), the name of a sub-folder, the
        name of a channel inside the files, or its position there (from 0). ``"brightfield=BF"`` and
        ``{"brightfield": "BF"}`` call source BF brightfield; a name alone is its own source. Numbers that all
        stand in file names and are no positions in the files, such as 405 and 488, are looked for in the names.
    channels : sequence of str, optional
        Names of the channels inside multi-channel files, in order, for files that do not name them.
    pattern : str, optional
        Regular expression with named groups (Plate, Well, Site, Time, Batch …), searched in the path of a
        field without suffix and channel. Without it wells (A01 … P24, and AF48 where all names are of a plate
        of 1536), ``s1`` or ``site1``, ``t3`` and a folder as plate are recognised.
    voxel_um : (z, y, x), optional
        Micrometres for files that do not say themselves.
    strict : bool
        Open every file of a channel, and refuse what cannot be read and a field without an input. False is for
        work that fails field by field: files whose names tell their channel are believed to hold what the first
        readable one of that channel holds, their own voxel sizes are left to them, an unreadable file passes
        for one like the others, and inputs that are missing are noted.

    Returns
    -------
    Manifest
        Rooted at `folder`, sorted by field. A field may lack targets and masks but, if `strict`, no input. Files
        that were left out, and why, are in `Manifest.notes`.

    Raises
    ------
    DataError
        Nothing found, a channel found nowhere, a field without an input, two files for one channel of a
        field, a file for each plane of a stack, a field that `pattern` does not fit; with what was looked for
        and what was seen.
    ConfigurationError
        No input asked for, a channel asked for twice, or a wrong pattern.
    """
    import pandas as pd

    from image2reg.tables.manifest import Manifest

    folder = Path(folder)
    roles: tuple[tuple[str, Channels], ...] = (("input", inputs), ("target", targets), ("mask", masks))
    wanted = [w for role, given in roles for w in _wanted(role, given)]
    _refuse_unusable(wanted)
    search = _Search(folder, wanted, channels, voxel_um, strict=strict)
    search.run(image_paths(folder))
    search.notes += incomplete(folder, search.fields, [(w.role, w.channel) for w in wanted], strict=strict)
    metadata = identities(folder, sorted(search.fields), pattern, search.notes)
    place = {(w.role, w.channel): number for number, w in enumerate(wanted)}
    rows = [
        row | metadata[key]
        for key, found in sorted(search.fields.items())
        for row in sorted(found, key=lambda row: place[row["role"], row["channel"]])
    ]
    return Manifest(pd.DataFrame(rows), folder, notes=search.notes, follow_links=True)


def _wanted(role: str, given: Channels) -> list[_Wanted]:
    if isinstance(given, Mapping):
        return [_Wanted(role, name, source, str(source)) for name, source in given.items()]
    found = []
    for item in [given] if isinstance(given, (str, int)) else given:
        name, _, source = str(item).partition("=")
        text = (source or name).strip()
        number = text.isascii() and text.isdigit()
        found.append(_Wanted(role, name.strip(), int(text) if number else text, text))
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
        self,
        folder: Path,
        wanted: list[_Wanted],
        channels: Sequence[str] | None,
        voxel_um: VoxelSize | None,
        *,
        strict: bool,
    ) -> None:
        self.folder, self.wanted, self.channels, self.strict = folder, wanted, channels, strict
        self.voxel_um = voxel_um or (None, None, None)
        self.fields: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.notes: list[str] = []
        self._opened: dict[str, _Content] = {}
        self._example: dict[_Wanted, _Content] = {}

    def run(self, paths: list[str]) -> None:
        self._numbers_in_names(paths)
        by_name = {path: self._named(path) for path in paths}
        for path, w in by_name.items():
            if w is not None:
                self._add(field_key(without_token(stem(path), w.text)), path, w, self._like(path, w))
        inside = [w for w in self.wanted if w not in by_name.values()]
        # hoechst/ may hold one channel, or be a plate that is called so: then it is inside the files of the others.
        by_folder = [w for w in self.wanted if _in_folders_alone(w, by_name)]
        unnamed = [path for path, w in by_name.items() if w is None]
        look = self._readable if inside else self._glance if by_folder else lambda _path: _UNKNOWN
        contents = {path: look(path) for path in unnamed}
        held = {
            path: _held(inside, content[0]) + [w for w in by_folder if self._lacks(path, w, content)]
            for path, content in contents.items()
            if content
        }
        like = next((path for path in unnamed if held.get(path)), None)
        unreadable = [path for path, content in contents.items() if content is None]
        if unreadable and len(unreadable) == len(paths):
            self._channels(unreadable[0])  # nothing could be read: say why
        for path, content in contents.items():
            for w in held.get(path, held.get(str(like), [])):
                self._add(
                    _key_by_content(path, w, content), path, w, content or contents[str(like)] or _UNKNOWN
                )
        self._note_left_out({path: contents[path] or _UNKNOWN for path, found in held.items() if not found})
        for w in inside:
            if not any(w in found for found in held.values()):
                raise DataError(self._nowhere(w, paths) + self._perhaps_in(unreadable))

    def _numbers_in_names(self, paths: list[str]) -> None:
        """Take numbers for text in the names where all stand there and a file has no such positions (405, 488)."""
        numbers = [w for w in self.wanted if isinstance(w.source, int)]
        if not numbers or not all(any(has_token(stem(path), w.text) for path in paths) for w in numbers):
            return
        first = next(filter(None, map(self._readable, paths)), _UNKNOWN)
        if len(_held(numbers, first[0])) < len(numbers):
            self.wanted = [replace(w, source=w.text) for w in self.wanted]

    def _note_left_out(self, left_out: dict[str, _Content]) -> None:
        by_names: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for path, (names, _, _) in left_out.items():
            by_names[tuple(names)].append(path)
        for inside, paths in by_names.items():
            one = len(paths) == 1
            self.notes.append(
                f"{paths[0] if one else counted(len(paths), 'image')}: left out, no channel asked for is in "
                + ("its name" if one else "their names")
                + (f" or in {list(inside)}" if inside else "")
                + ("" if one else f", e.g. {paths[:3]}")
            )

    def _named(self, path: str) -> _Wanted | None:
        """Find the one channel that the name of the file or of its folder gives; None where it gives none."""
        name = stem(path)
        found = [w for w in self.wanted if isinstance(w.source, str) and has_token(name, w.source)]
        if len(found) > 1:  # BF_to_Hoechst/A01_BF.tif: the file's own name decides
            found = [w for w in found if has_token(name.rpartition("/")[2], str(w.source))] or found
        if len(found) > 1:
            content = self._readable(path)
            if content is None or len(content[0]) > 1:
                return None
            raise DataError(
                f"{self.folder / path}: the name holds several of the channels, {[w.source for w in found]}. "
                "Rename the file, or say what stands only in the names of one: NAME=TEXT_IN_THE_NAME."
            )
        return found[0] if found else None

    def _like(self, path: str, w: _Wanted) -> _Content:
        """Say what a file holds whose name tells its channel; if not `strict`, by the first readable one of them."""
        if self.strict:
            return self._channels(path)
        if w not in self._example and (content := self._readable(path)):
            self._example[w] = content
        return self._example.get(w, _UNKNOWN)

    def _readable(self, path: str) -> _Content | None:
        """Say what a file holds; None for one that cannot be read, if not `strict`."""
        try:
            return self._channels(path)
        except ProjectError:
            if self.strict:
                raise
            return None

    def _glance(self, path: str) -> _Content:
        """Say what a file holds that may be none of those asked for."""
        try:
            return self._channels(path)
        except ProjectError:
            return _UNKNOWN

    def _lacks(self, path: str, w: _Wanted, content: _Content) -> bool:
        """Whether a file holds a channel, under its name, that its field has not yet."""
        there = self.fields.get(_key_by_content(path, w, content), [])
        return w.text in content[0] and all(
            (row["role"], row["channel"]) != (w.role, w.channel) for row in there
        )

    def _channels(self, path: str) -> _Content:
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

    def _add(self, key: str, path: str, w: _Wanted, content: _Content) -> None:
        names, own, paged = content
        source = ""
        if len(names) > 1:
            is_position = isinstance(w.source, int) and w.source < len(names)
            if w.text not in names and not is_position:
                raise DataError(
                    f"{self.folder / path}: {w.text!r} is in the name, but the file has {len(names)} channels "
                    f"{names}. Give the position of the channel, {w.channel}=0, and files without it in the name."
                )
            # Names given by the caller are not in the file, and a number would be a position: the position is kept.
            by_position = not is_position and (self.channels or w.text.isdigit())
            source = str(names.index(w.text) if by_position else w.source)
            source += f"/{len(names)}" if paged else ""
        kept = own if self.strict else (None, None, None)
        z, y, x = (b if a is None else c for a, b, c in zip(own, self.voxel_um, kept, strict=True))
        self.fields[key].append(
            {"path": path, "role": w.role, "channel": w.channel, "source_channel": source,
             "voxel_z_um": z, "voxel_y_um": y, "voxel_x_um": x}
        )  # fmt: skip

    def _nowhere(self, w: _Wanted, paths: list[str]) -> str:
        folders = sorted({part for path in paths for part in path.split("/")[:-1]})
        names = sorted({name for opened in self._opened.values() for name in opened[0]})
        what = f"position {w.source} or {w.text!r}" if isinstance(w.source, int) else repr(w.source)
        return (
            f"{self.folder}: {w.role} channel {w.channel!r} found nowhere. Looked for {what} in the names of "
            f"{len(paths)} images (e.g. {paths[:3]}), of folders ({folders[:8] or 'none'}) and of channels inside "
            f"files ({names[:8] or 'none'}). Say where it is: {w.channel}=TEXT_IN_THE_NAME, or {w.channel}=0 for "
            "the first channel of multi-channel files."
        )

    def _perhaps_in(self, unreadable: list[str]) -> str:
        """Say that images which cannot be read may hold a channel that was not found, and why the first cannot."""
        if not unreadable:
            return ""
        try:
            self._channels(unreadable[0])
        except ProjectError as error:
            return (
                f" Or it is in what cannot be read ({counted(len(unreadable), 'image')}, the first: {error})"
            )
        return ""


def _key_by_content(path: str, w: _Wanted, content: _Content | None) -> str:
    """Name the field of a file in which a channel was looked for inside."""
    is_named_inside = content is not None and content[0] == [w.text]
    return field_key(without_wavelength(stem(path)) if is_named_inside else stem(path))


def _in_folders_alone(w: _Wanted, by_name: Mapping[str, _Wanted | None]) -> bool:
    """Whether names give a channel, and all of them by a folder."""
    named = [path for path, found in by_name.items() if found == w]
    return bool(named) and not any(has_token(stem(path).rpartition("/")[2], w.text) for path in named)


def _held(wanted: list[_Wanted], names: list[str]) -> list[_Wanted]:
    """Those of the channels that are among the names inside a file, or have a position there."""
    return [w for w in wanted if w.text in names or (isinstance(w.source, int) and w.source < len(names))]
