"""Voxel sizes and names that the programs of microscopes keep beside standard TIFF."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile

from image2reg.errors import DataError
from image2reg.images import read

VOLUME = np.random.default_rng(0).integers(0, 60000, (4, 20, 30), dtype=np.uint16)


def metaxpress(**changed):
    said = {
        "image-name": "Image 1", "_IllumSetting_": "DAPI", "spatial-calibration-state": "on",
        "spatial-calibration-x": "0.65", "spatial-calibration-y": "0.6", "spatial-calibration-units": "um",
    } | {name.replace("_", "-"): value for name, value in changed.items()}  # fmt: skip
    properties = "".join(
        f'<prop id="{name}" type="string" value="{value}"/>\r\n' for name, value in said.items()
    )
    return f"<MetaData>\r\n<PlaneInfo>\r\n{properties}</PlaneInfo>\r\n</MetaData>"


def stk(path, *, state=1, unit="um", steps=((1, 2),) * 4, description=""):
    """Write a stack as MetaMorph does: one directory, its planes one after another, the rest in the tags UIC1 and 2."""
    content, places = bytearray(8), {}
    parts = {
        "planes": VOLUME.tobytes(), "size": struct.pack("<2I", 65, 100), "text": description.encode() + b"\0",
        "unit": struct.pack("<I", len(unit) + 1) + unit.encode() + b"\0",
        "uic2": b"".join(struct.pack("<6I", *step, 2_455_000, 1000 * i, 0, 0) for i, step in enumerate(steps)),
    }  # fmt: skip
    for name, part in parts.items():
        places[name] = len(content)
        content += part.ljust(-(-len(part) // 2) * 2, b"\0")
    uic1 = [(3, state), (4, places["size"]), (5, places["size"]), (6, places["unit"])]
    places["uic1"] = len(content)
    content += b"".join(struct.pack("<2I", *pair) for pair in uic1)
    tags = [
        (256, 4, 1, 30), (257, 4, 1, 20), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (270, 2, len(parts["text"]), places["text"]), (273, 4, 1, places["planes"]), (277, 3, 1, 1), (278, 4, 1, 20),
        (279, 4, 1, 1200), (33628, 4, len(uic1), places["uic1"]), (33629, 5, len(steps), places["uic2"]),
    ]  # fmt: skip
    content[:8] = struct.pack("<2sHI", b"II", 42, len(content))
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(bytes(content) + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (None, 0.6, 0.65)),
        ({"spatial_calibration_units": "nm"}, (None, 6e-4, 6.5e-4)),
        ({"spatial_calibration_state": "off"}, (None, None, None)),
        ({"spatial_calibration_units": "pixels"}, (None, None, None)),
        ({"spatial_calibration_x": "nan", "spatial_calibration_y": "0"}, (None, None, None)),
        ({"spatial_calibration_x": "-0.65", "spatial_calibration_y": "inf"}, (None, None, None)),
    ],
)
def test_the_calibration_of_metaxpress_counts_where_it_is_on_and_a_length(tmp_path, changed, expected):
    path = tmp_path / "A01_s1_w1.tif"
    tifffile.imwrite(path, VOLUME[0], description=metaxpress(**changed), software="MetaSeries", metadata=None)
    assert read(path).voxel_um == expected
    assert read(path).channels == ("DAPI",)


def test_a_damaged_description_of_metaxpress_costs_the_calibration_only(tmp_path):
    description = metaxpress().replace("/>", ">", 1)
    tifffile.imwrite(
        tmp_path / "a.tif", VOLUME, description=description, metadata=None, photometric="minisblack"
    )
    image = read(tmp_path / "a.tif")
    assert (image.shape, image.voxel_um) == (VOLUME.shape, (None, None, None))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0.5, 0.65, 0.65)),
        ({"state": 0}, (None, None, None)),
        ({"unit": "pixel"}, (None, None, None)),
        ({"unit": "nm"}, (None, 6.5e-4, 6.5e-4)),
        ({"steps": ((1, 2), (1, 3), (1, 2), (1, 2))}, (None, 0.65, 0.65)),
        ({"steps": ((0, 0),) * 4}, (None, 0.65, 0.65)),
        ({"steps": ((2**32 - 500, 1000),) * 4}, (None, 0.65, 0.65)),
        ({"description": "\0".join([metaxpress()] * 4)}, (0.5, 0.6, 0.65)),
    ],
)
def test_a_stack_of_metamorph_has_its_planes_and_its_voxel_size(tmp_path, options, expected):
    image = read(stk(tmp_path / "a.stk", **options))
    assert (image.axes, image.voxel_um) == ("ZYX", expected)
    np.testing.assert_array_equal(image.load().data, VOLUME)


def test_a_stack_of_metamorph_that_was_cut_short_is_refused(tmp_path):
    path = stk(tmp_path / "a.stk", steps=((1, 2),) * 9)
    with pytest.raises(DataError, match=r"a.stk: truncated: ZYX \(9, 20, 30\)"):
        read(path)


def test_pages_that_each_have_the_tags_of_metamorph_are_all_read(tmp_path):
    """Of such a file tifffile gives the first page as the whole stack."""
    tag = (33628, 4, 1, struct.pack("<2I", 3, 1), True)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in VOLUME:
            tif.write(plane, contiguous=False, metadata=None, description=metaxpress(), extratags=[tag])
    image = read(tmp_path / "a.tif")
    assert image.voxel_um == (None, 0.6, 0.65)
    np.testing.assert_array_equal(image.load().data, VOLUME)


def lsm(path, values, **options):
    """Write as Zeiss does: thumbnails between the pages, two channels as separate samples, their bits elsewhere."""
    about = np.zeros(1, np.dtype(tifffile.TIFF.CZ_LSMINFO))
    named = dict(
        zip(("DimensionZ", "DimensionChannels", "DimensionY", "DimensionX"), values.shape, strict=True)
    )
    named |= {"VoxelSizeZ": 1.2e-6, "VoxelSizeY": 2e-7, "VoxelSizeX": 1e-7, "DimensionTime": 1}
    for name, value in (named | {"MagicNumber": 67127628, "StructureSize": about.nbytes}).items():
        about[name] = value
    tag = (34412, 1, about.nbytes, about.tobytes(), True)
    plain = {"metadata": None, "contiguous": False}
    with tifffile.TiffWriter(path, byteorder="<") as tif:
        for index, plane in enumerate(values):
            kind = options | {"photometric": "minisblack", "extratags": [tag][index:]}
            tif.write(plane, planarconfig="separate", **kind, **plain)
            tif.write(np.zeros((5, 6, 3), np.uint8), subfiletype=1, photometric="rgb", **plain)
    grey, colour = (struct.pack("<HHII", 262, 3, 1, value) for value in (1, 2))
    content = bytearray(path.read_bytes().replace(grey, colour))
    bits = struct.pack("<HHIHH", 258, 3, 2, 8, 8)
    while (place := content.find(bits)) >= 0:
        content[place + 8 : place + 12] = struct.pack("<I", len(content))
        content += struct.pack("<HH", 8, 8)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_lsm_is_read_without_its_thumbnails(tmp_path, compression):
    values = np.random.default_rng(1).integers(0, 255, (3, 2, 20, 30), dtype=np.uint8)
    lsm(tmp_path / "a.lsm", values, compression=compression)
    image = read(tmp_path / "a.lsm")
    assert (image.axes, image.voxel_um) == ("CZYX", (1.2, 0.2, 0.1))
    np.testing.assert_array_equal(image.load().data, values.swapaxes(0, 1))
    np.testing.assert_array_equal(image.data[1, 2, 3:9], values[2, 1, 3:9])
