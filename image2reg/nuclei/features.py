"""Features of labelled nuclei: one call per field, one row per nucleus, CellProfiler's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError
from image2reg.images.image import Image
from image2reg.nuclei.chromatin import measure_condensation, measure_outline
from image2reg.nuclei.depth import depth_inside
from image2reg.nuclei.field import checked_channels
from image2reg.nuclei.granularity import measure_granularity
from image2reg.nuclei.intensity import measure_intensity, measure_ring
from image2reg.nuclei.radial import measure_radial
from image2reg.nuclei.regions import MARGIN, Regions
from image2reg.nuclei.rings import rings_around
from image2reg.nuclei.shape import measure_shape
from image2reg.nuclei.texture import grey_levels, measure_texture
from image2reg.nuclei.voxels import square_pixel_um, voxel_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["measure"]

# Level of the empty field: this percentile of what lies outside nuclei and their rings.
_BACKGROUND_PERCENTILE = 5.0
# Shape features with a length in them, and its power.
_LENGTHS = {
    "Area": 2, "ConvexArea": 2, "BoundingBoxArea": 2, "Volume": 3, "BoundingBoxVolume": 3, "SurfaceArea": 2,
    "EquivalentDiameter": 1, "MajorAxisLength": 1, "MiddleAxisLength": 1, "MinorAxisLength": 1, "Perimeter": 1,
    "MaxFeretDiameter": 1, "MaximumRadius": 1, "MeanRadius": 1, "MedianRadius": 1,
}  # fmt: skip


def measure(
    image: Image | NDArray[Any],
    labels: NDArray[Any],
    *,
    channels: Sequence[str] | None = None,
    voxel_um: Sequence[float | None] | float | None = None,
    texture_scales: Sequence[int] = (1, 3),
    ring_px: tuple[int, int] = (1, 4),
) -> pd.DataFrame:
    """Measure all nuclei of a field.

    Parameters
    ----------
    image : Image, or (C, Y, X), (Y, X), (C, Z, Y, X) array
        Any real dtype, finite, within float32; True is 1. A volume as an array has its channel axis.
    labels : (Y, X) or (Z, Y, X) integer
        0 is background; numbers may have gaps and nuclei may touch.
    channels : sequence of str, optional
        Names for the feature columns; the image's own, else ``DNA`` for a single channel.
    voxel_um : float, (y, x) or (z, y, x), micrometres, optional
        The image's own when not given. Where it is known, sizes are given a second time with ``_um``, ``_um2`` or
        ``_um3`` behind the name; a volume needs it (or is taken for cubic voxels), the pixels of a plane are square.
    texture_scales : sequence of int
        Distances of the texture's pixel pairs, pixels.
    ring_px : (gap, width)
        Of the ring around each nucleus, pixels.

    Returns
    -------
    DataFrame, one row per nucleus, ready for `image2reg.tables.Profiles`
        ``Metadata_Object`` (label number), ``Metadata_CenterY_px``, ``Metadata_CenterX_px``,
        ``Metadata_BoundingBoxMinimumY_px`` … ``MaximumX_px`` (excluded), ``Metadata_TouchesBorder``, then
        ``Nuclei_AreaShape_*``, and per channel ``Nuclei_Intensity_*_DNA``, ``Nuclei_RingIntensity_*_DNA``,
        ``Nuclei_Chromatin_*_DNA``, ``Nuclei_RadialDistribution_*_DNA_1of5``, ``Nuclei_Granularity_1_DNA``,
        ``Nuclei_Texture_*_DNA_3_00_256``. Lengths in (X) pixels, intensities in the image's units. No nucleus: no row.

    Raises
    ------
    DataError
        Sizes of image and labels differ, a channel count and names do not fit, voxels that are NaN,
        infinite, beyond float32 or no real numbers, labels that are none, or a plane whose pixels are not square.
    ConfigurationError
        A voxel size or a texture scale that is none, or a ring that is too far away.

    Examples
    --------
    >>> labels = np.zeros((32, 32), int)
    >>> labels[8:20, 10:26] = 7
    >>> table = measure(np.ones((32, 32)), labels, voxel_um=0.5)
    >>> table[["Metadata_Object", "Nuclei_AreaShape_Area", "Nuclei_AreaShape_Area_um2"]].values.tolist()
    [[7.0, 192.0, 48.0]]
    """
    import pandas as pd

    planes, names, voxel, where = _taken_apart(image, np.asarray(labels), channels, voxel_um)
    known = [size for size in voxel[3 - planes[0].ndim :] if size is not None]
    aspect = None
    if planes[0].ndim == 2 and known:
        known = [square_pixel_um(known, where)]
    elif len(known) == 3:
        aspect = [size / known[-1] for size in known]
    regions = Regions(labels, aspect=aspect, margin=max(MARGIN, *texture_scales, 0), where=where)
    table = _identity(regions)
    if not len(regions):
        example = np.zeros(planes[0].shape, np.uint8)
        example[(0,) * example.ndim] = 1
        return measure(
            np.zeros((len(planes), *example.shape)), example, channels=names,
            voxel_um=voxel, texture_scales=texture_scales, ring_px=ring_px,
        ).iloc[:0]  # fmt: skip
    depth, edge = depth_inside(regions), regions.edge()
    ring = rings_around(regions, gap_px=ring_px[0], width_px=ring_px[1])
    shape = measure_shape(regions, depth) | measure_outline(regions)
    for name, column in shape.items():
        table[f"Nuclei_AreaShape_{name}"] = column
    if known and (aspect or planes[0].ndim == 2):
        for name in (name for name in shape if name in _LENGTHS):
            power = _LENGTHS[name]
            unit = "um" + (str(power) if power > 1 else "")
            table[f"Nuclei_AreaShape_{name}_{unit}"] = shape[name] * known[-1] ** power
    empty = np.ones(planes[0].size, bool)
    empty[regions.inside], empty[ring[0]] = False, False
    for name, plane in zip(names, planes, strict=True):
        values = plane.reshape(-1)[regions.inside].astype(np.float64)
        ordered = regions.sort_within(values)
        outside = plane.reshape(-1)[empty]
        background = float(np.percentile(outside, _BACKGROUND_PERCENTILE)) if outside.size else 0.0
        measured = {
            "Intensity": measure_intensity(regions, values, ordered, edge),
            "RingIntensity": measure_ring(regions, plane, ring, background),
            "Chromatin": measure_condensation(regions, values, ordered, edge, background=background),
            "RadialDistribution": measure_radial(regions, depth, np.maximum(values - background, 0)),
            "Granularity": measure_granularity(regions, values),
            "Texture": measure_texture(regions, grey_levels(regions, values), scales=texture_scales),
        }
        for group, columns in measured.items():
            for feature, column in columns.items():
                kind, _, rest = feature.partition("_")
                table[f"Nuclei_{group}_{kind}_{name}{'_' + rest if rest else ''}"] = column
    return pd.DataFrame(table)


def _identity(regions: Regions) -> dict[str, Any]:
    centre = [regions.mean(axis) + low for axis, low in zip(regions.local, regions.low, strict=True)]
    letters = "ZYX"[3 - regions.ndim :]
    size = np.array(regions.shape)[:, None]
    border = ((regions.low == 0) | (regions.high == size)).any(axis=0)
    return {
        "Metadata_Object": regions.ids,
        **{f"Metadata_Center{a}_px": np.round(c, 3) for a, c in zip(letters, centre, strict=True)},
        **{f"Metadata_BoundingBoxMinimum{a}_px": c for a, c in zip(letters, regions.low, strict=True)},
        **{f"Metadata_BoundingBoxMaximum{a}_px": c for a, c in zip(letters, regions.high, strict=True)},
        "Metadata_TouchesBorder": np.where(border, "True", "False"),
    }


def _taken_apart(
    image: Image | NDArray[Any],
    labels: NDArray[Any],
    channels: Sequence[str] | None,
    voxel_um: Sequence[float | None] | float | None,
) -> tuple[list[NDArray[Any]], list[str], tuple[float | None, ...], str]:
    """Planes (or volumes) by channel, their names, (z, y, x) voxel size and the file, checked against the labels."""
    if not isinstance(image, Image):
        array = np.asarray(image)
        axes = {2: "YX", 3: "CYX", 4: "CZYX"}.get(array.ndim)
        if axes is None:
            raise DataError(f"image: shape {array.shape}; allowed are (Y, X), (C, Y, X) and (C, Z, Y, X).")
        given = tuple(channels or (("DNA",) if array.ndim == 2 or len(array) == 1 else ()))
        image = Image(array, axes, channels=given)
    elif channels is not None:
        image = image.replace(channels=tuple(channels))
    where = image.source or "image"
    flat = image.sizes.get("Z", 1) == 1 and labels.ndim == 2
    data = checked_channels(image, labels, "CYX" if flat else "CZYX")
    if voxel_um is None:
        return list(data), list(image.channels), image.voxel_um, where
    return list(data), list(image.channels), voxel_sizes(voxel_um), where
