"""Nucleus features against scikit-image, one nucleus at a time.

Tolerance 1e-6 relative, what the project promises; most agree to rounding. Quantiles see values as float32.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import label, regionprops, regionprops_table

from image2reg.nuclei.features import measure
from image2reg.nuclei.regions import Regions
from image2reg.nuclei.texture import grey_levels

SAME = {
    "Area": "area", "BoundingBoxArea": "area_bbox", "Extent": "extent",
    "EquivalentDiameter": "equivalent_diameter_area",
    "MajorAxisLength": "axis_major_length", "MinorAxisLength": "axis_minor_length", "Eccentricity": "eccentricity",
    "EulerNumber": "euler_number", "Perimeter": "perimeter", "ConvexArea": "area_convex", "Solidity": "solidity",
    "MaxFeretDiameter": "feret_diameter_max",
}  # fmt: skip
SAME_3D = {
    "Volume": "area", "BoundingBoxVolume": "area_bbox", "Extent": "extent", "EulerNumber": "euler_number",
    "EquivalentDiameter": "equivalent_diameter_area", "MajorAxisLength": "axis_major_length",
    "MinorAxisLength": "axis_minor_length",
}  # fmt: skip
TEXTURE = {
    "Contrast": "contrast", "InverseDifferenceMoment": "homogeneity", "AngularSecondMoment": "ASM",
    "Correlation": "correlation", "Entropy": "entropy", "Variance": "variance",
}  # fmt: skip


def blobs(seed: int, shape: tuple[int, ...], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Irregular objects, with holes and touching the border, and an image that is not flat on them."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    labels = label(field > 0.5 * field.std())
    return (field - field.min()) * 1000 + rng.random(shape), labels


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shape_equals_regionprops(seed: int) -> None:
    image, labels = blobs(seed, (180, 200), 2 + 2 * seed)
    ours = measure(image, labels)
    theirs = regionprops_table(
        labels, properties=[*SAME.values(), "centroid", "bbox", "orientation", "moments_hu"]
    )
    for name, other in SAME.items():
        np.testing.assert_allclose(
            ours[f"Nuclei_AreaShape_{name}"], theirs[other], rtol=1e-6, atol=1e-9, err_msg=name
        )
    for i in range(7):
        mine = ours[f"Nuclei_AreaShape_HuMoment_{i}"]
        np.testing.assert_allclose(mine, theirs[f"moments_hu-{i}"], rtol=1e-6, atol=1e-12)
    long = ours.Nuclei_AreaShape_Eccentricity > 0.1  # a circle has no orientation
    turn = ours.Nuclei_AreaShape_Orientation - np.degrees(theirs["orientation"])
    assert np.abs((turn[long] + 90) % 180 - 90).max() < 1e-6
    np.testing.assert_allclose(ours.Metadata_CenterY_px, theirs["centroid-0"], atol=1e-3)
    assert (ours.Metadata_BoundingBoxMaximumX_px.to_numpy() == theirs["bbox-3"]).all()


def test_volumes_equal_regionprops() -> None:
    image, labels = blobs(3, (20, 40, 44), 2)
    labels[labels == label(labels).max()] = 0
    big = np.bincount(labels.ravel())[labels] >= 8
    labels = np.where(big, labels, 0)
    ours = measure(image[None], labels)
    theirs = regionprops_table(labels, properties=list(SAME_3D.values()))
    for name, other in SAME_3D.items():
        np.testing.assert_allclose(
            ours[f"Nuclei_AreaShape_{name}"], theirs[other], rtol=1e-6, atol=1e-6, err_msg=name
        )


def test_intensity_and_radii_equal_a_loop() -> None:
    image, labels = blobs(4, (150, 160), 4)
    image -= 2000  # negative values sort too
    ours = measure(image, labels)
    padded = np.pad(labels, 1)
    for row, region in zip(ours.itertuples(), regionprops(labels, image), strict=True):
        values = image[labels == row.Metadata_Object]
        depth = ndimage.distance_transform_edt(padded == row.Metadata_Object)[padded == row.Metadata_Object]
        expected = {
            "Intensity_MeanIntensity_DNA": values.mean(), "Intensity_StdIntensity_DNA": values.std(),
            "Intensity_IntegratedIntensity_DNA": values.sum(), "Intensity_MinIntensity_DNA": values.min(),
            "Intensity_MaxIntensity_DNA": values.max(), "Intensity_MedianIntensity_DNA": np.median(values),
            "Intensity_LowerQuartileIntensity_DNA": np.quantile(values, 0.25),
            "Intensity_UpperQuartileIntensity_DNA": np.quantile(values, 0.75),
            "Intensity_MADIntensity_DNA": np.median(np.abs(values - np.median(values))),
            "Intensity_MassDisplacement_DNA": np.hypot(*np.subtract(region.centroid_weighted, region.centroid)),
            "AreaShape_MaximumRadius": depth.max(), "AreaShape_MeanRadius": depth.mean(),
            "AreaShape_MedianRadius": np.median(depth),
        }  # fmt: skip
        for name, value in expected.items():
            np.testing.assert_allclose(
                getattr(row, f"Nuclei_{name}"), value, rtol=1e-6, atol=1e-4, err_msg=name
            )


@pytest.mark.parametrize("scale", [1, 3])
def test_texture_equals_cooccurrence_matrices(scale: int) -> None:
    image, labels = blobs(5, (90, 90), 5)
    regions = Regions(labels)
    levels = regions.map(grey_levels(regions, image.reshape(-1)[regions.inside]))[12:-12, 12:-12].astype(
        np.uint16
    )
    ours = measure(image, labels, texture_scales=[scale])
    # their angle -> our direction: (0, d), (d, -d), (d, 0), (d, d)
    directions = {0: 0, 3: 1, 2: 2, 1: 3}
    for row, region in zip(ours.itertuples(), regionprops(labels), strict=True):
        patch = np.where(region.image, levels[region.slice] + 1, 0)  # 0: outside
        for quarter, direction in directions.items():
            # their distances are Euclidean, ours count pixels along an axis, as CellProfiler's do
            distance = scale * (np.sqrt(2) if quarter % 2 else 1)
            matrix = graycomatrix(patch, [distance], [quarter * np.pi / 4], levels=257, symmetric=True)
            matrix = matrix[1:, 1:].astype(float)
            if matrix.sum() == 0:
                continue
            p = matrix / matrix.sum()
            for name, other in TEXTURE.items():
                value = graycoprops(p, other)[0, 0] / (np.log(2) if other == "entropy" else 1)
                mine = getattr(row, f"Nuclei_Texture_{name}_DNA_{scale}_{direction:02d}_256")
                np.testing.assert_allclose(mine, value, rtol=1e-6, atol=1e-9, err_msg=f"{name} {direction}")
