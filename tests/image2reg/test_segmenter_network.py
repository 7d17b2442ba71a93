"""A network as a segmenter: any magnification and size, empty fields, one nucleus, stacks, images on disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from small_nuclei import Brightness, bright_segmenter, discs, grid

from image2reg.errors import BundleError, ConfigurationError, DataError
from image2reg.images.image import Image
from image2reg.images.lazy import LazyArray
from image2reg.images.readers import read
from image2reg.nuclei.match import match
from image2reg.nuclei.segmenters.catalogue import load_segmenter
from image2reg.nuclei.segmenters.classical import ClassicalSegmenter
from image2reg.nuclei.segmenters.designs import find_design
from image2reg.nuclei.segmenters.interface import Segmenter, diameter_in_pixels
from image2reg.nuclei.segmenters.network import NetworkSegmenter
from image2reg.nuclei.segmenters.one_image import segment_image
from image2reg.nuclei.segmenters.stack import link_planes, segment_stack
from image2reg.nuclei.size import typical_diameter


@pytest.mark.parametrize("diameter", [14.0, 28.0, 60.0])
def test_any_magnification_gives_outlines_on_the_images_own_grid(diameter) -> None:
    scale = diameter / 28
    side = round(200 * scale)
    image, labels = discs(
        (side, side), [(r * scale, c * scale) for r, c in grid(4)], diameter, blur=0.6 * scale
    )
    segmenter = bright_segmenter()
    found = match(labels, segmenter.segment(image, diameter_px=diameter)).at(0.85)
    assert (found["tp"], found["fp"], found["fn"]) == (16, 0, 0)
    assert max(segmenter.network.seen[0]) == 208  # what the network saw: 200 pixels, padded to its divisor


@pytest.mark.parametrize("diameter", [12.0, 70.0])
def test_without_a_size_it_is_measured(diameter) -> None:
    scale = diameter / 28
    side = round(200 * scale)
    image, labels = discs((side, side), [(r * scale, c * scale) for r, c in grid(4)], diameter)
    segmenter = bright_segmenter()
    assert segmenter.measure_diameter(image) == pytest.approx(diameter, rel=0.1)
    assert match(labels, segmenter.segment(image)).at(0.7)["tp"] == 16


class MergingWhenSmall(Brightness):
    """Neighbours run together where they look small, as trained networks draw them; here below 300 pixels per field."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = super().forward(x).numpy()
        return torch.from_numpy(ndimage.grey_closing(maps, (1, 1, 9, 9)) if max(x.shape) < 300 else maps)


def test_a_diameter_that_merged_neighbours_confirm_is_not_believed() -> None:
    pairs = [(r, c + d) for r, c in grid(3, 60, 40) for d in (-8, 8)]
    image, _ = discs((200, 200), pairs, 14)
    segmenter = NetworkSegmenter("merging", "distance_unet", MergingWhenSmall().eval())
    merged = typical_diameter(segmenter.segment(image, diameter_px=28))
    # Looked at in this size they still merge.
    assert typical_diameter(segmenter.segment(image, diameter_px=merged)) == pytest.approx(merged, rel=0.05)
    assert merged > 18
    assert segmenter.measure_diameter(image) == pytest.approx(14, rel=0.1)


class BlindToLarge(Brightness):
    """What fills a window of 120 pixels is background to it, as it is to networks that see little at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = super().forward(x).numpy()
        large = ndimage.minimum_filter((maps[0, 2] > 0).astype(np.uint8), 120)
        maps[0, :, ndimage.maximum_filter(large, 240) > 0] = -9.0
        return torch.from_numpy(maps)


def test_nuclei_too_large_to_be_seen_at_first_are_measured() -> None:
    image, _ = discs((900, 900), grid(3, 280, 160), 200.0)
    segmenter = NetworkSegmenter("blind", "distance_unet", BlindToLarge().eval())
    assert segmenter.segment(image, diameter_px=28).max() == 0
    assert segmenter.measure_diameter(image) == pytest.approx(200, rel=0.1)
    assert segmenter.segment(image).max() == 9


def test_noise_has_no_diameter() -> None:
    noise = np.random.default_rng(0).normal(100, 5, (200, 200))
    assert load_segmenter("nuclei", device="cpu").measure_diameter(noise) == 28


def test_a_crowded_field_is_measured_on_some_of_its_nuclei() -> None:
    image, _ = discs((640, 640), grid(26, 24, 20), 14)
    segmenter = bright_segmenter()
    assert segmenter.measure_diameter(image) == pytest.approx(14, rel=0.05)
    first, *later = segmenter.network.seen
    assert min(first) > 640  # all of it
    hundred_nuclei = 10 * 24 * 28 / (0.84 * 14)
    assert later
    assert all(max(size) < 1.2 * hundred_nuclei for size in later)


@pytest.mark.parametrize("shape", [(33, 50), (48, 64)])
def test_what_pads_an_image_for_the_network_is_not_read(shape) -> None:
    network = Brightness().eval()
    labels, foreground = find_design("distance_unet").read(network, torch.ones(1, 2, *shape))
    assert network.seen == [(48, 64)]
    assert labels.shape == foreground.shape == shape
    assert (labels == 1).all()


def test_brightness_does_not_matter() -> None:
    image, _ = discs((200, 200), grid(4))
    segmenter = bright_segmenter()
    once = segmenter.segment(image, diameter_px=28)
    np.testing.assert_array_equal(once > 0, segmenter.segment(7 * image - 4000, diameter_px=28) > 0)


def test_a_pixel_size_stands_for_nuclei_of_14_um() -> None:
    assert diameter_in_pixels(None, voxel_um=0.5) == 28
    assert diameter_in_pixels(None, 10.0, (None, 0.5, 0.5)) == 20
    assert diameter_in_pixels(None, voxel_um=(None, None, None)) is None
    assert diameter_in_pixels(12.0, voxel_um=0.5) == 12


@pytest.mark.parametrize("name", ["classical", "brightness"])
def test_no_nucleus_and_one_nucleus(name) -> None:
    segmenter = bright_segmenter() if name == "brightness" else load_segmenter(name)
    assert isinstance(segmenter, Segmenter)
    assert segmenter.segment(np.full((90, 80), 7, np.uint16)).max() == 0
    noise = np.random.default_rng(0).normal(100, 3, (90, 80))
    assert segmenter.segment(noise, diameter_px=28).max() == 0
    image, labels = discs((90, 80), [(45, 40)])
    found = segmenter.segment(image)
    assert found.shape == image.shape
    assert found.dtype == np.int32
    assert match(labels, found).at(0.8)["f1"] == 1.0


def test_what_is_no_plane_is_refused() -> None:
    segmenter = bright_segmenter()
    with pytest.raises(DataError, match=r"shape \(3, 20, 20\); needed is one plane .* segment_stack"):
        segmenter.segment(np.zeros((3, 20, 20)))
    broken = discs((90, 80), [(45, 40)])[0]
    broken[3, 4] = np.nan
    for each in (segmenter, load_segmenter("classical"), load_segmenter("texture")):
        with pytest.raises(DataError, match=r"1 of 7200 pixels are NaN or infinite, first at \(3, 4\)"):
            each.segment(broken, diameter_px=28)
        for far in (np.full((9, 9), 1e300), np.eye(9) * -1e300):
            with pytest.raises(
                DataError, match=r"largest value is 1e\+300; allowed are values up to 3.4e\+38"
            ):
                each.segment(far, diameter_px=28)
        with pytest.raises(DataError, match="the image holds complex64; real numbers are needed"):
            each.segment(np.ones((9, 9), np.complex64), diameter_px=28)
    with pytest.raises(ConfigurationError, match="given twice: diameter_px=20 and diameter_um=10"):
        segmenter.segment(np.ones((20, 20)), diameter_px=20, diameter_um=10)
    with pytest.raises(ConfigurationError, match="needs the pixel size, voxel_um is None"):
        segmenter.segment(np.ones((20, 20)), diameter_um=10)
    with pytest.raises(ConfigurationError, match="diameter is 2 px; at least 3 px"):
        segmenter.segment(np.ones((20, 20)), diameter_px=2)
    with pytest.raises(DataError, match="pixels are not square"):
        segmenter.segment(np.ones((20, 20)), voxel_um=(1.0, 0.5, 0.7))


@pytest.mark.parametrize("pixel", [np.float32(0.5), np.array([0.5, 0.5]), (None, 0.5, 0.5)])
def test_sizes_are_checked_and_may_be_any_number(pixel) -> None:
    assert diameter_in_pixels(None, 10, pixel) == 20
    for size in (0, -1, float("nan")):
        with pytest.raises(ConfigurationError, match=r"diameter_um is .*; give micrometres above 0"):
            diameter_in_pixels(None, size, pixel)
    with pytest.raises(ConfigurationError, match="voxel_um is 'small'; allowed are a number"):
        diameter_in_pixels(None, 10, "small")


class OnDisk(LazyArray):
    """Counts the pixels of the largest window that was read."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(values.shape, values.dtype)
        self._values, self.largest = values, 0

    def _read(self, box):
        part = self._values[box]
        self.largest = max(self.largest, part.size)
        return part


def test_a_large_image_is_read_in_windows_and_gives_the_same_nuclei(monkeypatch) -> None:
    from image2reg.nuclei.segmenters import network

    image, labels = discs((600, 600), grid(12))
    segmenter = bright_segmenter()
    whole = segmenter.segment(image, diameter_px=28)
    monkeypatch.setattr(network, "_BLOCK_PIXELS", 200)
    lazy = OnDisk(image)
    pieces: list[tuple[int, int]] = []
    blocks = segmenter.segment(lazy, diameter_px=28, progress=lambda *done: pieces.append(done))
    assert pieces[-1] == (9, 9)
    assert match(labels, blocks, thresholds=[0.9]).at(0.9)["tp"] == whole.max() == 144
    np.testing.assert_array_equal(blocks > 0, whole > 0)
    assert lazy.largest <= max((200 + 2 * 84) ** 2, image.size)


def test_planes_are_linked_to_nuclei() -> None:
    rng = np.random.default_rng(0)
    z, y, x = np.indices((9, 120, 120))
    truth = np.zeros(z.shape, np.int32)
    truth[((z - 3) * 5) ** 2 + (y - 30) ** 2 + (x - 30) ** 2 < 14**2] = 1
    truth[((z - 5) * 5) ** 2 + (y - 32) ** 2 + (x - 80) ** 2 < 14**2] = 2
    truth[((z - 4) * 5) ** 2 + (y - 85) ** 2 + (x - 60) ** 2 < 14**2] = 3
    stack = ndimage.gaussian_filter(100 + 400.0 * (truth > 0), (0, 1, 1)) + rng.normal(0, 2, truth.shape)
    found = segment_stack(bright_segmenter(), stack, diameter_px=28)
    assert found.max() == 3
    assert match(truth, found).at(0.7)["tp"] == 3
    assert segment_stack(bright_segmenter(), stack).max() == 3  # size measured on one plane
    with pytest.raises(DataError, match=r"the stack has shape \(120, 120\); needed is \(Z, Y, X\)"):
        segment_stack(bright_segmenter(), stack[0])


class Recording:
    """Finds nothing, and notes what it was asked."""

    name = "recording"

    def __init__(self) -> None:
        self.measured: list[np.ndarray] = []
        self.diameters: list[float | None] = []

    def measure_diameter(self, values):
        self.measured.append(values)
        return 20.0

    def segment(self, image, *, diameter_px=None, diameter_um=None, voxel_um=None):
        self.diameters.append(diameter_in_pixels(diameter_px, diameter_um, voxel_um))
        return np.zeros(image.shape, np.int32)


def test_without_a_pixel_size_a_stack_is_measured_once_on_its_brightest_plane() -> None:
    stack = np.stack([np.full((32, 32), level) for level in (1.0, 9.0, 3.0, 2.0)])
    recording = Recording()
    segment_image(recording, Image(stack, "ZYX"))
    assert [values.max() for values in recording.measured] == [9.0]
    assert recording.diameters == [20.0] * 4
    recording = Recording()
    segment_image(recording, Image(stack, "ZYX", (None, 0.5, 0.5)))
    assert (recording.measured, recording.diameters) == ([], [28.0] * 4)


def test_the_classical_segmenter_keeps_one_size_for_a_stack_too() -> None:
    planes = [discs((200, 200), grid(4), diameter)[0] for diameter in (10, 28, 16)]
    planes[1] *= 2
    kept = ClassicalSegmenter().measure_diameter(planes[1])
    assert kept == pytest.approx(28, rel=0.2)
    alike = segment_stack(ClassicalSegmenter(), np.stack(planes), diameter_px=kept)
    np.testing.assert_array_equal(segment_stack(ClassicalSegmenter(), np.stack(planes)), alike)


def test_linking_is_one_to_one_and_drops_what_one_plane_has() -> None:
    planes = np.zeros((3, 4, 12), np.int32)
    planes[0, :, :6], planes[1, :, 1:6], planes[2, :, 1:6] = 1, 1, 1
    planes[1, :, 8:], planes[1, :, 7] = 2, 3
    linked = link_planes(planes)
    assert linked.max() == 1
    assert (linked[1, :, 7:] == 0).all()
    assert link_planes(planes, min_planes=1).max() == 3
    assert link_planes(np.zeros((2, 3, 3), np.int32)).max() == 0


def test_blur_above_and_below_a_nucleus_is_no_part_of_it() -> None:
    planes = np.zeros((9, 20, 20), np.int32)
    planes[:, 4:12, 4:12] = 1
    light = np.array([5, 20, 100, 90, 20, 80, 70, 25, 3.0])
    found = link_planes(planes, 10 + light[:, None, None] * (planes > 0))
    assert found[:, 8, 8].tolist() == [0, 0, 1, 1, 0, 2, 2, 0, 0]
    assert link_planes(planes)[:, 8, 8].tolist() == [1] * 9
    assert link_planes(
        planes, -light[:, None, None] * (planes > 0)
    ).any()  # dark ones are not judged by light
    # a layer of nuclei, seen through a microscope without a pinhole
    labels = np.zeros((25, 100, 100), np.int32)
    z, y, x = np.indices(labels.shape)
    for number, (cy, cx) in enumerate([(25, 25), (25, 75), (75, 25), (75, 75)], 1):
        labels[((z - 12) * 3) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < 14**2] = number
    stack = np.zeros(labels.shape)
    for away in range(-12, 13):
        spread = ndimage.gaussian_filter(1000.0 * (labels > 0), (0, 1 + 0.5 * abs(away), 1 + 0.5 * abs(away)))
        stack += ndimage.shift(spread, (away, 0, 0), order=0) / (1 + (away / 1.5) ** 2)
    seen = segment_stack(ClassicalSegmenter(), stack, diameter_px=28)
    assert match(labels, seen).at(0.7)["tp"] == seen.max() == 4


@pytest.mark.parametrize("upside_down", [False, True])
def test_of_two_equal_partners_the_first_is_linked_and_thickness_counts_planes(upside_down) -> None:
    planes = np.zeros((2, 4, 8), np.int32)
    planes[0], planes[1, :, :4], planes[1, :, 4:] = 1, 1, 2
    order = slice(None, None, -1 if upside_down else 1)
    whole, halves = link_planes(planes[order], min_planes=1)[order]
    assert np.unique(halves).size == 2
    assert whole[0, 0] == halves[0, 0] != halves[0, 7]
    assert link_planes(planes[order], min_planes=3).max() == 0


def test_a_bundle_of_another_kind_is_refused(tmp_path) -> None:
    from small_models import small_bundle

    small_bundle(tmp_path / "stain")
    with pytest.raises(
        BundleError, match="is a bundle of kind 'staining'; segmenting needs one of kind 'segmenter'"
    ):
        load_segmenter(tmp_path / "stain")


def test_the_typical_diameter_is_not_that_of_specks() -> None:
    _, labels = discs((200, 200), grid(4))
    labels[::20, 3] = np.arange(100, 110)
    assert typical_diameter(labels) == pytest.approx(28, rel=0.03)
    assert np.isnan(typical_diameter(np.zeros((4, 4), int)))
    far = np.where(labels > 0, labels.astype(np.uint64) * 2**40, 0)
    assert typical_diameter(far) == typical_diameter(labels)  # no table as long as the largest number


def test_an_unknown_device_is_refused() -> None:
    from image2reg.nuclei.segmenters.network import _device

    with pytest.raises(ConfigurationError, match="device 'tpu' is unknown; allowed: auto, cpu, cuda"):
        _device("tpu")
    assert _device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_what_registration_padded_changes_no_nucleus_and_holds_none(tmp_path) -> None:
    image, truth = discs((230, 230), grid(4, 48, 45), noise=8.0)
    image[truth == 1] *= 3
    image[truth == 6] = 100 + 0.48 * (image[truth == 6] - 100)
    image[:26], image[:, :26] = 0, 0  # a fifth of the field
    segmenter = bright_segmenter()
    recorded = segmenter.segment(image[26:, 26:], diameter_px=28)
    Image(image, "YX").write(tmp_path / "padded.ome.tif")
    for padded in (Image(image, "YX"), read(tmp_path / "padded.ome.tif")):
        labels, _ = segment_image(segmenter, padded, diameter_px=28)
        assert not labels.data[image == 0].any()
        np.testing.assert_array_equal(labels.data[26:, 26:] > 0, recorded > 0)
