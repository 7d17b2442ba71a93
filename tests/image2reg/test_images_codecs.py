"""TIFF planes that need Pillow beside tifffile, as no imagecodecs is installed: their values are those stored."""

from __future__ import annotations

import contextlib
import logging
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

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
def test_what_would_lose_bits_is_refused(tmp_path, kind):
    values = np.random.default_rng(2).random((20, 32))
    if kind == "float64":
        with_lzw(tmp_path / "a.tif", values, photometric="minisblack")
    elif kind == "16-bit colour":
        colour = np.repeat(values[..., None] * 4095, 3, axis=-1).astype(np.uint16)
        with_lzw(tmp_path / "a.tif", colour, photometric="rgb")
    else:
        with_bits(tmp_path / "a.tif", 4)
    with pytest.raises(DataError, match=r"a.tif: .*(decodes to .* Install the|pip install) imagecodecs"):
        read(tmp_path / "a.tif").load()


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


def test_a_page_far_into_a_file_is_found_once(tmp_path, monkeypatch):
    """Opened again for each page, a stack of a thousand took a quarter of a minute."""
    from image2reg.images import tiff_codec

    values = np.random.default_rng(2).integers(0, 200, (6, 20, 32), dtype=np.uint16)
    pictures = [Picture.fromarray(plane) for plane in values]
    pictures[0].save(tmp_path / "a.tif", save_all=True, append_images=pictures[1:], compression="tiff_lzw")
    opened, real = [], tiff_codec.open_picture
    monkeypatch.setattr(tiff_codec, "open_picture", lambda *given: opened.append(given) or real(*given))
    np.testing.assert_array_equal(read(tmp_path / "a.tif").load().data, values)
    assert len(opened) <= 1


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
