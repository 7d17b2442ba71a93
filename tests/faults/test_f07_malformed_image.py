"""F07: damaged TIFF and OME-Zarr give DataError with path and reason, or the right voxels; nothing else.

What cannot be seen is not promised: a flipped bit inside uncompressed voxels, or inside a calibration, needs the
sha256 of the manifest. So after a flip the voxels may differ, but shape, type and axes may not. (Plain TIFF without
any description has no second account of its pages, so there the end of the chain can move; see `tiff_structure`.)
"""

from __future__ import annotations

import logging
import struct

import numpy as np
import pytest
import tifffile

from image2reg.errors import DataError
from image2reg.images import Image, read

KINDS = ["ome", "imagej", "deflated", "ome-tiled"]


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def values():
    return np.random.default_rng(0).integers(0, 60000, (2, 8, 48, 40), dtype=np.uint16)


def write_kind(kind, folder):
    image = Image(values(), "CZYX", (0.5, 0.1, 0.1), ("BF", "DNA"))
    path = folder / {"ome": "a.ome.tiff", "ome-tiled": "a.ome.tif"}.get(kind, "a.tif")
    if kind in {"ome", "imagej"}:
        image.write(path)
    else:
        tile = (16, 16) if kind == "ome-tiled" else None
        options = {"photometric": "minisblack", "compression": "zlib", "tile": tile}
        tifffile.imwrite(path, image.data, metadata={"axes": "CZYX"}, **options)
    return path


def opened(path):
    """The image in memory, or None after a refusal that names the file and gives a reason."""
    try:
        return read(path).load()
    except DataError as error:
        message = str(error)
    assert message.startswith(str(path)), f"the message does not name the file: {message}"
    assert len(message) > len(str(path)) + 30, f"no reason: {message}"
    return None


def outcome(path, truth):
    """`refused`, `right` or `other voxels`; a failure of the test for anything else."""
    found = opened(path)
    if found is None:
        return "refused"
    assert (found.axes, found.shape, found.dtype) == (truth.axes, truth.shape, truth.dtype)
    return "right" if np.array_equal(found.data, truth.data) else "other voxels"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_anywhere_is_refused(kind, tmp_path):
    path = write_kind(kind, tmp_path)
    truth, whole = read(path).load(), path.read_bytes()
    lengths = [len(whole) * share // 100 for share in range(5, 100, 5)] + [
        0,
        1,
        4,
        7,
        8,
        9,
        16,
        len(whole) - 1,
    ]
    for length in lengths:
        path.write_bytes(whole[:length])
        found = outcome(path, truth)
        # The last bytes of a file may be padding or text that nothing needs.
        assert found == "refused" or (length == len(whole) - 1 and found == "right"), (kind, length, found)


def test_a_plain_stack_cut_in_half_loses_no_plane_silently(tmp_path):
    """tifffile itself returns one plane of eight for this file."""
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, values()[0], photometric="minisblack", metadata=None)
    whole = path.read_bytes()
    assert read(path).shape == (8, 48, 40)
    for length in (len(whole) // 2, len(whole) - 2000):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=rf"truncated: .*the file ends at byte {length}"):
            read(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_flips", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_flipped_bits_raise_nothing_else(kind, n_flips, tmp_path):
    path = write_kind(kind, tmp_path)
    truth, whole = read(path).load(), path.read_bytes()
    rng = np.random.default_rng(n_flips)
    near_directories = np.r_[0:400, len(whole) - 2500 : len(whole)]
    seen = set()
    for _ in range(n_flips):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            anywhere = rng.random() < 0.3
            position = int(rng.integers(len(whole)) if anywhere else rng.choice(near_directories))
            content[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(content))
        seen.add(outcome(path, truth))
    assert "refused" in seen
    if kind in {"deflated", "ome-tiled"}:
        assert "other voxels" not in seen, "the checksum of deflate finds flips inside the voxels"


TAGS = ["ImageWidth", "ImageLength", "BitsPerSample", "SamplesPerPixel", "StripOffsets", "StripByteCounts"]


@pytest.mark.parametrize("tag", TAGS)
def test_patched_tags_are_refused(tag, tmp_path):
    path = write_kind("ome", tmp_path)
    with tifffile.TiffFile(path) as tif:
        entry = tif.pages[0].tags[tag]
        offset, before = entry.offset, entry.value
    whole, truth = path.read_bytes(), read(path).load()
    for value in (0, 1, 7, 65535, 2**31 - 1):
        if value == before:
            continue
        content = bytearray(whole)
        kind = 4 if value > 65535 else 3
        content[offset + 2 : offset + 12] = struct.pack("<HII", kind, 1, value)
        path.write_bytes(bytes(content))
        outcome(path, truth)
        if tag in {"ImageWidth", "ImageLength", "BitsPerSample"}:
            with pytest.raises(DataError):
                read(path).load()


def test_a_loop_of_directories_is_refused(tmp_path):
    path = tmp_path / "loop.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane in values()[0, :2]:
            tif.write(plane, metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        first, second = (page.offset for page in tif.pages)
    content = bytearray(path.read_bytes())
    n_entries = struct.unpack_from("<H", content, second)[0]
    struct.pack_into("<I", content, second + 2 + 12 * n_entries, first)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"directory 2 points back to byte {first}; the chain never ends"):
        read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('SizeZ="8"', 'SizeZ="9"', r"plane 16 of 18 .* is missing from the file|could not be read"),
        ('SizeC="2"', 'SizeC="1"', "its OME-XML describes 8 planes, but the file has 16 pages"),
        ('SizeX="40"', 'SizeX="41"', "its OME-XML metadata say Size[CX]=[0-9]+, its pages have"),
        ('SizeZ="8"', 'SizeZ="x"', "SizeZ='x'; it must be an integer of at least 1"),
        ('Type="uint16"', 'Type="uint32"', "metadata say uint32, its pages hold uint16"),
        ("</OME>", "</OMF>", "its OME-XML is not well-formed"),
        ("<Image ", "<Imago ", "its OME-XML is not well-formed"),
        ("Schemas/OME", "Schemas/OMX", "named OME-TIFF, but it holds no readable OME-XML"),
    ],
)
def test_ome_xml_that_contradicts_the_pages_is_refused(old, new, message, tmp_path):
    path = write_kind("ome", tmp_path)
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(DataError, match=message):
        read(path).load()


def test_entities_in_ome_xml_are_refused(tmp_path):
    bomb = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaaaaaaaa">]><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels/></Image></OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", values()[0, 0], description=bomb.encode(), metadata=None)
    with pytest.raises(DataError, match="or with entity declarations, which OME-XML never has"):
        read(tmp_path / "a.ome.tif")


def test_an_imagej_stack_that_lost_planes_is_refused(tmp_path):
    path = write_kind("imagej", tmp_path)
    content = path.read_bytes()
    assert b"images=16" in content
    path.write_bytes(content.replace(b"images=16", b"images=64").replace(b"slices=8", b"slices=32"))
    with pytest.raises(DataError, match=r"ImageJ metadata promise 64 planes|truncated"):
        read(path).load()


REPLACEMENTS = [b"-1", b"99999999", b"null", b"{}", b"[]", b'"x"', b"1e9", b"NaN"]


@pytest.mark.parametrize("n_damages", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_damaged_ome_zarr_metadata_raise_nothing_else(n_damages, tmp_path):
    pytest.importorskip("zarr", minversion="3", reason="OME-Zarr 0.5 is written with zarr 3")
    path = tmp_path / "a.zarr"
    Image(values()[:, :2, :16, :16], "CZYX", (0.5, 0.1, 0.1), ("BF", "DNA")).write(path)
    truth, rng, seen = read(path).load(), np.random.default_rng(1), set()
    files = [path / "zarr.json", path / "0" / "zarr.json"]
    for index in range(n_damages):
        file = files[index % 2]
        whole = file.read_bytes()
        position = int(rng.integers(len(whole)))
        if index % 3 == 0:
            damaged = whole[:position]
        elif index % 3 == 1:
            damaged = (
                whole[:position]
                + bytes([whole[position] ^ 1 << int(rng.integers(8))])
                + whole[position + 1 :]
            )
        else:
            damaged = whole[:position] + REPLACEMENTS[rng.integers(8)] + whole[position + 4 :]
        file.write_bytes(damaged)
        seen.add("refused" if opened(path) is None else "read")
        file.write_bytes(whole)
    assert "refused" in seen
    assert outcome(path, truth) == "right"
