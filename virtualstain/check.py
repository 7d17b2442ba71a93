"""What the command `check` says: what an image, a folder or a manifest holds, and what is wrong with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image
from image2reg.images.checks import check_voxels
from image2reg.images.padding import padding_mask
from image2reg.images.plates import read_plate
from image2reg.images.readers import read
from image2reg.images.units import VoxelSize
from image2reg.wording import counted
from virtualstain.admission import COARSEST, FINEST, channels_called, fluorescent, resamplable
from virtualstain.batch import SAME_VOXELS, is_plate
from virtualstain.catalogue import catalogue
from virtualstain.model import shown_sizes

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.tables import Manifest

__all__ = ["check_lines", "check_path"]


def check_path(
    path: Path,
    *,
    out: Path | None = None,
    inputs: Sequence[str] = (),
    targets: Sequence[str] = (),
    split_by: str = "",
    voxel_um: VoxelSize | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Look at an image, a folder or a manifest without changing it.

    Parameters
    ----------
    path : Path
    out : Path, optional
        Write the manifest of a folder (``.csv`` or ``.parquet``, in that folder or above it).
    inputs, targets : sequence of str
        Channels of a folder's images by role.
    split_by : str
        Draw train, validation and test by this unit (auto, plate, well, field or a column) into the manifest.
    voxel_um : (z, y, x), optional
        Micrometres where the files of a folder, or the image, say none; what they say is kept, and told if it differs.

    Returns
    -------
    dict
        ``kind`` (image, plate or manifest), what was found, ``notes`` and ``problems`` (empty when all is well).

    Raises
    ------
    DataError, ConfigurationError
        Nothing there, a folder without word on which channel is the input, or a voxel size for a manifest.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder (seen from {Path.cwd()}). Check the path.")
    is_table = path.suffix.lower() in (".csv", ".parquet")
    if not all(size is None or 0 < size < math.inf for size in voxel_um or ()):
        raise ConfigurationError(
            f"--voxel-um {voxel_um}: not (z, y, x) in micrometres, each positive or '-'."
        )
    if not is_table and is_plate(path):
        return _check_plate(path, voxel_um)
    if not is_table and (path.is_file() or path.name.lower().endswith(".zarr")):
        return _check_image(path, voxel_um)
    if is_table and voxel_um is not None:
        raise ConfigurationError(
            f"--voxel-um with {path}: a manifest has columns for it. Fill voxel_z_um, voxel_y_um and voxel_x_um, or "
            "give the folder of the images."
        )
    if not is_table and not inputs:
        raise ConfigurationError(
            f"{path}: say which channel is the input, as in --input Brightfield or --input Brightfield=BF (and "
            "--target Hoechst=DAPI); a name is looked for in file names, folder names and channel names."
        )
    manifest, unreadable = _readable(path, inputs, targets, voxel_um)
    if split_by:
        from virtualstain.loading import with_split
        from virtualstain.recipe import SplitSettings

        manifest, _ = with_split(manifest, SplitSettings(group=split_by))
    if out is not None:
        manifest.write(out, overwrite=overwrite)
    report = _describe(manifest, out)
    report["problems"] += unreadable
    if not is_table:
        files = manifest.frame.drop_duplicates("path")
        report["notes"] += _other_voxels(manifest.frame) + _kept(files["path"], _voxels(files), voxel_um)
    return report


def _readable(
    path: Path, inputs: Sequence[str], targets: Sequence[str], voxel_um: VoxelSize | None
) -> tuple[Manifest, list[str]]:
    """Open a manifest; of a folder, without the images that cannot be read and with what is wrong with each."""
    from image2reg.tables import from_folder
    from virtualstain.loading import open_manifest

    try:
        return open_manifest(path, inputs=inputs, targets=targets, voxel_um=voxel_um), []
    except DataError:
        if not path.is_dir():
            raise
        manifest = from_folder(path, inputs=list(inputs), targets=list(targets), strict=False)
        own, wrong = _voxels_of(path, manifest.frame["path"].unique())
        if not wrong:
            raise
    left = manifest.frame[manifest.frame["path"].isin(list(own))]
    if not len(left):
        raise DataError(f"{path}: no image of it can be read; the first: {wrong[0]}")
    sizes = {
        f"voxel_{axis}_um": [own[name][at] or (voxel_um or own[name])[at] for name in left["path"]]
        for at, axis in enumerate("zyx")
    }
    return manifest.replace(left.assign(**sizes)), [f"left out: {error}" for error in wrong]


def _voxels_of(folder: Path, names: Iterable[str]) -> tuple[dict[str, VoxelSize], list[str]]:
    """Give the voxel size that each image says, and what is wrong with those that cannot be read."""
    own, wrong = {}, []
    for name in names:
        try:
            own[name] = read(folder / name).voxel_um
        except DataError as error:
            wrong.append(str(error))
    return own, wrong


def _voxels(frame: pd.DataFrame) -> list[tuple[float | None, ...]]:
    columns = frame[[f"voxel_{axis}_um" for axis in "zyx"]].to_numpy()
    return [tuple(None if math.isnan(v) else float(v) for v in row) for row in columns]


def _other_voxels(frame: pd.DataFrame) -> list[str]:
    """Name the inputs of a folder whose voxel size is not that of most: no model could be trained on both."""
    from virtualstain.recipe import Recipe

    frame = frame[frame["role"] == "input"]
    sizes = _voxels(frame)
    usual, n_usual = Counter(sizes).most_common(1)[0]
    tolerance = Recipe.model_fields["voxel_tolerance"].default
    off = [
        f"{path} {shown_sizes(size)}"
        for path, size in zip(frame["path"], sizes, strict=True)
        if any((a is None) != (b is None) or (a and b and abs(a / b - 1) > tolerance)
               for a, b in zip(size, usual, strict=True))
    ]  # fmt: skip
    if not off:
        return []
    more = f" and {len(off) - 3} more" if len(off) > 3 else ""
    return [
        f"voxel sizes differ: {shown_sizes(usual)} um (z, y, x) in {counted(n_usual, 'input')}, but "
        f"{', '.join(off[:3])}{more}. One model is trained at one size: resample or leave out what differs; where a "
        "file says nothing, pass --voxel-um or fill the manifest's columns voxel_z_um, voxel_y_um and voxel_x_um"
    ]


def _kept(
    names: Iterable[str], sizes: Iterable[Sequence[float | None]], given: VoxelSize | None
) -> list[str]:
    """Name the images that say another voxel size themselves than the one that is given."""
    off = [
        f"{name} {shown_sizes(size)}"
        for name, size in zip(names, sizes, strict=True)
        if any(a and b and abs(a / b - 1) > SAME_VOXELS for a, b in zip(size, given or size, strict=True))
    ]
    if not off or given is None:
        return []
    more = f" and {len(off) - 3} more" if len(off) > 3 else ""
    return [
        f"another voxel size than --voxel-um {shown_sizes(given)} um (z, y, x) is said by {counted(len(off), 'file')} "
        f"and kept: {', '.join(off[:3])}{more}. Where the file is wrong, change the manifest's columns, or pass "
        "--voxel-um to predict"
    ]


def _check_plate(path: Path, voxel_um: VoxelSize | None) -> dict[str, Any]:
    """Describe a plate by its first field, and name the fields that cannot be read or are not like it."""
    plate = read_plate(path)
    places = list(plate)
    problems, images = [], {}
    for well, name in places:
        try:
            images[f"{well}/{name}"] = plate.image(well, name)
        except DataError as error:
            problems.append(str(error))
    if not images:
        raise DataError(
            f"{path}: none of its {counted(len(places), 'field')} can be read; the first: {problems[0]}"
        )
    first = next(iter(images))
    like = [(image.channels, image.voxel_um, image.sizes.get("Z", 1)) for image in images.values()]
    unlike = [name for name, this in zip(images, like, strict=True) if this != like[0]]
    report = _check_image(path / first, voxel_um)
    if unlike:
        report["notes"].append(
            f"{counted(len(unlike), 'field')} with other channels, planes or voxel size, the first is {unlike[0]}"
        )
    return report | {
        "kind": "plate", "path": str(path), "wells": len(plate.fields), "fields": len(places), "first": first,
        "problems": problems + report["problems"],
    }  # fmt: skip


def _check_image(path: Path, voxel_um: VoxelSize | None) -> dict[str, Any]:
    image = read(path)
    notes = _kept([path.name], [image.voxel_um], voxel_um)
    if None in image.voxel_um[1:]:
        notes.append("no voxel size in the file: pass --voxel-um to predict, -,Y,X for a plane")
    z, y, x = (a or b for a, b in zip(image.voxel_um, voxel_um or image.voxel_um, strict=True))
    image = image.replace(voxel_um=(z, y, x))
    found: dict[str, Any] = {
        "kind": "image", "path": str(path), "axes": image.axes, "shape": list(image.shape), "dtype": str(image.dtype),
        "voxel_um": list(image.voxel_um), "channels": list(image.channels), "notes": notes, "problems": [],
    }  # fmt: skip
    try:
        for channel, flags in check_voxels(image).items():
            found["notes"] += [f"channel '{channel}' is {flag}" for flag in flags]
    except DataError as error:
        found["problems"].append(str(error))
    found |= {"models": [], "options": {}, "unfit": {}}
    for row in catalogue():
        if row["problem"]:
            continue
        if reason := _unfit(row, image):
            found["unfit"][row["name"]] = reason
            continue
        found["models"].append(row["name"])
        if options := _needs(row, image):
            found["options"][row["name"]] = options
    return found


def _unfit(row: dict[str, Any], image: Image) -> str:
    """Say why no option of `predict` would take the image to a model of the catalogue; empty where it can be taken."""
    planes, wanted = image.sizes.get("Z", 1), row["planes"]
    if planes == 1 if wanted is None else wanted not in (1, planes):
        return f"takes stacks{'' if wanted is None else f' of {wanted} planes'}"
    if len(row["inputs"]) > len(image.channels):
        return f"takes {len(row['inputs'])} channels: {', '.join(row['inputs'])}"
    for axis, want, have in zip("ZYX", row["voxel_um"], image.voxel_um, strict=True):
        if want is None or have is None or (axis == "Z" and planes == 1):
            continue
        if not resamplable(have / want):
            return f"takes voxels of {want / FINEST:.2g} to {want * COARSEST:.2g} um along {axis}"
    for name in row["inputs"]:
        channels = channels_called(name, image) or list(image.channels)
        if all(fluorescent(name, _middle(image, channel)) for channel in channels):
            shown = ", ".join(f"'{channel}'" for channel in channels)
            return f"takes {name}; {shown} looks like fluorescence (dark, with few bright places)"
    return ""


def _middle(image: Image, channel: str) -> Any:
    """Read what is recorded in the middle of the first time point's middle plane: of up to 4096 x 4096 pixels."""
    data = image.select(channel=channel).to_axes("TZYX").data
    y, x = (slice(max(0, n // 2 - 2048), n // 2 + 2048) for n in data.shape[2:])
    plane = np.asarray(data[0, data.shape[1] // 2, y, x])
    return plane[~padding_mask(plane[None, None])]


def _needs(row: dict[str, Any], image: Image) -> list[str]:
    """Options that `predict` needs to take the image to a model of the catalogue."""
    planes, needed = image.sizes.get("Z", 1), []
    single = len(row["inputs"]) == len(image.channels) == 1
    if not single and any(len(channels_called(name, image)) != 1 for name in row["inputs"]):
        needed.append("--channel")
    for axis, want, have in zip("ZYX", row["voxel_um"], image.voxel_um, strict=True):
        if want is None or (axis == "Z" and planes == 1):
            continue
        if have is None:
            needed.append("--voxel-um")
        elif abs(have / want - 1) > row["voxel_tolerance"]:
            needed.append("--resample")
    return list(dict.fromkeys(needed))


def _describe(manifest: Manifest, out: Path | None) -> dict[str, Any]:
    frame = manifest.frame
    from image2reg.tables.fields import IDENTITY
    from image2reg.tables.splits import in_trainable_field

    problems, notes = manifest.problems(), list(manifest.notes)
    fields = frame.assign(stained=in_trainable_field(frame)).drop_duplicates(list(IDENTITY))
    if not fields["stained"].all():
        kept = ", ".join(
            f"{name} {n}" for name, n in fields[fields["stained"]]["split"].value_counts().items() if name
        )
        notes.append(
            f"{(~fields['stained']).sum()} of {counted(len(fields), 'field')} have no target: neither trained nor "
            f"scored on{f' (those that have one: {kept})' if kept else ''}"
        )
    return {
        "kind": "manifest",
        "path": str(out or manifest.source),
        "rows": len(manifest),
        "fields": manifest.n_fields,
        "channels": {
            f"{role} {channel}": int(n)
            for (role, channel), n in frame.groupby(["role", "channel"]).size().items()
        },
        "plates": int(frame["Metadata_Plate"].nunique()),
        "wells": int(frame[["Metadata_Plate", "Metadata_Well"]].drop_duplicates().shape[0]),
        "splits": {str(k): int(v) for k, v in frame["split"].value_counts().items() if k},
        "notes": notes,
        "problems": [f"row {row.row} ({row.path}): {row.problem}" for row in problems.itertuples()],
    }


def check_lines(report: dict[str, Any]) -> str:
    """Print a report for a terminal."""
    lines = [report["path"]]
    if report["kind"] != "manifest":
        if report["kind"] == "plate":
            sizes = (counted(report[f"{unit}s"], unit) for unit in ("field", "well"))
            lines.append(f"  plate of {', '.join(sizes)}; the first, {report['first']}:")
        voxel = " x ".join("?" if v is None else f"{v:g}" for v in report["voxel_um"])
        lines.append(
            f"  {report['axes']} {tuple(report['shape'])} {report['dtype']}, voxel (z, y, x) {voxel} um"
        )
        lines.append(f"  channels: {', '.join(report['channels'])}")
        options = report["options"]
        named = [f"{m} (with {' '.join(options[m])})" if m in options else m for m in report["models"]]
        lines.append(f"  models that take it: {', '.join(named) or 'none'}")
        lines += [f"    {m} {reason}" for m, reason in report["unfit"].items() if not named]
    else:
        sizes = (counted(report[f"{unit}s"], unit) for unit in ("field", "well", "plate"))
        lines.append("  " + ", ".join(sizes))
        lines += [f"  {channel}: {counted(n, 'field')}" for channel, n in report["channels"].items()]
        if report["splits"]:
            lines.append(
                "  splits: " + ", ".join(f"{k} {counted(v, 'row')}" for k, v in report["splits"].items())
            )
    lines += [f"  note: {note}" for note in report["notes"]]
    lines += [f"  problem: {problem}" for problem in report["problems"]]
    return "\n".join(lines)
