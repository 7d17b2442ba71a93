"""Gene embeddings: deterministic, invariant to the order of genes, near for neighbours; and free of images."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from image2reg.errors import ConfigurationError, DataError
from image2reg.genes import (
    GeneNetwork,
    Interactome,
    diffusion,
    embed_genes,
    graph_autoencoder,
    netmf,
    steiner_tree,
)


def blocks(n: int = 40, *, seed: int = 0, rename: dict[str, str] | None = None) -> Interactome:
    """Two communities with few interactions between them."""
    graph = nx.planted_partition_graph(2, n // 2, 0.5, 0.03, seed=seed)
    graph.add_edge(0, n - 1)
    name = [f"N{i:03d}" for i in range(n)]
    pairs = [(name[a], name[b]) for a, b in graph.edges]
    if rename:
        pairs = [(rename[a], rename[b]) for a, b in pairs]
    return Interactome.from_edges(*zip(*pairs, strict=True), [0.3] * len(pairs)).largest_component()


def gap(values: np.ndarray) -> float:
    """Mean cosine within communities minus between."""
    cosine, half = values @ values.T, len(values) // 2
    same = np.zeros(cosine.shape, bool)
    same[:half, :half] = same[half:, half:] = True
    return float(cosine[same].mean() - cosine[~same].mean())


def made_by(method: str, net: Interactome) -> np.ndarray:
    if method == "netmf":
        return netmf(net, dimensions=16)
    if method == "diffusion":
        return diffusion(net, net.names.tolist())
    return graph_autoencoder(net, width=32, dimensions=16, epochs=60).embedding


@pytest.mark.parametrize("method", ["netmf", "diffusion", "autoencoder"])
def test_neighbours_are_near_and_rows_have_length_one(method: str) -> None:
    net = blocks()
    values = made_by(method, net)
    assert np.linalg.norm(values, axis=1) == pytest.approx(np.ones(len(net.names)))
    assert gap(values) > 0.2
    assert np.array_equal(values, made_by(method, net))


@pytest.mark.parametrize("method", ["netmf", "diffusion"])
def test_names_do_not_matter(method: str) -> None:
    net = blocks()
    turned = {name: f"Z{999 - i:03d}" for i, name in enumerate(net.names.tolist())}
    other = blocks(rename=turned)
    order = np.searchsorted(other.names, [turned[n] for n in net.names.tolist()])
    a, b = made_by(method, net), made_by(method, other)[order]
    assert a @ a.T == pytest.approx(b @ b.T, abs=1e-6)


def test_netmf_is_its_equation() -> None:
    net = blocks(12)
    adjacency = (net.costs > 0).toarray().astype(float)
    degree = adjacency.sum(1)
    step = adjacency / degree[:, None]
    total = sum(np.linalg.matrix_power(step, t) for t in range(1, 4))
    m = np.log(np.maximum(degree.sum() / 3 * total / degree, 1))
    values, vectors = np.linalg.eigh((m + m.T) / 2)
    expected = (vectors * np.abs(values)) @ vectors.T
    length = np.sqrt(np.diag(expected))
    made = netmf(net, window=3, dimensions=12)
    assert made @ made.T == pytest.approx(expected / np.outer(length, length), abs=1e-8)


def test_diffusion_walks_the_whole_interactome() -> None:
    net = blocks()
    some = net.names[::4].tolist()
    wide = diffusion(net, some)
    assert wide.shape == (len(some), len(some))
    assert diffusion(net, some, dimensions=3).shape == (len(some), 3)
    with pytest.raises(
        DataError, match=r"1 genes are not in the network and 0 touch nothing, such as \['GONE'\]"
    ):
        diffusion(net, ["N000", "GONE"])
    with pytest.raises(ConfigurationError, match="restart is 1"):
        diffusion(net, some, restart=1.0)


def test_isolated_genes_are_refused() -> None:
    net = blocks()
    apart = net.with_edges(*(v[:30] for v in net.edges()))
    with pytest.raises(DataError, match="genes have no interaction, such as"):
        netmf(apart)


def test_with_gamma_off_no_bit_depends_on_images() -> None:
    net = blocks()
    rng = np.random.default_rng(0)
    runs = [
        graph_autoencoder(net, width=16, dimensions=8, epochs=15, image_classes=classes)
        for classes in (None, rng.integers(4, size=len(net.names)), rng.integers(4, size=len(net.names)))
    ]
    assert not any(run.uses_images for run in runs)
    assert np.array_equal(runs[0].embedding, runs[1].embedding)
    assert np.array_equal(runs[1].embedding, runs[2].embedding)


def test_with_gamma_on_images_leak_and_the_result_says_so() -> None:
    net = blocks()
    rng = np.random.default_rng(0)
    draws = [rng.integers(4, size=len(net.names)) for _ in range(2)]
    first, second = (
        graph_autoencoder(net, gamma=1.0, width=16, dimensions=8, epochs=15, image_classes=classes)
        for classes in draws
    )
    assert first.uses_images
    assert not np.allclose(first.embedding, second.embedding)
    with pytest.raises(ConfigurationError, match="gamma is above 0 but there are no image classes"):
        graph_autoencoder(net, gamma=1.0)


def test_autoencoder_learns_held_out_interactions_and_features() -> None:
    net = blocks(60)
    features = np.random.default_rng(0).normal(size=(len(net.names), 5))
    made = graph_autoencoder(net, features, beta=0.1, width=32, dimensions=8, epochs=80)
    assert made.link_auc > 0.6
    with pytest.raises(ConfigurationError, match="alpha, beta and gamma are all 0"):
        graph_autoencoder(net, alpha=0.0)
    with pytest.raises(DataError, match="but features of 3 rows"):
        graph_autoencoder(net, features[:3])
    with pytest.raises(DataError, match="holding some out needs at least 10"):
        graph_autoencoder(Interactome.from_edges(["A"], ["B"], [0.1]))
    all_pairs = zip(*[(a, b) for a in "ABCDE" for b in "ABCDE" if a < b], strict=True)
    with pytest.raises(DataError, match="all 5 genes interact with each other"):
        graph_autoencoder(Interactome.from_edges(*all_pairs, [0.1] * 10))


@pytest.mark.parametrize("method", ["diffusion", "netmf", "autoencoder"])
def test_table_has_a_row_per_gene(method: str) -> None:
    net = blocks()
    network = GeneNetwork(net, steiner_tree(net, ["N000", "N010", "N030"]), {})
    if method == "autoencoder":
        network = GeneNetwork(net, steiner_tree(net, net.names.tolist()), {})
    table = embed_genes(network, method=method, dimensions=3)
    assert table.column("Metadata_Gene").tolist() == network.steiner.graph.names.tolist()
    assert set(table.column("Metadata_Role")) <= {"target", "joining"}
    assert table.features[0] == "Gene_Embedding_000"
    with pytest.raises(
        ConfigurationError, match="method 'node2vec' is not known; allowed are diffusion, netmf, autoencoder"
    ):
        embed_genes(network, method="node2vec")
    for wrong in (0, -3):
        with pytest.raises(ConfigurationError, match=f"dimensions is {wrong}; allowed is 1 or above"):
            embed_genes(network, method=method, dimensions=wrong)
