"""Many images, folders and plates to labels: one failure does not stop the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.atomic import make_folder, refuse_existing, refuse_inputs
from image2reg.errors import ConfigurationError, DataError, ProjectError
from image2reg.images.image import Image
from image2reg.images.plates import PlateWriter, read_plate
from image2reg.images.readers import read
from image2reg.images.writers import write
from image2reg.nuclei.quality import field_quality
from image2reg.nuclei.segmenters.phase import confluence
from image2reg.nuclei.segmenters.stack import segment_stack
from image2reg.nuclei.side_tables import failure
from image2reg.tables.listing import image_paths, stem

if TYPE_CHECKING:
    from collections.abc import Callable

    from image2reg.nuclei.segmenters.interface import Segmenter

__all__ = ["Segmented", "segment_image", "segment_many"]

_FILE_SUFFIXES = (".tif", ".tiff", ".zarr")
# A field above this many pixels is not judged: sharpness is a matter of single fields, not of scans.
_LARGEST_FIELD_PX = 25_000_000


@dataclass
class Segmented:
    """What was written, one row per field, and what failed."""

    written: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)


def segment_image(
    segmenter: Segmenter, image: Image, *, channel: str | int | None = None, **size: Any
) -> tuple[Image, dict[str, Any]]:
    """Label one image of any axes.

    Parameters
    ----------
    segmenter : Segmenter
    image : Image
        One channel, or several and `channel`; with Z planes are linked, every time point is labelled by itself.
    channel : str or int, optional
        By name or position; text that is no name and a number is a position.
    **size
        ``diameter_px`` or ``diameter_um``; the pixel size is the image's.

    Returns
    -------
    labels : Image
        Axes (T)(Z)YX, uint16 where the numbers fit, else int32; 0 is background.
    facts : dict
        ``n_objects`` (of all time points), ``confluence`` and, for single planes of a stain, `field_quality`.

    Raises
    ------
    DataError
        Several channels and none chosen, or what `Segmenter.segment` refuses.
    """
    if channel is None and len(image.channels) > 1:
        raise DataError(
            f"{image.source or 'image'}: has {len(image.channels)} channels {list(image.channels)}. Say which shows "
            "the objects: --channel NAME."
        )
    plain = image.select(channel=0 if channel is None else image.find_channel(channel)).to_axes("TZYX")
    size = {**size, "voxel_um": None if size.get("diameter_px") else plain.voxel_um}
    frames = []
    for t in range(plain.sizes["T"]):
        frame = plain.select(time=t)
        if frame.sizes["Z"] > 1:
            frames.append(segment_stack(segmenter, frame.load().data, **size))
        else:
            frames.append(segmenter.segment(frame.to_axes("YX").data, **size)[None])
    labels = np.stack(frames)
    n_objects = sum(int(frame.max()) for frame in frames)
    facts: dict[str, Any] = {"n_objects": n_objects, "confluence": confluence(labels)}
    single, stained = plain.sizes["T"] == plain.sizes["Z"] == 1, not getattr(segmenter, "label_free", False)
    if single and stained and labels.size <= _LARGEST_FIELD_PX:
        facts |= field_quality(plain.to_axes("YX").load().data)
    kept = "".join(letter for letter in "TZ" if plain.sizes[letter] > 1) + "YX"
    labels = labels.astype(np.uint16 if labels.max() < 2**16 else np.int32)
    made = Image(labels, "TZYX", image.voxel_um, ("labels",), source=image.source)
    return made.to_axes(kept), facts


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
    resume : bool
        Leave out images whose labels are already there.

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
            inputs[0], out, segmenter, channel, size, result, overwrite=overwrite, progress=progress
        )
        return result
    jobs = _jobs(inputs, out)
    refuse_inputs((target for _, target in jobs), (path for path, _ in jobs))
    for _, target in jobs:
        if not resume:
            refuse_existing(target, overwrite=overwrite)
    for folder in {
        target.parent for _, target in jobs
    }:  # before any work: nobody wants to hear it after an hour
        make_folder(folder)
    for n_done, (path, target) in enumerate(jobs, start=1):
        if resume and target.exists():
            continue
        try:
            labels, facts = segment_image(segmenter, read(path, voxel_um=voxel_um), channel=channel, **size)
            write(labels, target, overwrite=overwrite)
            result.written.append({"source": str(path), "output": str(target), **facts})
        except ProjectError as error:
            if len(jobs) == 1:
                raise
            result.failures.append(failure(str(path), error))
        if progress is not None:
            progress(n_done, len(jobs))
    return result


def _jobs(inputs: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Give each image and where its labels go."""
    found: list[tuple[Path, str]] = []
    for path in inputs:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder (seen from {Path.cwd()}). Check the path.")
        if path.is_dir() and not path.name.lower().endswith(".zarr"):
            found += [(path / name, stem(name)) for name in image_paths(path)]
        else:
            found.append((path, stem(path.name) if stem(path.name) != path.name else path.stem))
    single = out.name.lower().endswith(_FILE_SUFFIXES)
    if single and len(found) > 1:
        raise ConfigurationError(
            f"--out {out}: names one file for {len(found)} images. Give a folder name without an image suffix."
        )
    jobs = [(path, out if single else out / f"{name}.tif") for path, name in found]
    targets = [target for _, target in jobs]
    if len(set(targets)) < len(targets):
        twice = next(target for target in targets if targets.count(target) > 1)
        raise ConfigurationError(
            f"--out {out}: two inputs would be written to {twice}. Segment their folders one by one."
        )
    return jobs


def _segment_plate(
    path: Path, out: Path, segmenter: Segmenter, channel: str | int | None, size: dict[str, Any], result: Segmented,
    *, overwrite: bool, progress: Callable[[int, int], None] | None,
) -> None:  # fmt: skip
    """Label every field into a plate of the same wells and fields; a field that fails is listed and left out."""
    if not out.name.lower().endswith(".zarr"):
        raise ConfigurationError(
            f"--out {out}: the labels of a plate are a plate. Give a name that ends in .zarr."
        )
    refuse_inputs([out], [path])
    plate = read_plate(path)
    places = list(plate)
    with PlateWriter(out, name=plate.name, overwrite=overwrite) as writer:
        for n_done, (well, name) in enumerate(places, start=1):
            source = f"{path}/{well}/{name}"
            try:
                labels, facts = segment_image(segmenter, plate.image(well, name), channel=channel, **size)
            except ProjectError as error:
                result.failures.append(failure(source, error))
            else:
                writer.write(well, name, labels)
                result.written.append({"source": source, "output": f"{out}/{well}/{name}", **facts})
            if progress is not None:
                progress(n_done, len(places))
        if not result.written:
            raise DataError(
                f"all {len(places)} fields of {path} failed; the first: {result.failures[0]['error']}"
            )


def _is_plate(path: Path) -> bool:
    if not path.name.lower().endswith(".zarr"):
        return False
    try:
        read_plate(path)
    except DataError:
        return False
    return True
