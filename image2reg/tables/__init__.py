"""Tables: manifests of images, splits that keep groups whole, CSV that a spreadsheet will not run.

Loads pandas only when a name is used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "ImageField": "fields",
    "ImageSource": "fields",
    "Manifest": "manifest",
    "Profiles": "profiles",
    "controls_of": "normalise",
    "correct_batches": "batches",
    "from_folder": "folder",
    "group_folds": "splits",
    "modz": "aggregate",
    "read_csv": "cells",
    "refuse_disguised": "disguise",
    "refuse_shared_groups": "splits",
    "select_features": "selection",
    "sphere": "normalise",
    "split_by_group": "splits",
    "write_csv": "cells",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.tables.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
