"""F06: files that would decode to far more than the limit are refused from their metadata, before decoding."""

from __future__ import annotations

import json
import lzma
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile

from image2reg.errors import DataError, ResourceError
from image2reg.images import read
from image2reg.images.limits import default_max_bytes, refuse_oversized

LIMIT = 50_000_000
# What a refusal may allocate; the promise is 200 MB, a refusal from metadata needs far less.
ROOM = 20_000_000


def opened(path, *, load):
    image = read(path, max_bytes=LIMIT)
    return image.load() if load else image


def refusal(path, kind, *, load=False):
    """Message of the refusal, after checking how much memory it took."""
    tracemalloc.start()
    try:
        with pytest.raises(kind) as caught:
            opened(path, load=load)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < ROOM, f"{peak} bytes were allocated to refuse {path.name}"
    assert str(path) in str(caught.value)
    return str(caught.value)


def patched(path, tag, value):
    """Overwrite the value of one tag of the first directory (little-endian, value inside the entry)."""
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].tags[tag].offset
    content = bytearray(path.read_bytes())
    content[offset + 2 : offset + 4] = struct.pack("<H", 4)
    content[offset + 8 : offset + 12] = struct.pack("<I", value)
    path.write_bytes(bytes(content))


def test_a_small_file_of_one_huge_deflated_plane(tmp_path):
    """Less than 0.2 MB that decode to 60 MB."""
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((10_000, 6_000), np.uint8), compression="zlib", metadata=None)
    assert path.stat().st_size < 200_000
    message = refusal(path, ResourceError)
    assert (
        "one plane of shape (10000, 6000) and type uint8, 57.2 MiB decoded; the limit is 47.7 MiB" in message
    )
    assert "pass --max-bytes 60000000" in message


def test_a_small_file_of_many_planes_is_refused_when_it_is_loaded(tmp_path):
    path = tmp_path / "bomb.tif"
    planes = (np.zeros((2000, 2000), np.uint8) for _ in range(20))
    tifffile.imwrite(
        path, planes, shape=(20, 2000, 2000), dtype=np.uint8, compression="zlib", metadata={"axes": "ZYX"},
        photometric="minisblack",
    )  # fmt: skip
    assert read(path, max_bytes=LIMIT).data[7, :3, :3].sum() == 0, "one plane is within the limit"
    assert "one image of shape (20, 2000, 2000)" in refusal(path, ResourceError, load=True)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength"])
def test_patched_dimensions_ask_for_gigabytes(tmp_path, compression, tag):
    path = tmp_path / "patched.tif"
    tifffile.imwrite(path, np.ones((32, 32), np.uint8), compression=compression, metadata=None)
    patched(path, tag, 2**31 - 1)
    message = refusal(path, DataError)
    assert "damaged" in message or "truncated" in message


def test_a_segment_that_inflates_to_more_than_its_page(tmp_path):
    """However small: of the one thousand times that deflate grows, not more than the page is inflated."""
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path,
        np.random.default_rng(0).integers(0, 255, (256, 256), np.uint8),
        compression="zlib",
        metadata=None,
    )
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    bomb = zlib.compress(bytes(60_000_000))
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bomb[:count].ljust(count, b"\0")
    path.write_bytes(bytes(content))
    assert "holds more than the 65536 bytes its metadata declare" in refusal(path, DataError, load=True)


@pytest.mark.parametrize("n_streams", [1, 60])
def test_a_small_segment_of_lzma_that_inflates_to_more_than_its_page(tmp_path, n_streams):
    """LZMA grows seven thousandfold, and its streams may follow each other."""
    path = tmp_path / "bomb.tif"
    planes = np.random.default_rng(0).integers(0, 255, (256, 256), np.uint8)
    tifffile.imwrite(path, planes, compression="lzma", metadata=None, rowsperstrip=256)
    np.testing.assert_array_equal(opened(path, load=True).data, planes)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    bomb = lzma.compress(bytes(60_000_000 // n_streams)) * n_streams
    content[offset : offset + count] = bomb[:count].ljust(count, b"\0")
    path.write_bytes(bytes(content))
    assert "holds more than the 65536 bytes its metadata declare" in refusal(path, DataError, load=True)


def test_more_compressed_bytes_than_voxels_are_refused(tmp_path):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path, np.zeros((1000, 1000), np.uint8), metadata=None, compression="zlib", rowsperstrip=1000
    )
    with tifffile.TiffFile(path) as tif:
        tags = {name: tif.pages[0].tags[name].offset for name in ("ImageWidth", "StripByteCounts")}
    content = bytearray(path.read_bytes().ljust(500_000, b"\0"))
    for name, value in (("ImageWidth", 4), ("StripByteCounts", 400_000)):
        content[tags[name] + 2 : tags[name] + 4] = struct.pack("<H", 4)
        content[tags[name] + 8 : tags[name] + 12] = struct.pack("<I", value)
    path.write_bytes(bytes(content))
    assert "holds 400000 compressed bytes for 4000 bytes of voxels" in refusal(path, DataError, load=True)


def test_ome_zarr_with_a_huge_chunk_and_with_a_huge_shape(tmp_path):
    folder = tmp_path / "bomb.zarr"
    (folder / "0").mkdir(parents=True)
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1, 1]}]
    multiscale = {
        "version": "0.4",
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text(json.dumps({"multiscales": [multiscale]}))
    array = {
        "zarr_format": 2, "shape": [100_000] * 3, "chunks": [10_000] * 3, "dtype": "<u2", "order": "C",
        "compressor": None, "filters": None, "fill_value": 0, "dimension_separator": "/",
    }  # fmt: skip
    (folder / "0" / ".zarray").write_text(json.dumps(array))
    assert "one chunk of shape (10000, 10000, 10000)" in refusal(folder, ResourceError)
    (folder / "0" / ".zarray").write_text(json.dumps(array | {"chunks": [16, 256, 256]}))
    assert "one image of shape (100000, 100000, 100000) and type uint16, 1.8 PiB" in refusal(
        folder, ResourceError, load=True
    )


def test_a_picture_with_a_huge_header(tmp_path):
    from PIL import Image as Picture

    path = tmp_path / "bomb.png"
    Picture.new("L", (8_000, 7_000)).save(path, compress_level=1)
    assert path.stat().st_size < 400_000
    assert "one image of shape (7000, 8000)" in refusal(path, ResourceError)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/slurm/job_1/step_0", "slurm/job_1/memory.max"),
        ("0::/../elsewhere", "memory.max"),
        ("7:cpu:/a\n4:memory:/docker/1", "memory/memory.limit_in_bytes"),
    ],
)
def test_the_default_limit_is_that_of_the_job_or_container(tmp_path, monkeypatch, line, file):
    """A node of a cluster has many times what its jobs may take, and ends those that take more."""
    (tmp_path / "of_process").write_text(line)
    (tmp_path / "groups" / file).parent.mkdir(parents=True)
    (tmp_path / "groups" / "slurm" / "job_1" / "step_0").mkdir(parents=True)
    (tmp_path / "groups" / "slurm" / "job_1" / "step_0" / "memory.max").write_text("max\n")
    monkeypatch.setattr("image2reg.images.limits._GROUPS", tmp_path / "groups")
    monkeypatch.setattr("image2reg.images.limits._GROUPS_OF_PROCESS", tmp_path / "of_process")
    (tmp_path / "groups" / file).write_text(f"{2**20}\n")
    assert default_max_bytes() == 2**18


def test_the_default_limit_is_a_quarter_of_the_memory(tmp_path):
    assert 2**26 < default_max_bytes() < 2**45
    refuse_oversized(tmp_path, (1,), np.uint8, max_bytes=None)
    with pytest.raises(ResourceError, match="EiB decoded"):
        refuse_oversized(tmp_path, (2**31, 2**31), np.uint8, max_bytes=None)
