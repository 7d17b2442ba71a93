"""Interactome: proteins and the costs of their interactions, as a sparse symmetric matrix."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from image2reg.errors import ConfigurationError, DataError

__all__ = ["Interactome"]

# A cost of 0 would be no entry in a sparse matrix; costs this small mean the same as 0.
_SMALLEST_COST = 1e-6


@dataclass(frozen=True, eq=False)
class Interactome:
    """Proteins by gene symbol, and what an interaction between two of them costs.

    Attributes
    ----------
    names : (n,) str, ascending
    costs : (n, n) symmetric CSR float64
        Low is confident; no entry is no interaction. No self-interactions.
    source : str
        What messages call it.

    Examples
    --------
    >>> net = Interactome.from_edges(["A", "B"], ["B", "C"], [0.2, 0.4])
    >>> net.n_edges, net.neighbourhood_sizes().tolist()
    (2, [1, 2, 1])
    """

    names: NDArray[np.str_]
    costs: sparse.csr_matrix
    source: str = "interactome"

    @classmethod
    def from_edges(cls, first: Any, second: Any, costs: Any, *, source: str = "interactome") -> Interactome:
        """Build from a list of pairs; of a pair given twice the lower cost counts, self-pairs are left out."""
        ends = np.concatenate([np.asarray(first, dtype=str), np.asarray(second, dtype=str)])
        names, codes = np.unique(ends, return_inverse=True)
        a, b = codes[: len(codes) // 2], codes[len(codes) // 2 :]
        low, high = np.minimum(a, b), np.maximum(a, b)
        values = np.maximum(np.asarray(costs, dtype=np.float64), _SMALLEST_COST)
        order = np.lexsort((values, high, low))
        low, high, values = low[order], high[order], values[order]
        keep = low != high
        keep[1:] &= (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        low, high, values = low[keep], high[keep], values[keep]
        n = len(names)
        rows, columns = np.concatenate([low, high]), np.concatenate([high, low])
        matrix = sparse.csr_matrix((np.concatenate([values, values]), (rows, columns)), (n, n))
        return cls(names, matrix, source)

    def __repr__(self) -> str:
        """Sizes, not values."""
        return f"Interactome({len(self.names)} proteins, {self.n_edges} interactions, {self.source})"

    @property
    def n_edges(self) -> int:
        """Number of interactions."""
        return int(self.costs.nnz // 2)

    def neighbourhood_sizes(self) -> NDArray[np.intp]:
        """Degree of each protein."""
        return np.diff(self.costs.indptr)

    def edges(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Each interaction once: positions of its ends (first below second) and its cost."""
        upper = sparse.triu(self.costs, k=1).tocoo()
        order = np.lexsort((upper.col, upper.row))
        return upper.row[order].astype(np.intp), upper.col[order].astype(np.intp), upper.data[order]

    def positions(self, genes: Collection[str]) -> tuple[NDArray[np.intp], tuple[str, ...]]:
        """Give positions of the genes that are here, in ascending order, and the names of those that are not."""
        wanted = np.array(sorted(set(genes)), dtype=str)
        here = np.isin(wanted, self.names)
        return np.searchsorted(self.names, wanted[here]), tuple(wanted[~here].tolist())

    def subgraph(self, kept: NDArray[Any]) -> Interactome:
        """Keep proteins by mask or ascending position, and the interactions between them."""
        kept = np.flatnonzero(kept) if np.asarray(kept).dtype == np.bool_ else np.asarray(kept)
        if not len(kept):
            raise DataError(f"{self.source}: no protein is left.")
        return Interactome(self.names[kept], self.costs[kept][:, kept].tocsr(), self.source)

    def without_hubs(self, quantile: float = 0.999, *, keep: Collection[str] = ()) -> Interactome:
        """Leave out proteins whose degree is above a quantile of all degrees, except those to `keep`."""
        if not 0 < quantile <= 1:
            raise ConfigurationError(f"hub quantile is {quantile}; allowed is above 0 to 1, usual is 0.999.")
        degree = self.neighbourhood_sizes()
        return self.subgraph((degree <= np.quantile(degree, quantile)) | np.isin(self.names, list(keep)))

    def median_cost(self) -> float:
        """Median over all interactions."""
        return float(np.median(self.edges()[2]))

    def confident(self, max_cost: float) -> Interactome:
        """Keep interactions of at most this cost; proteins stay.

        Raises
        ------
        DataError
            None is that cheap.
        """
        a, b, costs = self.edges()
        keep = costs <= max_cost
        if not keep.any():
            raise DataError(
                f"{self.source}: no interaction costs at most {max_cost:g}; costs are {costs.min():g} "
                f"to {costs.max():g}. "
                "Raise the limit."
            )
        return self.with_edges(a[keep], b[keep], costs[keep])

    def with_edges(self, a: NDArray[np.intp], b: NDArray[np.intp], costs: NDArray[np.float64]) -> Interactome:
        """Keep the proteins, replace the interactions: positions of the ends (each pair once) and costs."""
        n = len(self.names)
        values = np.maximum(np.concatenate([costs, costs]), _SMALLEST_COST)
        matrix = sparse.csr_matrix((values, (np.concatenate([a, b]), np.concatenate([b, a]))), (n, n))
        return Interactome(self.names, matrix, self.source)

    def largest_component(self) -> Interactome:
        """Keep the largest set of proteins that reach each other."""
        _, label = connected_components(self.costs, directed=False)
        return self.subgraph(label == np.bincount(label).argmax())
