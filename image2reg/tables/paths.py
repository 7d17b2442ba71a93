"""Paths of a manifest: relative, written with '/', and inside its folder after links are resolved."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["locate", "refuse_unsafe", "unsafe_reason"]

_CONTROL = r"[\x00-\x1f\x7f]"
# One expression over a million cells; `unsafe_reason` then names what is wrong with the few that it finds.
_UNSAFE = rf"^$|^\s|\s$|^/|\\|^[A-Za-z]:|://|(?:^|/)\.\.(?:/|$)|{_CONTROL}"


def unsafe_reason(path: str) -> str:
    """Say why a manifest may not hold this path; empty when it may.

    Examples
    --------
    >>> unsafe_reason("plate1/A01.tif"), unsafe_reason("../A01.tif")
    ('', "climbs out of the folder with '..'")
    """
    rules = (
        (r"^\s*$", "is empty"),
        (_CONTROL, "holds a control character (NUL, tab or line end)"),
        (r"^\s|\s$", "starts or ends with a space"),
        (r"://", "is a web address"),
        (r"^(\\\\|//)", "is a network (UNC) path"),
        (r"^/|^[A-Za-z]:", "is absolute"),
        (r"\\", "is written with '\\'; write '/'"),
        (r"(?:^|/)\.\.(?:/|$)", "climbs out of the folder with '..'"),
    )
    return next((reason for rule, reason in rules if re.search(rule, path)), "")


def refuse_unsafe(paths: pd.Series, root: Path, where: str, *, follow_links: bool = False) -> None:
    """Refuse paths that are not plain relative ones, or that a link takes out of `root`.

    With `follow_links` they may be links elsewhere, or lie below one.

    Raises
    ------
    DataError
        With the number of such rows and the first three: row, path and reason.
    """
    found = np.flatnonzero(paths.str.contains(_UNSAFE, regex=True).to_numpy())
    named = [f"row {row + 1} {paths.iloc[row]!r} {unsafe_reason(paths.iloc[row])}" for row in found[:3]]
    if not found.size and not follow_links:
        _, inside = locate(paths, root)
        found = np.flatnonzero(~inside)
        named = [f"row {row + 1} {paths.iloc[row]!r} is a link out of the folder" for row in found[:3]]
    if found.size:
        more = f" and {found.size - 3} more" if found.size > 3 else ""
        raise DataError(
            f"{where}: {found.size} of {len(paths)} paths refused: {'; '.join(named)}{more}. Paths are relative to "
            f"the manifest's folder ({root}), stay inside it and use '/'."
        )


def locate(
    paths: pd.Series, root: Path, *, follow_links: bool = False
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which paths exist, and which stay inside `root` once links are resolved (missing ones count as inside).

    With `follow_links`, all count as inside, and those below a folder that is a link elsewhere are looked for there.
    Every folder is listed once, so that a million rows cost a listing each and not a million look-ups.
    """
    import pandas as pd

    parts = paths.str.rpartition("/")
    folders, names = pd.factorize(parts[0])[0], parts[2].to_numpy()
    exists, inside = np.zeros(len(paths), dtype=bool), np.ones(len(paths), dtype=bool)
    real_root = os.path.realpath(root)
    order = np.argsort(folders, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(folders[order])) + 1) if len(order) else []:
        folder = os.path.realpath(root / parts[0].iloc[rows[0]])
        if not follow_links and not _within(folder, real_root):
            inside[rows] = False
            continue
        try:
            with os.scandir(folder) as entries:
                links = {entry.name: entry.is_symlink() for entry in entries}
        except OSError:
            continue
        exists[rows] = [name in links for name in names[rows]]
        for row in rows:
            if links.get(names[row]):
                target = os.path.realpath(os.path.join(folder, names[row]))  # noqa: PTH118
                exists[row] = os.path.exists(target)  # noqa: PTH110
                inside[row] = follow_links or _within(target, real_root)
    return exists, inside


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
