"""OME-Zarr of both versions, and plates."""

from __future__ import annotations

import json

import numpy as np
import pytest

from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.images import Image, PlateWriter, read, read_plate, write_plate


def write_04(folder, values, axes, *, scale, unit="nanometer", labels=()):
    """An OME-Zarr 0.4 image written by hand, uncompressed, so that no zarr library has a say in it."""
    array = folder / "0"
    array.mkdir(parents=True)
    kinds = {"t": "time", "c": "channel"}
    named = [{"name": name, "type": kinds.get(name, "space")} for name in axes]
    for axis in named:
        if axis["type"] == "space" and unit:
            axis["unit"] = unit
    multiscale = {
        "version": "0.4",
        "axes": named,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }
    channels = [{"label": label, "color": "FFFFFF"} for label in labels]
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text(
        json.dumps({"multiscales": [multiscale], "omero": {"channels": channels}})
    )
    content = {
        "zarr_format": 2, "shape": values.shape, "chunks": values.shape, "dtype": values.dtype.str,
        "order": "C",
        "compressor": None, "filters": None, "fill_value": 0, "dimension_separator": "/",
    }  # fmt: skip
    (array / ".zarray").write_text(json.dumps(content))
    chunk = array.joinpath(*["0"] * values.ndim)
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(values.tobytes())


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 60000, (2, 3, 8, 9), dtype=np.uint16)


def small(seed, shape=(2, 8, 8), axes="CYX"):
    values = np.random.default_rng(seed).integers(0, 60000, shape, dtype=np.uint16)
    return Image(
        values, axes, (None, 0.3, 0.3), ("BF", "DNA")[: shape[axes.index("C")] if "C" in axes else 1]
    )


def test_version_04_is_read(values, tmp_path):
    write_04(tmp_path / "a.zarr", values, "czyx", scale=[1, 500, 108.33, 108.33], labels=["BF", "DNA"])
    image = read(tmp_path / "a.zarr")
    assert (image.axes, image.channels) == ("CZYX", ("BF", "DNA"))
    assert image.voxel_um == (0.5, 0.10833, 0.10833)
    np.testing.assert_array_equal(image.load().data, values)
    np.testing.assert_array_equal(image.select(channel="DNA").data[0, 1, 2:4], values[1, 1, 2:4])


def test_voxels_are_in_the_byte_order_of_this_machine(values, tmp_path):
    """bioformats2raw writes big-endian voxels, which torch does not take."""
    write_04(tmp_path / "a.zarr", values.astype(">u2"), "zcyx", scale=[500, 1, 100, 100])
    image = read(tmp_path / "a.zarr")
    for held in (image, image.data[0], image.select(channel=1).load()):
        assert held.dtype.isnative
    np.testing.assert_array_equal(image.load().data, values.swapaxes(0, 1))


def test_a_scale_without_a_unit_is_no_voxel_size(values, tmp_path):
    write_04(tmp_path / "a.zarr", values, "czyx", scale=[1, 1, 1, 1], unit=None)
    assert read(tmp_path / "a.zarr").voxel_um == (None, None, None)


def test_a_unit_without_a_scale_is_no_voxel_size(values, tmp_path):
    write_04(tmp_path / "a.zarr", values, "czyx", scale=[1, 1, 1, 1], unit="micrometer")
    content = json.loads((tmp_path / "a.zarr" / ".zattrs").read_text())
    (dataset,) = content["multiscales"][0]["datasets"]
    assert read(tmp_path / "a.zarr").voxel_um == (1.0, 1.0, 1.0)
    del dataset["coordinateTransformations"]
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps(content))
    assert read(tmp_path / "a.zarr").voxel_um == (None, None, None)


def test_axes_in_another_order_are_put_in_order(values, tmp_path):
    write_04(tmp_path / "a.zarr", values, "zcyx", scale=[500, 1, 100, 100])
    image = read(tmp_path / "a.zarr")
    assert (image.axes, image.shape) == ("CZYX", (3, 2, 8, 9))
    np.testing.assert_array_equal(image.load().data, values.swapaxes(0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "0.2"}, "OME-Zarr version 0.2 is not read; allowed are 0.4 and 0.5"),
        ({"axes": [{"name": name} for name in "qzyx"]}, r"axes \['q', 'z', 'y', 'x'\] are not read"),
        ({"axes": [{"name": name} for name in "zyx"]}, "damaged, incomplete or not what its name says"),
        ({"datasets": [{"path": "../../etc"}]}, r"path '../../etc' in its metadata must be a relative path"),
        ({"datasets": [{"path": "/etc"}]}, "must be a relative path inside the folder"),
        ({"datasets": []}, "could not be read"),
    ],
)
def test_metadata_that_cannot_be_followed_are_refused(values, tmp_path, change, message):
    write_04(tmp_path / "a.zarr", values, "czyx", scale=[1, 1, 1, 1])
    content = json.loads((tmp_path / "a.zarr" / ".zattrs").read_text())
    content["multiscales"][0] |= change
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.zarr")


def test_a_folder_that_is_no_image(tmp_path):
    with pytest.raises(DataError, match=r"a folder is no image, unless .* \(0.4\). Give one image of it"):
        read(tmp_path)
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(
        DataError, match=r"not an OME-Zarr group: it has neither zarr.json \(0.5\) nor .zattrs"
    ):
        read(tmp_path / "a.zarr")


def test_a_collection_says_where_its_images_are(values, tmp_path):
    """What bioformats2raw makes of a file."""
    write_04(tmp_path / "a.zarr" / "0", values, "czyx", scale=[1, 1, 1, 1])
    (tmp_path / "a.zarr" / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    with pytest.raises(DataError, match=r"it is a collection of images: give one, for example .*a.zarr/0\."):
        read(tmp_path / "a.zarr")
    assert read(tmp_path / "a.zarr" / "0").axes == "CZYX"


def test_a_chunk_over_the_limit_is_refused_before_it_is_read(values, tmp_path):
    write_04(tmp_path / "a.zarr", values, "czyx", scale=[1, 1, 1, 1])
    with pytest.raises(
        ResourceError, match=r"one chunk of shape \(2, 3, 8, 9\) and type uint16, 864 bytes decoded"
    ):
        read(tmp_path / "a.zarr", max_bytes=863)


def test_a_missing_chunk_file_of_half_its_length_is_refused(values, tmp_path):
    write_04(tmp_path / "a.zarr", values, "czyx", scale=[1, 1, 1, 1])
    chunk = tmp_path / "a.zarr" / "0" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    image = read(tmp_path / "a.zarr")
    with pytest.raises(DataError, match="the chunks could not be read"):
        image.load()


def test_version_05_under_zarr_2_is_refused_with_a_sentence(tmp_path, monkeypatch):
    pytest.importorskip("zarr", minversion="3", reason="OME-Zarr 0.5 is written with zarr 3")
    small(0).write(tmp_path / "a.zarr")
    monkeypatch.setattr("zarr.__version__", "2.15.0")
    with pytest.raises(DataError, match=r"\(OME-Zarr 0.5\) needs zarr 3; this environment has 2.15.0"):
        read(tmp_path / "a.zarr")


class TestPlates:
    pytestmark = pytest.mark.skipif(
        "not __import__('zarr').__version__ >= '3'", reason="0.5 is written with zarr 3"
    )

    def test_what_is_written_is_read(self, tmp_path):
        images = {("B/03", "0"): small(0), ("B/03", "1"): small(1), ("A/10", "0"): small(2, (8, 8), "YX")}
        write_plate(tmp_path / "p.ome.zarr", images, name="plate 7")
        plate = read_plate(tmp_path / "p.ome.zarr")
        assert plate.name == "plate 7"
        assert plate.fields == {"A/10": ("0",), "B/03": ("0", "1")}
        assert set(plate) == set(images)
        for (well, field), image in images.items():
            found = plate.image(well, field)
            assert (found.axes, found.channels, found.voxel_um) == (
                image.axes,
                image.channels,
                image.voxel_um,
            )
            np.testing.assert_array_equal(found.load().data, image.data)
        assert read(tmp_path / "p.ome.zarr" / "B" / "03" / "1").shape == (2, 8, 8)

    def test_metadata_follow_the_specification(self, tmp_path):
        write_plate(
            tmp_path / "p.zarr", {("B/03", "0"): small(0), ("A/10", "0"): small(1), ("B/03", "1"): small(2)}
        )
        plate = json.loads((tmp_path / "p.zarr" / "zarr.json").read_text())["attributes"]["ome"]["plate"]
        assert [row["name"] for row in plate["rows"]] == ["A", "B"]
        assert [column["name"] for column in plate["columns"]] == ["03", "10"]
        assert plate["wells"] == [
            {"path": "A/10", "rowIndex": 0, "columnIndex": 1},
            {"path": "B/03", "rowIndex": 1, "columnIndex": 0},
        ]
        assert plate["field_count"] == 2
        well = json.loads((tmp_path / "p.zarr" / "B" / "03" / "zarr.json").read_text())["attributes"]["ome"]
        assert [image["path"] for image in well["well"]["images"]] == ["0", "1"]
        assert (tmp_path / "p.zarr" / "B" / "zarr.json").is_file(), "a row is a group too"

    def test_a_plate_is_no_image_and_an_image_is_no_plate(self, tmp_path):
        write_plate(tmp_path / "p.zarr", {("B/03", "0"): small(0)})
        with pytest.raises(
            DataError, match=r"it is a plate: give one field, .*/row/column/field \(Python: read_plate"
        ):
            read(tmp_path / "p.zarr")
        with pytest.raises(DataError, match=r"not a plate: its metadata have \['multiscales'"):
            read_plate(tmp_path / "p.zarr" / "B" / "03" / "0")
        with pytest.raises(DataError, match=r"no field '7' in well 'B/03'; well B/03 has fields \['0'\]"):
            read_plate(tmp_path / "p.zarr").image("B/03", "7")

    def test_a_well_path_that_leaves_the_plate_is_refused(self, tmp_path):
        write_plate(tmp_path / "p.zarr", {("B/03", "0"): small(0)})
        file = tmp_path / "p.zarr" / "zarr.json"
        file.write_text(file.read_text().replace('"B/03"', '"../../etc"'))
        with pytest.raises(DataError, match=r"path '../../etc' in its metadata"):
            read_plate(tmp_path / "p.zarr")

    def test_names_are_checked_and_nothing_is_left_after_an_error(self, tmp_path):
        for well, field in [("B03", "0"), ("B/../03", "0"), ("B/03", "a b"), ("B/03", "")]:
            with pytest.raises(ConfigurationError, match="give row/column and field in letters and digits"):
                write_plate(tmp_path / "p.zarr", {(well, field): small(0)})
        with pytest.raises(ConfigurationError, match="at least one field"):
            write_plate(tmp_path / "p.zarr", {})

        def twice():
            with PlateWriter(tmp_path / "p.zarr") as plate:
                plate.write("B/03", "0", small(0))
                plate.write("B/03", "0", small(0))

        with pytest.raises(ConfigurationError, match="written twice"):
            twice()
        assert list(tmp_path.iterdir()) == []
