"""The network of one study as a directory: the wide interactome, the Steiner graph in it, and what made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from image2reg.atomic import atomic_directory
from image2reg.errors import DataError
from image2reg.genes.interactome import Interactome
from image2reg.genes.steiner import SteinerGraph

__all__ = ["GeneNetwork"]

_FILES = ("interactions.parquet", "genes.parquet", "network.json")


@dataclass(frozen=True, eq=False)
class GeneNetwork:
    """What ``image2reg network`` writes and ``image2reg genes`` reads.

    Attributes
    ----------
    interactome : Interactome
        Wide network, hubs left out; diffusion runs over it.
    steiner : SteinerGraph
        The candidate genes and the interactions among them.
    facts : mapping
        How it was made: JSON types.
    """

    interactome: Interactome
    steiner: SteinerGraph
    facts: Mapping[str, Any]

    def write(self, directory: Path | str, *, overwrite: bool = False) -> None:
        """Write the directory, whole or not at all.

        ``interactions.parquet`` (protein1, protein2, cost, graph_cost), ``genes.parquet`` (gene, role) and
        ``network.json``.
        """
        import pandas as pd

        with atomic_directory(Path(directory), overwrite=overwrite) as made:
            a, b, costs = self.interactome.edges()
            names, graph = self.interactome.names, self.steiner.graph
            first, second, inner = graph.edges()
            frame = pd.DataFrame({"protein1": names[a], "protein2": names[b], "cost": costs})
            pairs = pd.DataFrame(
                {"protein1": graph.names[first], "protein2": graph.names[second], "graph_cost": inner}
            )
            frame.merge(pairs, how="left", on=["protein1", "protein2"]).to_parquet(
                made / _FILES[0], index=False
            )
            role = np.where(np.isin(graph.names, self.steiner.terminals), "target", "joining")
            pd.DataFrame({"gene": graph.names, "role": role}).to_parquet(made / _FILES[1], index=False)
            (made / _FILES[2]).write_text(json.dumps(self._described(), indent=1), encoding="utf-8")

    def _described(self) -> dict[str, Any]:
        beta = self.steiner.beta
        return {
            "schema_version": 1, "method": self.steiner.method, "beta": None if np.isnan(beta) else beta,
            "n_genes": len(self.steiner.graph.names), "n_interactions": self.steiner.graph.n_edges,
            "targets": list(self.steiner.terminals), "lost": list(self.steiner.lost), **self.facts,
        }  # fmt: skip

    @classmethod
    def read(cls, directory: Path | str) -> GeneNetwork:
        """Read what `write` wrote.

        Raises
        ------
        DataError
            Not such a directory, or damaged.
        """
        import pandas as pd

        directory = Path(directory)
        missing = [name for name in _FILES if not (directory / name).is_file()]
        if missing:
            raise DataError(f"{directory}: {missing} missing; give a directory that image2reg network wrote.")
        try:
            frame = pd.read_parquet(directory / _FILES[0])
            genes = pd.read_parquet(directory / _FILES[1])
            facts = json.loads((directory / _FILES[2]).read_text("utf-8"))
            inner = frame.dropna(subset=["graph_cost"])
            wide = Interactome.from_edges(frame.protein1, frame.protein2, frame.cost, source=str(directory))
            graph = Interactome.from_edges(
                inner.protein1, inner.protein2, inner.graph_cost, source=str(directory)
            )
            targets = tuple(genes.gene[genes.role == "target"])
            beta = float("nan") if facts["beta"] is None else float(facts["beta"])
            steiner = SteinerGraph(graph, targets, tuple(facts["lost"]), facts["method"], beta)
        except Exception as error:  # the door: pyarrow raises a dozen kinds for damaged files
            raise DataError(
                f"{directory}: cannot be read as a gene network ({type(error).__name__}: {error})."
            ) from error
        return cls(wide, steiner, facts)
