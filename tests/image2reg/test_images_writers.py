"""Writing TIFF, OME-TIFF and OME-Zarr: what is kept, what is refused, and nothing half-written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.images import Image, OmeZarrWriter, read, write
from image2reg.images.lazy import LazyArray

pytest.importorskip("zarr", minversion="3", reason="OME-Zarr 0.5 is written with zarr 3")


@pytest.fixture
def image():
    values = np.random.default_rng(0).integers(0, 60000, (2, 3, 20, 30), dtype=np.uint16)
    return Image(values, "CZYX", (0.5, 0.108, 0.107), ("BF", "Höchst <1>"), "memory")


class Breaking(LazyArray):
    """Voxels whose second half cannot be read."""

    def _read(self, box):
        if box[-2].stop > self.shape[-2] // 2:
            raise DataError("the disk is gone")
        return np.ones([part.stop - part.start for part in box], self.dtype)


def test_ome_tiff_says_what_other_programs_need(image, tmp_path):
    image.write(tmp_path / "a.ome.tiff")
    with tifffile.TiffFile(tmp_path / "a.ome.tiff") as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        assert tif.series[0].axes == "CZYX"
        assert not tif.is_bigtiff
        np.testing.assert_array_equal(tif.asarray(), image.data)
    assert pixels["DimensionOrder"] == "XYZCT"
    assert [pixels[f"Size{letter}"] for letter in "TCZYX"] == [1, 2, 3, 20, 30]
    assert [pixels[f"PhysicalSize{letter}"] for letter in "ZYX"] == [0.5, 0.108, 0.107]
    assert [pixels[f"PhysicalSize{letter}Unit"] for letter in "ZYX"] == ["µm"] * 3
    assert [channel["Name"] for channel in pixels["Channel"]] == ["BF", "Höchst <1>"]


def test_writing_twice_gives_the_same_bytes(image, tmp_path):
    for name in ("a.ome.tiff", "a.tif"):
        image.write(tmp_path / name)
        image.write(tmp_path / f"again_{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again_{name}").read_bytes()


def test_imagej_finds_its_calibration(image, tmp_path):
    image.write(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.imagej_metadata["unit"] == "um"
        assert tif.imagej_metadata["spacing"] == 0.5
        assert (tif.imagej_metadata["channels"], tif.imagej_metadata["slices"]) == (2, 3)
        x = tif.pages[0].tags["XResolution"].value
    assert x[0] / x[1] == pytest.approx(1 / 0.107, rel=1e-6)


@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif", "a.ome.zarr"])
def test_unknown_voxel_size_stays_unknown(name, tmp_path):
    Image(np.zeros((3, 4, 5), np.uint8), "ZYX").write(tmp_path / name)
    assert read(tmp_path / name).voxel_um == (None, None, None)
    Image(np.zeros((4, 5), np.uint8), "YX", (None, 0.2, 0.2)).write(tmp_path / f"flat_{name}")
    z, y, x = read(tmp_path / f"flat_{name}").voxel_um
    assert z is None
    assert (y, x) == pytest.approx((0.2, 0.2), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif", "a.ome.zarr"])
def test_what_is_known_about_the_values_comes_back(dtype, name, tmp_path):
    said = {"model": "small 1.0.0", "unit": 'log(1 + counts), <relative> & "Höchst"'}
    image = Image(np.ones((2, 3, 4, 5), dtype), "CZYX", (1.0, 0.5, 0.5), ("A", "B"), annotations=said)
    image.write(tmp_path / name)
    back = read(tmp_path / name)
    assert dict(back.annotations) == said
    assert (back.channels, back.select(channel="B").annotations) == (("A", "B"), said)


@pytest.mark.parametrize("limit", [2**25, 2**26])
def test_bigtiff_above_two_gib(image, tmp_path, monkeypatch, limit):
    """With the limit lowered: directories need room too, so 32 MiB are kept for them."""
    monkeypatch.setattr("image2reg.images.writers._BIGTIFF_BYTES", limit)
    image.write(tmp_path / "a.ome.tiff")
    with tifffile.TiffFile(tmp_path / "a.ome.tiff") as tif:
        assert tif.is_bigtiff == (limit == 2**25)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tiff").load().data, image.data)


def test_ome_tiff_refuses_a_type_it_has_no_name_for(tmp_path):
    with pytest.raises(DataError, match="OME-TIFF has no pixel type for int64; allowed are"):
        Image(np.zeros((4, 4), np.int64), "YX").write(tmp_path / "a.ome.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_channel_name_that_xml_cannot_hold_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"channel name 'a\\x00b' has control characters"):
        Image(np.zeros((4, 4), np.uint8), "YX", channels=("a\0b",)).write(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif", "a.zarr"])
def test_an_existing_output_is_kept_unless_asked(image, tmp_path, name):
    image.write(tmp_path / name)
    other = image.replace(data=image.data + 1)
    with pytest.raises(
        DataError, match=rf"{name}: already exists. Choose another --out, or pass --overwrite"
    ):
        other.write(tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name).load().data, image.data)
    other.write(tmp_path / name, overwrite=True)
    np.testing.assert_array_equal(read(tmp_path / name).load().data, other.data)
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing else is left behind"


@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif", "a.zarr"])
def test_an_error_on_the_way_leaves_what_was_there(image, tmp_path, name):
    image.write(tmp_path / name)
    broken = image.replace(data=Breaking(image.shape, image.dtype))
    with pytest.raises(DataError, match="the disk is gone"):
        broken.write(tmp_path / name, overwrite=True)
    np.testing.assert_array_equal(read(tmp_path / name).load().data, image.data)
    with pytest.raises(DataError, match="the disk is gone"):
        broken.write(tmp_path / f"new_{name}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_unknown_suffix_is_refused(image, tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"no writer for '.jpg'; allowed are .ome.tif, .tif, .ome.zarr"
    ):
        write(image, tmp_path / "a.jpg")


def test_the_zarr_writer_shows_nothing_before_its_end(tmp_path):
    path = tmp_path / "out.ome.zarr"
    arguments = {
        "shape": (4, 40, 40),
        "axes": "ZYX",
        "dtype": "float32",
        "voxel_um": (1, 0.2, 0.2),
        "channels": ["DNA"],
    }
    with OmeZarrWriter(path, **arguments) as out:
        for row in range(0, 40, 16):
            out[:, row : row + 16] = np.full((4, min(16, 40 - row), 40), row, np.float32)
        assert not path.exists()
    found = read(path)
    assert (found.axes, found.voxel_um, found.channels) == ("ZYX", (1.0, 0.2, 0.2), ("DNA",))
    assert found.data[3, 39, 0] == 32

    def interrupted():
        with OmeZarrWriter(tmp_path / "no.zarr", **arguments) as out:
            out[0] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.ome.zarr"]
    with pytest.raises(ConfigurationError, match="write inside 'with OmeZarrWriter"):
        OmeZarrWriter(tmp_path / "b.zarr", **arguments)[0] = 1


def test_the_zarr_writer_takes_any_box(tmp_path):
    rng, expected = np.random.default_rng(0), np.zeros((3, 30, 40), np.uint16)
    arguments = {
        "axes": "ZYX",
        "dtype": "uint16",
        "voxel_um": (1, 1, 1),
        "channels": ["a"],
        "chunks": (2, 7, 16),
    }
    boxes = [
        np.s_[:, 3:20, 5:33],
        np.s_[1],
        np.s_[..., 39],
        np.s_[-1, 29],
        np.s_[0:1, 7:14, 16:32],
        np.s_[2, 3, 4],
    ]
    with OmeZarrWriter(tmp_path / "a.zarr", shape=expected.shape, **arguments) as out:
        for box in boxes:
            values = rng.integers(1, 999, expected[box].shape, dtype=np.uint16)
            expected[box] = values
            out[box] = values
        out[:, 0, 0] = 7
        expected[:, 0, 0] = 7
        with pytest.raises(IndexError, match="without steps"):
            out[::2] = 1
        with pytest.raises(ValueError, match="broadcast"):
            out[0, 0] = np.ones(3)
    np.testing.assert_array_equal(read(tmp_path / "a.zarr").load().data, expected)


def test_the_zarr_writer_refuses_parts_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match="2 channel names"):
        OmeZarrWriter(
            tmp_path / "a.zarr",
            shape=(4, 4),
            axes="YX",
            dtype="u1",
            voxel_um=(None, 1, 1),
            channels=["a", "b"],
        )


def test_ome_zarr_metadata_follow_the_specification(image, tmp_path):
    image.write(tmp_path / "a.ome.zarr")
    group = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text(encoding="utf-8"))
    array = json.loads((tmp_path / "a.ome.zarr" / "0" / "zarr.json").read_text(encoding="utf-8"))
    ome = group["attributes"]["ome"]
    assert (group["zarr_format"], group["node_type"], ome["version"]) == (3, "group", "0.5")
    multiscale = ome["multiscales"][0]
    assert multiscale["axes"] == [
        {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", "unit": "micrometer"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    assert multiscale["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.5, 0.108, 0.107]}]}
    ]
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["BF", "Höchst <1>"]
    assert ome["omero"]["channels"][0]["window"] == {"min": 0, "max": 65535, "start": 0, "end": 65535}
    assert array["dimension_names"] == ["c", "z", "y", "x"]


def test_under_zarr_2_writing_is_refused_with_a_sentence(image, tmp_path, monkeypatch):
    monkeypatch.setattr("zarr.__version__", "2.15.0")
    with pytest.raises(
        ResourceError, match=r"writing OME-Zarr 0.5 needs zarr 3; this environment has 2.15.0"
    ):
        image.write(tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []
