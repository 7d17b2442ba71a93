"""Training state on disk: safetensors and JSON only, published by renaming a directory, hashed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from image2reg.atomic import atomic_directory
from image2reg.errors import BundleError, ConfigurationError

__all__ = [
    "WeightAverage",
    "checkpoint_path",
    "cpu_state",
    "list_checkpoints",
    "load_module",
    "load_optimizer",
    "optimizer_tensors",
    "prune_checkpoints",
    "read_checkpoint",
    "write_checkpoint",
]

_STATE = "state.json"
_SCHEMA = 1
_ADVICE = "Remove this checkpoint's directory to resume from the one before it."


def cpu_state(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's parameters and buffers to the CPU; the copy does not follow later training."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in module.state_dict().items()
    }


class WeightAverage:
    """Exponential moving average of a module's weights (after Polyak and Juditsky 1992).

    The decay rises as ``min(decay, (1 + n) / (10 + n))`` over the first updates, so that the random start is
    forgotten. Buffers (batch statistics, counters) are copied, not averaged.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = module.state_dict()
        self._weights = {name for name, _ in module.named_parameters()}
        self.tensors = {name: value.detach().clone() for name, value in self._live.items()}

    @torch.no_grad()
    def update(self, n_updates: int) -> None:
        """Take in the module's present weights; `n_updates` counts from 1."""
        weight = 1 - min(self.decay, (1 + n_updates) / (10 + n_updates))
        names = [name for name in self.tensors if name in self._weights]
        torch._foreach_lerp_([self.tensors[n] for n in names], [self._live[n] for n in names], weight)
        for name in self.tensors.keys() - self._weights:
            self.tensors[name].copy_(self._live[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the module's weights and the average in place; a second call undoes it exactly."""
        for name, average in self.tensors.items():
            held = self._live[name].clone()
            self._live[name].copy_(average)
            average.copy_(held)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the average from a checkpoint."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """Moments and counters of an optimizer as ``<parameter name>:<key>`` tensors on the CPU."""
    return {
        f"{names[parameter]}:{key}": value.detach().to("cpu", copy=True).contiguous()
        for parameter, entries in optimizer.state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_module(module: nn.Module, phase: str, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Load the tensors called ``<phase>/<name>``.

    Raises
    ------
    ConfigurationError
        Names or shapes are not the module's: the run was started with another network.
    """
    prefix = f"{phase}/"
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{source}: holds another network for phase '{phase}' ({error}). "
            f"Build it as the run was started, or choose another --out."
        ) from error


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave, on each parameter's device and in its memory layout."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, entry = key.rsplit(":", 1)
        parameter = parameters.get(name)
        if parameter is None:  # another phase's
            continue
        held = value.clone()  # the step counter stays on the CPU
        if entry != "step":
            held = torch.empty_like(parameter, requires_grad=False).copy_(value)
        optimizer.state[parameter][entry] = held


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
            try:
                save_file(dict(entries), partial / f"{name}.safetensors")
            except SafetensorError as error:  # how safetensors reports a failing disk
                raise OSError(str(error)) from error
        files = {file.name: _sha256(file) for file in sorted(partial.iterdir())}
        text = json.dumps({"schema_version": _SCHEMA, **state, "files": files}, indent=1, allow_nan=False)
        (partial / _STATE).write_text(text)


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first."""
    found = folder.glob("step_*") if folder.is_dir() else ()
    return sorted(
        (p for p in found if re.fullmatch(r"step_\d{6,}", p.name) and (p / _STATE).is_file()),
        key=lambda p: int(p.name[5:]),
    )


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read what `write_checkpoint` wrote, after checking every file against its hash.

    Raises
    ------
    BundleError
        A file is missing, foreign or damaged; the message names it.
    """
    try:
        state = json.loads((path / _STATE).read_text())
        files = state["files"]
        version = state["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path / _STATE}: unreadable ({error!r}). {_ADVICE}") from error
    if version != _SCHEMA:
        raise BundleError(f"{path / _STATE}: schema_version {version!r}; this release reads {_SCHEMA}.")
    tensors = {}
    for name, digest in files.items():
        file = path / name
        if not file.is_file() or _sha256(file) != digest:
            raise BundleError(
                f"{file}: missing, or its content does not match the hash in {_STATE}. {_ADVICE}"
            )
        tensors[file.stem] = load_file(file)
    return state, tensors


def prune_checkpoints(folder: Path, keep: int, *, partial: bool = False) -> None:
    """Remove all but the newest `keep` checkpoints; with `partial`, also half-written ones."""
    doomed: Iterable[Path] = list_checkpoints(folder)[:-keep]
    if partial and folder.is_dir():
        doomed = [*doomed, *folder.glob(".step_*")]
    for path in doomed:
        # state.json goes first, so that a kill in the middle leaves no directory that looks complete.
        (path / _STATE).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
