"""Bundles by name: those shipped in a package, and those in the user's own folder."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from image2reg.errors import BundleError
from image2reg.models.bundle import Bundle, load_bundle
from image2reg.models.integrity import SPEC_FILE, read_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from image2reg.models.spec import BundleSpec

__all__ = ["ENVIRONMENT", "Entry", "find_bundle", "list_bundles", "local_roots"]

ENVIRONMENT = "VIRTUALSTAIN_MODELS"


@dataclass(frozen=True)
class Entry:
    """A directory that looks like a bundle; where `spec` is None, `problem` says why it cannot be read."""

    name: str
    path: Path
    spec: BundleSpec | None
    problem: str | None = None


def local_roots() -> list[Path]:
    """List the folders of own bundles: ``VIRTUALSTAIN_MODELS``, else ``~/.local/share/virtualstain/models``.

    The variable may name several, separated as in ``PATH``; ``XDG_DATA_HOME`` moves the default.
    """
    if named := os.environ.get(ENVIRONMENT):
        return [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    share = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return [Path(share).expanduser() / "virtualstain" / "models"]


def _directories(roots: Sequence[Path]) -> dict[str, Path]:
    """Bundles by the name of their directory; the first root wins."""
    found: dict[str, Path] = {}
    for root in (*roots, *local_roots()):
        try:
            paths = sorted(root.iterdir())
        except OSError:  # not there, or another user's: a shipped model needs no folder of one's own
            continue
        for path in paths:
            if not path.name.startswith(".") and _looks_like_bundle(path):
                found.setdefault(path.name, path)
    return found


def _looks_like_bundle(path: Path) -> bool:
    try:
        return (path / SPEC_FILE).is_file()
    except PermissionError:  # listed; who asks for it is told that it may not be read
        return True


def list_bundles(roots: Sequence[Path]) -> list[Entry]:
    """Bundles in `roots` and in the user's folders, by name; files and hashes are not checked.

    Parameters
    ----------
    roots : sequence of Path
        Folders of shipped bundles. Of two bundles with one name the first is listed, shipped before local.
    """
    entries = []
    for name, path in sorted(_directories(roots).items()):
        try:
            entries.append(Entry(name, path, read_spec(path)))
        except BundleError as error:
            entries.append(Entry(name, path, None, str(error)))
    return entries


def find_bundle(name: str | Path, roots: Sequence[Path], *, also: Sequence[str] = ()) -> Bundle:
    """Load the bundle called `name`, or the one in the directory `name`.

    Parameters
    ----------
    name : str or Path
        Name of a bundle in `roots` or the user's folders; anything with a path separator, or a directory with
        a ``bundle.json``, is a path.
    roots : sequence of Path
    also : sequence of str
        What else may be named there and needs no bundle: messages list it.

    Raises
    ------
    BundleError
        Nothing of that name; the names there are and the nearest are given. Or the bundle is damaged.
    """
    text = str(name)
    if isinstance(name, Path) or os.sep in text or (Path(text) / SPEC_FILE).is_file():
        return load_bundle(name)
    found = _directories(roots)
    if text in found:
        return load_bundle(found[text])
    names = sorted({*found, *also})
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    known = ", ".join(names) or "none"
    local = ", ".join(map(str, local_roots()))
    raise BundleError(
        f"no model is called {text!r}.{guess} There are: {known}. A directory with a {SPEC_FILE} can be "
        f"given by its path; own models are looked for in {local} ({ENVIRONMENT})."
    )
