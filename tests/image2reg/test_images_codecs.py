"""TIFF planes that need Pillow beside tifffile, as no imagecodecs is installed: their values are those stored."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from image2reg.errors import DataError
from image2reg.images import read
from image2reg.images.pictures import open_picture
from image2reg.images.tiff_planes import quiet


def with_lzw(path, values, **options):
    """A TIFF of one LZW strip, which tifffile decodes with imagecodecs only; its codes are bytes, nothing is gained."""
    tifffile.imwrite(path, values, metadata=None, rowsperstrip=values.shape[0], **options)
    with tifffile.TiffFile(path) as tif:
        page, content = tif.pages[0], bytearray(path.read_bytes())
        raw = content[page.dataoffsets[0] :][: page.databytecounts[0]]
        codes = [code for low in range(0, len(raw), 200) for code in (256, *raw[low : low + 200])] + [257]
        bits = "".join(f"{code:09b}" for code in codes)
        packed = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
        patch(content, page, {259: 5, 273: len(content), 279: len(packed)})
    path.write_bytes(bytes(content) + packed)


def patch(content, page, values):
    for code, value in values.items():
        entry = page.tags[code].offset
        content[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, value)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "float32"])
def test_values_are_those_stored_whichever_library_decodes_them(tmp_path, dtype, photometric):
    values = np.random.default_rng(2).integers(0, 2 if dtype == "bool" else 200, (20, 32)).astype(dtype)
    with_lzw(tmp_path / "a.tif", values, photometric=photometric)
    tifffile.imwrite(tmp_path / "b.tif", values, photometric=photometric)
    for name in ("a.tif", "b.tif"):
        found = read(tmp_path / name).load().data
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("kind", ["float64", "16-bit colour", "4-bit grey"])
def test_no_bit_is_lost_or_the_plane_is_refused(tmp_path, kind):
    """What Pillow would make of these is something else; imagecodecs reads them."""
    path, values = tmp_path / "a.tif", np.random.default_rng(2).random((20, 32))
    if kind == "float64":
        with_lzw(path, values, photometric="minisblack")
    elif kind == "16-bit colour":
        values = np.repeat(values[..., None] * 4095, 3, axis=-1).astype(np.uint16)
        with_lzw(path, values, photometric="rgb")
    else:
        with_bits(path, 4)
        stored = np.arange(320, dtype=np.uint8).reshape(20, 16)
        values = np.stack([stored >> 4, stored & 15], axis=-1).reshape(20, 32)
    if importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(DataError, match=r"a.tif: .*(decodes to .* Install the|pip install) imagecodecs"):
            read(path).load()
    else:
        planes = np.atleast_3d(values).transpose(2, 0, 1)
        np.testing.assert_array_equal(read(path).load().to_axes("CYX").data, planes)


def with_bits(path, n_bits):
    """A TIFF of packed integers: 20 rows of 16 bytes."""
    tifffile.imwrite(
        path, np.arange(320, dtype=np.uint8).reshape(20, 16), photometric="minisblack", metadata=None
    )
    with tifffile.TiffFile(path) as tif:
        content = bytearray(path.read_bytes())
        patch(content, tif.pages[0], {256: 128 // n_bits, 258: n_bits})
    path.write_bytes(bytes(content))


def test_packed_integers_of_a_camera(tmp_path):
    with_bits(tmp_path / "a.tif", 12)
    assert read(tmp_path / "a.tif").load().data[0, :4].tolist() == [0x000, 0x102, 0x030, 0x405]


@pytest.mark.parametrize("big", [False, True])
def test_a_page_far_into_a_file_is_found_as_fast_as_the_first(tmp_path, monkeypatch, big):
    """Pillow would read the directories of all pages before it, and that for each plane that is asked for."""
    values = np.random.default_rng(2).integers(0, 200, (9, 20, 32), dtype=np.uint16)
    pictures = [Picture.fromarray(plane) for plane in values]
    options = {"compression": "tiff_lzw", "big_tiff": big}
    pictures[0].save(tmp_path / "a.tif", save_all=True, append_images=pictures[1:], **options)
    image, loaded, real = read(tmp_path / "a.tif"), [], ImageFileDirectory_v2.load
    monkeypatch.setattr(ImageFileDirectory_v2, "load", lambda *given: loaded.append(given) or real(*given))
    np.testing.assert_array_equal(image.data[0], values[0])
    n_first = len(loaded)
    assert n_first or importlib.util.find_spec("imagecodecs")  # which needs no Pillow
    np.testing.assert_array_equal(image.data[8], values[8])
    assert len(loaded) == 2 * n_first


def test_zstandard_is_read_without_imagecodecs(tmp_path):
    """It was called damage: tifffile looks for a module of later versions of Python."""
    values = np.random.default_rng(2).integers(0, 200, (20, 32), dtype=np.uint16)
    Picture.fromarray(values).save(tmp_path / "a.tif", compression="zstd")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").load().data, values)


def test_a_blank_plane_may_be_as_small_as_its_codec_makes_it(tmp_path):
    blank = np.zeros((2500, 2500), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", blank, compression="lzma", metadata=None, rowsperstrip=2500)
    assert (tmp_path / "a.tif").stat().st_size * 4096 < blank.nbytes
    assert not read(tmp_path / "a.tif").load().data.any()


def test_rows_of_single_bits_are_filled_up_to_bytes(tmp_path):
    mask = np.random.default_rng(2).integers(0, 2, (33, 37)).astype(bool)
    Picture.fromarray(mask).save(tmp_path / "a.tif", compression="tiff_adobe_deflate")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").load().data, mask)


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
def test_a_segment_that_ends_early_is_refused(tmp_path, compression):
    values = np.random.default_rng(2).integers(0, 200, (40, 32), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, compression=compression, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        content = bytearray((tmp_path / "a.tif").read_bytes())
        patch(content, tif.pages[0], {279: tif.pages[0].databytecounts[0] // 2})
    (tmp_path / "a.tif").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"a.tif: the planes could not be read \(.*ends early"):
        read(tmp_path / "a.tif").load()


def test_what_the_process_shares_is_as_before_whatever_the_order_in_which_threads_end(tmp_path, caplog):
    """Two reads that overlap, the first to begin ending first; each put back what it had found."""
    Picture.new("L", (9, 8)).save(tmp_path / "a.png")
    limit, logger = Picture.MAX_IMAGE_PIXELS, logging.getLogger("tifffile")
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    for thread in (first, second):
        thread.enter_context(open_picture(tmp_path / "a.png"))
    first.close()
    assert Picture.MAX_IMAGE_PIXELS is None, "the second is still reading"
    second.close()
    assert limit == Picture.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(1) as another, quiet():
        another.submit(logger.warning, "of another thread").result()
        logger.warning("of this one")
    logger.warning("afterwards")
    assert caplog.messages == ["of another thread", "afterwards"]
