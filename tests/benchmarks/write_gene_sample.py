"""Cut the shipped sample of gene linking out of the real data.

    python tests/benchmarks/write_gene_sample.py

``image2reg/samples/gene-linking``: whitened gene means of the over-expression screen (rounded), and the interactions
among the candidate genes and the 1,200 proteins that walks from them reach most.
"""

from __future__ import annotations

import gzip

import numpy as np
from gene_data import ROOT, network, wells
from scipy import sparse

from image2reg.linking.sources import gene_means, replicate_whitened

OUT = ROOT / "image2reg" / "samples" / "gene-linking"
N_NEAR = 1200


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    table = wells()
    net = network(sorted(set(table.column("Metadata_Gene")) - {""}))
    white = replicate_whitened(table, "Metadata_Construct", batch="Metadata_Plate")
    means = gene_means(white.rows(np.isin(white.column("Metadata_Gene"), net.steiner.terminals)))
    text = means.frame.to_csv(index=False, float_format="%.1f")
    (OUT / "profiles.csv.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    wide = net.interactome
    at, _ = wide.positions(net.steiner.graph.names.tolist())
    degree = np.maximum(wide.neighbourhood_sizes(), 1)
    near = np.asarray(
        (sparse.diags_array(1 / degree) @ (wide.costs > 0)).astype(np.float64)[at].sum(axis=0)
    ).ravel()
    near[at] = np.inf
    kept = wide.subgraph(np.sort(np.argsort(-near, kind="stable")[: len(at) + N_NEAR]))
    a, b, costs = kept.edges()
    lines = [
        "protein1\tprotein2\tcost",
        *(f"{x}\t{y}\t{c:g}" for x, y, c in zip(kept.names[a], kept.names[b], costs, strict=True)),
    ]
    (OUT / "interactions.tsv.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
