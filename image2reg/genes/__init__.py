"""Gene network: interactions with costs, a Steiner graph of the targets, embeddings of its genes.

Loads neither torch nor pandas until a name is used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "GeneNetwork": "network",
    "Interactome": "interactome",
    "coexpression_costs": "expression",
    "diffusion": "embedding",
    "embed_genes": "table",
    "expression_prizes": "expression",
    "graph_autoencoder": "autoencoder",
    "netmf": "embedding",
    "prize_collecting": "steiner",
    "read_interactions": "interactions",
    "steiner_tree": "steiner",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"image2reg.genes.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
