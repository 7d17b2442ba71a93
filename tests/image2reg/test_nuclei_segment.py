"""The classical segmenter on drawn nuclei, and on real Hoechst with the F1 and recall it is known for.

Measured over all images of the sets at IoU 0.5, pooled over objects, one diameter per set (dsb2018: the
median of each image's labels). In brackets one global Otsu threshold with fill and watershed:

bbbc039 F1 0.926 (0.877) · dsb2018 F1 0.870 (0.816) · celldetective MCF7 recall 0.744 (0.424)
After a Gaussian blur of 0.12 diameters, as predicted stains look: 0.861 · 0.854 · recall 0.691
The bars here are for a part of the images and a little lower.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.match import Matching, match, match_dataset
from image2reg.nuclei.segment import segment


def nuclei(
    brightness: list[float], diameter: float = 20, spacing: float = 34, blur: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """A row of discs on a dark ground: image and labels."""
    y, x = np.indices((60, int(spacing * (len(brightness) + 0.5))))
    labels = np.zeros(y.shape, int)
    for number in range(len(brightness)):
        centre = spacing * (number + 0.75)
        labels[(y - 30) ** 2 + (x - centre) ** 2 <= diameter**2 / 4] = number + 1
    image = ndimage.gaussian_filter(np.array([0.0, *brightness])[labels], blur)
    return 100 + image + np.random.default_rng(0).normal(scale=0.5, size=image.shape), labels


def found(image: np.ndarray, labels: np.ndarray, **options) -> dict[str, float]:
    return match(labels, segment(image, **({"diameter_px": 20} | options))).at(0.7)


def test_separate_nuclei_are_found_each() -> None:
    image, labels = nuclei([50, 50, 50, 50])
    scores = found(image, labels)
    assert (scores["tp"], scores["fp"]) == (4, 0)


def test_a_dim_nucleus_beside_a_bright_one_is_found() -> None:
    image, labels = nuclei([1000, 200, 1000, 200])
    assert match(labels, segment(image, diameter_px=20)).at(0.5)["tp"] == 4


def test_touching_nuclei_are_split() -> None:
    image, labels = nuclei([50, 50, 50], spacing=19)
    assert found(image, labels)["tp"] == 3


def test_a_nucleus_with_texture_is_not_split() -> None:
    image, labels = nuclei([80, 80])
    speckle = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=image.shape), 1.5)
    textured = image + 25 * speckle / speckle.std() * (labels > 0)
    assert segment(textured, diameter_px=20).max() == 2


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_diameter_off_by_thirty_percent_is_good_enough(factor: float) -> None:
    image, labels = nuclei([50, 70, 40, 60])
    assert found(image, labels, diameter_px=20 * factor)["tp"] == 4


@pytest.mark.parametrize("diameter", [9, 45, 90])
def test_every_magnification(diameter: int) -> None:
    image, labels = nuclei([50, 50, 50])
    zoomed, truth = (
        ndimage.zoom(a, diameter / 20, order=o, grid_mode=True, mode="nearest")
        for a, o in ((image, 1), (labels, 0))
    )
    assert found(zoomed, truth, diameter_px=diameter)["tp"] == 3


def test_a_smoother_predicted_stain_gives_the_same_nuclei() -> None:
    image, labels = nuclei([60, 40, 50, 60])
    assert found(ndimage.gaussian_filter(image, 3), labels)["tp"] == 4
    plain, smooth = (
        np.bincount(segment(i, diameter_px=20).ravel())[1:].mean()
        for i in (image, ndimage.gaussian_filter(image, 3))
    )
    assert smooth < 1.25 * plain


def test_gain_offset_and_logarithm_change_little() -> None:
    image, _ = nuclei([60, 40, 50])
    plain = segment(image, diameter_px=20)
    np.testing.assert_array_equal(segment(3 * image - 1000, diameter_px=20), plain)
    logarithm = segment(np.log(image), diameter_px=20, intensity="log")
    assert match(plain, logarithm).at(0.7)["f1"] == 1


def test_size_in_micrometres_is_size_in_pixels() -> None:
    image, _ = nuclei([50, 50])
    expected = segment(image, diameter_px=20)
    for voxel_um in (0.5, (0.5, 0.5), (2.0, 0.5, 0.5), (None, 0.5, 0.5)):
        np.testing.assert_array_equal(segment(image, diameter_um=10, voxel_um=voxel_um), expected)


def test_blank_borders_and_masked_parts_hold_no_nucleus() -> None:
    image, labels = nuclei([50, 50, 50])
    expected = match(labels, segment(image, diameter_px=20)).n_predicted
    padded = np.pad(image, ((7, 0), (0, 9)))
    result = segment(padded, diameter_px=20)
    assert result.max() == expected
    assert not result[:7].any()
    assert not result[:, -9:].any()
    mask = np.ones(image.shape, bool)
    mask[:, :45] = False
    broken = np.where(mask, image, np.nan)
    masked = segment(broken, diameter_px=20, mask=mask)
    assert masked.max() == 2
    assert not masked[~mask].any()


def test_labels_are_gapless_int32_and_large_enough() -> None:
    image, _ = nuclei([50] * 5)
    labels = segment(image, diameter_px=20, min_area=0.5)
    assert labels.dtype == np.int32
    area = np.bincount(labels.ravel())[1:]
    assert len(area) == labels.max() == 5
    assert area.min() >= 0.5 * np.pi * 100


def test_noise_alone_is_no_nucleus() -> None:
    rng = np.random.default_rng(3)
    for image in (rng.normal(size=(120, 120)), rng.poisson(50, size=(120, 120))):
        assert segment(image, diameter_px=20).max() == 0


def test_min_contrast_empties_a_smooth_prediction_of_an_empty_field() -> None:
    ripple = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(128, 128)), 8)
    ripple = 100 + ripple / ripple.std()
    assert segment(ripple, diameter_px=20, min_contrast=20).max() == 0
    image, _ = nuclei([60, 60])
    assert segment(image, diameter_px=20, min_contrast=20).max() == 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3), (200, 2)])
def test_tiny_images_have_labels_of_their_shape(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(shape)
    assert segment(image, diameter_px=40).shape == shape


IMAGE = np.eye(16)


@pytest.mark.parametrize(
    ("image", "options", "error", "text"),
    [
        (IMAGE, {}, ConfigurationError, "neither of diameter_px and diameter_um given"),
        (
            IMAGE,
            {"diameter_px": 9, "diameter_um": 9},
            ConfigurationError,
            "both of diameter_px and diameter_um",
        ),
        (IMAGE, {"diameter_um": 9}, ConfigurationError, "needs the pixel size, voxel_um is None"),
        (IMAGE, {"diameter_um": 9, "voxel_um": (1, None, 1)}, ConfigurationError, "needs the pixel size"),
        (IMAGE, {"diameter_um": 9, "voxel_um": (0.5, 1)}, DataError, "pixels are not square"),
        (IMAGE, {"diameter_px": 1}, ConfigurationError, "nucleus diameter is 1 px; at least 3 px"),
        (IMAGE, {"diameter_px": float("nan")}, ConfigurationError, "nucleus diameter is nan px"),
        (IMAGE, {"diameter_px": 9, "intensity": "db"}, ConfigurationError, "intensity is 'db'; allowed"),
        (IMAGE[None], {"diameter_px": 9}, DataError, r"image has shape \(1, 16, 16\)"),
        (
            IMAGE / 0.0 if False else np.where(IMAGE, np.nan, 0),
            {"diameter_px": 9},
            DataError,
            r"16 of 256 .* \(0, 0\)",
        ),
        (IMAGE, {"diameter_px": 9, "mask": IMAGE}, DataError, "mask is float64"),
    ],
)
def test_refusals_name_what_was_seen(image, options, error, text) -> None:
    with pytest.raises(error, match=text):
        segment(image, **options)


def instances(colours: np.ndarray) -> np.ndarray:
    """Connected parts of equal colour, numbered."""
    labels, total = np.zeros(colours.shape, int), 0
    for colour in np.unique(colours[colours > 0]):
        parts, n_parts = ndimage.label(colours == colour)
        labels[parts > 0] = parts[parts > 0] + total
        total += n_parts
    return labels


def typical_diameter(labels: np.ndarray) -> float:
    area = np.bincount(labels.ravel())[1:]
    return float(np.sqrt(4 / np.pi * np.median(area[area > 0])))


def scored(pairs, diameter: float | None = None) -> Matching:
    return match_dataset(
        match(truth, segment(image, diameter_px=diameter or typical_diameter(truth)))
        for image, truth in pairs
    )


def test_f1_on_u2os_hoechst(shared_data: Path) -> None:
    from skimage.io import imread

    folder = shared_data / "bbbc039_u2os_hoechst"
    files = sorted((folder / "images").glob("*.tif"))[::6]
    pairs = (
        (tifffile.imread(f), instances(imread(folder / "masks" / f"{f.stem}.png")[..., 0])) for f in files
    )
    assert scored(pairs, 28).at(0.5)["f1"] >= 0.90


def test_f1_on_mixed_fluorescence(shared_data: Path) -> None:
    from skimage.io import imread

    folder = shared_data / "dsb2018_fluo"
    files = sorted((folder / "images").glob("*.png"))[::3]
    images = (imread(f) for f in files)
    grey = (image if image.ndim == 2 else image[..., :3].mean(axis=-1) for image in images)
    pairs = zip(grey, (imread(folder / "labels" / f.name).astype(int) for f in files), strict=True)
    assert scored(pairs).at(0.5)["f1"] >= 0.82


def test_recall_on_mcf7_hoechst_with_lymphocytes(shared_data: Path) -> None:
    folder = shared_data / "celldetective_mcf7_bf_hoechst"
    files = sorted((folder / "images").glob("*.tif"))[::6]
    pairs = ((tifffile.imread(f)[1], instances(tifffile.imread(folder / "labels" / f.name))) for f in files)
    assert scored(pairs, 45).at(0.5)["recall"] >= 0.70
