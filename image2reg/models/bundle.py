"""A model in one directory that describes itself, checked in full before anything of it is used."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from image2reg.atomic import atomic_directory, refuse_existing, refuse_unmakeable
from image2reg.errors import BundleError, DataError, ProjectError
from image2reg.models.card import render_card
from image2reg.models.integrity import (
    MAX_BYTES,
    SPEC_FILE,
    check_files,
    content_sha256,
    read_spec,
    reading,
    walk,
)
from image2reg.models.spec import refuse_file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from image2reg.models.spec import Architecture, BundleSpec

__all__ = ["CARD_FILE", "WEIGHTS_FILE", "Bundle", "bundle_of_run", "load_bundle", "save_bundle"]

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were checked. Nothing of torch is loaded until weights are asked for."""

    directory: Path
    spec: BundleSpec

    def file(self, name: str) -> Path:
        """Path of one of its files.

        Raises
        ------
        BundleError
            The bundle has no such file.
        """
        if name not in self.spec.files:
            raise BundleError(
                f"{self.directory}: has no file {name!r}; it holds {', '.join(self.spec.files)}."
            )
        return self.directory / name

    @contextlib.contextmanager
    def described(self, part: str) -> Iterator[None]:
        """Refuse the bundle, by the name of `part`, when what its description says cannot be used.

        Raises
        ------
        BundleError
            Whatever else is raised in the block.
        """
        try:
            yield
        except ProjectError:
            raise
        except Exception as error:
            raise BundleError(
                f"{self.directory / SPEC_FILE}: {part} is not what a bundle of kind {self.spec.kind!r} holds "
                f"({type(error).__name__}: {error}). Get the bundle again from where it came from."
            ) from error

    def state_dict(self, name: str = WEIGHTS_FILE) -> dict[str, Tensor]:
        """Weights in float32, whatever they are rounded to in the file, from bytes that match the recorded hash.

        Raises
        ------
        BundleError
            The file changed since it was checked, cannot be read, or is no safetensors file.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        from image2reg.models.rounding import restored

        path = self.file(name)
        with reading(path):
            content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.spec.files[name]:
            raise BundleError(f"{path}: changed on disk since the bundle was checked. Load the bundle again.")
        try:
            return restored(load(content))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: is no safetensors file ({error}). Get the bundle again.") from error

    def build(
        self, networks: Mapping[str, Callable[..., nn.Module]], *, name: str = WEIGHTS_FILE
    ) -> nn.Module:
        """Build the network and load its weights, in float32 and evaluation mode, on the CPU.

        Parameters
        ----------
        networks : mapping of str to callable
            The architectures the caller knows, by name in the specification.
        name : str
            File with the weights.

        Raises
        ------
        BundleError
            Unknown architecture or arguments, names or shapes that differ, weights that are not finite.
        """
        import torch

        architecture, where = self.spec.architecture, self.directory / SPEC_FILE
        if architecture.name not in networks:
            known = ", ".join(sorted(networks))
            raise BundleError(
                f"{where}: architecture.name {architecture.name!r} is unknown here; known: {known}."
            )
        factory = networks[architecture.name]
        tensors = self.state_dict(name)
        with _naming_arguments(where, architecture), torch.device("meta"):
            # Without memory: shapes are compared before any is asked for.
            expected = factory(**architecture.arguments).state_dict()
        _refuse_weights(self.directory / name, tensors, expected)
        with _naming_arguments(where, architecture), torch.random.fork_rng(devices=[]):
            # Its random first weights are overwritten: the caller's random numbers are not used up for them.
            module = factory(**architecture.arguments)
        module.load_state_dict(tensors)
        return module.eval()


@contextlib.contextmanager
def _naming_arguments(where: Path, architecture: Architecture) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a constructor meets foreign arguments with many kinds
        raise BundleError(
            f"{where}: architecture.arguments {architecture.arguments} build no "
            f"{architecture.name!r} ({error})."
        ) from error


def _refuse_weights(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    wrong = [f"{name!r} is missing" for name in expected if name not in tensors]
    wrong += [f"{name!r} is not part of the network" for name in tensors if name not in expected]
    for name, value in tensors.items():
        if name in expected and value.shape != expected[name].shape:
            wrong.append(
                f"{name!r} has shape {tuple(value.shape)}, the network has {tuple(expected[name].shape)}"
            )
        elif name in expected and expected[name].is_floating_point() and not value.is_floating_point():
            wrong.append(f"{name!r} holds {value.dtype} without the steps that make weights of them")
        elif value.is_floating_point() and not bool(value.isfinite().all()):
            wrong.append(f"{name!r} holds {int((~value.isfinite()).sum())} values that are not finite")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BundleError(f"{path}: does not fit its architecture: {'; '.join(wrong[:3])}{more}.")


def load_bundle(path: Path | str, *, max_bytes: int = MAX_BYTES) -> Bundle:
    """Read and check a bundle: its description, its list of files, their sizes and hashes.

    Parameters
    ----------
    path : Path or str
        Directory.
    max_bytes : int
        Largest sum of file sizes, looked at before any file is opened.

    Raises
    ------
    BundleError
        Anything is wrong; the message names the field or the file.
    """
    directory = Path(path)
    spec = read_spec(directory)
    check_files(directory, spec, max_bytes=max_bytes)
    return Bundle(directory, spec)


def bundle_of_run(out: Path, *, resume: bool, parts: Sequence[str] = ("",)) -> Path:
    """Give the folder a training run writes its bundle to; asked for before any work.

    Parameters
    ----------
    out : Path
        Directory of the run.
    resume : bool
    parts : sequence of str
        Folders in `out` that each hold a training, where it has several.

    Raises
    ------
    DataError
        `out` holds a run or a bundle, and `resume` is False; or a bundle whose checkpoints are gone: it would be
        replaced by one trained from the beginning.
    ResourceError
        Nothing can be written there.
    """
    from image2reg.models.checkpoint import list_checkpoints

    refuse_unmakeable(out / "bundle")
    held = [name for name in ("bundle", "checkpoints", "metrics.jsonl") if (out / name).exists()]
    if held and not resume:
        raise DataError(
            f"{out}: holds a training run ({', '.join(held)}). Pass --resume to continue it, or choose another --out."
        )
    bare = [folder for part in parts if not list_checkpoints(folder := out / part / "checkpoints")]
    if "bundle" in held and bare:
        raise DataError(
            f"{out}: its training is complete ({out / 'bundle'}), and nothing is left to continue from (no checkpoint "
            f"in {bare[0]}). Use the bundle as it is, or choose another --out to train anew."
        )
    return out / "bundle"


def save_bundle(
    directory: Path | str,
    spec: BundleSpec,
    state_dict: Mapping[str, Tensor] | None,
    *,
    files: Mapping[str, Path | bytes] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle; the directory appears whole or not at all.

    Parameters
    ----------
    directory : Path or str
    spec : BundleSpec
        ``files`` and ``sha256`` are filled in here.
    state_dict : mapping of str to Tensor, or None
        Weights for ``model.safetensors``, in any floating precision or as `image2reg.models.rounding.rounded` gives
        them; None when `files` brings the weights.
    files : mapping of str to Path or bytes
        Further files by their name in the bundle. ``README.md`` is rendered from `spec` unless it is given.
    overwrite : bool
        Replace an existing bundle.

    Raises
    ------
    BundleError
        A file name that is not allowed, or a specification that would not load again.
    DataError, ResourceError
        `directory` exists or a file for it does not; the disk refused.
    """
    directory, files = Path(directory), dict(files or {})
    refuse_existing(directory, overwrite=overwrite)
    files.setdefault(CARD_FILE, render_card(spec).encode())
    reserved = {SPEC_FILE, WEIGHTS_FILE} if state_dict is not None else {SPEC_FILE}
    for name in files:
        if (reason := refuse_file_name(name)) or name in reserved:
            raise BundleError(f"{directory / name}: {reason or 'is written by save_bundle itself'}.")
        source = files[name]
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise DataError(f"{source}: is no file; it was to become {name} of the bundle {directory}.")
    with atomic_directory(directory, overwrite=overwrite) as partial:
        if state_dict is not None:
            _save_weights(partial / WEIGHTS_FILE, state_dict)
        for name, content in files.items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else Path(content).read_bytes())
        hashes = {
            name: hashlib.sha256((partial / name).read_bytes()).hexdigest() for name in sorted(walk(partial))
        }
        complete = spec.model_copy(update={"files": hashes})
        digest = content_sha256(complete.model_dump(mode="json"))
        complete = complete.model_copy(update={"sha256": digest})
        text = json.dumps(complete.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False)
        (partial / SPEC_FILE).write_text(text, encoding="utf-8")
        try:
            load_bundle(partial)
        except BundleError as error:
            raise BundleError(str(error).replace(str(partial), str(directory))) from error
    return Bundle(directory, complete)


def _save_weights(path: Path, state_dict: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    from image2reg.models.state import cpu_copy

    # Copies, because safetensors refuses tensors that share memory (tied weights). Not by its own `save_file`: nobody
    # but their owner could read the files.
    path.write_bytes(save(cpu_copy(state_dict)))
