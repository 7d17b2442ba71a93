"""From a manifest or a folder to fields of view, split by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.images.limits import default_max_bytes
from image2reg.images.padding import padding_mask
from image2reg.images.units import VoxelSize
from image2reg.nuclei.voxels import common_voxels
from image2reg.tables import ImageField, Manifest, from_folder, refuse_shared_groups, split_by_group
from image2reg.tables.splits import in_trainable_field
from virtualstain.model import StainModel, shown_sizes
from virtualstain.patches import StainField
from virtualstain.recipe import Recipe, SplitSettings
from virtualstain.scoring import with_target_scale
from virtualstain.stack import ChannelStack

__all__ = ["evaluable_fields", "open_manifest", "split_fields", "stain_field_of", "with_split"]

UNITS = ("plate", "well", "field")  # coarsest first
SPLITS = ("train", "validation", "test")


def open_manifest(
    data: Path,
    *,
    inputs: Sequence[str] = (),
    targets: Sequence[str] = (),
    masks: Sequence[str] = (),
    voxel_um: VoxelSize | None = None,
) -> Manifest:
    """Read a manifest, or make one of a folder of images.

    Parameters
    ----------
    data : Path
        ``.csv``, ``.parquet`` or a folder.
    inputs, targets, masks : sequence of str
        Channels looked for in a folder; ``Hoechst=DAPI`` calls DAPI Hoechst.
    voxel_um : (z, y, x), optional
        Micrometres for images of a folder that do not say themselves.

    Raises
    ------
    DataError
        Missing, empty, or with rows that cannot be used (`image2reg.tables.Manifest`).
    """
    if not data.exists():
        raise DataError(f"{data}: no such manifest or folder (seen from {Path.cwd()}). Check the path.")
    if data.is_file():
        return Manifest.read(data)
    return from_folder(data, inputs=list(inputs), targets=list(targets), masks=list(masks), voxel_um=voxel_um)


def with_split(manifest: Manifest, settings: SplitSettings) -> tuple[Manifest, str]:
    """Give every field a split; one that the manifest brings is kept, if no group is in two splits.

    Group "auto" takes the coarsest of plate, well and field that has a value for every split; wells where the manifest
    brings a split that divides plates.

    Returns
    -------
    manifest, group
        The unit that was kept whole.

    Raises
    ------
    DataError
        A group in two splits, or too few groups.
    """
    wanted = sum(share > 0 for share in settings.fractions)
    group = settings.group
    if group == "auto":
        trained_on = manifest.replace(manifest.frame[in_trainable_field(manifest.frame)])
        sizes = {unit: _n_groups(trained_on, unit) for unit in UNITS}
        group = next((unit for unit in UNITS if sizes[unit] >= wanted), UNITS[-1])
    if (manifest.frame["split"] != "").any():
        if settings.group == "auto" and group == "plate" and sizes["well"] and _divides_plates(manifest):
            group = "well"
        missing = manifest.frame[manifest.frame["split"] == ""]
        if len(missing):
            raise DataError(
                f"{manifest.source}: {len(missing)} of {len(manifest)} rows have no split (the first is "
                f"{missing['path'].iloc[0]}). Fill the column 'split' everywhere, or empty it to have it drawn."
            )
        refuse_shared_groups(manifest, group=group)
        return manifest, group
    shares = {name: share for name, share in zip(SPLITS, settings.fractions, strict=True) if share > 0}
    return split_by_group(manifest, group=group, fractions=shares, seed=settings.seed), group


def _divides_plates(manifest: Manifest) -> bool:
    return bool((manifest.frame.groupby("Metadata_Plate")["split"].nunique() > 1).any())


def _n_groups(manifest: Manifest, unit: str) -> int:
    if unit == "field":
        return manifest.n_fields
    columns = {"plate": ["Metadata_Plate"], "well": ["Metadata_Plate", "Metadata_Well"]}[unit]
    values = manifest.frame[columns]
    return 0 if (values[columns[-1]] == "").any() else int(values.drop_duplicates().shape[0])


def split_fields(manifest: Manifest, recipe: Recipe, *, group: str = "field") -> dict[str, list[StainField]]:
    """Open every field of the manifest's splits, in memory as far as a quarter of it allows, else lazily."""
    budget = default_max_bytes()
    out: dict[str, list[StainField]] = {name: [] for name in SPLITS}
    for item in manifest.fields():
        if item.split and item.split not in out:
            raise DataError(
                f"{manifest.source}: field {item.name} has split '{item.split}'; allowed are {', '.join(SPLITS)}."
            )
        made = stain_field_of(item, recipe.inputs, recipe.targets, budget=budget, group=group)
        budget -= _held_bytes(made)
        out[item.split or "test"].append(made)
    return out


def evaluable_fields(model: StainModel, manifest: Manifest) -> list[StainField]:
    """Open the fields that have a real stain, at the scale it is compared at; plates, else wells are their groups.

    Raises
    ------
    DataError
        A field that `virtualstain.predict.predict` would refuse for its voxel size.
    """
    group = next((unit for unit in ("plate", "well") if _n_groups(manifest, unit) > 1), "field")
    budget, fields = default_max_bytes(), []
    for item in manifest.fields():
        made = stain_field_of(item, model.inputs, model.outputs, budget=budget, group=group)
        if not made.present.any():
            continue
        where, planes = f"field {made.name}", int(made.inputs.shape[1])
        remedy = "Fill the manifest's columns voxel_z_um, voxel_y_um and voxel_x_um, or make it with check --voxel-um."
        if off := model.foreign_axes(made.voxel_um, planes=planes, where=where, remedy=remedy):
            raise DataError(
                f"{where}: voxel size {shown_sizes(made.voxel_um)} um (z, y, x) is outside what model '{model.name}' "
                f"accepts along {', '.join(off)}: {shown_sizes(model.voxel_um)} um. Predict with --resample, and score "
                "what comes out: evaluate --prediction P --truth T."
            )
        budget -= _held_bytes(made)
        fields.append(with_target_scale(model, made))
    return fields


def _held_bytes(item: StainField) -> int:
    return sum(part.nbytes for part in (item.inputs, item.targets) if isinstance(part, np.ndarray))


def stain_field_of(
    item: ImageField, inputs: Sequence[str], targets: Sequence[str], *, budget: int, group: str = "field"
) -> StainField:
    """Open one field of a manifest.

    Parameters
    ----------
    item : ImageField
    inputs, targets : sequence of str
        Channels in the model's order. A target may be missing.
    budget : int
        Bytes that may still be held in memory; a larger field stays on disk.
    group : str
        ``plate``, ``well``, ``field`` or a column: what `StainField.group` names.

    Raises
    ------
    DataError
        An input is missing, or the shapes or the pixels of input, target and mask do not fit.
    """
    missing = [name for name in inputs if name not in item.inputs]
    if missing:
        raise DataError(
            f"field {item.name}: input channel '{missing[0]}' is missing; it has {sorted(item.inputs)}. Rename it in "
            "the manifest's column 'channel', or change the recipe's inputs."
        )
    opened = [item.inputs[name].open() for name in inputs]
    channels = [image.to_axes("CZYX").data for image in opened]
    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None)
    for image in opened:
        voxel_um = common_voxels(voxel_um, image, item.name)
    size = channels[0].shape[1:]
    for name, part in zip(inputs, channels, strict=True):
        if part.shape[1:] != size:
            raise DataError(
                f"field {item.name}: input '{name}' is {part.shape[1:]} (Z, Y, X), input '{inputs[0]}' {size}. They "
                "must be of one shape. Register and crop them first."
            )
    present = np.array([name in item.targets for name in targets])
    stained = {name: item.targets[name].open() for name in targets if name in item.targets}
    for image in stained.values():
        common_voxels(voxel_um, image, item.name)
    parts = {name: image.to_axes("CZYX").data for name, image in stained.items()}
    known = next(iter(parts.values()), np.zeros((1, *size), np.uint8))
    for name, part in parts.items():
        if part.shape[2:] != size[1:] or part.shape[1] not in (1, size[0]) or part.shape != known.shape:
            raise DataError(
                f"field {item.name}: target '{name}' is {part.shape[1:]} (Z, Y, X), the input {size}. They "
                "must agree in Y and X, and in Z unless every target has one plane. Register and crop them first."
            )
    masks = None
    if item.masks:
        masks = next(iter(item.masks.values())).open().to_axes("YX").load().data
        if masks.shape != size[1:]:
            raise DataError(
                f"field {item.name}: its mask is {masks.shape} (Y, X), the input {size[1:]}. They must be of one shape."
            )
    stack = _held(ChannelStack(channels), budget)
    stains = _held(ChannelStack([parts.get(name, known) for name in targets]), budget)
    padded = padding_mask(stack)
    if parts:
        padded |= padding_mask(stains if present.all() else ChannelStack(list(parts.values())))
    return StainField(
        name=item.name or Path(opened[0].source).name,
        group=_group(item, group),
        inputs=stack,
        targets=stains,
        present=present,
        valid=~padded if padded.any() else None,
        masks=masks,
        voxel_um=voxel_um,
    )


def _group(item: ImageField, group: str) -> str:
    parts = {"plate": ("Metadata_Plate",), "well": ("Metadata_Plate", "Metadata_Well")}.get(group)
    if group == "field":
        return item.name
    return "/".join(item.metadata.get(name, "") for name in parts or (group,))


def _held(stack: ChannelStack, budget: int) -> Any | NDArray[Any]:
    return np.asarray(stack) if stack.nbytes <= budget else stack
