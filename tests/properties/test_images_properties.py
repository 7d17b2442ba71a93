"""Properties of images: round trips through files, axes, statistics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from image2reg.images import Image, Statistics, read, resample
from image2reg.images.lazy import LazyView
from image2reg.images.limits import n_bytes
from image2reg.images.statistics import QUANTILE_ERROR
from image2reg.images.streaming import pieces

TYPES = ("uint8", "int16", "uint16", "uint32", "float32", "float64")
# The oldest tifffile we support cannot write images of width one; the writer says so.
OLD_TIFFFILE = tifffile.__version__ < "2024"
names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
sizes = st.none() | st.floats(1e-3, 1e2)


@st.composite
def images(draw):
    axes = draw(st.sampled_from(["YX", "CYX", "ZYX", "CZYX", "TYX", "TCYX", "TCZYX"]))
    shape = tuple(draw(st.integers(2 if letter == "X" and OLD_TIFFFILE else 1, 5)) for letter in axes)
    n_channels = dict(zip(axes, shape, strict=True)).get("C", 1)
    channels = tuple(draw(st.lists(names, min_size=n_channels, max_size=n_channels, unique=True)))
    values = (
        np.random.default_rng(draw(st.integers(0, 99)))
        .normal(120, 40, shape)
        .astype(draw(st.sampled_from(TYPES)))
    )
    z, y, x = draw(sizes), draw(sizes), draw(sizes)
    return Image(values, axes, (z if "Z" in axes else None, y, x), channels)


def without_short_axes(image):
    """TIFF does not keep axes of length one."""
    return image.to_axes(
        "".join(letter for letter in image.axes if letter in "YX" or image.sizes[letter] > 1)
    )


@pytest.mark.parametrize("suffix", [".ome.tiff", ".zarr"])
@settings(max_examples=25)
@given(image=images())
def test_a_round_trip_keeps_everything(suffix, image, tmp_path_factory):
    if suffix == ".zarr":
        pytest.importorskip("zarr", minversion="3", reason="OME-Zarr 0.5 is written with zarr 3")
    path = tmp_path_factory.mktemp("image") / f"a{suffix}"
    image.write(path)
    found = read(path)
    if suffix != ".zarr":
        image = without_short_axes(image)
        # What OME-XML says of Z is kept; an image without that axis may not have it.
        found = found.replace(
            voxel_um=(found.voxel_um[0] if "Z" in image.axes else None, *found.voxel_um[1:])
        )
        image = image.replace(
            voxel_um=(image.voxel_um[0] if "Z" in image.axes else None, *image.voxel_um[1:])
        )
    assert (found.axes, found.voxel_um, found.channels) == (image.axes, image.voxel_um, image.channels)
    np.testing.assert_array_equal(found.load().data, image.data, strict=True)


@settings(max_examples=25)
@given(image=images())
def test_a_plain_tiff_keeps_voxels_names_and_size(image, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "a.tif"
    image.write(path)
    found, image = without_short_axes(read(path)), without_short_axes(image)
    assert (found.axes, found.channels) == (image.axes, image.channels)
    np.testing.assert_array_equal(found.load().data, image.data, strict=True)
    for letter, size, kept in zip("ZYX", image.voxel_um, found.voxel_um, strict=True):
        if letter in image.axes:
            assert kept == (None if size is None else pytest.approx(size, rel=1e-5)), letter


@given(images(), st.data())
def test_axes_there_and_back(image, data):
    wider = image.to_axes("TCZYX")
    np.testing.assert_array_equal(wider.to_axes(image.axes).data, image.data)
    lazy = image.replace(data=LazyView(image.data, range(image.data.ndim)))
    box = tuple(
        slice(low, data.draw(st.integers(low + 1, n)))
        for n in wider.shape
        for low in [data.draw(st.integers(0, n - 1))]
    )
    np.testing.assert_array_equal(lazy.to_axes("TCZYX").data[box], wider.data[box])


@given(images(), st.data())
def test_a_view_of_any_order_equals_a_transpose(image, data):
    order = data.draw(st.permutations(range(image.data.ndim)))
    np.testing.assert_array_equal(LazyView(image.data, order)[...], image.data.transpose(order))


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.lists(st.integers(1, 50), min_size=4, max_size=4),
    st.integers(1, 5000),
)
def test_pieces_cover_once_and_stay_small(shape, chunks, max_bytes):
    chunks = chunks[: len(shape)]
    seen = np.zeros(shape, int)
    for box in pieces(shape, np.uint16, chunks, max_bytes=max_bytes):
        seen[box] += 1
        one_chunk = n_bytes([min(n, size) for n, size in zip(shape, chunks, strict=True)], np.uint16)
        assert seen[box].size * 2 <= max(max_bytes, one_chunk)
    assert (seen == 1).all()


values = st.lists(st.floats(width=32, allow_nan=True) | st.integers(0, 300).map(float), max_size=30)


@given(st.lists(values, min_size=3, max_size=3), st.data())
def test_merging_statistics_is_associative_and_equals_the_whole(parts, data):
    arrays = [np.array(part, np.float32) for part in parts]
    a, b, c = (Statistics.of(array) for array in arrays)
    whole = Statistics.of(np.concatenate(arrays))
    orders = [a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a).merge(b)]
    for found in orders:
        assert (found.n, found.n_nan, found.n_inf, found.n_at_maximum) == (
            whole.n, whole.n_nan, whole.n_inf, whole.n_at_maximum,
        )  # fmt: skip
        np.testing.assert_array_equal([found.minimum, found.maximum], [whole.minimum, whole.maximum])
        np.testing.assert_array_equal(found.keys, whole.keys)
        np.testing.assert_array_equal(found.counts, whole.counts)
        if whole.n:
            scale = max(1.0, abs(whole.minimum), abs(whole.maximum))
            assert abs(found.mean - whole.mean) <= 1e-12 * scale
            assert abs(found.sd - whole.sd) <= 1e-7 * scale
            q = data.draw(st.floats(0, 1))
            assert found.quantile(q) == whole.quantile(q)


@given(
    st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=1, max_size=50), st.floats(0, 1)
)
def test_quantiles_are_within_the_stated_error(numbers, q):
    array = np.array(numbers, np.float32)
    found = Statistics.of(array).quantile(q)
    exact = min(
        float(value) for value in array if (array <= value).sum() >= q * array.size - 1e-9 * array.size
    )
    assert abs(found - exact) <= QUANTILE_ERROR * abs(exact) * 1.0001


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_of_sixteen_bit_integers_are_exact(numbers, q):
    array = np.array(numbers, np.uint16)
    found = (
        Statistics.of(array[: len(numbers) // 2]).merge(Statistics.of(array[len(numbers) // 2 :])).quantile(q)
    )
    assert found in array
    assert (array <= found).sum() >= q * array.size - 1e-6
    assert (array < found).sum() <= q * array.size + 1e-6


@settings(max_examples=20)
@given(st.integers(2, 20), st.integers(2, 20), st.floats(0.05, 2.0), st.floats(0.05, 2.0))
def test_resampling_keeps_the_extent_to_half_a_voxel_and_constants(n_y, n_x, old, new):
    image = Image(np.full((n_y, n_x), 3.5, np.float32), "YX", (None, old, old))
    found = resample(image, (None, new, new))
    np.testing.assert_allclose(found.data, 3.5, rtol=1e-6)
    for n, m in itertools.zip_longest(image.shape, found.shape):
        assert m == 1 or abs(n * old - m * new) <= 0.5 * new * (1 + 1e-9)
