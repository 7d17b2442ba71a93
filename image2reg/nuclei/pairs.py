"""Images with their labels, field by field, from a manifest or from two places with the same file names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from image2reg.images.image import Image
    from image2reg.tables.fields import ImageField

__all__ = ["LabelledField", "labelled_fields", "unpaired_labels"]

_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|zarr|png)$", re.IGNORECASE)
# Endings that label files have in addition to their image's name.
_MARKS = ("", "_labels", "_label", "_cp_masks", "_masks", "_mask", "_nuclei")


@dataclass(frozen=True)
class LabelledField:
    """A field and where its image and labels are; nothing is read before `image` or `labels` is called."""

    name: str
    metadata: dict[str, str]
    image_paths: tuple[Path, ...]
    label_path: Path
    manifest_field: ImageField | None = None
    channels: tuple[str, ...] | None = None
    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None)

    def image(self) -> Image:
        """Read all channels into one image."""
        from image2reg.images import read

        if self.manifest_field is not None:
            loaded = [source.open().load() for source in self.manifest_field.inputs.values()]
        elif len(self.image_paths) == 1:
            return read(self.image_paths[0], channels=self.channels, voxel_um=self.voxel_um).load()
        else:
            files = zip(self.image_paths, self.channels or (), strict=True)
            loaded = [read(path, channels=[name], voxel_um=self.voxel_um).load() for path, name in files]
        axes = "CZYX" if any(image.sizes.get("Z", 1) > 1 for image in loaded) else "CYX"
        parts = [np.asarray(image.to_axes(axes).data) for image in loaded]
        if len({part.shape for part in parts}) > 1:
            raise DataError(
                f"{self.name}: its channels have shapes {[part.shape[1:] for part in parts]}; they must be of one size."
            )
        names = tuple(name for image in loaded for name in image.channels)
        data = np.concatenate(parts)
        return loaded[0].replace(data=data, axes=axes, channels=names, source=self.name)

    def labels(self, *, numbered: bool = True) -> NDArray[Any]:
        """Read the labels, (Y, X) or (Z, Y, X); refuse a black-and-white mask of several nuclei, if `numbered`."""
        from image2reg.images import read
        from image2reg.nuclei.regions import refuse_black_and_white

        if self.manifest_field is not None and self.manifest_field.masks:
            image = next(iter(self.manifest_field.masks.values())).open().load()
        else:
            image = read(self.label_path).load()
        labels = np.asarray(image.to_axes("ZYX" if image.sizes.get("Z", 1) > 1 else "YX").data)
        if numbered:
            refuse_black_and_white(labels, str(self.label_path))
        return labels


def labelled_fields(
    images: Path | str,
    labels: Path | str | None = None,
    *,
    channels: Sequence[str] | None = None,
    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None),
) -> list[LabelledField]:
    """Pair images with labels.

    Parameters
    ----------
    images : Path
        A manifest (``.csv``, ``.parquet``), a folder of images, an OME-Zarr plate, or one image.
    labels : Path, optional
        A label image, a plate of them, or a folder whose files have the images' names (``_labels`` or ``_mask`` may
        follow). Not needed where the manifest has rows of role mask.
    channels : sequence of str, optional
        Names of the channels of image files that do not name them, in order; or, where the names of files in a folder
        tell the one channel that each holds, those to take: labels are then those of any of a field's files.
    voxel_um : (z, y, x)
        For files that do not say themselves.

    Returns
    -------
    list of LabelledField, in the order of the manifest or of the names

    Raises
    ------
    DataError
        Nothing there, an image without labels (the first ones are named), or a field without one of its channels.
    ConfigurationError
        No labels given and no manifest that has them.
    """
    images = Path(images)
    if images.suffix.lower() in (".csv", ".parquet"):
        return _of_manifest(images, None if labels is None else _Labels(Path(labels)))
    if labels is None:
        raise ConfigurationError(
            f"{images}: no labels given. Name a label image or a folder of them (image2reg segment makes it), or give "
            "a manifest with rows of role mask."
        )
    found = _Labels(Path(labels))
    if _is_folder(images):
        root = images
        paths = found.others(_image_files(images))
        if not paths:
            raise DataError(f"{images}: no .tif, .tiff, .ome.zarr or .png in this folder.")
    elif images.exists():
        root, paths = images.parent, [images]
    else:
        raise DataError(f"{images}: no such file or folder. Check the path.")
    names = None if channels is None else tuple(channels)
    files = _files_by_field(paths, root, names) or {
        path.relative_to(root).as_posix(): (path,) for path in paths
    }
    single = found.root if len(files) == 1 and not _is_folder(found.root) else None
    described = _metadata([_SUFFIX.sub("", name) for name in files])
    fields = [
        LabelledField(
            name=name, metadata=metadata, image_paths=own,
            label_path=single or found.partner(next(filter(found.named, own), own[0]), root), channels=names,
            voxel_um=voxel_um,
        )
        for (name, own), metadata in zip(files.items(), described, strict=True)
    ]  # fmt: skip
    _refuse_shared(fields)
    return fields


def _files_by_field(
    paths: Sequence[Path], root: Path, channels: tuple[str, ...] | None
) -> dict[str, tuple[Path, ...]]:
    """Files of each field in the order of its channels, if the names of files tell all of them; others are left."""
    from image2reg.tables.channel_files import names_channel
    from image2reg.tables.folder_fields import field_key
    from image2reg.tables.tokens import without_token

    stems = [(path, _SUFFIX.sub("", path.relative_to(root).as_posix())) for path in paths]
    found: dict[str, dict[str, Path]] = {}
    for channel in channels or ():
        own = [(path, stem) for path, stem in stems if names_channel(stem, channel)]
        if not own:
            return {}
        for path, stem in own:
            other = found.setdefault(field_key(without_token(stem, channel)), {}).setdefault(channel, path)
            if other != path:
                raise DataError(f"{path}: so is {other} channel {channel!r} of this field. Keep one of them.")
    for name, files in found.items():
        if lacking := [channel for channel in channels or () if channel not in files]:
            raise DataError(
                f"{root}: field {name} has no image of channel {lacking[0]!r}, only {next(iter(files.values())).name}. "
                "Add it, move the others away, or leave out the channel."
            )
    return {name: tuple(files[channel] for channel in channels or ()) for name, files in found.items()}


def _of_manifest(path: Path, found: _Labels | None) -> list[LabelledField]:
    from image2reg.tables import Manifest

    fields = []
    for field in Manifest.read(path).fields():
        sources = tuple(source.path for source in field.inputs.values())
        if not sources:
            raise DataError(f"{path}: field {field.name} has no row of role input.")
        if field.masks:
            partner = next(iter(field.masks.values())).path
        elif found is None:
            raise ConfigurationError(
                f"{path}: field {field.name} has no row of role mask, and no labels are given. Add such rows, or name "
                "a folder of labels (image2reg segment makes it)."
            )
        else:
            named = next((source for source in sources if found.named(source)), sources[0])
            partner = found.partner(named, path.parent)
        fields.append(LabelledField(field.name, field.metadata, sources, partner, field))
    _refuse_shared(fields)
    return fields


def unpaired_labels(fields: Sequence[LabelledField], labels: Path) -> list[Path]:
    """List the files in a folder of labels that no field has; images beside their labels do not count."""
    if not _is_folder(labels):
        return []
    paired = {field.label_path for field in fields}
    names = {path.with_name(_unmarked(path)) for path in paired}
    return [
        path for path in _image_files(labels)
        if path not in paired and path.with_name(_unmarked(path)) not in names
    ]  # fmt: skip


def _unmarked(path: Path) -> str:
    return min((_stem(path).removesuffix(mark) for mark in _MARKS), key=len)


def _refuse_shared(fields: Sequence[LabelledField]) -> None:
    """Refuse labels that two images were given: one of them has none of its own."""
    first: dict[Path, LabelledField] = {}
    for field in fields:
        other = first.setdefault(field.label_path, field)
        if other.image_paths != field.image_paths:
            raise DataError(
                f"{field.label_path}: would be the labels of {other.image_paths[0]} and {field.image_paths[0]}. Keep "
                "labels in the same subfolders as their images, or give a manifest with rows of role mask."
            )


class _Labels:
    """Label files by name and by where they lie below `root` (a folder, or one file)."""

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise DataError(f"{root}: no such file or folder of labels. Check the path.")
        self.root = root
        self._folder = root if _is_folder(root) else root.parent
        self._by_name: dict[str, list[tuple[Path, Path]]] = {}
        for file in _image_files(root) if _is_folder(root) else [root]:
            self._by_name.setdefault(_name(file), []).append((file, file.resolve()))

    def named(self, image: Path) -> list[Path]:
        """Give the files of an image's name, of the first ending that has any; none where the image is one of them.

        Fields of a plate are called alike in all wells: labels are those of the same well.
        """
        own, name = image.resolve(), _name(image)
        for mark in _MARKS:
            named = self._by_name.get(name + mark, [])
            if named and all(real != own for _, real in named):
                return [path for path, _ in named]
        return []

    def others(self, paths: Sequence[Path]) -> list[Path]:
        """Give the paths that are no label files of another of them, where labels lie among the images."""
        labels = {file for image in paths for file in self.named(image) if _stem(file) != _stem(image)}
        inside = self._folder in {parent for path in paths for parent in path.parents}
        nested = inside and any(self._folder not in path.parents for path in paths)
        return [
            path for path in paths if path not in labels and not (nested and self._folder in path.parents)
        ]

    def partner(self, image: Path, root: Path) -> Path:
        """Give an image's labels: of its name, in the same subfolder as the image has below `root`."""
        found = self.named(image)
        if not found:
            n_files = sum(len(files) for files in self._by_name.values())
            raise DataError(
                f"{image}: no labels of this name among {n_files} files such as {sorted(self._by_name)[:3]}. Label "
                "files are named like their image, '_labels' or '_mask' may follow. Where each file holds one channel "
                "of a field, name the channels as the files do, for example --channel w1 --channel w2."
            )
        where = image.parent.relative_to(root).parts if root in image.parents else image.parent.parts
        found = [file for file in found if file.parent == self._folder.joinpath(*where)] or found
        shared = [_common_end(file.parent.relative_to(self._folder).parts, where) for file in found]
        best = [file for file, n in zip(found, shared, strict=True) if n == max(shared)]
        if len(best) > 1:
            raise DataError(
                f"{image}: {len(best)} label files have its name, such as {best[0]} and {best[1]}. Keep labels in the "
                "same subfolders as their images, or give a manifest with rows of role mask."
            )
        return best[0]


def _common_end(parts: tuple[str, ...], where: tuple[str, ...]) -> tuple[bool, int]:
    """Say whether two places are the same, and how many folders they share, counted from the inner ones."""
    n = 0
    while n < min(len(parts), len(where)) and parts[-1 - n] == where[-1 - n]:
        n += 1
    return parts == where, n


def _metadata(keys: Sequence[str]) -> list[dict[str, str]]:
    """Read plate, well, site and time in names; a name is the site where it tells none, or fields are alike in them."""
    from image2reg.tables.names import parse_metadata, wells_of_1536

    wells = wells_of_1536(keys)
    found = [parse_metadata(key, well=wells.get(key, "")) for key in keys]
    alike = len({tuple(sorted(said.items())) for said in found}) < len(found)
    return [
        said | {"Metadata_Site": key} if alike or not {"Metadata_Site", "Metadata_Well"} & set(said) else said
        for key, said in zip(keys, found, strict=True)
    ]


def _is_folder(path: Path) -> bool:
    """Whether there are several images below: a folder, or an OME-Zarr plate."""
    from image2reg.tables.listing import plate_fields

    return path.is_dir() and (not path.name.endswith(".zarr") or bool(plate_fields(path)))


def _stem(path: Path) -> str:
    return _SUFFIX.sub("", path.name)


def _name(path: Path) -> str:
    """Give what an image has in common with its labels; fields of a plate are called alike in all wells."""
    in_plate = any(part.lower().endswith(".zarr") for part in path.parts[:-1])
    return "/".join([*path.parts[-3:-1], _stem(path)]) if in_plate else _stem(path)


def _image_files(folder: Path) -> list[Path]:
    """List the images below a folder or a plate, field by field where plates are."""
    from image2reg.tables.listing import plate_fields, walk

    if fields := plate_fields(folder):
        return [folder / field for field in fields]
    found = [
        folder / prefix / name
        for prefix, zarrs, files in walk(folder)
        for name in (*zarrs, *files)
        if _SUFFIX.search(name)
    ]
    below = {path: plate_fields(path) for path in found if path.is_dir()}
    return sorted(path / field for path in found for field in below.get(path) or [""])
