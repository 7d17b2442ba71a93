"""Crops and signatures from files to what the trainings take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.nuclei.crops import Crops, cut_crops
from image2reg.nuclei.voxels import other_pixels
from image2reg.randomness import generator
from image2reg.tables.profiles import Profiles
from morphgen.crops import CropSet

__all__ = ["crop_set", "open_crops", "refuse_unlike", "split_crops"]

KEY = "Metadata_Perturbation"
CONTROL = "Metadata_Control"
_TRUE = {"1", "1.0", "true", "yes", "control"}


def open_crops(path: Path, *, size_px: int = 64) -> Crops:
    """Read a ``.zarr`` of crops, or cut them, where they lie whole in the field, from images and masks of a manifest.

    Raises
    ------
    DataError
        Missing, or a manifest whose fields have no mask or no nucleus; or crops of mixed size or channels.
    """
    if not path.exists():
        raise DataError(f"{path}: no such crops or manifest. Check the path.")
    if path.is_dir():
        return Crops.read(path).load()
    from image2reg.tables import Manifest

    parts: list[Crops] = []
    names: tuple[str, ...] = ()
    for item in Manifest.read(path).fields():
        names = names or tuple(item.inputs)
        if not item.masks or not names or set(item.inputs) != set(names):
            raise DataError(
                f"{path}: field {item.name} has input channels {list(item.inputs)} and {len(item.masks)} masks; needed "
                f"are {list(names) or 'some'} and one. Segment the images first (image2reg segment), list the labels "
                "with role mask, and give every field the same channels."
            )
        images = [item.inputs[name].open().to_axes("YX").load() for name in names]
        image = images[0].replace(
            data=np.stack([i.data for i in images]), axes="CYX", channels=names, source=item.name
        )
        labels = np.asarray(next(iter(item.masks.values())).open().to_axes("YX").load().data).astype(np.int64)
        metadata = {k: v for k, v in item.metadata.items() if k.startswith("Metadata_")}
        cut = cut_crops(image, labels, size_px=size_px, metadata=metadata, whole=True)
        parts += [cut] if cut is not None else []
    return replace(Crops.concat(parts), source=str(path))


def refuse_unlike(
    crops: Crops | CropSet,
    *,
    channels: tuple[str, ...],
    voxel_um: tuple[float | None, ...],
    of: str,
    size_px: tuple[int, ...] | None = None,
) -> None:
    """Refuse crops of other channels, another size (if given) or, where both are known, other pixels than those `of`.

    Raises
    ------
    DataError
    """
    size_px = size_px or crops.images.shape[2:]
    source = crops.source if isinstance(crops, Crops) else crops.name
    seen = f"{source}: crops of {crops.images.shape[2:]} px with channels {list(crops.channels)}"
    if crops.channels != channels or crops.images.shape[2:] != size_px:
        names = " ".join(f"--channel {name}" for name in channels)
        raise DataError(
            f"{seen}; {of} have {tuple(size_px)} px and {list(channels)}. Cut crops of that size, and where they show "
            f"the same stains, name those alike, in order: image2reg crops --size {size_px[-1]} {names}."
        )
    if other_pixels(crops.voxel_um, voxel_um):
        raise DataError(
            f"{seen} of {crops.voxel_um} um each; {of} have pixels of {tuple(voxel_um)} um, and sizes in pixels "
            "cannot be compared. Resample the images to one pixel size and cut the crops anew."
        )


def crop_set(crops: Crops, signatures: Profiles | None, *, key: str = KEY) -> CropSet:
    """Join crops and signatures by the metadata column `key`.

    Controls (``Metadata_Control`` true) need no signature: they become the control crops.

    Raises
    ------
    DataError
        The column is missing on one side, several signatures share a key, or crops have keys without a signature.
    """
    crops = crops.load()
    voxel = (None, crops.voxel_um[0], crops.voxel_um[1])
    shared: dict[str, Any] = {"channels": crops.channels, "voxel_um": voxel, "name": crops.source}
    if signatures is None:
        return CropSet(images=crops.images, **shared)
    keys, known = crops.column(key), signatures.column(key)
    if len(set(known)) < len(known):
        names, counts = np.unique(known.astype(str), return_counts=True)
        raise DataError(
            f"{signatures.source}: {int((counts > 1).sum())} values of {key} have several signatures, such as "
            f"{names[counts > 1][:3].tolist()}. Name signatures apart (--match another column), or make a consensus."
        )
    place = {name: i for i, name in enumerate(known)}
    index = np.array([place.get(name, -1) for name in keys], np.int64)
    control = np.zeros(len(crops), bool)
    if CONTROL in crops.metadata:
        control = np.array([str(v).lower() in _TRUE for v in crops.column(CONTROL)])
    lost = (index < 0) & ~control
    if lost.any():
        absent = sorted(set(keys[lost].tolist()))
        raise DataError(
            f"{crops.source}: {int(lost.sum())} of {len(crops)} crops have a {key} without signature, such as "
            f"{absent[:3]} ({signatures.source} has {list(known[:3])} ...). Correct the names, leave the crops out, or "
            f"mark controls in {CONTROL}."
        )
    used = index >= 0
    controls = crops.images[control] if control.any() else None
    return CropSet(
        images=crops.images[used],
        signature_index=index[used],
        signatures=signatures,
        controls=controls,
        **shared,
    )


def split_crops(
    crops: CropSet, groups: NDArray[Any], *, share: float, seed: int
) -> tuple[CropSet, CropSet | None]:
    """Hold whole groups out for validation: about `share` of them, at least one; none at share 0 or with one group.

    Parameters
    ----------
    crops : CropSet
    groups : (N,)
        Perturbation, plate or well of each crop.
    """
    names = np.unique(groups.astype(str))
    n = round(share * len(names)) if share == 0 or len(names) < 2 else max(1, round(share * len(names)))
    if not n:
        return crops, None
    held = np.isin(groups.astype(str), generator(seed, "validation groups").permutation(names)[:n])
    return crops.rows(np.flatnonzero(~held)), crops.rows(np.flatnonzero(held))
