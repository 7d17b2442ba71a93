"""Embedding of nuclei: encoders over crops, scores with named groups, ablations, wells.

Loads torch only when a name that needs it is used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "EncoderRecipe": "recipe",
    "TileEncoder": "encoder",
    "ablate": "ablation",
    "cross_validate": "crossvalidation",
    "embed": "encoder",
    "load_encoder": "encoder",
    "mean_by_well": "wells",
    "score_levels": "levels",
    "train_encoder": "training",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.embedding.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
