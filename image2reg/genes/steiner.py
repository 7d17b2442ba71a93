"""The smallest network that joins the targets: metric-closure Steiner tree, and the prize-collecting one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, dijkstra, minimum_spanning_tree

from image2reg.errors import DataError
from image2reg.genes.interactome import Interactome

__all__ = ["SteinerGraph", "prize_collecting", "steiner_tree"]

BETAS = tuple(np.round(np.arange(0.1, 10.0, 0.1), 1).tolist())


@dataclass(frozen=True, eq=False)
class SteinerGraph:
    """Genes chosen to join the terminals, with all interactions among them.

    Attributes
    ----------
    graph : Interactome
        Induced subgraph, largest component.
    terminals : tuple of str
        Targets in it.
    lost : tuple of str
        Targets that are not: absent from the interactome, or not reached.
    method : str
    beta : float
        Weight of prizes where they were collected, NaN otherwise.
    """

    graph: Interactome
    terminals: tuple[str, ...]
    lost: tuple[str, ...]
    method: str
    beta: float = float("nan")

    def summary(self) -> str:
        """Nodes, edges, terminals in one line."""
        return (
            f"{len(self.graph.names)} genes, {self.graph.n_edges} interactions, {len(self.terminals)} targets joined, "
            f"{len(self.lost)} lost ({self.method})"
        )


def _terminals(net: Interactome, targets: Collection[str]) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    at, absent = net.positions(targets)
    if len(at) < 2:
        raise DataError(
            f"{net.source}: {len(at)} of {len(set(targets))} targets {'is' if len(at) == 1 else 'are'} in the network; "
            f"joining them needs at least two. Absent are {len(absent)}, such as {list(absent[:5])}."
        )
    return at, absent


def _finish(
    net: Interactome, nodes: NDArray[np.intp], targets: Collection[str], method: str, beta: float
) -> SteinerGraph:
    graph = net.subgraph(np.unique(nodes)).largest_component()
    inside = set(graph.names.tolist())
    kept = tuple(sorted(set(targets) & inside))
    return SteinerGraph(graph, kept, tuple(sorted(set(targets) - inside)), method, beta)


def steiner_tree(net: Interactome, targets: Collection[str]) -> SteinerGraph:
    """Join targets by shortest paths along a minimum spanning tree of their distances.

    Parameters
    ----------
    net : Interactome
        Costs are lengths.
    targets : collection of str
        Gene symbols; those absent are listed in `SteinerGraph.lost`.

    Returns
    -------
    SteinerGraph

    Raises
    ------
    DataError
        Fewer than two targets are in the network.

    Notes
    -----
    Kou, Markowsky & Berman (1981): at most twice the cost of the best tree. Equal path costs are resolved by the
    order of names.
    """
    at, _ = _terminals(net, targets)
    distance, previous = dijkstra(net.costs, directed=False, indices=at, return_predecessors=True)
    between = distance[:, at]
    tree = minimum_spanning_tree(np.where(np.isfinite(between), between, 0.0)).tocoo()
    nodes = set(at.tolist())
    for i, j in zip(tree.row, tree.col, strict=True):  # one path per edge of a tree over the targets
        node = at[j]
        while node != at[i]:
            nodes.add(int(node))
            node = previous[i, node]
    return _finish(net, np.array(sorted(nodes)), targets, "metric-closure Steiner tree", float("nan"))


def prize_collecting(
    net: Interactome,
    prizes: NDArray[np.float64],
    targets: Collection[str],
    *,
    betas: Sequence[float] = BETAS,
) -> SteinerGraph:
    """Prize-collecting Steiner tree of the smallest beta whose tree holds all targets that can be reached.

    Parameters
    ----------
    net : Interactome
        One component; costs are lengths.
    prizes : (proteins,) float64, 0 or above
        See `expression_prizes`; targets should hold the largest.
    targets : collection of str
    betas : sequence of float
        Weights of the prizes, tried in this order; the last is used when none spans the targets.

    Returns
    -------
    SteinerGraph

    Raises
    ------
    DataError
        Prizes of another length, negative or not finite; fewer than two targets in the network.

    Notes
    -----
    Seeks the tree of largest ``beta * sum(prizes) - sum(costs)``. A tree over all proteins with a prize is grown by
    Mehlhorn's (1988) construction: one shortest-path forest from all of them, a minimum spanning tree of the cheapest
    bridges between its parts; at most twice the cost of the best such tree. It does not depend on beta. For each beta
    it is then pruned exactly: a branch stays where its prizes outweigh its costs (the "strong pruning" of Johnson,
    Minkoff & Phillips 2000). The Goemans-Williamson growth of pcst_fast answers the same question; its released
    wheels return only zeros under NumPy 2, so they are not used.
    """
    if prizes.shape != net.names.shape or not np.isfinite(prizes).all() or prizes.min() < 0:
        raise DataError(
            f"prizes have shape {prizes.shape} for {len(net.names)} proteins; give one finite number "
            "of 0 or above each."
        )
    at, _ = _terminals(net, targets)
    root = int(at[np.argmax(prizes[at])])
    tree = _spanning_tree(net, np.union1d(np.flatnonzero(prizes > 0), at))
    order, parent = breadth_first_order(tree, root, directed=False)
    reached = np.intersect1d(at, order)
    # A tree over the proteins: the edge to the parent, in one array.
    cost = np.zeros(len(prizes))
    cost[order[1:]] = np.asarray(tree[order[1:], parent[order[1:]]]).ravel()
    for beta in betas:
        nodes = _pruned(order, parent, cost, beta * prizes)
        if np.isin(reached, nodes).all():
            break
    return _finish(net, nodes, targets, "prize-collecting Steiner tree", float(beta))


def _spanning_tree(net: Interactome, prized: NDArray[np.intp]) -> sparse.csr_matrix:
    """Tree that joins the prized proteins, symmetric."""
    distance, previous, nearest = dijkstra(
        net.costs, directed=False, indices=prized, min_only=True, return_predecessors=True
    )
    a, b, costs = net.edges()
    bridge = (nearest[a] != nearest[b]) & np.isfinite(distance[a]) & np.isfinite(distance[b])
    a, b, costs = a[bridge], b[bridge], costs[bridge]
    ends = np.sort(np.stack([nearest[a], nearest[b]]), axis=0)
    length = distance[a] + costs + distance[b]
    order = np.lexsort((length, ends[1], ends[0]))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(ends[:, order], axis=1) != 0).any(axis=0)
    a, b, costs, length, ends = (v[..., order[first]] for v in (a, b, costs, length, ends))
    n = len(net.names)
    joined = minimum_spanning_tree(sparse.csr_matrix((length, (ends[0], ends[1])), (n, n)))
    index = sparse.csr_matrix((np.arange(1, len(a) + 1), (ends[0], ends[1])), (n, n))
    used = np.asarray(index[joined.nonzero()]).ravel() - 1
    a, b, costs = a[used], b[used], costs[used]
    nodes = np.union1d(a, b)
    while len(walkers := nodes[previous[nodes] >= 0]):  # each step follows every path one protein back
        a, b = np.concatenate([a, walkers]), np.concatenate([b, previous[walkers]])
        nodes = np.setdiff1d(previous[walkers], nodes)
    low, high = np.minimum(a, b), np.maximum(a, b)
    low, high = np.unique(np.stack([low, high]), axis=1)
    values = np.asarray(net.costs[low, high]).ravel()
    made = sparse.csr_matrix((values, (low, high)), (n, n))
    return (made + made.T).tocsr()


def _pruned(
    order: NDArray[np.intp], parent: NDArray[np.intp], cost: NDArray[np.float64], prize: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Proteins whose branch is worth its costs, from the root down."""
    worth = prize.copy()
    for node in order[:0:-1]:  # leaves first: what is worth its edge counts for the parent
        worth[parent[node]] += max(worth[node] - cost[node], 0.0)
    keep = np.zeros(len(prize), bool)
    keep[order[0]] = True
    for node in order[1:]:
        keep[node] = keep[parent[node]] and worth[node] > cost[node]
    return np.flatnonzero(keep)
