"""Gene expression tables: GCT and GCTX in and out, whole or in part.

Loads neither pandas nor h5py nor cmapPy until a table is touched (names resolve lazily, PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "ExpressionTable": "table",
    "identifiers": "labels",
    "read": "gct",
    "read_metadata": "gct",
    "write": "gct",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.expression.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
