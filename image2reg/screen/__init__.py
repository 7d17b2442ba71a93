"""Screens: plates, normalisation, quality, hits, dose and response, pathways.

Loads nothing until a name is used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "DoseResponse": "dose_response",
    "ScreenSettings": "settings",
    "b_score": "normalise",
    "benjamini_hochberg": "significance",
    "call_by_rule": "rules",
    "call_hits": "hits",
    "fit_dose_response": "dose_response",
    "fold_change": "normalise",
    "gene_scores": "gene_level",
    "median_polish": "normalise",
    "over_representation": "pathways",
    "parse_well": "plates",
    "plate_quality": "quality",
    "read_gmt": "pathways",
    "robust_z": "normalise",
    "run_screen": "pipeline",
    "select_rows": "queries",
    "ssmd": "quality",
    "z_prime": "quality",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.screen.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
