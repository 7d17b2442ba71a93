"""The adapter over bioio and aicsimageio, with stand-ins for both libraries."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from image2reg.errors import DataError, ResourceError
from image2reg.images import adapter, read


class Chunked:
    """As much of a dask array as the adapter uses."""

    def __init__(self, values, reads):
        self.values, self.reads = values, reads
        self.shape, self.dtype = values.shape, values.dtype
        self.chunks = tuple((1,) * n for n in values.shape[:-2]) + tuple((n,) for n in values.shape[-2:])

    def __getitem__(self, index):
        self.reads.append(index)
        return types.SimpleNamespace(compute=lambda: self.values[index])


def library(
    name, values, *, letters="TCZYX", channels=("BF", "DNA"), pixel=(0.5, 0.1, 0.1), reads=None, error=None,
    scenes=("Image:0",),
):  # fmt: skip
    """A module that looks like bioio or aicsimageio and knows one image."""

    def opened(path):
        if error is not None:
            raise error
        dims = types.SimpleNamespace(order=letters, **dict(zip(letters, values.shape, strict=True)))
        return types.SimpleNamespace(
            dims=dims,
            channel_names=list(channels),
            scenes=scenes,
            physical_pixel_sizes=types.SimpleNamespace(Z=pixel[0], Y=pixel[1], X=pixel[2]),
            get_image_dask_data=lambda wanted: Chunked(values, [] if reads is None else reads),
        )

    module = types.ModuleType(name)
    setattr(module, adapter._LIBRARIES[name], opened)
    return module


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(adapter, "_is_installed", lambda name: name in sys.modules)
    for name in adapter._LIBRARIES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def czi(tmp_path):
    path = tmp_path / "cells.czi"
    path.write_bytes(b"ZISRAWFILE")
    return path


pytestmark = pytest.mark.usefixtures("nothing_installed")


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "cells.zarr.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"cells\.zarr\.zip: archives are not read\. Unpack it"):
        read(tmp_path / "cells.zarr.zip")


def test_without_either_library_one_message_says_what_to_install(czi):
    with pytest.raises(DataError) as caught:
        read(czi)
    message = str(caught.value)
    assert message.startswith(f"{czi}: .czi is not a built-in format")
    for part in (
        "bioio-czi",
        "pip install 'virtualstain[bioio]'",
        "pip install 'virtualstain[aics]'",
        "OME-TIFF",
    ):
        assert part in message


@pytest.mark.parametrize("name", ["bioio", "aicsimageio"])
def test_either_library_gives_a_lazy_image(name, czi, monkeypatch):
    values = np.random.default_rng(0).integers(0, 999, (1, 2, 3, 8, 9), dtype=np.uint16)
    reads = []
    monkeypatch.setitem(sys.modules, name, library(name, values, reads=reads))
    image = read(czi)
    assert (image.axes, image.shape, image.channels) == ("CZYX", (2, 3, 8, 9), ("BF", "DNA"))
    assert image.voxel_um == (0.5, 0.1, 0.1)
    assert reads == []
    np.testing.assert_array_equal(image.data[1, 2, 3:5], values[0, 1, 2, 3:5])
    assert len(reads) == 1
    np.testing.assert_array_equal(image.load().data, values[0])


def test_bioio_is_asked_first_and_aicsimageio_when_it_fails(czi, monkeypatch):
    values = np.zeros((1, 1, 1, 8, 9), np.uint8)
    failing = library("bioio", values, error=RuntimeError("no plug-in for .czi"))
    monkeypatch.setitem(sys.modules, "bioio", failing)
    with pytest.raises(DataError, match=r"no installed library could read it \(bioio: no plug-in for .czi\)"):
        read(czi)
    monkeypatch.setitem(sys.modules, "aicsimageio", library("aicsimageio", values, channels=["TL"]))
    image = read(czi)
    assert (image.axes, image.channels) == ("YX", ("TL",))
    monkeypatch.setitem(sys.modules, "bioio", library("bioio", values, channels=["first"]))
    assert read(czi).channels == ("first",)


def test_sizes_a_library_does_not_know_are_none(czi, monkeypatch):
    values = np.zeros((1, 1, 4, 8, 9), np.uint8)
    monkeypatch.setitem(
        sys.modules, "bioio", library("bioio", values, pixel=(None, 0.0, 0.2), channels=["a"])
    )
    assert read(czi).voxel_um == (None, None, 0.2)


def test_colour_samples_are_channels(czi, monkeypatch):
    values = np.random.default_rng(0).integers(0, 255, (1, 1, 1, 8, 9, 3), dtype=np.uint8)
    monkeypatch.setitem(sys.modules, "bioio", library("bioio", values, letters="TCZYXS", channels=["x"]))
    image = read(czi)
    assert (image.axes, image.channels) == ("CYX", ("R", "G", "B"))
    np.testing.assert_array_equal(image.load().data, np.moveaxis(values[0, 0, 0], -1, 0))


def test_a_chunk_over_the_limit_is_refused(czi, monkeypatch):
    values = np.zeros((1, 2, 3, 80, 90), np.uint16)
    monkeypatch.setitem(sys.modules, "bioio", library("bioio", values))
    with pytest.raises(ResourceError, match=r"one chunk of shape \(1, 1, 1, 80, 90\)"):
        read(czi, max_bytes=1000)


def test_an_error_while_reading_is_ours(czi, monkeypatch):
    class Broken(Chunked):
        def __getitem__(self, index):
            raise OSError("subblock 3 is damaged")

    values = np.zeros((1, 1, 1, 8, 9), np.uint8)
    module = library("bioio", values, channels=["a"])
    monkeypatch.setitem(sys.modules, "bioio", module)
    opened = module.BioImage

    def broken(path):
        image = opened(path)
        image.get_image_dask_data = lambda wanted: Broken(values, [])
        return image

    module.BioImage = broken
    with pytest.raises(DataError, match=r"the voxels could not be read \(OSError: subblock 3 is damaged\)"):
        read(czi).load()


def test_positions_that_are_not_read_are_said(nothing_installed, monkeypatch, czi, caplog):
    positions = library("bioio", np.ones((1, 2, 1, 4, 4), np.uint16), scenes=("P1", "P2", "P3"))
    monkeypatch.setitem(sys.modules, "bioio", positions)
    assert read(czi).sizes == {"C": 2, "Y": 4, "X": 4}
    assert "cells.czi: holds 3 images; the first one, P1, is read" in caplog.text
