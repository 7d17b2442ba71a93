"""Images and what is done to them before and after a model: reading, writing, tiling, statistics, resampling.

Loads neither torch nor zarr nor tifffile until a file is touched (names resolve lazily, PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Image": "image",
    "OmeZarrWriter": "ome_zarr",
    "Plate": "plates",
    "PlateWriter": "plates",
    "Statistics": "statistics",
    "blend_tiles": "blending",
    "block_boxes": "tiling",
    "block_shape": "tiling",
    "channel_statistics": "statistics",
    "check_voxels": "checks",
    "read": "readers",
    "read_box": "tiling",
    "read_plate": "plates",
    "refuse_non_finite": "checks",
    "resample": "resampling",
    "write": "writers",
    "write_plate": "plates",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.images.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
