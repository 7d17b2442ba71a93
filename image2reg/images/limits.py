"""How many bytes may be decoded, checked from metadata before anything is."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["default_max_bytes", "n_bytes", "refuse_oversized"]

# One image may take this part of the memory: input, float copy and output must fit beside each
# other.
_MEMORY_FRACTION = 0.25
_FALLBACK_BYTES = 2 * 2**30
_GROUPS, _GROUPS_OF_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def default_max_bytes() -> int:
    """Return a quarter of the memory this process may use, in bytes (2 GiB where the system does not tell)."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _FALLBACK_BYTES
    return int(min(memory, *_group_limits(_GROUPS, _GROUPS_OF_PROCESS)) * _MEMORY_FRACTION)


@functools.cache
def _group_limits(root: Path, groups: Path) -> tuple[float, ...]:
    """Limits of the control groups of Linux that a cluster's job or a container runs in; infinity where there is none.

    Reference: Linux cgroup v2 (``memory.max``) and v1 (``memory.limit_in_bytes``). A limit holds for all groups below.
    """
    limits = [math.inf]
    with contextlib.suppress(OSError, ValueError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, kinds, group = line.split(":", 2)
            name = {"": "memory.max", "memory": "memory.limit_in_bytes"}.get(kinds)
            base = root / kinds
            place = base / group.lstrip("/")
            for folder in [place, *place.parents] if name else []:
                if folder.is_relative_to(base) and (file := folder / str(name)).is_file():
                    text = file.read_text(encoding="utf-8").strip()
                    limits += [float(text)] if text.isdecimal() else []  # "max": none
    return tuple(limits)


def n_bytes(shape: Sequence[int], dtype: Any) -> int:
    """Bytes of an array of `shape` and `dtype`; exact, however large."""
    return math.prod(int(n) for n in shape) * np.dtype(dtype).itemsize


def _readable(size: int) -> str:
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def refuse_oversized(
    path: Path | str, shape: Sequence[int], dtype: Any, *, max_bytes: int | None, what: str = "image"
) -> None:
    """Raise before decoding when `what` (an image, plane or chunk of `shape` and `dtype`) is over the limit.

    Raises
    ------
    ResourceError
        With both sizes and the option that changes the limit.
    """
    limit = default_max_bytes() if max_bytes is None else max_bytes
    size = n_bytes(shape, dtype)
    if size > limit:
        raise ResourceError(
            f"{path}: its metadata declare one {what} of shape {tuple(shape)} and type {np.dtype(dtype)}, "
            f"{_readable(size)} decoded; the limit is {_readable(limit)}. If the file is what you expect, "
            "pass "
            f"--max-bytes {size} (Python: max_bytes={size}); otherwise it is damaged or hostile."
        )
