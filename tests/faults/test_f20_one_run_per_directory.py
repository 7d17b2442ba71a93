"""F20: the second run to one output directory is refused; a lock whose owner was killed is taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest
from small_models import TwoPhases, small_settings

from image2reg.errors import ResourceError
from image2reg.locking import run_lock
from image2reg.models.train import fit

HOLD = (
    "import sys, time\nfrom image2reg.locking import run_lock\n"
    "with run_lock(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(600)\n"
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_is_refused_and_told_who_is_first(tmp_path, holder):
    with pytest.raises(ResourceError) as caught, run_lock(tmp_path):
        pytest.fail("two runs held one directory")
    assert caught.value.exit_code == 6
    assert f"{tmp_path}: in use by process {holder.pid} on " in str(caught.value)
    assert "choose another --out" in str(caught.value)
    with pytest.raises(ResourceError, match="in use by process"):
        fit(TwoPhases(), small_settings(), tmp_path, device="cpu", progress=False)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == holder.pid  # it had no chance to clean up
    with run_lock(tmp_path) as path:
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_second_run_of_the_same_process_is_refused(tmp_path):
    with run_lock(tmp_path), pytest.raises(ResourceError, match=f"process {os.getpid()}"), run_lock(tmp_path):
        pytest.fail("two runs held one directory")
    with run_lock(tmp_path):
        pass


def test_a_lock_file_with_any_content_is_no_obstacle(tmp_path):
    for content in (
        b"",
        b"\xff\x00",
        b"[]",
        b'{"pid": 1}',
        b'{"pid": %d, "host": "x", "since": ""}' % os.getpid(),
    ):
        (tmp_path / ".lock").write_bytes(content)
        with run_lock(tmp_path), pytest.raises(ResourceError), run_lock(tmp_path):
            pytest.fail("two runs held one directory")


def test_a_file_system_without_locks_is_not_another_run(tmp_path, monkeypatch):
    def no_locks(handle, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ResourceError, match=r"cannot be locked .*another file system"), run_lock(tmp_path):
        pytest.fail("the directory was not locked")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(ResourceError, match=r"file/out: cannot be written .*Choose another --out"),
        run_lock(tmp_path / "file/out"),
    ):
        pass
