"""Images and what is done to them before and after a model: reading, writing, tiling, statistics, resampling.

Loads neither torch nor zarr nor tifffile until a file is touched (names resolve lazily, PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Image": "image",
    "OmeZarrWriter": "ome_zarr",
    "blend_tiles": "blending",
    "block_boxes": "tiling",
    "block_shape": "tiling",
    "read": "readers",
    "read_box": "tiling",
    "write": "writers",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.images.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
