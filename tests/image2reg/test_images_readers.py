"""Reading real files and the kinds of TIFF that programs write."""

from __future__ import annotations

import logging
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from image2reg.errors import DataError, ResourceError
from image2reg.images import Image, read


@pytest.fixture
def volume():
    return np.random.default_rng(0).integers(0, 60000, (4, 20, 30), dtype=np.uint16)


def test_a_real_ome_tiff_of_a_microscope(shared_data):
    """LZW-compressed by Bio-Formats, values as in the CZI it was converted from."""
    image = read(shared_data / "reader_fixtures" / "s_1_t_1_c_1_z_1.ome.tiff")
    assert (image.axes, image.shape, image.dtype) == ("YX", (325, 475), np.uint16)
    assert image.channels == ("Bright",)
    assert image.voxel_um == (None, 1.0833333333333333, 1.0833333333333333)
    values = image.load().data
    assert (int(values.min()), int(values.max())) == (3249, 4168)
    assert values.mean() == pytest.approx(3651.559242, rel=1e-9)


def test_a_real_phase_stack(shared_data):
    folder = shared_data / "isl_condition_b_phase_to_fluor"
    image = read(folder / "wellA4_phase_zstack_13x1024x768_u16.tif", voxel_um=(1.0, 0.5, 0.5))
    assert (image.axes, image.shape) == ("ZYX", (13, 1024, 768))
    assert image.voxel_um == (1.0, 0.5, 0.5)
    np.testing.assert_array_equal(image.data[5, 100:200, 7:9], image.load().data[5, 100:200, 7:9])


def test_a_real_pair_of_channels_named_by_the_reader(shared_data):
    path = sorted((shared_data / "celldetective_mcf7_bf_hoechst" / "images").glob("*.tif"))[0]
    image = read(path, channels=["brightfield", "Hoechst"])
    assert image.axes == "CYX"
    assert image.voxel_um == (None, None, None), "a file without a voxel size has none, not 1"
    assert image.select(channel="Hoechst").load().data.std() > 0
    with pytest.raises(DataError, match=r"3 channel names .* for 2 channels"):
        read(path, channels=["a", "b", "c"])


def test_real_imagej_files(shared_data):
    stack = read(shared_data / "neubias_cc_by" / "xyz_8bit__nuclei_autothresh.tif")
    assert (stack.axes, stack.shape) == ("ZYX", (37, 118, 132))
    assert stack.voxel_um == pytest.approx((4.0, 0.8286432, 0.8286432), rel=1e-6)
    pair = read(shared_data / "neubias_cc_by" / "xyc_16bit__embryo_transmission_fluorescence.tif")
    assert (pair.axes, pair.shape) == ("CYX", (2, 341, 341))


def test_pages_without_a_name_are_planes_and_the_reader_says_so(shared_data, caplog):
    path = shared_data / "dm4isl_allen_nucenv_3d" / "Unet" / "1.tiff"
    with caplog.at_level(logging.WARNING):
        assert read(path).axes == "ZYX"
    assert "its 16 planes have no axis name; they are read as Z" in caplog.text
    assert read(path, axes="TYX").axes == "TYX"
    assert read(path, channels=[f"c{index}" for index in range(16)]).axes == "CYX"
    with pytest.raises(DataError, match=r"axes='YX' does not fit shape \(16, 64, 64\)"):
        read(path, axes="YX")


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("µm", 1.0), ("nm", 1e-3), ("mm", 1e3), ("Å", 1e-4), ("pixel", None), ("reference frame", None)],
)
def test_ome_units_become_micrometres(tmp_path, volume, unit, factor):
    sizes = {f"PhysicalSize{letter}": 108.5 for letter in "XYZ"}
    units = {f"PhysicalSize{letter}Unit": unit for letter in "XYZ"}
    tifffile.imwrite(tmp_path / "a.ome.tif", volume, metadata={"axes": "ZYX", **sizes, **units})
    found = read(tmp_path / "a.ome.tif").voxel_um
    assert found == ((None,) * 3 if factor is None else pytest.approx((108.5 * factor,) * 3, rel=1e-12))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        *(("micron", 0.1), ("microns", 0.1), ("micrometers", 0.1), ("\\u00B5m", 0.1), ("nm", 1e-4)),
        *(("pixel", None), ("ms", None), ("", None)),
    ],
)
def test_imagej_units_become_micrometres(tmp_path, volume, unit, expected):
    tifffile.imwrite(
        tmp_path / "a.tif", volume, imagej=True, resolution=(10, 10), metadata={"axes": "ZYX", "unit": unit}
    )
    _, y, x = read(tmp_path / "a.tif").voxel_um
    assert (y, x) == ((None, None) if expected is None else pytest.approx((expected, expected), rel=1e-6))


def test_imagej_sizes_are_read_as_imagej_reads_them(tmp_path, volume):
    def found(resolution=(1 / 0.25, 1 / 0.3), resolutionunit=None, **said):
        options = {"resolution": resolution, "resolutionunit": resolutionunit}
        tifffile.imwrite(tmp_path / "a.tif", volume, imagej=True, metadata={"axes": "ZYX"} | said, **options)
        return read(tmp_path / "a.tif").voxel_um

    assert found(unit="um", spacing=-0.5) == pytest.approx((0.5, 0.3, 0.25), rel=1e-6)
    assert found(unit="um", yunit="nm", zunit="mm", spacing=2) == pytest.approx((2000, 3e-4, 0.25), rel=1e-6)
    assert found(resolution=(40000, 50000), resolutionunit="CENTIMETER") == (None, 0.2, 0.25)


def test_a_printer_resolution_is_no_voxel_size(tmp_path, volume):
    tifffile.imwrite(tmp_path / "a.tif", volume[0], resolution=(300, 300), resolutionunit=2, metadata=None)
    tifffile.imwrite(
        tmp_path / "b.tif", volume[0], resolution=(50000, 50000), resolutionunit=3, metadata=None
    )
    assert read(tmp_path / "a.tif").voxel_um == (None, None, None)
    assert read(tmp_path / "b.tif").voxel_um == (None, 0.2, 0.2)


def test_a_given_voxel_size_completes_the_one_in_the_file(tmp_path, volume):
    Image(volume, "ZYX", (None, 0.1, 0.1)).write(tmp_path / "a.ome.tif")
    assert read(tmp_path / "a.ome.tif", voxel_um=(0.5, None, None)).voxel_um == (0.5, 0.1, 0.1)
    with pytest.raises(DataError, match=r"voxel_um=\(0.5, 0.1\) must be three sizes"):
        read(tmp_path / "a.ome.tif", voxel_um=(0.5, 0.1))


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}]
)
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_storage_of_every_kind_reads_the_same_box(tmp_path, name, options):
    values = np.random.default_rng(1).integers(0, 9999, (2, 3, 33, 21), dtype=np.uint16)
    tifffile.imwrite(tmp_path / name, values, metadata={"axes": "ZCYX"}, photometric="minisblack", **options)
    image = read(tmp_path / name)
    assert (image.axes, image.shape, image.dtype) == ("CZYX", (3, 2, 33, 21), np.dtype("uint16"))
    np.testing.assert_array_equal(image.data[1:3, 0, 5:9, ::2], values.swapaxes(0, 1)[1:3, 0, 5:9, ::2])
    np.testing.assert_array_equal(image.load().data, values.swapaxes(0, 1))


def test_only_the_planes_of_a_box_are_decoded(tmp_path, volume, monkeypatch):
    from image2reg.images import tiff_planes

    tifffile.imwrite(
        tmp_path / "a.tif", volume, compression="zlib", metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    image = read(tmp_path / "a.tif")
    decoded = []

    def decode(file, files, index, offset):
        decoded.append(index)
        return volume[index]

    monkeypatch.setattr(tiff_planes, "decode_page", decode)
    image.data[2, :5]
    image.data[2:4, 5:]
    assert decoded == [2, 3], "plane 2 came from the cache the second time"


def test_colour_samples_are_channels(tmp_path):
    values = np.random.default_rng(1).integers(0, 255, (12, 14, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    image = read(tmp_path / "a.tif")
    assert image.axes == "CYX"
    np.testing.assert_array_equal(image.load().data, np.moveaxis(values, -1, 0))
    planar = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    tifffile.imwrite(
        tmp_path / "b.tif", planar, photometric="rgb", planarconfig="separate", compression="zlib"
    )
    np.testing.assert_array_equal(read(tmp_path / "b.tif").data[1, 3:5], planar[1, 3:5])


@pytest.mark.parametrize("big", [False, True])
def test_a_stack_of_compressed_colour_pages(tmp_path, big):
    """Bits of three samples do not fit into the directory: each page has its own place for them."""
    colour = np.random.default_rng(1).integers(0, 255, (3, 9, 8, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colour, compression="zlib", photometric="rgb", bigtiff=big)
    image = read(tmp_path / "a.tif")
    assert image.axes == "CZYX"
    np.testing.assert_array_equal(image.load().data, np.moveaxis(colour, -1, 0))


def test_pictures(tmp_path):
    grey = np.random.default_rng(1).integers(0, 65535, (9, 8), dtype=np.uint16)
    colour = np.random.default_rng(1).integers(0, 255, (9, 8, 3), dtype=np.uint8)
    Picture.fromarray(grey).save(tmp_path / "grey.png")
    Picture.fromarray(colour).save(tmp_path / "colour.png")
    image = read(tmp_path / "grey.png")
    assert (image.axes, image.voxel_um) == ("YX", (None, None, None))
    np.testing.assert_array_equal(image.data, grey)
    assert read(tmp_path / "colour.png").channels == ("R", "G", "B")
    np.testing.assert_array_equal(read(tmp_path / "colour.png").data, np.moveaxis(colour, -1, 0))
    with pytest.raises(ResourceError, match="image of shape"):
        read(tmp_path / "grey.png", max_bytes=100)


def test_a_grey_picture_is_grey_with_alpha_and_with_a_palette(tmp_path):
    """Drawing programs add alpha; ImageJ saves 8 bits with a palette of greys."""
    grey = np.random.default_rng(1).integers(0, 255, (9, 8), dtype=np.uint8)
    Picture.fromarray(grey).convert("LA").save(tmp_path / "alpha.png")
    with_palette = Picture.fromarray(grey, "L").convert("P")
    with_palette.putpalette([255 - index for index in range(256) for _ in "RGB"])
    with_palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read(tmp_path / "alpha.png").to_axes("YX").data, grey)
    np.testing.assert_array_equal(read(tmp_path / "palette.png").to_axes("YX").data, 255 - grey)


def test_colour_of_sixteen_bits_is_refused_rather_than_cut_to_eight(tmp_path):
    def chunk(kind, content):
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    colour = np.random.default_rng(1).integers(0, 4095, (2, 3, 3)).astype(">u2")
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in colour))
    header = (3).to_bytes(4) + (2).to_bytes(4) + bytes([16, 2, 0, 0, 0])
    parts = (b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    with pytest.raises(DataError, match=r"a.png: holds 16 bits per colour, .* Save it as TIFF"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_a_picture_is_of_the_formats_its_names_stand_for(tmp_path, name):
    """Pillow knows many more, and hands some of them to other programs."""
    Picture.new("L", (9, 8)).save(tmp_path / name)
    assert read(tmp_path / name).shape == (8, 9)
    Picture.new("L", (9, 8)).save(tmp_path / name, format="GIF")
    with pytest.raises(DataError, match=r"the picture could not be read .* not what its name says"):
        read(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        DataError, match=r"absent.tif: no such file or folder \(seen from .*\). Check the path"
    ):
        read(tmp_path / "absent.tif")


def test_an_empty_file_and_a_text_file(tmp_path):
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("this is no image at all")
    with pytest.raises(DataError, match=r"empty.tif: the file is empty \(0 bytes\)"):
        read(tmp_path / "empty.tif")
    with pytest.raises(
        DataError, match=r"text.tif: not a TIFF file \(it starts with b'this' and has 23 bytes\)"
    ):
        read(tmp_path / "text.tif")


def test_several_images_in_one_plain_tiff_are_refused(tmp_path, volume):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(volume, metadata={"axes": "ZYX"}, photometric="minisblack")
        tif.write(volume[0, :5, :5], metadata={"axes": "YX"})
    with pytest.raises(DataError, match=r"holds 2 images, of shapes \[\(4, 20, 30\), \(5, 5\)\]"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "options", [{}, {"metadata": {"axes": "YX"}}, {"compression": "zlib"}, {"tile": (16, 16)}]
)
def test_planes_that_were_written_one_by_one_are_one_stack(tmp_path, volume, options, caplog):
    """As `TiffWriter.write` in a loop does: each plane says that it is an image of its own."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in volume:
            tif.write(plane, **options)
    image = read(tmp_path / "a.tif")
    assert image.axes == "ZYX"
    assert "its 4 planes have no axis name; they are read as Z" in caplog.text
    np.testing.assert_array_equal(image.load().data, volume)
    assert read(tmp_path / "a.tif", axes="TYX").axes == "TYX"


def test_unequal_planes_that_were_written_one_by_one_are_refused(tmp_path, volume):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in (volume[0], volume[1].astype(np.float32)):
            tif.write(plane)
    with pytest.raises(DataError, match=r"holds 2 images, of shapes \[\(20, 30\), \(20, 30\)\]"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_channels_that_are_colour_pictures_are_refused_for_what_they_are(tmp_path, name):
    """A plain one was read as three planes of two channels; of an OME-TIFF it was said that it is damaged."""
    colour = np.zeros((2, 12, 14, 3), np.uint8)
    tifffile.imwrite(tmp_path / name, colour, metadata={"axes": "CYXS"}, photometric="rgb")
    with pytest.raises(
        DataError, match=r"each of its 2 channels is a colour picture of 3 samples .* Export the"
    ):
        read(tmp_path / name)


def test_an_ome_tiff_set_is_read_from_its_folder_only(tmp_path, volume):
    """A crafted file that claims its planes lie somewhere else on the disk."""
    inside, outside = tmp_path / "set", tmp_path / "private"
    inside.mkdir()
    outside.mkdir()
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        'SizeX="30" SizeY="20" SizeZ="1" SizeC="2" SizeT="1">'
        '<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>'
        '<TiffData IFD="0" FirstC="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:a</UUID></TiffData>'
        '<TiffData IFD="0" FirstC="1" PlaneCount="1"><UUID FileName="{second}">urn:uuid:b</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    for second, folder in (("b.ome.tif", inside), ("../private/b.ome.tif", outside)):
        description = xml.format(own="a", second=second).encode()
        tifffile.imwrite(inside / "a.ome.tif", volume[0], description=description, metadata=None)
        tifffile.imwrite(
            folder / "b.ome.tif",
            volume[1],
            description=xml.format(own="b", second=second).encode(),
            metadata=None,
        )
        if folder == inside:
            image = read(inside / "a.ome.tif")
            assert image.axes == "CYX"
            np.testing.assert_array_equal(image.load().data, volume[:2])
            (outside / "a.ome.tif").symlink_to(inside / "a.ome.tif")
            (inside / "b.ome.tif").rename(outside / "b.ome.tif")
            with pytest.raises(
                DataError, match=r"all files of its set, into .*set: this one is a link there"
            ):
                read(outside / "a.ome.tif")
        else:
            with pytest.raises(DataError, match=r"outside the folder of this file|missing from the"):
                read(inside / "a.ome.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_of_a_set_of_positions_gives_its_own_position(tmp_path, volume, compression):
    """Every file of such a set describes the images of all of them, as Bio-Formats writes it."""
    image = (
        '<Image ID="Image:{0}"><Pixels ID="Pixels:{0}" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" '
        'SizeZ="1" SizeC="2" SizeT="1" PhysicalSizeX="0.{1}" PhysicalSizeY="0.{1}"><Channel ID="Channel:{0}:0" '
        'Name="DNA {0}"/><Channel ID="Channel:{0}:1" Name="ER {0}"/><TiffData IFD="0" PlaneCount="2">'
        '<UUID FileName="{0}.ome.tif">urn:uuid:{0}</UUID></TiffData></Pixels></Image>'
    )
    images = "".join(image.format(position, position + 1) for position in (0, 1))
    for position in (0, 1):
        root = f'UUID="urn:uuid:{position}" Creator="{position * 100 * "x"}"'
        xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {root}>{images}</OME>'
        planes = volume[2 * position : 2 * position + 2]
        file = tmp_path / f"{position}.ome.tif"
        tifffile.imwrite(
            file, planes, description=xml, metadata=None, compression=compression, photometric="minisblack"
        )
    for position in (0, 1):
        found = read(tmp_path / f"{position}.ome.tif")
        np.testing.assert_array_equal(found.load().data, volume[2 * position : 2 * position + 2])
        size = (position + 1) / 10
        assert (found.channels, found.voxel_um) == (
            (f"DNA {position}", f"ER {position}"),
            (None, size, size),
        )
