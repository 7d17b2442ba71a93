"""F09: a full disk or a read-only folder stops every image writer with ResourceError; nothing half-written stays."""

from __future__ import annotations

import resource
import signal

import numpy as np
import pytest

from image2reg.errors import ResourceError
from image2reg.images import Image, PlateWriter, read, read_plate, write_plate

pytest.importorskip("zarr", minversion="3", reason="OME-Zarr 0.5 is written with zarr 3")

NAMES = ["a.ome.tiff", "a.tif", "a.ome.zarr", "plate.zarr"]


def image(seed=0):
    return Image(np.random.default_rng(seed).integers(0, 60000, (2, 300, 300), dtype=np.uint16), "CYX")


def write(path, content, *, overwrite=False):
    if path.name.startswith("plate"):
        write_plate(path, {("A/1", "0"): content}, overwrite=overwrite)
    else:
        content.write(path, overwrite=overwrite)


def voxels(path):
    return (read_plate(path).image("A/1", "0") if path.name.startswith("plate") else read(path)).load().data


@pytest.fixture
def small_files():
    """No file may grow beyond 64 KiB: the kernel's way of a full disk, for this process only."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_leaves_nothing(name, tmp_path, small_files):
    with pytest.raises(
        ResourceError, match=rf"{name}: could not be written .*Free space or choose another --out"
    ):
        write(tmp_path / name, image())
    small_files()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_keeps_the_old_output(name, tmp_path, request):
    write(tmp_path / name, image())
    lift = request.getfixturevalue("small_files")
    with pytest.raises(ResourceError, match="could not be written"):
        write(tmp_path / name, image(1), overwrite=True)
    lift()
    np.testing.assert_array_equal(voxels(tmp_path / name), image().data)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_cannot_be_made(name, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="could not be written"):
        write(tmp_path / "file" / name, image())
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_plate_that_breaks_in_its_second_field_leaves_nothing(tmp_path, small_files):
    def broken():
        with PlateWriter(tmp_path / "p.zarr") as plate:
            plate.write("A/1", "0", Image(np.zeros((4, 4), np.uint8), "YX"))
            plate.write("A/1", "1", image())

    with pytest.raises(ResourceError, match="could not be written"):
        broken()
    small_files()
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_a_plate_is_published_loses_no_field(tmp_path, monkeypatch):
    """Flushing a large plate to the disk takes minutes, in which Ctrl-C or a full disk may come."""

    def interrupted(handle):
        raise KeyboardInterrupt

    def written(writer, at_the_end=lambda: None):
        with writer as plate:
            done = [field for field in "01" if plate.done("A/1", field) is not None]
            for field in sorted({"0", "1"} - set(done)):
                plate.write("A/1", field, image(int(field)))
            at_the_end()
        return done

    path = tmp_path / "p.zarr"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        written(PlateWriter(path, about={}), lambda: patch.setattr("os.fsync", interrupted))
    assert not path.exists()
    assert written(PlateWriter(path, about={}, resume=True)) == ["0", "1"]
    for field in "01":
        held = read_plate(path).image("A/1", field).load().data
        np.testing.assert_array_equal(held, image(int(field)).data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.zarr"]
