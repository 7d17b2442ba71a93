"""Gene expression tables: GCT and GCTX in and out, whole or in part; signatures of the landmark genes; data levels.

Loads neither pandas nor h5py nor cmapPy until a table is touched (names resolve lazily, PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Alignment": "landmarks",
    "ExpressionTable": "table",
    "ID_KINDS": "landmarks",
    "Signatures": "signatures",
    "align": "landmarks",
    "identifiers": "labels",
    "landmark_genes": "landmarks",
    "level_of": "levels",
    "moderated": "levels",
    "normalised_connectivity": "connectivity",
    "paired_sets": "gene_sets",
    "read": "gct",
    "read_gmt": "gene_sets",
    "read_metadata": "gct",
    "read_signatures": "signatures",
    "signature_similarity": "connectivity",
    "tau": "connectivity",
    "write": "gct",
    "zscores": "levels",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.expression.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
