"""Which frames belong to one time series, and when each was taken: from file names, or from the T axis of a file."""

from __future__ import annotations

import datetime
import os
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from image2reg.errors import ConfigurationError, DataError, ProjectError
from image2reg.images.readers import read
from image2reg.tables.channel_files import files_of_channel, named_for
from image2reg.tables.listing import image_paths, stem
from image2reg.tables.tokens import EDGE_LEFT, EDGE_RIGHT, TIME, in_usual_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Frame", "list_frames"]


@dataclass(frozen=True)
class Frame:
    """One time point of one series.

    Attributes
    ----------
    series : str
        The file's name without what says the time.
    hours : float
        From the first frame of the series.
    path : str
        Relative to the folder all are below.
    time : int
        Position along the T axis of the file.
    is_named : bool
        Whether the file's name says that it holds the channel that was asked for.
    """

    series: str
    hours: float
    path: str
    time: int
    is_named: bool = False

    @property
    def name(self) -> str:
        """Series and time, for messages."""
        return f"{self.series} at {self.hours:g} h"


# What names say outright, in hours: 2026y03m12d_10h00m (Incucyte) and 00d04h00m, 24h, day3.
_DATE = re.compile(rf"{EDGE_LEFT}(\d{{4}})y(\d\d)m(\d\d)d[-_ ]?(\d\d)h(\d\d)m{EDGE_RIGHT}")
_CLOCK = re.compile(rf"{EDGE_LEFT}(?:(\d+)d[-_ ]?)?(\d+)h(?:[-_ ]?(\d+)m(?:in)?)?{EDGE_RIGHT}")
_DAY = re.compile(rf"{EDGE_LEFT}day[-_ ]?(\d+){EDGE_RIGHT}", re.IGNORECASE)
# Numbers of frames: t003, frame 12, TimePoint_2; CV7000; Harmony; else the number a name ends in (img_012, 012).
_NUMBERS = (
    TIME,
    re.compile(r"(?<=_)T(\d{4})(?=F\d{3})"),
    re.compile(rf"(?<=\d)sk(\d+)(?=fk\d|{EDGE_RIGHT})"),
    re.compile(r"(?:(?<![A-Za-z0-9])|(?<=[A-Za-z][A-Za-z]))(\d+)$"),
)
_MORE = 3


def list_frames(
    inputs: Sequence[Path], *, minutes: float | None = None, channel: str | int | None = None
) -> tuple[Path, list[Frame]]:
    """Find the series of a folder, of several files, or of files with a T axis.

    Parameters
    ----------
    inputs : sequence of Path
        Images, folders of images.
    minutes : float, optional
        Between one frame number and the next; names that say days and hours need none.
    channel : str or int, optional
        Of files that hold one channel each, those with this one in their names.

    Returns
    -------
    root : Path
        Folder that all paths are below.
    frames : list of Frame
        By series, then time.

    Raises
    ------
    ConfigurationError
        `minutes` is missing, not positive, or given where names say hours.
    DataError
        No image, names that do not say a time, or two images of one time of one series.
    """
    if minutes is not None and not 0 < minutes < float("inf"):
        raise ConfigurationError(f"--minutes {minutes}: the time between two frames is a number above 0.")
    root, paths = _paths(inputs, channel)
    singles, found = [], []
    for path in paths:
        n_times = 1
        with suppress(
            ProjectError
        ):  # of what cannot be read the name still says the time; it fails as a frame
            n_times = read(root / path).sizes.get("T", 1)
        if n_times == 1:
            singles.append(path)
            continue
        per_frame = _needed(minutes, f"{path} has {n_times} time points")
        found += [(stem(path), n * per_frame, path, n) for n in range(n_times)]
    found += [(series, hours, path, 0) for series, hours, path in _timed(singles, minutes)]
    names = [stem(path) for path in paths]
    named = {path for path, says_so in zip(paths, named_for(names, channel), strict=True) if says_so}
    by_series: dict[str, list[tuple[float, str, int]]] = defaultdict(list)
    for series, hours, path, n in found:
        by_series[series].append((hours, path, n))
    frames = []
    for series, members in sorted(by_series.items()):
        members.sort()
        for (hours, path, _), (later, other, _) in pairwise(members):
            if hours == later:
                raise DataError(
                    f"{path} and {other}: both are series {series!r} at {hours:g} h. Say which channel with --channel, "
                    "or keep other series in folders of their own."
                )
        start = members[0][0]
        frames += [Frame(series, hours - start, path, n, path in named) for hours, path, n in members]
    if max(map(len, by_series.values())) == 1:
        raise DataError(
            f"{len(frames)} images, each a series of one frame, e.g. {frames[0].path}. Give all frames of a series: "
            "their names differ in the time only."
        )
    return root, frames


def _paths(inputs: Sequence[Path], channel: str | int | None) -> tuple[Path, list[str]]:
    """Give the folder that all images are below, and their paths below it, those of the channel."""
    found, above = [], []
    for path in inputs:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder (seen from {Path.cwd()}). Check the path.")
        is_folder = path.is_dir() and not path.name.lower().endswith(".zarr")
        found += [path / name for name in image_paths(path)] if is_folder else [path]
        above.append(path.absolute() if is_folder else path.absolute().parent)
    root = Path(os.path.commonpath(above))
    names = sorted({path.absolute().relative_to(root).as_posix() for path in found})
    kept = files_of_channel([stem(name) for name in names], channel)
    return root, [name for name, is_kept in zip(names, kept, strict=True) if is_kept]


def _timed(paths: Sequence[str], minutes: float | None) -> list[tuple[str, float, str]]:
    """Give series and hours of images of one time point each."""
    if not paths:
        return []
    names = [in_usual_order(stem(path)) for path in paths]
    for pattern, hours_of in ((_DATE, _of_date), (_CLOCK, _of_clock), (_DAY, _of_day)):
        if all(pattern.search(name) for name in names):
            if minutes is not None:
                raise ConfigurationError(
                    f"--minutes {minutes:g}: names say hours already, as {paths[0]} does. Leave it out."
                )
            return _read_by(pattern, hours_of, names, paths)
    for pattern in _NUMBERS:
        if all(pattern.search(name) for name in names):
            per_frame = _needed(minutes, f"{paths[0]} says the number of a frame")
            numbered = _read_by(pattern, lambda found: int(found[1]), names, paths)
            return [(series, number * per_frame, path) for series, number, path in numbered]
    odd = [p for p, name in zip(paths, names, strict=True) if not _NUMBERS[-1].search(name)] or list(paths)
    raise DataError(
        f"{len(odd)} of {len(paths)} images do not say when they were taken in one way, e.g. {odd[:_MORE]}. Name them "
        "by frame (cells_t003), by time (cells_00d04h30m) or give a file with a T axis."
    )


def _read_by(
    pattern: re.Pattern[str],
    hours_of: Callable[[re.Match[str]], float],
    names: Sequence[str],
    paths: Sequence[str],
) -> list[tuple[str, float, str]]:
    read_off = []
    for name, path in zip(names, paths, strict=True):
        *_, found = pattern.finditer(name)
        rest = re.sub(r"[-_ .]{2,}", "_", f"{name[: found.start()]}{name[found.end() :]}")
        read_off.append((rest.strip("-_ ./") or "series", hours_of(found), path))
    return read_off


def _of_date(found: re.Match[str]) -> float:
    year, month, day, hour, minute = (int(each) for each in found.groups())
    try:
        return datetime.datetime(year, month, day, hour, minute, tzinfo=datetime.UTC).timestamp() / 3600
    except ValueError as error:
        raise DataError(f"{found[0]!r} in a file name is no date ({error}). Rename the file.") from error


def _of_clock(found: re.Match[str]) -> float:
    days, hours, minutes = (int(each or 0) for each in found.groups())
    return 24 * days + hours + minutes / 60


def _of_day(found: re.Match[str]) -> float:
    return 24.0 * int(found[1])


def _needed(minutes: float | None, why: str) -> float:
    if minutes is None:
        raise ConfigurationError(f"{why}, not when it was taken. Give the time between frames: --minutes 20.")
    return minutes / 60
