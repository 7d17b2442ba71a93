"""Gene embeddings as one table of profiles: a row per gene, ready to be linked to."""

from __future__ import annotations

import numpy as np

from image2reg.errors import ConfigurationError
from image2reg.genes.embedding import diffusion, netmf
from image2reg.genes.network import GeneNetwork
from image2reg.tables.profiles import Profiles

__all__ = ["METHODS", "embed_genes"]

METHODS = ("diffusion", "netmf", "autoencoder")


def embed_genes(
    network: GeneNetwork, *, method: str = "diffusion", dimensions: int | None = None, seed: int = 0
) -> Profiles:
    """Embed the candidate genes of a network.

    Parameters
    ----------
    network : GeneNetwork
    method : {"diffusion", "netmf", "autoencoder"}
        Random walks over the whole interactome; NetMF of the Steiner graph; a graph autoencoder of it (no image
        enters: its image term is off).
    dimensions : int, optional
        By default all (diffusion) or 64.
    seed : int
        Of the autoencoder.

    Returns
    -------
    Profiles
        ``Metadata_Gene``, ``Metadata_Role`` (target or joining), ``Gene_Embedding_000`` …, rows of length 1.

    Raises
    ------
    ConfigurationError
        Unknown method, or dimensions below 1.
    """
    import pandas as pd

    graph = network.steiner.graph
    if dimensions is not None and dimensions < 1:
        raise ConfigurationError(f"dimensions is {dimensions}; allowed is 1 or above.")
    if method == "diffusion":
        values = diffusion(network.interactome, graph.names.tolist(), dimensions=dimensions)
    elif method == "netmf":
        values = netmf(graph, dimensions=dimensions or 64)
    elif method == "autoencoder":
        from image2reg.genes.autoencoder import graph_autoencoder

        values = graph_autoencoder(graph, dimensions=dimensions or 64, seed=seed).embedding
    else:
        raise ConfigurationError(
            f"embedding method {method!r} is not known; allowed are {', '.join(METHODS)}."
        )
    role = np.where(np.isin(graph.names, network.steiner.terminals), "target", "joining")
    named = pd.DataFrame({"Metadata_Gene": graph.names, "Metadata_Role": role})
    columns = [f"Gene_Embedding_{i:03d}" for i in range(values.shape[1])]
    return Profiles(
        pd.concat([named, pd.DataFrame(values, columns=columns)], axis=1), source="gene embedding"
    )
