"""Prediction of one image, many images or a whole plate: one failure does not stop the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from image2reg.atomic import make_folder, refuse_targets
from image2reg.errors import ConfigurationError, DataError, ProjectError
from image2reg.images.image import PREDICTED_FROM, Image
from image2reg.images.plates import PlateWriter, read_plate, refuse_incomplete
from image2reg.images.readers import read
from image2reg.images.units import VoxelSize
from image2reg.tables.channel_files import files_of_channel, named_for, names_channel
from image2reg.tables.folder_fields import says_nothing
from image2reg.tables.listing import SUFFIXES, is_picture, is_thumbnail, stem
from image2reg.tables.side_tables import failure, failures_path, write_failures
from image2reg.wording import counted
from virtualstain.admission import aliases
from virtualstain.model import StainModel, load, shown_sizes
from virtualstain.predict import predict, predict_to

__all__ = ["SAME_VOXELS", "BatchResult", "find_images", "predict_many"]

SAME_VOXELS = 0.01  # relative difference of two sizes that say the same


@dataclass
class BatchResult:
    """What was written, and what failed (also in ``failures.csv``: in the folder, or beside a single file).

    `unit` says what the values are, `notes` what was not looked at, `n_present` how many results were there already,
    `n_other` how many files hold other channels of the same fields and were left out.
    """

    written: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    failures_path: Path | None = None
    unit: str = ""
    notes: list[str] = field(default_factory=list)
    n_present: int = 0
    n_other: int = 0


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((s for s in SUFFIXES if name.endswith(s)), None)


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """List the images among files and folders, in order; a folder contributes its images sorted by name.

    JPEG and BMP pictures in a folder count where it holds no other images.

    Raises
    ------
    DataError
        A path that is not there, or a folder without images.
    """
    found: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder (seen from {Path.cwd()}). Check the path.")
        if path.is_file() or _suffix(path):
            found.append(path)
            continue
        shown = (p for p in path.iterdir() if not p.name.startswith(".") and not is_thumbnail(p.name))
        inside = sorted(p for p in shown if _suffix(p))
        if not inside:
            deeper = "; ".join(_not_entered([path]))
            raise DataError(
                f"{path}: no image in this folder; looked for {', '.join(SUFFIXES)} and saw "
                f"{sum(1 for _ in path.iterdir())} other entries. {deeper or 'Give the folder that holds the images'}."
            )
        found.extend([p for p in inside if not is_picture(p.name)] or inside)
    return found


def _not_entered(inputs: Sequence[Path]) -> list[str]:
    """Name the folders of images inside the folders given: their results could meet under one name."""
    given = {path.resolve() for path in inputs}
    notes = []
    for path in inputs:
        if not path.is_dir() or _suffix(path):
            continue
        deeper = sorted(
            p for p in path.iterdir()
            if p.is_dir() and not p.name.startswith(".") and not _suffix(p) and p.resolve() not in given
            and any(_suffix(q) for q in p.iterdir())
        )  # fmt: skip
        if deeper:
            notes.append(
                f"{path}: {counted(len(deeper), 'folder')} of images in it ({', '.join(p.name for p in deeper[:5])}) "
                "not entered: give each of them too, or with an --out of its own"
            )
    return notes


def predict_many(
    inputs: Sequence[Path],
    out: Path,
    *,
    model: str | StainModel,
    channels: Sequence[str | int] = (),
    voxel_um: VoxelSize | None = None,
    resample: bool = False,
    tile: tuple[int, int, int] | None = None,
    tta: bool = False,
    input_frame: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> BatchResult:
    """Predict every image and write each result as soon as it is complete.

    Parameters
    ----------
    inputs : sequence of Path
        Images and folders; an OME-Zarr plate becomes a plate.
    out : Path
        A file name for a single image; otherwise a folder, which keeps the images' names (``x.tif`` gives
        ``x.ome.tif``, ``x.zarr`` gives ``x.ome.zarr``).
    channels : sequence of str or int
        Which channels of each image to use, in the order of ``model.inputs``; found by name when not given. For a model
        of one input, what stands in the names of files that hold one channel each chooses among them.
    resume : bool
        Leave out images whose result is already there; a plate is there with all its fields or refused. One that was
        interrupted goes on with the fields that are missing.

    Raises
    ------
    DataError, BundleError, ConfigurationError
        For a single image, its error. Of many, those that fail are listed and the rest is done. Nothing is written
        where a result would replace an input, or where names tell channels apart and none says which is the input.
    """
    model = load(model, device=device) if isinstance(model, str) else model
    given = find_images(inputs)
    images, named = _of_input(given, model, channels)
    if _suffix(out) is None and re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,4}", out.suffix) and not out.is_dir():
        raise ConfigurationError(
            f"--out {out}: no writer for {out.suffix!r}; allowed are .ome.tif, .tif, .ome.zarr for one image (and "
            ".tiff, .zarr), a name without such a suffix for a folder."
        )
    single = len(images) == 1 and _suffix(out) is not None
    if len(images) > 1 and _suffix(out) is not None:
        raise ConfigurationError(
            f"--out {out}: names one file for {len(images)} images. Give a folder name without an image suffix."
        )
    jobs = [(path, out if single else out / _result_name(path)) for path in images]
    refuse_targets(jobs, out, overwrite=overwrite or resume)
    failures_path(out)
    for folder in {target.parent for _, target in jobs}:
        make_folder(folder)
    notes = _not_entered([path for path in inputs if path != out])
    result = BatchResult(unit=model.unit, notes=notes, n_other=len(given) - len(images))
    options: dict[str, Any] = {
        "channels": channels,
        "resample": resample,
        "tile": tile,
        "tta": tta,
        "input_frame": input_frame,
        "progress": progress,
    }
    for path, target in jobs:
        there = resume and target.exists()
        try:
            if is_plate(path):
                if there:
                    refuse_incomplete(target, list(read_plate(path)))
                    result.n_present += 1
                    continue
                flags = _predict_plate(
                    model,
                    path,
                    target,
                    voxel_um=voxel_um,
                    overwrite=overwrite,
                    resume=resume,
                    result=result,
                    **options,
                )
            elif there:
                result.n_present += 1
                continue
            else:
                image, replaced = _opened(path, voxel_um, place=path.resolve().parent.name)
                inside = () if path in named and len(image.channels) == 1 else channels
                done = predict_to(model, image, target, overwrite=overwrite, **options | {"channels": inside})
                flags = replaced + done
        except ProjectError as error:
            if single or len(jobs) == 1:
                raise
            result.failures.append(failure(str(path), error))
            continue
        result.written.append({"source": str(path), "output": str(target), "flags": list(flags)})
    if result.failures and not result.written and not resume:
        raise DataError(f"all {len(jobs)} images failed; the first: {result.failures[0]['error']}")
    result.failures_path = write_failures(result.failures, out)
    return result


def _of_input(
    images: list[Path], model: StainModel, channels: Sequence[str | int]
) -> tuple[list[Path], set[Path]]:
    """Leave out files of other channels than a model's one input, and give those that are named for it.

    Without a channel its name or a usual alias is looked for in the names of the files, as it is inside them.
    """
    if len(model.inputs) != 1 or len(channels) > 1:
        return images, set()
    names = [stem(str(path)) for path in images]
    asked: Sequence[str | int] = channels or [
        alias
        for alias in sorted(aliases(model.inputs[0]))
        if any(names_channel(p.name, alias) for p in images)
    ]
    named, kept = [False] * len(names), [True] * len(names)
    for channel in asked:
        named = [a or b for a, b in zip(named, named_for(names, channel), strict=True)]
        kept = [a and b for a, b in zip(kept, files_of_channel(names, channel), strict=True)]
    own = [at for at in range(len(names)) if named[at] or kept[at]]
    if not channels:
        files_of_channel([names[at] for at in own], None)
    return [images[at] for at in own], {path for path, says_so in zip(images, named, strict=True) if says_so}


def is_plate(path: Path) -> bool:
    """Say whether a path is an OME-Zarr plate."""
    if not path.name.lower().endswith(".zarr"):
        return False
    try:
        read_plate(path)
    except DataError:
        return False
    return True


def _predict_plate(
    model: StainModel,
    path: Path,
    target: Path,
    *,
    voxel_um: VoxelSize | None,
    overwrite: bool,
    resume: bool,
    result: BatchResult,
    **options: Any,
) -> tuple[str, ...]:
    """Predict every field into a plate of the same wells and fields; a field that fails is listed and left out."""
    if not target.name.lower().endswith(".zarr"):
        raise ConfigurationError(
            f"--out {target}: the stain of a plate is a plate. Give a name that ends in .zarr."
        )
    plate = read_plate(path)
    places, failed = list(plate), []
    flags: dict[str, list[str]] = {}
    about = {"source": str(path.resolve()), "model": model.identity, "voxel_um": voxel_um} | {
        name: value for name, value in options.items() if name != "progress"
    }
    with PlateWriter(target, name=plate.name, overwrite=overwrite, about=about, resume=resume) as writer:
        for well, field_name in places:
            if earlier := writer.done(well, field_name):
                for flag in earlier["flags"]:
                    flags.setdefault(flag, []).append(f"{well}/{field_name}")
                continue
            try:
                place = stem(path.resolve().name)
                image, replaced = _opened(path / well / field_name, voxel_um, place=place)
                done = predict(model, image, **options)
            except DataError as error:
                failed.append(failure(f"{path}/{well}/{field_name}", error))
                continue
            found_there = replaced + done.flags
            writer.write(well, field_name, done.image, facts={"flags": list(found_there)})
            for flag in found_there:
                flags.setdefault(flag, []).append(f"{well}/{field_name}")
        if len(failed) == len(places):
            raise DataError(f"all {len(places)} fields of {path} failed; the first: {failed[0]['error']}")
    result.failures.extend(failed)
    return tuple(
        f"{found[0] if len(found) == 1 else counted(len(found), 'field')}: {flag}"
        for flag, found in flags.items()
    )


def _opened(path: Path, voxel_um: VoxelSize | None, *, place: str) -> tuple[Image, tuple[str, ...]]:
    """Open an image, and say where the voxel size that was given replaces another one that its file has.

    `place`, where it lay, is noted, for its prediction to be known by the same plate (`image2reg.screen`).
    """
    image = read(path)
    if not says_nothing(place):
        image = image.replace(annotations={PREDICTED_FROM: place} | dict(image.annotations))
    if voxel_um is None:
        return image, ()
    given = image.replace(voxel_um=read(path, voxel_um=voxel_um).voxel_um)
    sizes = zip(image.voxel_um, given.voxel_um, strict=True)
    if all(a is None or b is None or abs(a / b - 1) <= SAME_VOXELS for a, b in sizes):
        return given, ()
    return given, (
        f"taken for voxels of {shown_sizes(given.voxel_um)} um (z, y, x) as was asked; the file says "
        f"{shown_sizes(image.voxel_um)} um",
    )


def _result_name(path: Path) -> str:
    suffix = _suffix(path) or path.suffix
    stem = path.name[: -len(suffix)] if suffix else path.name
    return stem + (".ome.zarr" if suffix.endswith(".zarr") else ".ome.tif")
