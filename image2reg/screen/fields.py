"""One field of a screen, from its images to its nuclei: the unit of work of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.images.image import Image
from image2reg.nuclei.features import measure
from image2reg.nuclei.quality import field_quality
from image2reg.nuclei.segmenters.interface import diameter_in_pixels
from image2reg.nuclei.size import typical_diameter
from image2reg.nuclei.voxels import common_voxels
from image2reg.provenance import file_sha256
from image2reg.screen.plates import PLATE
from image2reg.screen.predicted import FIELD_PREDICTED_BY, predictor
from image2reg.tables.fields import ImageSource

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.nuclei.segmenters.interface import Segmenter
    from image2reg.screen.settings import MeasureSettings

__all__ = [
    "feature_names",
    "field_labels",
    "field_segmenter",
    "measure_field",
    "read_unit",
    "without_nuclei",
]

# A field without nuclei that has this share of its plate's controls' light is out of focus, one with less is empty.
_SHARE_OF_LIGHT = 0.5
# A field seen at the screen's usual diameter is measured by itself where its nuclei differ by more than this factor: of
# nuclei of 0.7 to 2 times what it is told the shipped network finds as many, within a point of F1, as when told right.
_ALIKE = 1.6


def read_unit(unit: Mapping[str, Any], root: Path) -> Image:
    """Read the channels of a field into one image.

    Returns
    -------
    Image
        (C, Y, X), channels by name; annotations name the model of each channel that was predicted.

    Raises
    ------
    DataError
        A channel is lacking, a file is missing, damaged, not the one whose hash the manifest gives, holds more than
        one plane, or the channels differ in size or in the size of their pixels.
    """
    if unit.get("lacking"):
        raise DataError(
            f"field {unit['name']}: no image of channel {', '.join(map(repr, unit['lacking']))}, only of "
            f"{sorted(unit['images'])}. A field needs the nuclei and every channel of its plate: add the image, or "
            "leave the field out."
        )
    planes: list[NDArray[Any]] = []
    predicted: dict[str, str] = {}
    voxel: tuple[float | None, float | None, float | None] = (None, None, None)
    for channel, said in unit["images"].items():
        path = root / said["path"]
        if said["sha256"] and file_sha256(path) != said["sha256"]:
            raise DataError(
                f"{path}: differs from the sha256 in the manifest. Copy it again, or renew the hash."
            )
        source = ImageSource(path, channel, said["channel"], said["pages"], tuple(said["voxel_um"]))
        image = source.open().load().to_axes("YX")
        planes.append(np.asarray(image.data))
        if "model" in image.annotations:
            predicted[channel] = image.annotations["model"]
        voxel = common_voxels(voxel, image, unit["name"])
        if planes[-1].shape != planes[0].shape:
            raise DataError(
                f"{path}: channel {channel!r} is {planes[-1].shape}, the first channel of field {unit['name']} is "
                f"{planes[0].shape}. Pair the files again."
            )
    kind = np.result_type(*planes)
    stack = np.stack([plane.astype(kind, copy=False) for plane in planes])
    return Image(stack, "CYX", voxel, tuple(unit["images"]), source=unit["name"], annotations=predicted)


def measure_field(
    unit: Mapping[str, Any], *, root: Path, settings: Mapping[str, Any], device: str = "cpu"
) -> dict[str, pd.DataFrame]:
    """Read, judge, segment and measure one field.

    Parameters
    ----------
    unit : mapping
        Of `image2reg.screen.planned_fields.PlannedFields`, paths relative to `root`.
    root : Path
    settings : mapping
        `image2reg.screen.settings.MeasureSettings` as JSON, ``nuclei`` filled; ``usual_px`` of
        `image2reg.screen.usual_size.usual_diameter`, if any.
    device : str
        For the segmenter.

    Returns
    -------
    dict
        ``nuclei``: `image2reg.nuclei.features.measure`'s columns, features as float32, one row per nucleus.
        ``fields``: one row: ``Metadata_Flags`` (joined by ";"), ``Field_Count``, ``Field_Light``,
        ``Field_SaturatedShare``, ``Field_Focus``, ``Field_PredictedBy`` (`image2reg.screen.predicted.predictor`). What
        was in the well is added when they are read (`PlannedFields.said`).
    """
    import pandas as pd

    image = read_unit(unit, root)
    labels = field_labels(image, settings, device)
    # By what nuclei measure in this screen: those of a field far out of focus have merged, and so have its labels.
    size = settings.get("usual_px") or diameter_in_pixels(**_told_size(image, settings))
    quality = field_quality(
        _nuclear_plane(image, settings), diameter_px=size or typical_diameter(labels),
        predicted=settings["nuclei"] in image.annotations,
    )  # fmt: skip
    table = measure(image, labels, ring_px=settings["ring_px"], texture_scales=settings["texture_scales"])
    features = [name for name in table if not name.startswith("Metadata_")]
    table = table.astype(dict.fromkeys(features, np.float32))
    field = {
        "Metadata_Flags": ";".join(quality["flags"]),
        "Field_Count": len(table),
        "Field_Light": quality["light"],
        "Field_SaturatedShare": quality["saturated_share"],
        "Field_Focus": quality["focus"],
        FIELD_PREDICTED_BY: predictor(image.annotations, image.channels),
    }
    return {"nuclei": table, "fields": pd.DataFrame([field])}


def field_labels(image: Image, settings: Mapping[str, Any], device: str = "cpu") -> NDArray[np.int32]:
    """Segment the nuclei of a field; arguments as for `measure_field`.

    Looked for at the screen's usual diameter, where it is known; measured on the field itself where that does not fit.
    """
    segmenter, plane = field_segmenter(settings, device), _nuclear_plane(image, settings)
    if usual := settings.get("usual_px"):
        labels = segmenter.segment(plane, diameter_px=usual)
        if usual / _ALIKE < typical_diameter(labels) < usual * _ALIKE:
            return labels
    return segmenter.segment(plane, **_told_size(image, settings))


def _told_size(image: Image, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give what settings and image say about the size of nuclei, as a segmenter takes it."""
    pixel = image.voxel_um[1:]
    return {
        "diameter_px": settings["diameter_px"],
        "diameter_um": settings["diameter_um"],
        "voxel_um": pixel if all(size is not None for size in pixel) else None,
    }


def field_segmenter(settings: Mapping[str, Any], device: str = "cpu") -> Segmenter:
    """Load the segmenter of a screen's settings, once per process."""
    return _segmenter(settings["model"], device, tta=settings["tta"])


def _nuclear_plane(image: Image, settings: Mapping[str, Any]) -> NDArray[Any]:
    return np.asarray(image.data)[image.channel_index(settings["nuclei"])]


def feature_names(channels: Sequence[str], settings: MeasureSettings) -> list[str]:
    """Features that `measure_field` may give; those in micrometres need images that know their pixels."""
    columns = measure(
        np.zeros((len(channels), 1, 1)),
        np.zeros((1, 1), np.uint8),
        channels=channels,
        voxel_um=1.0,
        texture_scales=settings.texture_scales,
        ring_px=settings.ring_px,
    )
    return [name for name in columns if not name.startswith("Metadata_")]


def without_nuclei(fields: pd.DataFrame, control: NDArray[np.bool_]) -> pd.DataFrame:
    """Say of fields in which no nucleus was found whether they are blurred or empty, by their light.

    A field cannot say so by itself: haze in an empty one looks like cells far out of focus. But blur takes no light
    away, and dead cells that were washed off do.

    Parameters
    ----------
    fields : DataFrame
        As `measure_field` gives them, of any number of plates.
    control : (fields,) bool
        Those of negative control wells.

    Returns
    -------
    DataFrame
        The same, with ``blurred`` or ``empty`` decided for those fields where controls of their plate have nuclei.
    """
    of_controls = fields["Field_Light"].where(control & (fields["Field_Count"] > 0))
    usual = of_controls.groupby(fields[PLATE]).transform("median")
    bare = ((fields["Field_Count"] == 0) & (usual > 0)).to_numpy()
    dark = (fields["Field_Light"] < _SHARE_OF_LIGHT * usual).to_numpy()

    def decided(flags: str, flag: str) -> str:
        others = [other for other in flags.split(";") if other not in ("", "blurred", "empty")]
        return ";".join([*others, flag])

    flags = [
        decided(said, "empty" if is_dark else "blurred") if is_bare else said
        for said, is_bare, is_dark in zip(fields["Metadata_Flags"], bare, dark, strict=True)
    ]
    return fields.assign(Metadata_Flags=flags)


@lru_cache(maxsize=2)
def _segmenter(model: str, device: str, *, tta: bool) -> Segmenter:
    from image2reg.nuclei.segmenters.catalogue import load_segmenter

    return load_segmenter(model, device=device, tta=tta)
