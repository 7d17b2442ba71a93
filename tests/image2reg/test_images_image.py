"""The image: what fits together, selecting, axes, loading."""

from __future__ import annotations

import numpy as np
import pytest

from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.images import Image
from image2reg.images.lazy import LazyArray


class Counting(LazyArray):
    """A lazy array over an ndarray that remembers what was read."""

    def __init__(self, values):
        super().__init__(values.shape, values.dtype)
        self.values, self.reads = values, []

    def _read(self, box):
        self.reads.append(tuple((part.start, part.stop) for part in box))
        return self.values[box]


@pytest.fixture
def stack():
    values = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.uint16).reshape(2, 3, 4, 5, 6)
    return Image(Counting(values), "TCZYX", (0.5, 0.1, 0.1), ("BF", "DNA", "ER"), "plate7/B03.ome.tiff")


def test_a_missing_channel_is_named_with_file_and_what_there_is(stack):
    with pytest.raises(DataError) as caught:
        stack.select(channel="Hoechst")
    message = str(caught.value)
    assert message.startswith("plate7/B03.ome.tiff: channel 'Hoechst' is missing; found ['BF', 'DNA', 'ER'].")
    assert "name the channels when reading" in message
    with pytest.raises(DataError, match="channel 3 is missing: positions run from 0 to 2"):
        stack.select(channel=3)


def test_a_channel_name_that_occurs_twice_is_refused():
    image = Image(np.zeros((2, 4, 4)), "CYX", channels=("DNA", "DNA"))
    with pytest.raises(DataError, match="2 channels are named 'DNA'"):
        image.select(channel="DNA")


def test_a_typed_channel_is_a_name_before_it_is_a_position():
    image = Image(np.zeros((3, 4, 4)), "CYX", channels=("405", "1", "488"))
    assert [image.find_channel(typed) for typed in ("405", "1", "0", "2", 1)] == [0, 1, 0, 2, 1]
    for typed in ("561", "DNA"):
        with pytest.raises(DataError, match=rf"channel '?{typed}'? is missing.* found \['405', '1', '488'\]"):
            image.find_channel(typed)


def test_selecting_reads_nothing_and_then_only_its_part(stack):
    image = stack.select(channel="DNA", time=1)
    assert (image.axes, image.shape, image.channels) == ("CZYX", (1, 4, 5, 6), ("DNA",))
    assert stack.data.reads == []
    np.testing.assert_array_equal(image.load().data, stack.data.values[1, 1:2])
    assert stack.data.reads == [((1, 2), (1, 2), (0, 4), (0, 5), (0, 6))]


def test_selecting_time_beyond_the_end(stack):
    with pytest.raises(DataError, match="time point 2 is missing; positions run from 0 to 1"):
        stack.select(time=2)
    assert stack.select(time=0).select(time=0).axes == "CZYX"


def test_axes_are_added_and_removed_without_reading(stack):
    plane = stack.select(channel=0, time=0)
    wanted = plane.to_axes("TCZYX")
    assert wanted.shape == (1, 1, 4, 5, 6)
    assert plane.to_axes("ZYX").shape == (4, 5, 6)
    assert stack.data.reads == []
    np.testing.assert_array_equal(wanted.to_axes("ZYX").data[1:3, ..., 2], stack.data.values[0, 0, 1:3, :, 2])


def test_an_axis_longer_than_one_is_not_dropped(stack):
    with pytest.raises(
        DataError, match=r"axes CZYX are wanted, but T=2 \(axes TCZYX, shape \(2, 3, 4, 5, 6\)\)"
    ):
        stack.to_axes("CZYX")
    with pytest.raises(ConfigurationError, match="axes 'XYC'"):
        stack.to_axes("XYC")


@pytest.mark.parametrize(
    ("shape", "axes", "voxel_um", "channels", "message"),
    [
        ((4, 4), "XY", (None, 1, 1), (), "axes 'XY' are not allowed"),
        ((4, 4, 4), "YX", (None, 1, 1), (), r"shape \(4, 4, 4\) does not fit axes 'YX'"),
        ((0, 4), "YX", (None, 1, 1), (), r"shape \(0, 4\) does not fit axes 'YX'"),
        ((4, 4), "YX", (None, 0, 1), (), r"voxel size \(None, 0, 1\) is not \(z, y, x\) in micrometres"),
        ((4, 4), "YX", (1, 1), (), "voxel size"),
        ((4, 4), "YX", (None, float("nan"), 1), (), "voxel size"),
        ((2, 4, 4), "CYX", (None, 1, 1), ("BF",), r"1 channel names \['BF'\] for 2 channels"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(shape, axes, voxel_um, channels, message):
    with pytest.raises(DataError, match=message):
        Image(np.zeros(shape), axes, voxel_um, channels, "x.tif")


def test_channels_without_names_get_one():
    assert Image(np.zeros((2, 4, 4)), "CYX").channels == ("channel_0", "channel_1")
    assert Image(np.zeros((4, 4)), "YX").channels == ("channel_0",)


def test_unknown_voxel_size_is_refused_where_it_is_needed():
    image = Image(np.zeros((3, 4, 4)), "ZYX", (None, 0.1, 0.1), source="scan.tif")
    assert image.voxel_for("YX") == (0.1, 0.1)
    with pytest.raises(DataError, match=r"scan.tif: the voxel size along Z is not known .*--voxel-um Z,Y,X"):
        image.voxel_for("ZYX")


def test_loading_keeps_the_limit_it_was_read_with(stack):
    assert stack.load().data.dtype == np.uint16
    tight = stack.replace(max_bytes=1000)
    with pytest.raises(ResourceError, match=r"1.4 KiB decoded; the limit is 1000 bytes.*--max-bytes 1440"):
        tight.load()
    assert stack.data.reads == [((0, 2), (0, 3), (0, 4), (0, 5), (0, 6))]
    assert tight.load(max_bytes=1440).shape == stack.shape


def test_indexing_a_lazy_array_is_indexing_an_array():
    values = np.arange(60).reshape(3, 4, 5)
    lazy = Counting(values)
    for index in [
        0,
        -1,
        (0, 1),
        (..., 2),
        (slice(None), slice(1, 3)),
        (slice(0, 3, 2), ..., slice(None, None, 3)),
    ]:
        np.testing.assert_array_equal(lazy[index], values[index])
    np.testing.assert_array_equal(np.asarray(lazy), values)
    n_reads = len(lazy.reads)
    assert lazy[1:1].shape == (0, 4, 5)
    assert len(lazy.reads) == n_reads
    for index in [3, (0, 0, 0, 0), (slice(None, None, -1),)]:
        with pytest.raises(IndexError):
            lazy[index]
