"""Is a directory the bundle it says it is? Looked at before anything in it is used; needs no torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from image2reg.errors import BundleError
from image2reg.models.spec import BundleSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_BYTES", "SPEC_FILE", "check_files", "content_sha256", "read_spec", "reading", "walk"]

SPEC_FILE = "bundle.json"
MAX_BYTES = 8 * 1024**3
_MAX_SPEC_BYTES = 1_000_000
_AGAIN = "Get the bundle again from where it came from."


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the system's refusal to read a part of the bundle at `path` into `BundleError`."""
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"{error.filename or path}: cannot be read ({error.strerror or error}). Check its permissions, or ask "
            "whom it belongs to."
        ) from error


def read_spec(path: Path | str) -> BundleSpec:
    """Read ``bundle.json`` of the directory `path` without looking at the other files.

    Raises
    ------
    BundleError
        No directory, no such file, too large, no JSON, a field that is wrong (the message names it), or a content that
        is not the one it was written with.
    """
    path = Path(path)
    file = path / SPEC_FILE
    with reading(path):
        if path.is_file():
            raise BundleError(
                f"{path}: is a file. A bundle is a directory with {SPEC_FILE}; archives are not read."
            )
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{path}: holds no plain file {SPEC_FILE}, so it is no model bundle.")
        content = _parse(file)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != 1:
        raise BundleError(
            f"{file}: schema_version is {version!r}; this release reads 1. Update this package."
        )
    try:
        spec = BundleSpec.model_validate(content)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False, include_context=False)[:5]:
            where = ".".join(map(str, item["loc"])) or "the whole"
            lines.append(f"{where}: {item['msg']} (seen {str(item['input'])[:80]!r})")
        raise BundleError(f"{file}: {'; '.join(lines)}.") from error
    if spec.sha256 not in (None, seen := content_sha256(content)):
        raise BundleError(
            f"{file}: damaged or edited since it was written: the sha256 of its content begins {seen[:12]}, it says "
            f"{spec.sha256[:12]}. {_AGAIN} Where the edit was meant, remove the entry 'sha256': the model is then what "
            "the edit made of it."
        )
    return spec


def content_sha256(content: dict[str, Any]) -> str:
    """Hash what ``bundle.json`` says, its own `sha256` left out, however it is laid out."""
    said = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parse(file: Path) -> Any:
    size = file.stat().st_size
    if size > _MAX_SPEC_BYTES:
        raise BundleError(f"{file}: {size} bytes; at most {_MAX_SPEC_BYTES} are read.")
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise BundleError(f"{file}: nested too deeply to be a bundle's description. {_AGAIN}") from error
    except ValueError as error:
        raise BundleError(f"{file}: unreadable ({error}). {_AGAIN}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} occurs twice")
        found[key] = value
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def walk(directory: Path) -> Iterator[str]:
    """Names of all files below `directory`, relative to it.

    Raises
    ------
    BundleError
        A link, a socket or a device is among them.
    """
    for root, folders, names in os.walk(directory, onerror=_refuse_folder):
        for name in (*folders, *names):
            path = Path(root, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise BundleError(f"{path}: is a link or a device; a bundle holds plain files only.")
        yield from (Path(root, name).relative_to(directory).as_posix() for name in names)


def _refuse_folder(error: OSError) -> NoReturn:
    raise error  # os.walk would pass it over


def check_files(directory: Path, spec: BundleSpec, *, max_bytes: int) -> None:
    """Compare the files of a bundle with the list in its description: names, sizes, hashes.

    Raises
    ------
    BundleError
        The first difference, with the name of the file; or a file that may not be read.
    """
    with reading(directory):
        _compare(directory, spec, max_bytes=max_bytes)


def _compare(directory: Path, spec: BundleSpec, *, max_bytes: int) -> None:
    present, listed = set(walk(directory)) - {SPEC_FILE}, set(spec.files)
    if extra := present - listed:
        raise BundleError(
            f"{directory / min(extra)}: not listed in files of {SPEC_FILE}. Remove it. {_AGAIN}"
        )
    if missing := listed - present:
        raise BundleError(
            f"{directory / min(missing)}: missing, but listed in files of {SPEC_FILE}. {_AGAIN}"
        )
    total = sum((directory / name).stat().st_size for name in listed)
    if total > max_bytes:
        raise BundleError(f"{directory}: its files hold {total} bytes; at most {max_bytes} are read.")
    for name, digest in spec.files.items():
        with (directory / name).open("rb") as handle:
            seen = hashlib.file_digest(handle, "sha256").hexdigest()
        if seen != digest:
            raise BundleError(
                f"{directory / name}: damaged or changed: its sha256 begins {seen[:12]}, in {SPEC_FILE} "
                f"it is {digest[:12]}. {_AGAIN}"
            )
    sample = spec.sample
    for role, name in (("input", sample.input), ("expected", sample.expected)) if sample else ():
        if name not in listed:
            raise BundleError(f"{directory / SPEC_FILE}: sample.{role}: {name!r} is not in files.")
