"""Bundles and the one training loop. Names load on first use, so that importing this loads no torch."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Bundle": "bundle",
    "load_bundle": "bundle",
    "save_bundle": "bundle",
    "verify": "golden",
    "find_bundle": "registry",
    "list_bundles": "registry",
    "TrainingSettings": "settings",
    "BundleSpec": "spec",
    "FitResult": "task",
    "Task": "task",
    "fit": "train",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - one list, the table above


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
