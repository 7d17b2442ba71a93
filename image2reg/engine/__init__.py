"""Long jobs over many units: an immutable plan, runners (one machine, dask, shards), results that survive a kill.

Loads nothing until a name is used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Journal": "journal",
    "Outcome": "runs",
    "Plan": "plan",
    "Shard": "plan",
    "finished_elsewhere": "kept",
    "keep_plan": "kept",
    "kept_plan": "kept",
    "make_plan": "plan",
    "planning": "kept",
    "run_plan": "runs",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.engine.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
