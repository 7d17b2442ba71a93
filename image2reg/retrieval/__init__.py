"""Retrieval of mechanisms: average precision with its null, nearest neighbours, enrichment, calibrated calls.

Names load on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "CallSettings": "settings",
    "Retrieval": "calling",
    "FeatureProcessing": "processing",
    "average_precision": "precision",
    "chance_level": "precision",
    "compare_arms": "comparison",
    "choose_processing": "processing",
    "false_discovery_rate": "significance",
    "fold_of_enrichment": "enrichment",
    "interpolated_precision": "enrichment",
    "label_permutation_test": "significance",
    "mean_average_precision": "significance",
    "nearest_neighbours": "neighbours",
    "percent_matching": "matching",
    "percent_replicating": "matching",
    "retrieve": "calling",
    "similarity_matrix": "similarity",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.retrieval.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
