"""One run per output directory: the second is refused, and a lock whose owner died is taken over."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from image2reg.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run_lock"]

_NAME = ".lock"
_LOOK_AGAIN_S = 0.05


def _holder(path: Path) -> str:
    try:
        record = json.loads(path.read_text())
        return f"process {record['pid']} on {record['host']}, since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


@contextlib.contextmanager
def run_lock(directory: Path | str, *, wait_s: float = 0.0) -> Iterator[Path]:
    """Hold `directory` for this run.

    The lock is the kernel's (``flock`` on ``.lock``), so it ends with the process however that dies; the file
    only tells people who holds it. A file left behind by a killed run is therefore no obstacle.

    Parameters
    ----------
    directory : Path or str
        Output directory of the run; made when missing.
    wait_s : float
        Seconds to wait for another holder, for a lock that each holds for a moment only.

    Yields
    ------
    Path
        The lock file; it holds process id, host and start time as JSON while the lock is held.

    Raises
    ------
    ResourceError
        Another run, in this or another process, writes there; or the directory cannot be written or locked.
    """
    directory = Path(directory)
    path = directory / _NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ResourceError(f"{directory}: cannot be written ({error}). Choose another --out.") from error
    try:
        give_up = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= give_up:
                    raise ResourceError(
                        f"{directory}: in use by {_holder(path)}. One run writes to one directory: wait for it, "
                        f"stop it, or choose another --out."
                    ) from error
                time.sleep(_LOOK_AGAIN_S)
            except OSError as error:  # a network share mounted without locks
                raise ResourceError(
                    f"{directory}: cannot be locked ({error}), so a second run could write there too. "
                    f"Choose an --out on another file system."
                ) from error
        record = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with contextlib.suppress(
            OSError
        ):  # the record is for people; a full disk is told where results are written
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(record).encode(), 0)
        yield path
        # The file stays: were it removed, two later runs could hold two different files of this name.
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)
