"""Many images, folders and plates to labels: one failure does not stop the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image2reg.atomic import make_folder, refuse_inputs, refuse_targets
from image2reg.errors import ConfigurationError, DataError, ProjectError
from image2reg.images.image import Image
from image2reg.images.plates import PlateWriter, read_plate, refuse_incomplete
from image2reg.images.readers import read
from image2reg.images.writers import write
from image2reg.nuclei.segmenters.field_table import FieldTable, without_labels
from image2reg.nuclei.segmenters.one_image import facts_of, one_channel, segment_image
from image2reg.tables.channel_files import files_of_channel, named_for
from image2reg.tables.listing import image_paths, stem
from image2reg.tables.side_tables import failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from image2reg.nuclei.segmenters.interface import Segmenter

__all__ = ["Segmented", "segment_many"]

_FILE_SUFFIXES = (".tif", ".tiff", ".zarr")
# Meant as files, but labels are not written in these formats; without this they would become folders.
_OTHER_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".npy", ".npz", ".h5", ".stk", ".lsm", ".czi", ".nd2", ".lif",
    ".csv",
)  # fmt: skip


@dataclass
class Segmented:
    """What was written, one row per field, what failed, how many were there already, and where all have a row.

    ``n_other`` files hold other channels of the same fields and were left out.
    """

    written: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    n_present: int = 0
    n_other: int = 0
    table: Path | None = None


def segment_many(
    inputs: Sequence[Path],
    out: Path,
    *,
    segmenter: Segmenter,
    channel: str | int | None = None,
    diameter_px: float | None = None,
    diameter_um: float | None = None,
    voxel_um: tuple[float | None, float | None, float | None] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Segmented:
    """Label images and write each result as soon as it is complete.

    Parameters
    ----------
    inputs : sequence of Path
        Images, folders of images, OME-Zarr plates.
    out : Path
        A file name (``.tif``, ``.zarr``) for one image; a ``.zarr`` for one plate; otherwise a folder, which keeps
        the images' names.
    channel : str or int, optional
        Which channel shows the objects: inside the images, or in the names of files that hold one channel each.
    resume : bool
        Leave out images whose labels are already there; a plate is there with all its fields or refused. One that was
        interrupted goes on with the fields that are missing.
    progress : callable, optional
        ``progress(n_done, n_images)``; images left out count as done.

    Returns
    -------
    Segmented
        What was done by this call. Beside labels in a folder, and beside a plate of labels, is a `FieldTable` of all
        fields, those of earlier calls too; ``table`` is its path.

    Raises
    ------
    DataError, ConfigurationError
        For one image, its error. Of many, those that fail are listed and the rest is done. Nothing is written where
        labels would replace an input.
    ResourceError
        The folder of the labels cannot be made or written to.
    """
    size: dict[str, Any] = {"diameter_px": diameter_px, "diameter_um": diameter_um}
    result = Segmented()
    if len(inputs) == 1 and _is_plate(inputs[0]):
        _segment_plate(
            inputs[0], out, segmenter, channel, size, result, voxel_um=voxel_um, overwrite=overwrite, resume=resume,
            progress=progress,
        )  # fmt: skip
        return result
    jobs, named, result.n_other = _jobs(inputs, out, channel)
    refuse_targets(jobs, out, overwrite=overwrite or resume)
    made_with = _made_with(segmenter, channel=channel, voxel_um=voxel_um, **size)
    table = None if _names_a_file(out) else FieldTable(out, made_with, (t for _, t in jobs) if resume else ())
    for folder in {target.parent for _, target in jobs}:
        make_folder(folder)
    try:
        for n_done, (path, target) in enumerate(jobs, start=1):
            facts, is_own = None, not (resume and target.exists())
            try:
                if is_own:
                    image = read(path, voxel_um=voxel_um)
                    inside = _inside(image, channel, is_named=path in named)
                    labels, found = segment_image(segmenter, image, channel=inside, **size)
                    write(labels, target, overwrite=overwrite)
                    facts = found
                    result.written.append({"source": str(path), "output": str(target), **found})
                else:
                    result.n_present += 1
                    if table is not None and target not in table:  # the run that made it was killed
                        made = read(target).to_axes("TZYX").load().data
                        image = read(path)
                        inside = _inside(image, channel, is_named=path in named)
                        facts = facts_of(segmenter, one_channel(image, inside), made)
            except ProjectError as error:
                if len(jobs) == 1:
                    raise
                result.failures.append(failure(str(path), error))
            if table is not None and facts is not None:
                table.add(str(path), target, facts, is_own=is_own)
            if progress is not None:
                progress(n_done, len(jobs))
    finally:  # a run that is stopped has labels too
        if table is not None:
            table.write()
            result.table = table.path
    return result


def _made_with(segmenter: Segmenter, **settings: Any) -> str:
    """Say what decides labels beside the image."""
    told = [f"{name} {value}" for name, value in settings.items() if value is not None]
    return "; ".join([getattr(segmenter, "identity", segmenter.name), *told])


def _inside(image: Image, channel: str | int | None, *, is_named: bool) -> str | int | None:
    """Channel to look for in an image: none in a file of one channel that its name tells."""
    return None if len(image.channels) == 1 and is_named else channel


def _jobs(
    inputs: Sequence[Path], out: Path, channel: str | int | None
) -> tuple[list[tuple[Path, Path]], set[Path], int]:
    """Give each image and where its labels go, those named for the channel, and how many are left out as others."""
    found: list[tuple[Path, str]] = []
    for path in inputs:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder (seen from {Path.cwd()}). Check the path.")
        if path.is_dir() and not path.name.lower().endswith(".zarr"):
            names = without_labels(path, image_paths(path))
            if not names:
                raise DataError(
                    f"{path}: holds labels of an earlier run only. Name the folder of the images."
                )
            found += [(path / name, stem(name)) for name in names]
        else:
            found.append((path, stem(path.name) if stem(path.name) != path.name else path.stem))
    single = _names_a_file(out)
    if single and len(found) > 1:
        raise ConfigurationError(
            f"--out {out}: names one file for {len(found)} images. Give a folder name without an image suffix."
        )
    if not single and (suffix := out.suffix.lower()) in _OTHER_SUFFIXES:
        raise ConfigurationError(
            f"--out {out}: labels are not written as {suffix}. Allowed are {', '.join(_FILE_SUFFIXES)} for one image, "
            "or the name of a folder."
        )
    names = [stem(str(path)) for path, _ in found]
    kept, is_named = files_of_channel(names, channel), named_for(names, channel)
    own = [each for each, is_kept in zip(found, kept, strict=True) if is_kept]
    named = {path for (path, _), says_so in zip(found, is_named, strict=True) if says_so}
    jobs = [(path, out if single else out / f"{name}.tif") for path, name in own]
    return jobs, named, len(found) - len(own)


def _segment_plate(
    path: Path, out: Path, segmenter: Segmenter, channel: str | int | None, size: dict[str, Any], result: Segmented,
    *, voxel_um: tuple[float | None, float | None, float | None] | None, overwrite: bool, resume: bool,
    progress: Callable[[int, int], None] | None,
) -> None:  # fmt: skip
    """Label every field into a plate of the same wells and fields; a field that fails is listed and left out."""
    if not out.name.lower().endswith(".zarr"):
        raise ConfigurationError(
            f"--out {out}: the labels of a plate are a plate. Give a name that ends in .zarr."
        )
    refuse_inputs([out], [path])
    plate = read_plate(path)
    made_with = _made_with(segmenter, channel=channel, voxel_um=voxel_um, **size)
    places, table = list(plate), FieldTable(out, made_with)
    if resume and out.exists():
        refuse_incomplete(out, places)
        result.n_present, result.table = len(places), table.path if table.path.exists() else None
        return
    about = {
        "source": str(path.resolve()), "segmenter": getattr(segmenter, "identity", segmenter.name),
        "channel": channel, "voxel_um": voxel_um, **size,
    }  # fmt: skip
    with PlateWriter(out, name=plate.name, overwrite=overwrite, about=about, resume=resume) as writer:
        for n_done, (well, name) in enumerate(places, start=1):
            source = f"{path}/{well}/{name}"
            try:
                facts = writer.done(well, name)
                if facts is None:
                    image = read(path / well / name, voxel_um=voxel_um)
                    labels, facts = segment_image(segmenter, image, channel=channel, **size)
                    writer.write(well, name, labels, facts=facts)
            except ProjectError as error:
                result.failures.append(failure(source, error))
            else:
                result.written.append({"source": source, "output": f"{out}/{well}/{name}", **facts})
                table.add(source, out / well / name, facts)
            if progress is not None:
                progress(n_done, len(places))
        if not result.written:
            raise DataError(
                f"all {len(places)} fields of {path} failed; the first: {result.failures[0]['error']}"
            )
    table.write()
    result.table = table.path


def _names_a_file(out: Path) -> bool:
    return out.name.lower().endswith(_FILE_SUFFIXES)


def _is_plate(path: Path) -> bool:
    if not path.name.lower().endswith(".zarr"):
        return False
    try:
        read_plate(path)
    except DataError:
        return False
    return True
