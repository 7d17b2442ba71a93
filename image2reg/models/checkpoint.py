"""Checkpoints on disk: safetensors and JSON only, hashed, published by renaming a directory."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save

from image2reg.atomic import atomic_directory
from image2reg.errors import BundleError
from image2reg.provenance import json_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

__all__ = ["checkpoint_path", "list_checkpoints", "prune_checkpoints", "read_checkpoint", "write_checkpoint"]

_STATE = "state.json"
_OWN = "sha256"  # in state.json: the hash of everything else in it
_SCHEMA = 1
_ADVICE = "Remove this checkpoint's directory to resume from the one before it."


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def checkpoint_path(folder: Path, step: int) -> Path:
    """Directory of the checkpoint of `step`."""
    return folder / f"step_{step:06d}"


def write_checkpoint(
    path: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    """Write ``<name>.safetensors`` for each entry of `tensors` and ``state.json``; all appear at once.

    Raises
    ------
    ResourceError
        The disk is full or read-only; nothing appears under the final name.
    """
    with atomic_directory(path) as partial:
        for name, entries in tensors.items():
            (partial / f"{name}.safetensors").write_bytes(save(dict(entries)))
        files = {file.name: _sha256(file) for file in sorted(partial.iterdir())}
        content = {"schema_version": _SCHEMA, **state, "files": files}
        content[_OWN] = json_sha256(content)
        (partial / _STATE).write_text(json.dumps(content, indent=1, allow_nan=False))


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first."""
    return [path for path in _named(folder) if (path / _STATE).is_file()]


def _named(folder: Path) -> list[Path]:
    found = folder.glob("step_*") if folder.is_dir() else ()
    named = (path for path in found if re.fullmatch(r"step_\d{6,}", path.name))
    return sorted(named, key=lambda path: int(path.name[5:]))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read what `write_checkpoint` wrote, after checking every file against its hash.

    Raises
    ------
    BundleError
        A file is missing, foreign or damaged; the message names it.
    """
    try:
        state = json.loads((path / _STATE).read_text())
        files, version, digest = dict(state["files"]), state["schema_version"], state.pop(_OWN, None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path / _STATE}: unreadable ({error!r}). {_ADVICE}") from error
    if version != _SCHEMA:
        raise BundleError(f"{path / _STATE}: schema_version {version!r}; this release reads {_SCHEMA}.")
    if digest not in (None, json_sha256(state)):  # None: written before there was one
        raise BundleError(f"{path / _STATE}: damaged or changed: not what its own hash says. {_ADVICE}")
    tensors = {}
    for name, digest in files.items():
        file = path / name
        if not file.is_file() or _sha256(file) != digest:
            raise BundleError(f"{file}: missing, or not what its hash in {_STATE} says. {_ADVICE}")
        tensors[file.stem] = load_file(file)
    return state, tensors


def prune_checkpoints(folder: Path, keep: int, *, partial: bool = False) -> None:
    """Remove all but the newest `keep` checkpoints; with `partial`, also half-written and half-removed ones."""
    complete = list_checkpoints(folder)
    doomed = complete[:-keep]
    if partial and folder.is_dir():
        doomed += [*folder.glob(".step_*"), *(path for path in _named(folder) if path not in complete)]
    for path in doomed:
        # state.json goes first, so that a kill in the middle leaves no directory that looks complete.
        (path / _STATE).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
