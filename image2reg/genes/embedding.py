"""Embeddings of genes from their network alone: NetMF of a graph, and diffusion over the whole interactome."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from image2reg.errors import ConfigurationError, DataError
from image2reg.genes.interactome import Interactome

__all__ = ["diffusion", "netmf"]

Floats = NDArray[np.float64]
_FLAT = 1e-12


def _unit_rows(values: Floats) -> Floats:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.zeros_like(values), where=length > _FLAT)


def _signed(vectors: Floats) -> Floats:
    """Eigenvectors with the largest entry positive, so that a sign does not depend on the library."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1.0, 1.0)


def _refuse_isolated(net: Interactome) -> None:
    isolated = net.names[net.neighbourhood_sizes() == 0]
    if len(isolated):
        raise DataError(
            f"{net.source}: {len(isolated)} genes have no interaction, such as "
            f"{isolated[:5].tolist()}; they have no embedding. "
            "Keep the largest component."
        )


def netmf(net: Interactome, *, window: int = 5, dimensions: int = 64) -> Floats:
    """Factorise what short random walks see (NetMF).

    Parameters
    ----------
    net : Interactome
        Interactions count 1 each, whatever their cost. Meant for graphs up to a few thousand genes (dense).
    window : int
        Longest walk, T.
    dimensions : int
        At most the number of genes.

    Returns
    -------
    (genes, dimensions) float64, rows of length 1

    Raises
    ------
    DataError
        A gene without interaction.

    Notes
    -----
    Qiu et al. (2018): ``M = log max((vol / T) sum_t P^t D^-1, 1)`` with ``P = D^-1 A``, symmetrised; eigenvectors
    of the largest absolute eigenvalues, times the root of those.
    """
    _refuse_isolated(net)
    if window < 1 or dimensions < 1:
        raise ConfigurationError(f"window {window} and dimensions {dimensions} must be 1 or above.")
    adjacency = (net.costs > 0).astype(np.float64).toarray()
    degree = adjacency.sum(axis=1)
    step = adjacency / degree[:, None]
    power, total = np.eye(len(degree)), np.zeros_like(step)
    for _ in range(window):
        power = power @ step
        total += power
    seen = np.log(np.maximum(degree.sum() / window * total / degree[None], 1.0))
    values, vectors = np.linalg.eigh((seen + seen.T) / 2)
    order = np.argsort(-np.abs(values), kind="stable")[: min(dimensions, len(values))]
    return _unit_rows(_signed(vectors[:, order]) * np.sqrt(np.abs(values[order])))


def diffusion(
    net: Interactome,
    genes: Collection[str],
    *,
    restart: float = 0.5,
    dimensions: int | None = None,
    tolerance: float = 1e-6,
) -> Floats:
    """Compare genes by where random walks from them go in the whole interactome.

    Parameters
    ----------
    net : Interactome
        The wide network; an interaction weighs ``1 - cost``.
    genes : collection of str
        Genes to embed, all in `net`.
    restart : float
        Chance to jump back to the gene at each step; high stays near.
    dimensions : int, optional
        Keep the largest principal components; by default all, at most one per gene.
    tolerance : float
        Walks end when less than this share of them is left.

    Returns
    -------
    (genes, dimensions) float64
        In ascending order of gene symbols, rows of length 1.

    Raises
    ------
    DataError
        Genes that are not in the network or touch nothing.

    Notes
    -----
    Log of the random walk with restart, as in Mashup (Cho, Berger & Peng 2016), centred over the genes; their
    distances are kept exactly, only rotated.
    """
    if not 0 < restart < 1:
        raise ConfigurationError(f"restart is {restart}; allowed is between 0 and 1, usual is 0.5.")
    at, absent = net.positions(genes)
    isolated = net.names[at][net.neighbourhood_sizes()[at] == 0]
    if absent or len(isolated):
        raise DataError(
            f"{net.source}: {len(absent)} genes are not in the network and {len(isolated)} touch nothing, such as "
            f"{[*absent, *isolated.tolist()][:5]}; they have no embedding."
        )
    weights = net.costs.copy()
    weights.data = np.maximum(1 - weights.data, 1e-3)
    degree = np.asarray(weights.sum(axis=1)).ravel()
    step = (
        sparse.diags_array(np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)) @ weights
    ).T.tocsr()
    start = np.zeros((len(net.names), len(at)))
    start[at, np.arange(len(at))] = 1.0
    walk = start.copy()
    for _ in range(int(np.ceil(np.log(tolerance) / np.log(1 - restart)))):
        walk = (1 - restart) * (step @ walk) + restart * start
    reach = np.log1p(walk.T * len(net.names))
    reach -= reach.mean(axis=0)
    left, size, _ = np.linalg.svd(reach, full_matrices=False)
    kept = min(dimensions or len(at), len(at))
    return _unit_rows(_signed(left)[:, :kept] * size[:kept])
