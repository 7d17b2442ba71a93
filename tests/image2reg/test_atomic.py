"""Files and directories appear whole or not at all, whatever ends the block."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading

import pytest

from image2reg import atomic
from image2reg.atomic import atomic_directory, atomic_file, make_folder, refuse_existing, refuse_inputs
from image2reg.errors import ConfigurationError, DataError, ResourceError


@pytest.fixture(params=["exchange", "two renames"])
def way(request, monkeypatch):
    if request.param == "two renames":
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    return request.param


def write(kind, path, text, *, overwrite=False, fail=None):
    if kind == "file":
        with atomic_file(path, overwrite=overwrite) as partial:
            partial.write_text(text)
            if fail:
                raise fail
    else:
        with atomic_directory(path, overwrite=overwrite) as partial:
            (partial / "deep").mkdir()
            (partial / "deep" / "a").write_text(text)
            if fail:
                raise fail


def read(kind, path):
    return path.read_text() if kind == "file" else (path / "deep" / "a").read_text()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_new_and_replaced(tmp_path, kind, way):
    path = tmp_path / "made" / "x"
    write(kind, path, "1")
    assert read(kind, path) == "1"
    with pytest.raises(DataError, match=r"x: already exists\. Choose another --out, or pass --overwrite"):
        write(kind, path, "2")
    write(kind, path, "3", overwrite=True)
    assert read(kind, path) == "3"
    assert [p.name for p in path.parent.iterdir()] == ["x"]


@pytest.mark.parametrize("fail", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, kind, way, fail):
    path = tmp_path / "x"
    with pytest.raises(type(fail)):
        write(kind, path, "1", fail=fail)
    assert list(tmp_path.iterdir()) == []
    write(kind, path, "1")
    with pytest.raises(type(fail)):
        write(kind, path, "2", overwrite=True, fail=fail)
    assert read(kind, path) == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_system_refusing_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"file/x: could not be written .* Free space or choose another"):
        write("file", tmp_path / "file" / "x", "1")


def test_a_replaced_directory_is_never_missing(tmp_path):
    path = tmp_path / "x"
    write("directory", path, "0")
    if not atomic._exchange(path, path):
        pytest.skip("this system cannot swap two names in one step")
    missing, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            if not path.exists():
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(100):
        write("directory", path, str(i), overwrite=True)
    stop.set()
    watcher.join()
    assert not missing


KILLED = """
import os, signal, sys
from image2reg import atomic
with getattr(atomic, "atomic_" + sys.argv[1])(sys.argv[2]) as partial:
    if sys.argv[1] == "file":
        partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path, kind):
    done = subprocess.run([sys.executable, "-c", KILLED, kind, str(tmp_path / "x")], check=False, timeout=60)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    process = re.search(r"-(\d+)-", left.name)[1]
    alive = left.name.replace(f"-{process}-", f"-{os.getppid()}-")
    elsewhere = left.name.replace(atomic._processes(), "0123abcd")  # the same number on another machine
    for name in (alive, elsewhere, ".x.partial", "x.partial-1-2"):
        (tmp_path / name).touch()
    atomic._looked_at.clear()
    write("file", tmp_path / "y", "1")
    assert {p.name for p in tmp_path.iterdir()} == {alive, elsewhere, ".x.partial", "x.partial-1-2", "y"}


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path, kind, way, name):
    for text in ("1", "2"):
        write(kind, tmp_path / name, text, overwrite=True)
    assert read(kind, tmp_path / name) == "2"


def test_a_directory_is_on_disk_with_all_its_folders_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        atomic, "_sync_directory", lambda path: synced.append((path.name, (tmp_path / "x").exists()))
    )
    write("directory", tmp_path / "x", "1")
    (deep, made, parent) = synced
    assert deep == ("deep", False)
    assert made[0].startswith(".x.partial-")
    assert not made[1]
    assert parent == (tmp_path.name, True)


def test_what_would_replace_an_input_is_refused(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.tif").write_text("pixels")
    (tmp_path / "link").symlink_to(raw)
    for target in (raw / "a.tif", tmp_path / "link" / "a.tif", raw / ".." / "raw", raw):
        with pytest.raises(
            ConfigurationError, match=r"is the input .*a\.tif or holds it, and would replace it"
        ):
            refuse_inputs([raw / "b.tif", target], [raw / "a.tif"])
    refuse_inputs([raw / "b.tif", tmp_path / "a.tif"], [raw / "a.tif", raw])


def test_a_folder_under_a_file_cannot_be_made(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(ResourceError, match=r"could not be written .* choose another --out"):
            make_folder(path)


def test_a_result_that_could_not_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "a" / "x.csv"):
        for overwrite in (False, True):
            with pytest.raises(
                ResourceError, match=r"could not be written .*is a file.*choose another --out"
            ):
                refuse_existing(path, overwrite=overwrite)
    refuse_existing(tmp_path / "new" / "folder" / "x", overwrite=False)
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != tmp_path)
    with pytest.raises(ResourceError, match="nothing may be written here"):
        refuse_existing(tmp_path / "new" / "folder" / "x", overwrite=False)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
