"""``run.json``: what ran, on what, with which versions; enough to run it again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image2reg.atomic import atomic_file
from image2reg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

__all__ = [
    "arrays_sha256",
    "canonical",
    "file_sha256",
    "git_commit",
    "installed_versions",
    "json_sha256",
    "run_record",
    "write_run",
]

_PACKAGES = ("virtualstain", "torch", "accelerate", "diffusers", "monai", "safetensors", "numpy", "scipy",
             "scikit-image", "pandas", "tifffile", "zarr", "cmapPy", "pydantic")  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages results depend on, read without importing them."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit(directory: Path | None = None) -> str | None:
    """Commit of the checkout `directory` (by default the one this package lies in), ``-dirty`` when changed.

    None where there is no git or no checkout.
    """
    directory = directory or Path(__file__).resolve().parents[1]
    git = shutil.which("git")
    if git is None or not (directory / ".git").exists():
        return None
    # Inside a hook, git's own variables point at whatever repository the hook belongs to.
    foreign = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    command = [git, "-C", str(directory), "describe", "--always", "--abbrev=40", "--match=", "--dirty"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def file_sha256(path: Path | str) -> str:
    """Hash of a file's bytes.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    try:
        with Path(path).open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error


def arrays_sha256(arrays: Iterable[Any]) -> str:
    """Hash of arrays in their order: equal types, shapes and values, equal hash."""
    import numpy as np

    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype}{array.shape}".encode())
        if array.size:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def json_sha256(value: Any) -> str:
    """Hash of a value as canonical JSON: equal content, equal hash, whatever the order of keys."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> str:
    """Write a value as JSON in the one way that is hashed."""
    return _ENCODER.encode(value)


def run_record(
    *,
    seed: int | None = None,
    configuration: BaseModel | None = None,
    inputs: Mapping[str, Path] | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Collect what is known when a run starts.

    Parameters
    ----------
    seed : int, optional
    configuration : pydantic model, optional
        As resolved; its content and hash are recorded.
    inputs : mapping of str to Path, optional
        Files the result depends on (manifest, bundle.json); their hashes are recorded.
    command : sequence of str, optional
        By default this process's own.

    Returns
    -------
    dict
        ``schema_version, command, started, git, versions, machine, seed, configuration, configuration_sha256,
        inputs``: JSON types only.
    """
    content = None if configuration is None else configuration.model_dump(mode="json")
    given = list(command) if command is not None else [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {
        "schema_version": 1,
        "command": given,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git": git_commit(),
        "versions": installed_versions(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "seed": seed,
        "configuration": content,
        "configuration_sha256": None if content is None else json_sha256(content),
        "inputs": {k: {"path": str(p), "sha256": file_sha256(p)} for k, p in (inputs or {}).items()},
    }


def write_run(directory: Path | str, record: Mapping[str, Any]) -> Path:
    """Write ``run.json`` into `directory`, replacing the one of an earlier part of the same run."""
    path = Path(directory) / "run.json"
    with atomic_file(path, overwrite=True) as partial:
        partial.write_text(
            json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8"
        )
    return path
