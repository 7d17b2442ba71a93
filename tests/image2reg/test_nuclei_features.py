"""Features of a field: names, units, what is invariant, what is refused"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image
from image2reg.nuclei import hull
from image2reg.nuclei.features import measure
from image2reg.nuclei.hull import convex_hulls
from image2reg.nuclei.regions import Regions
from image2reg.nuclei.rings import rings_around
from image2reg.nuclei.texture import measure_texture
from image2reg.tables import Profiles

# Mirrored by a turn: directions of texture, and the axes that orientation and Hu's last invariant count from.
TURNED = ("Nuclei_Texture", "Nuclei_AreaShape_Orientation", "Nuclei_AreaShape_HuMoment")


def field(shape: tuple[int, int] = (70, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Three ellipses, two of which touch, on a noisy background."""
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint16)
    for number, (cy, cx, a, b) in {9: (20, 20, 12, 7), 4: (20, 34, 9, 7), 300: (50, 55, 7, 13)}.items():
        labels[((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 <= 1] = number
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.random(shape), 1.5)
    return (100 + 2000 * texture * (labels > 0) + rng.integers(0, 20, shape)).astype(np.uint16), labels


def test_names_are_cellprofilers_and_make_profiles() -> None:
    image, labels = field()
    table = measure(np.stack([image, image[::-1]]), labels, channels=["DNA", "GFP"])
    profiles = Profiles(table)
    assert table.Metadata_Object.tolist() == [4, 9, 300]
    assert {
        "Nuclei_AreaShape_Area", "Nuclei_AreaShape_FormFactor", "Nuclei_Intensity_MeanIntensity_DNA",
        "Nuclei_Intensity_IntegratedIntensityEdge_GFP", "Nuclei_Texture_Contrast_DNA_3_00_256",
        "Nuclei_Granularity_1_GFP", "Nuclei_RadialDistribution_MeanFrac_DNA_1of5",
        "Nuclei_RingIntensity_NucleusToRing_GFP", "Nuclei_Chromatin_HCAreaFraction_DNA",
    } <= set(profiles.features)  # fmt: skip
    assert np.isfinite(profiles.values).all()


def test_sizes_in_micrometres_come_beside_pixels() -> None:
    image, labels = field()
    table = measure(Image(image, "YX", (None, 0.5, 0.5), ("DNA",)), labels)
    assert np.allclose(table.Nuclei_AreaShape_Area_um2, table.Nuclei_AreaShape_Area / 4)
    assert np.allclose(table.Nuclei_AreaShape_Perimeter_um, table.Nuclei_AreaShape_Perimeter / 2)
    assert not [name for name in measure(image, labels) if name.endswith("_um")]


@pytest.mark.parametrize("given", [np.float32(0.5), np.array([0.5, 0.5]), (0.5, 0.5), [9.0, 0.5, 0.5]])
def test_a_pixel_size_may_be_any_number_or_array(given) -> None:
    image, labels = field()
    pd.testing.assert_frame_equal(
        measure(image, labels, voxel_um=given), measure(image, labels, voxel_um=0.5)
    )


def test_pixels_that_are_not_square_are_refused_and_nearly_square_ones_are_squares() -> None:
    image, labels = field()
    with pytest.raises(DataError, match=r"a.tif: pixels are not square: \[1.0, 0.5\] um; resample"):
        measure(Image(image, "YX", (None, 1.0, 0.5), ("DNA",), source="a.tif"), labels)
    near = measure(image, labels, voxel_um=(0.49, 0.51))
    pd.testing.assert_frame_equal(near, measure(image, labels, voxel_um=0.5))


def assert_same(left: pd.DataFrame, right: pd.DataFrame, *, turned: bool = False) -> None:
    names = [n for n in left if n.startswith("Nuclei") and not (turned and n.startswith(TURNED))]
    np.testing.assert_allclose(left[names], right[names], rtol=1e-9, atol=1e-9)


def test_moving_a_field_changes_nothing() -> None:
    image, labels = field()
    pad = ((9, 4), (3, 11))
    moved = np.pad(image, pad, mode="edge"), np.pad(labels, pad)
    before, after = measure(image, labels), measure(*moved)
    # the field's background level is that of other pixels; without it nothing may move
    names = [n for n in before if n.startswith(("Nuclei_AreaShape", "Nuclei_Intensity", "Nuclei_Texture"))]
    np.testing.assert_allclose(before[names], after[names], rtol=1e-9, atol=1e-9)


def test_turning_a_field_changes_nothing_but_directions() -> None:
    image, labels = field()
    assert_same(measure(image, labels), measure(np.rot90(image).copy(), np.rot90(labels).copy()), turned=True)


def test_renumbering_changes_the_order_only() -> None:
    image, labels = field()
    numbers = np.zeros(301, int)
    numbers[[4, 9, 300]] = 3, 1, 2
    before = measure(image, labels)
    after = measure(image, numbers[labels]).set_index("Metadata_Object").loc[[3, 1, 2]]
    assert_same(before, after)


def test_a_nucleus_is_measured_alone_whatever_its_neighbour() -> None:
    image, labels = field()
    alone = np.where(labels == 4, labels, 0)
    together, single = measure(image, labels), measure(image, alone)
    names = [n for n in single if n.startswith(("Nuclei_AreaShape", "Nuclei_Intensity", "Nuclei_Texture"))]
    np.testing.assert_allclose(together.loc[together.Metadata_Object == 4, names], single[names], rtol=1e-9)


def test_the_areas_of_bright_and_dim_chromatin_do_not_depend_on_the_unit_of_brightness() -> None:
    rng = np.random.default_rng(0)
    labels = np.kron(np.arange(1, 65).reshape(8, 8), np.pad(np.ones((10, 10), int), 2))
    image = rng.poisson(30, labels.shape).astype(np.uint16)
    one_value = rng.integers(200, 60000, 65)[labels]
    image = np.where(labels % 2, one_value, image + 200 * (labels > 0)).astype(np.uint16)
    name = "Nuclei_Chromatin_P80P20AreaRatio_DNA"
    counts, share = (measure(each, labels)[name].to_numpy() for each in (image, image / 65535))
    assert (counts[::2] == 1).all()
    np.testing.assert_array_equal(counts, share)


def test_a_large_texture_scale_reaches_beyond_the_border_of_the_field() -> None:
    image, labels = np.random.default_rng(0).random((60, 60)), np.zeros((60, 60), int)
    labels[30:, 10:50] = 1
    table = measure(image, labels, texture_scales=(20,))
    wide = measure(np.pad(image, 30), np.pad(labels, 30), texture_scales=(20,))
    names = [name for name in table if name.startswith("Nuclei_Texture")]
    assert len(names) == 52
    np.testing.assert_array_equal(table[names], wide[names])
    with pytest.raises(ConfigurationError, match=r"texture scales are \[0, 3\] pixels; allowed are 1 to 12"):
        measure(image, labels, texture_scales=(0, 3))
    with pytest.raises(ConfigurationError, match=r"texture scales are \[13\] pixels; allowed are 1 to 12"):
        measure_texture(Regions(labels), np.zeros(1200, np.uint8), scales=(13,))


def test_a_ball_has_a_balls_measures() -> None:
    z, y, x = np.indices((21, 43, 43)) - np.array([10, 21, 21])[:, None, None, None]
    labels = ((2 * z) ** 2 + y**2 + x**2 <= 16**2).astype(int)
    table = measure(labels[None], labels, voxel_um=(1.0, 0.5, 0.5)).iloc[0]
    assert table.Nuclei_AreaShape_Volume_um3 == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.02)
    assert table.Nuclei_AreaShape_MajorAxisLength_um == pytest.approx(16, rel=0.02)
    assert table.Nuclei_AreaShape_MinorAxisLength_um == pytest.approx(16, rel=0.02)
    assert table.Nuclei_AreaShape_MaximumRadius_um == pytest.approx(8, rel=0.1)
    assert table.Nuclei_AreaShape_EulerNumber == 1
    assert table.Nuclei_RadialDistribution_MeanFrac_DNA_1of5 == pytest.approx(1)


def test_brightness_at_the_rim_is_found_in_an_elongated_nucleus() -> None:
    y, x = np.indices((60, 120))
    inside = ((y - 30) / 15) ** 2 + ((x - 60) / 45) ** 2 <= 1
    depth = ndimage.distance_transform_edt(inside)
    rim = inside & (depth <= depth.max() / 5)
    table = measure(np.where(rim, 100.0, 0.0), inside.astype(int)).iloc[0]
    assert table.Nuclei_RadialDistribution_FracAtD_DNA_1of5 > 0.97
    assert table.Nuclei_RadialDistribution_FracAtD_DNA_5of5 == 0


def test_outline_of_a_circle_bends_as_its_radius_says() -> None:
    y, x = np.indices((90, 90)) - 45
    disc = measure(np.ones((90, 90)), (y**2 + x**2 <= 25**2).astype(int)).iloc[0]
    assert disc.Nuclei_AreaShape_CurvatureMean == pytest.approx(1 / 25, abs=0.02)
    bean = ((y**2 + x**2 <= 25**2) & ((y + 22) ** 2 + x**2 > 12**2)).astype(int)
    assert disc.Nuclei_AreaShape_ConcaveFraction < 0.1
    bent = measure(np.ones((90, 90)), bean).iloc[0].Nuclei_AreaShape_ConcaveFraction
    assert bent > disc.Nuclei_AreaShape_ConcaveFraction + 0.05


@pytest.mark.parametrize("n_planes", [1, 6])
def test_the_outlines_of_a_volume_are_those_of_its_planes(n_planes: int) -> None:
    image, labels = field()
    plane = measure(image, labels)
    volume = measure(np.stack([image] * n_planes)[None], np.stack([labels] * n_planes), voxel_um=0.5)
    names = [name for name in plane if "Curvature" in name or "ConcaveFraction" in name]
    assert len(names) == 5
    np.testing.assert_allclose(volume[names], plane[names], rtol=1e-12, atol=1e-12)


def test_rings_keep_apart_what_two_nuclei_reach_at_once() -> None:
    labels = np.zeros((15, 25), int)
    labels[5:10, 3:8], labels[5:10, 13:18] = 1, 2
    where, region = rings_around(Regions(labels), gap_px=0, width_px=3)
    shown = np.zeros(labels.size, int)
    shown[where] = region + 1
    shown = shown.reshape(labels.shape)
    assert shown[7, 8:13].tolist() == [1, 1, 0, 2, 2]
    assert not shown[labels > 0].any()
    with pytest.raises(ConfigurationError, match="together at most 12"):
        rings_around(Regions(labels), gap_px=4, width_px=9)


def test_one_tall_region_does_not_size_the_arrays_of_all_hulls(monkeypatch) -> None:
    nuclei = np.zeros((600, 200), np.int32)
    for number in range(100):
        row, column = divmod(number, 10)
        nuclei[row * 20 + 2 : row * 20 + 14 + number % 4, column * 18 + 1 : column * 18 + 14] = number + 1
    alone = convex_hulls(Regions(nuclei))
    tall = nuclei.copy()
    tall[:, 190:195] = 101
    shapes: list[tuple[int, ...]] = []

    def longest(starts, ends):
        shapes.append(starts.shape)
        return hull_longest(starts, ends)

    hull_longest = hull._longest
    monkeypatch.setattr(hull, "_longest", longest)
    area, feret = convex_hulls(Regions(tall))
    assert shapes == [(100, 15), (1, 600)]
    np.testing.assert_array_equal(area, [*alone[0], 3000])
    np.testing.assert_array_equal(feret[:-1], alone[1])


def test_ratio_to_the_ring_counts_from_the_background() -> None:
    labels = np.zeros((40, 40), int)
    labels[15:25, 15:25] = 1
    image = np.full((40, 40), 50.0)
    image[10:30, 10:30], image[15:25, 15:25] = 150, 450
    table = measure(image, labels, ring_px=(0, 3)).iloc[0]
    assert table.Nuclei_RingIntensity_NucleusToRing_DNA == pytest.approx(4)


def test_fields_without_or_with_one_nucleus_or_a_flat_one() -> None:
    image, labels = field()
    none = measure(image, np.zeros_like(labels))
    one = measure(np.full((9, 9), 7), np.pad(np.ones((1, 1), int), 4))
    assert len(none) == 0
    assert list(none) == list(measure(image, labels))
    assert one.Nuclei_AreaShape_Area.tolist() == [1]
    assert not np.isinf(one.select_dtypes("number").to_numpy()).any()


def test_an_image_of_true_and_false_is_one_of_ones_and_zeros() -> None:
    image, labels = field()
    bright = image > 1000
    pd.testing.assert_frame_equal(measure(bright, labels), measure(bright.astype(np.uint8), labels))


def test_what_cannot_be_measured_is_refused() -> None:
    image, labels = field()
    with pytest.raises(
        DataError, match=r"channel 'DNA': the largest value is .*; allowed are values up to 3.4e"
    ):
        measure(image * 1e300, labels)
    with pytest.raises(DataError, match="image: the image holds complex128; real numbers"):
        measure(image * 1j, labels)
    with pytest.raises(DataError, match=r"image is \(70, 79\) and its labels are \(70, 80\)"):
        measure(image[:, :-1], labels)
    with pytest.raises(DataError, match="labels are float64; whole numbers"):
        measure(image, labels.astype(float))
    for size in ("0.5", 0, (0.5, -1), [0.5] * 4, (0.5, float("nan"))):
        with pytest.raises(ConfigurationError, match=r"voxel_um is .*; allowed are a number, \(y, x\)"):
            measure(image, labels, voxel_um=size)
    with pytest.raises(
        DataError, match=r"image: the largest label is 9223372036854775808; allowed are numbers below"
    ):
        measure(image, np.where(labels > 0, np.uint64(2**63), np.uint64(0)))
    with pytest.raises(DataError, match="lowest label is -1"):
        measure(image, labels.astype(int) - 1)
    broken = image.astype(float)
    broken[3, 5] = np.nan
    with pytest.raises(DataError, match="1 of 5600 voxels are NaN or infinite, the first at Y=3, X=5"):
        measure(broken, labels)
