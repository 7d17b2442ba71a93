"""One self-contained HTML file per result. Import the parts from here; nothing is loaded until asked for."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "FieldPanel": "figures",
    "Flag": "staining",
    "Page": "page",
    "ScoreRow": "scores",
    "staining_report": "staining",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Load the part that holds `name` (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
