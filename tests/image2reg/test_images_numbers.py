"""Statistics, numeric guards and resampling of images."""

from __future__ import annotations

import numpy as np
import pytest

from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.images import Image, Statistics, channel_statistics, check_voxels, refuse_non_finite, resample
from image2reg.images.lazy import LazyArray


class Pieces(LazyArray):
    """A lazy array that records the largest piece that was asked of it."""

    def __init__(self, values, chunks):
        super().__init__(values.shape, values.dtype)
        self.values, self._chunks, self.largest = values, chunks, 0

    @property
    def chunks(self):
        return self._chunks

    def _read(self, box):
        self.largest = max(self.largest, self.values[box].nbytes)
        return self.values[box]


class TestStatistics:
    def test_of_channels_is_that_of_the_whole_array(self, monkeypatch):
        monkeypatch.setattr("image2reg.images.streaming._PIECE_BYTES", 4000)
        values = np.random.default_rng(0).normal(1000, 300, (2, 6, 50, 40)).astype(np.uint16)
        data = Pieces(values, (1, 2, 16, 16))
        found = channel_statistics(Image(data, "CZYX", channels=("BF", "DNA")))
        assert data.largest <= 4000
        for name, part in zip(("BF", "DNA"), values, strict=True):
            statistics = found[name]
            assert (statistics.n, statistics.minimum, statistics.maximum) == (
                part.size,
                part.min(),
                part.max(),
            )
            assert statistics.mean == pytest.approx(part.mean(), rel=1e-12)
            assert statistics.sd == pytest.approx(part.std(), rel=1e-12)
            for q in (0, 0.001, 0.5, 0.99, 1):
                assert statistics.quantile(q) == np.quantile(part, q, method="inverted_cdf")

    def test_nan_and_infinity_are_counted_and_left_out(self):
        statistics = Statistics.of(np.array([1.0, np.nan, 3.0, np.inf, -np.inf]))
        assert (statistics.n, statistics.n_nan, statistics.n_inf) == (2, 1, 2)
        assert (statistics.mean, statistics.sd, statistics.minimum, statistics.maximum) == (
            2.0,
            1.0,
            1.0,
            3.0,
        )

    def test_of_nothing_is_defined(self):
        nothing = Statistics.of(np.full(3, np.nan))
        assert (nothing.n, nothing.n_nan) == (0, 3)
        assert np.isnan([nothing.sd, nothing.minimum, nothing.quantile(0.5)]).all()
        both = nothing.merge(Statistics.of(np.array([2.0])))
        assert (both.n, both.n_nan, both.mean) == (1, 3, 2.0)

    def test_a_summary_is_plain_numbers(self):
        summary = Statistics.of(np.arange(101, dtype=np.uint8)).summary()
        assert summary == {
            "n": 101, "n_nan": 0, "n_inf": 0, "mean": 50.0, "sd": pytest.approx(29.1547595),
            "min": 0.0, "max": 100.0, "q0.01": 1.0, "q0.5": 50.0, "q0.99": 99.0,
        }  # fmt: skip

    def test_refusals(self):
        with pytest.raises(DataError, match=r"quantile 1\.5 is outside 0\.\.1"):
            Statistics.of(np.arange(3)).quantile(1.5)
        with pytest.raises(DataError, match="values of type <U1 are not numbers"):
            Statistics.of(np.array(["a"]))


class TestChecks:
    def test_nan_is_refused_with_number_and_first_position(self):
        values = np.ones((2, 5, 6, 7), np.float32)
        values += np.arange(7)
        values[1, 2, 3, 4] = np.nan
        values[1, 4, 0, 0] = np.inf
        image = Image(Pieces(values, (1, 1, 6, 7)), "CZYX", source="a.tif")
        expected = (
            r"a.tif: 2 of 420 voxels are NaN or infinite, the first at C=1, Z=2, Y=3, X=4. Models need finite"
        )
        with pytest.raises(DataError, match=expected):
            check_voxels(image)
        with pytest.raises(DataError, match=r"1 of 35 .* the first at Y=3, X=5"):
            refuse_non_finite(np.where(np.arange(35).reshape(5, 7) == 19, np.nan, 0), "a", "YX", (1, 0))
        refuse_non_finite(np.ones(3, np.uint8), "a")

    @pytest.mark.parametrize("values", [np.zeros((4, 4)), np.full((4, 4), 7, np.uint16), np.ones((1, 1))])
    def test_a_constant_channel_is_refused(self, values):
        expected = (
            rf"b.tif: channel 'channel_0' is constant: all {values.size} voxels are {values.flat[0]:g}\."
        )
        with pytest.raises(DataError, match=expected):
            check_voxels(Image(values, "YX", source="b.tif"))

    def test_doubtful_channels_are_flagged(self):
        saturated = np.minimum(np.arange(100), 90).reshape(10, 10)
        negative = np.arange(100).reshape(10, 10) - 1
        good = np.arange(100).reshape(10, 10)
        image = Image(np.stack([saturated, negative, good]), "CYX", channels=("a", "b", "c"))
        assert check_voxels(image) == {"a": ("saturated",), "b": ("negative",), "c": ()}

    def test_a_mask_is_not_called_saturated(self):
        assert check_voxels(Image(np.eye(4, dtype=np.uint8), "YX")) == {"channel_0": ()}


class TestResample:
    def test_the_voxel_size_is_exactly_what_was_asked(self):
        image = Image(
            np.random.default_rng(0).random((2, 10, 33, 21), np.float32), "CZYX", (0.29, 0.108, 0.108)
        )
        found = resample(image, (0.29, 0.2, 0.2))
        assert found.voxel_um == (0.29, 0.2, 0.2)
        assert found.shape == (2, 10, round(33 * 0.108 / 0.2), round(21 * 0.108 / 0.2))
        assert found.channels == image.channels

    @pytest.mark.parametrize("new", [0.05, 0.1, 0.17, 0.4])
    def test_a_ramp_in_micrometres_stays_that_ramp(self, new):
        """Value = physical position of the voxel's centre, before and after."""
        centres = (np.arange(64) + 0.5) * 0.1
        image = Image(np.broadcast_to(centres, (5, 64)).astype(np.float32), "YX", (None, 0.1, 0.1))
        found = resample(image, (None, None, new))
        expected = (np.arange(found.shape[1]) + 0.5) * new
        inner = slice(4, -4)
        np.testing.assert_allclose(found.data[2, inner], expected[inner], rtol=1e-5)

    def test_detail_finer_than_the_new_voxel_does_not_alias(self):
        stripes = np.tile([0.0, 100.0], 64)[None].repeat(8, 0)
        found = resample(Image(stripes, "YX", (None, 0.1, 0.1)), (None, 0.1, 0.31)).data[:, 3:-3]
        assert np.ptp(found) < 10
        assert found.mean() == pytest.approx(50, abs=1)

    @pytest.mark.parametrize("dtype", ["bool", "uint16", "uint64", "float16"])
    def test_labels_keep_type_and_values(self, dtype):
        largest = np.iinfo(dtype).max if dtype[0] == "u" else 1
        labels = np.repeat(np.array([[0, 1, largest]], dtype), 4, axis=0)
        found = resample(Image(labels, "YX", (None, 0.2, 0.2)), (None, 0.1, 0.1), order=0)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.data, labels.repeat(2, axis=0).repeat(2, axis=1))
        back = resample(found, (None, 0.2, 0.2), order=0)
        np.testing.assert_array_equal(back.data, labels)

    def test_there_and_back_gives_the_grid_one_came_from(self):
        y, x = np.mgrid[:37, :41]
        smooth = np.sin(y / 6) + np.cos(x / 7)
        image = Image(smooth.astype(np.float32), "YX", (None, 0.3, 0.3))
        other = resample(image, (None, 0.2, 0.2))
        back = resample(other, image.voxel_um, shape=(1, 37, 41))
        assert (back.shape, back.voxel_um) == (image.shape, image.voxel_um)
        np.testing.assert_allclose(back.data[2:-2, 2:-2], smooth[2:-2, 2:-2], atol=0.03)

    def test_one_plane_keeps_its_z(self):
        image = Image(np.zeros((1, 8, 8), np.float32), "ZYX", (None, 0.2, 0.2))
        assert resample(image, (1.0, 0.4, 0.4)).voxel_um == (None, 0.4, 0.4)

    def test_an_unknown_voxel_size_is_refused(self):
        image = Image(np.zeros((3, 8, 8)), "ZYX", (None, 0.2, 0.2), source="scan.tif")
        with pytest.raises(DataError, match=r"scan.tif: the voxel size along Z is not known"):
            resample(image, (0.5, 0.2, 0.2))
        assert resample(image, (None, 0.4, 0.4)).shape == (3, 4, 4)

    def test_nonsense_is_refused(self):
        image = Image(np.zeros((8, 8)), "YX", (None, 0.2, 0.2), max_bytes=4096)
        with pytest.raises(ConfigurationError, match=r"voxel_um=\(None, 0, 1\) must be positive"):
            resample(image, (None, 0, 1))
        with pytest.raises(ResourceError, match="one resampled image of shape"):
            resample(image, (None, 0.001, 0.001))
