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

__all__ = ["LabelledField", "labelled_fields"]

_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|zarr|png)$", re.IGNORECASE)
# Endings that label files have in addition to their image's name.
_MARKS = ("", "_labels", "_label", "_masks", "_mask", "_nuclei")


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

        if self.manifest_field is None:
            image = read(self.image_paths[0], channels=self.channels, voxel_um=self.voxel_um)
            return image.load()
        loaded = [source.open().load() for source in self.manifest_field.inputs.values()]
        axes = "CZYX" if any(image.sizes.get("Z", 1) > 1 for image in loaded) else "CYX"
        parts = [np.asarray(image.to_axes(axes).data) for image in loaded]
        if len({part.shape for part in parts}) > 1:
            raise DataError(
                f"{self.name}: its channels have shapes {[part.shape[1:] for part in parts]}; they must be of one size."
            )
        names = tuple(name for image in loaded for name in image.channels)
        data = np.concatenate(parts)
        return loaded[0].replace(data=data, axes=axes, channels=names, source=self.name)

    def labels(self) -> NDArray[Any]:
        """Read the labels, (Y, X) or (Z, Y, X)."""
        from image2reg.images import read

        if self.manifest_field is not None and self.manifest_field.masks:
            image = next(iter(self.manifest_field.masks.values())).open().load()
        else:
            image = read(self.label_path).load()
        return np.asarray(image.to_axes("ZYX" if image.sizes.get("Z", 1) > 1 else "YX").data)


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
        A manifest (``.csv``, ``.parquet``), a folder of images, or one image.
    labels : Path, optional
        A label image, or a folder whose files have the images' names (``_labels`` or ``_mask`` may follow). Not
        needed where the manifest has rows of role mask.
    channels : sequence of str, optional
        Names of the channels of image files that do not name them.
    voxel_um : (z, y, x)
        For files that do not say themselves.

    Returns
    -------
    list of LabelledField, in the order of the manifest or of the names

    Raises
    ------
    DataError
        Nothing there, or an image without labels (the first ones are named).
    ConfigurationError
        No labels given and no manifest that has them.
    """
    images = Path(images)
    found = _label_files(Path(labels)) if labels is not None else {}
    if images.suffix.lower() in (".csv", ".parquet"):
        return _of_manifest(images, found)
    if labels is None:
        raise ConfigurationError(
            f"{images}: no labels given. Name a label image or a folder of them (image2reg segment makes it), or give "
            "a manifest with rows of role mask."
        )
    if images.is_dir() and not images.name.endswith(".zarr"):
        paths = _image_files(images)
        if not paths:
            raise DataError(f"{images}: no .tif, .tiff, .ome.zarr or .png in this folder.")
    elif images.exists():
        paths = [images]
    else:
        raise DataError(f"{images}: no such file or folder. Check the path.")
    single = Path(labels) if len(paths) == 1 and not _is_folder(Path(labels)) else None
    names = None if channels is None else tuple(channels)
    return [
        LabelledField(
            name=path.name, metadata=_metadata(path, images), image_paths=(path,),
            label_path=single or _partner(path, found), channels=names, voxel_um=voxel_um,
        )
        for path in paths
    ]  # fmt: skip


def _of_manifest(path: Path, found: dict[str, Path]) -> list[LabelledField]:
    from image2reg.tables import Manifest

    fields = []
    for field in Manifest.read(path).fields():
        sources = tuple(source.path for source in field.inputs.values())
        if not sources:
            raise DataError(f"{path}: field {field.name} has no row of role input.")
        if field.masks:
            partner = next(iter(field.masks.values())).path
        else:
            partner = next(
                (found[key] for source in sources for key in [_stem(source)] if key in found), None
            ) or _partner(sources[0], found)
        fields.append(LabelledField(field.name, field.metadata, sources, partner, field))
    return fields


def _metadata(path: Path, root: Path) -> dict[str, str]:
    from image2reg.tables.names import parse_metadata

    key = _SUFFIX.sub("", path.relative_to(root).as_posix() if path != root else path.name)
    found = parse_metadata(key)
    return found if "Metadata_Site" in found or "Metadata_Well" in found else found | {"Metadata_Site": key}


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.endswith(".zarr")


def _stem(path: Path) -> str:
    return _SUFFIX.sub("", path.name)


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if _SUFFIX.search(path.name) and ".zarr/" not in path.as_posix()
    )


def _label_files(path: Path) -> dict[str, Path]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder of labels. Check the path.")
    return {_stem(file): file for file in (_image_files(path) if _is_folder(path) else [path])}


def _partner(path: Path, found: dict[str, Path]) -> Path:
    for mark in _MARKS:
        if _stem(path) + mark in found:
            return found[_stem(path) + mark]
    raise DataError(
        f"{path}: no labels of this name among {len(found)} files such as {sorted(found)[:3]}. Label files are named "
        "like their image, '_labels' or '_mask' may follow."
    )
