"""Files and directories that appear under their final name whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from image2reg.errors import ConfigurationError, DataError, ResourceError

__all__ = [
    "atomic_directory",
    "atomic_file",
    "make_folder",
    "publish_directory",
    "refuse_existing",
    "refuse_inputs",
    "refuse_targets",
    "refuse_unmakeable",
]


_LONGEST_NAME = 255  # bytes, of all common file systems
_PARTIAL = re.compile(r"^\..*\.partial-(?P<processes>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}$")
_looked_at: set[Path] = set()


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise `DataError` when `path` is there and `overwrite` was not asked for; also as `refuse_unmakeable` does."""
    refuse_unmakeable(path)
    if path.exists() and not overwrite:
        raise DataError(f"{path}: already exists. Choose another --out, or pass --overwrite to replace it.")


def refuse_unmakeable(path: Path) -> None:
    """Raise `ResourceError` where `path` could not be made: below a file, or where nothing may be written."""
    with _as_resource_error(path):
        there = next(folder for folder in path.absolute().parents if folder.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is a file, no folder", str(there))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "nothing may be written here", str(there))


def refuse_inputs(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise `ConfigurationError` when writing a target would replace an input, or a folder that holds one."""
    kept: dict[Path, Path] = {}
    for path in inputs:
        real = path.resolve()
        kept |= dict.fromkeys((real, *real.parents), path)
    for target in targets:
        if held := kept.get(target.resolve()):
            raise ConfigurationError(
                f"--out: {target} is the input {held} or holds it, and would replace it. Choose another --out."
            )


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # clean-up must not hide the error that led to it
            path.unlink()


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step, so that neither is ever missing (renameat2 of Linux); False elsewhere."""
    import ctypes

    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0)


@functools.cache
def _processes() -> str:
    """Name what numbers processes: this boot of this machine, and the container's own numbers in it."""
    try:
        told = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        told = socket.gethostname()
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _sibling(path: Path, role: str) -> Path:
    tail = f".{role}-{_processes()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    name = os.fsencode(path.name)[: _LONGEST_NAME - 1 - len(tail)].decode(errors="ignore")
    return path.parent / f".{name}{tail}"


def _remove_left_over(folder: Path) -> None:
    """Remove what processes that were killed had not finished in `folder`; looked for once, by each process."""
    if folder in _looked_at:
        return
    _looked_at.add(folder)
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            found = _PARTIAL.search(entry.name)
            if found and found["processes"] == _processes() and not _runs(int(found["process"])):
                _remove(Path(entry.path))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@contextlib.contextmanager
def _as_resource_error(path: Path) -> Iterator[None]:
    try:
        yield
    except ResourceError:
        raise
    except OSError as error:
        raise ResourceError(
            f"{path}: could not be written ({error}). Free space or choose another --out."
        ) from error


def refuse_targets(jobs: Sequence[tuple[Path, Path]], out: Path, *, overwrite: bool) -> None:
    """Refuse results that would replace each other, an input or, without `overwrite`, what is there; before any work.

    Parameters
    ----------
    jobs : sequence of (input, target)
    out : Path
        What the user gave, for the message.
    """
    first: dict[Path, Path] = {}
    for path, target in jobs:
        if (other := first.setdefault(target, path)) is not path:
            raise ConfigurationError(
                f"--out {out}: {other} and {path} would both be written to {target}. Rename or move one of them, or "
                "give each an --out of its own."
            )
    refuse_inputs((target for _, target in jobs), (path for path, _ in jobs))
    for _, target in jobs:
        refuse_existing(target, overwrite=overwrite)


def make_folder(path: Path) -> None:
    """Make a folder for results, before the work that fills it; raises `ResourceError` where it cannot be made."""
    with _as_resource_error(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def atomic_file(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary sibling to write to; rename it to `path` when the block ends without an error.

    Only a kill leaves the sibling behind; the next process on this machine that writes beside it removes it.

    Parameters
    ----------
    path : Path or str
        Final name. Its directory is made when missing.
    overwrite : bool
        Replace an existing file. The old content stays until the new one is complete.

    Raises
    ------
    DataError
        `path` exists and `overwrite` is False.
    ResourceError
        The file system refused (disk full, read-only, quota).
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    partial = _sibling(path, "partial")
    try:
        with _as_resource_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_left_over(path.parent)
            yield partial
            with partial.open("rb+") as handle:
                os.fsync(handle.fileno())
            partial.replace(path)
            _sync_directory(path.parent)
    finally:
        _remove(partial)


@contextlib.contextmanager
def atomic_directory(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary sibling directory to fill; rename it to `path` when the block ends without an error.

    Raises as `atomic_file` does. An existing directory is replaced only once its successor is complete; see
    `publish_directory`.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    partial = _sibling(path, "partial")
    try:
        with _as_resource_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_left_over(path.parent)
            partial.mkdir()
            yield partial
            publish_directory(partial, path)
    finally:
        _remove(partial)


def publish_directory(made: Path, path: Path) -> None:
    """Give a complete directory its final name beside it, once the disk has it; what had that name is removed.

    An existing one is replaced on Linux in one step; elsewhere a kill between two renames can leave it under a
    hidden name beside. After an error before that step `made` is whole and where it was.
    """
    retired = _sibling(path, "old")
    with _as_resource_error(path):
        for item in made.rglob("*"):
            if item.is_file():
                with item.open("rb+") as handle:
                    os.fsync(handle.fileno())
            elif item.is_dir():
                _sync_directory(item)
        _sync_directory(made)
        try:
            if path.exists() and _exchange(made, path):
                _remove(made)
            else:
                if path.exists():
                    path.replace(retired)
                made.replace(path)
            _sync_directory(path.parent)
        finally:
            if retired.exists() and not path.exists():
                retired.replace(path)
            _remove(retired)
