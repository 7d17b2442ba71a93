"""From profiles to genes: kernel ridge from sources to gene embeddings, scored on genes it never saw.

Loads neither torch nor pandas until a name is used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "LinkResult": "ranking",
    "Nystrom": "nystrom",
    "Setting": "settings",
    "held_out": "regression",
    "kernel_matrix": "kernels",
    "link": "ranking",
    "link_scores": "scores",
    "nested_scores": "selection",
    "replicate_whitened": "sources",
    "scaled": "sources",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.linking.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
