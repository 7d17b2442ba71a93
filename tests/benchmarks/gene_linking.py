"""Gene linking on real genes: over-expression transcriptomes to the interactome, every gene held out once.

    python tests/benchmarks/gene_linking.py [--json]

The first table is the reference protocol: gene means, NetMF of the Steiner graph, ranks among its genes. The second is
what this package does: sources whitened by replicate noise, diffusion over the whole interactome, and every setting
chosen inside the training genes. Its design was looked for on the scores of half of the genes, drawn at random
(`DESIGN_SEED`); the other half was read once, at the end, and has its own row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gene_data import network, wells
from numpy.typing import NDArray
from result_files import asked_for_json, publish

from image2reg.genes import diffusion, netmf
from image2reg.intervals import bootstrap_interval
from image2reg.linking.scores import LinkScores, candidate_scores, link_scores, permutation_p
from image2reg.linking.selection import held_out_from_inverse, inverses, nested_scores
from image2reg.linking.settings import Setting, grid
from image2reg.linking.sources import gene_means, replicate_whitened, scaled
from image2reg.tables import Profiles

Floats = NDArray[np.float64]
PERMUTATIONS, NESTED_PERMUTATIONS, DESIGN_SEED, FOLDS = 100, 100, 2026, 10
KERNELS = (("ntk", 1), ("ntk", 3), ("linear", 1), ("laplace", 1))


def sources_of(table: Profiles, genes: list[str]) -> dict[str, Floats]:
    white = replicate_whitened(table, "Metadata_Construct", batch="Metadata_Plate")
    return {"mean": of_genes(table, genes), "whitened": of_genes(white, genes)}


def of_genes(table: Profiles, genes: list[str]) -> Floats:
    """Steps 1 and 4 of the protocol."""
    return scaled(gene_means(table.rows(np.isin(table.column("Metadata_Gene"), genes))).values)


def refitted(table: Profiles, genes: list[str], own: NDArray[np.intp], embedding: Floats) -> Floats:
    """Scores when whitening is learnt without the wells of the genes held out, ten folds."""
    fold = np.random.default_rng(0).permutation(np.arange(len(genes)) % FOLDS)
    scores = np.empty((len(genes), len(embedding)))
    name = table.column("Metadata_Gene")
    for f in range(FOLDS):
        out = np.isin(name, np.array(genes)[fold == f])
        # A construct without a name is whitened like the others, and teaches nothing.
        hidden = table.frame.assign(Metadata_Construct=np.where(out, "", table.column("Metadata_Construct")))
        white = replicate_whitened(table.replace(hidden), "Metadata_Construct", batch="Metadata_Plate")
        x = of_genes(white, genes)
        b = next(iter(inverses([Setting()], {"source": x}).values()))
        made = candidate_scores(*held_out_from_inverse(b, embedding[own]), embedding)
        scores[fold == f] = made[fold == f]
    return scores


def fixed(
    setting: Setting, b: Floats, embedding: Floats, own: NDArray[np.intp], order: Any = None
) -> LinkScores:
    b = b if order is None else b[np.ix_(order, order)]
    made = held_out_from_inverse(b, embedding[own], centre=setting.centre)
    return link_scores(candidate_scores(*made, embedding, rule=setting.rule), own)


def measure() -> dict[str, Any]:
    table = wells()
    net = network(sorted(set(table.column("Metadata_Gene")) - {""}))
    names, genes = net.steiner.graph.names, list(net.steiner.terminals)
    own = np.searchsorted(names, genes)
    sources = sources_of(table, genes)
    embeddings = {"netmf": netmf(net.steiner.graph), "diffusion": diffusion(net.interactome, names.tolist())}
    orders = [np.random.default_rng(seed).permutation(len(genes)) for seed in range(PERMUTATIONS)]

    def tried(setting: Setting) -> tuple[LinkScores, float, float]:
        b = next(iter(inverses([setting], sources).values()))
        main = fixed(setting, b, embeddings[setting.target], own)
        null = [fixed(setting, b, embeddings[setting.target], own, order).auc.value for order in orders]
        return main, permutation_p(main.auc.value, null), float(np.mean(null))

    protocol = {
        "NTK, centred cosine (reference 0.577)": Setting(source="mean", target="netmf"),
        "linear, centred cosine (reference 0.577)": Setting(kernel="linear", source="mean", target="netmf"),
        "linear, Euclidean (reference 0.595)": Setting(
            kernel="linear", centre="none", rule="euclidean", source="mean", target="netmf"
        ),
        "published recipe: NTK, Euclidean (reference 0.537)": Setting(
            centre="none", rule="euclidean", source="mean", target="netmf"
        ),
        "whitened source": Setting(source="whitened", target="netmf"),
        "diffusion embedding": Setting(source="mean", target="diffusion"),
        "both": Setting(source="whitened", target="diffusion"),
        "both, linear": Setting(kernel="linear", source="whitened", target="diffusion"),
    }
    results = {name: tried(setting) for name, setting in protocol.items()}
    mean = (embeddings["netmf"][own].sum(0) - embeddings["netmf"][own]) / (len(own) - 1)
    floor = link_scores(candidate_scores(mean, mean, embeddings["netmf"], rule="euclidean"), own)

    settings = grid(kernels=KERNELS, sources=("mean", "whitened"), targets=("netmf", "diffusion"))
    solved = inverses(settings, sources)
    best = nested_scores(settings, solved, embeddings, own, n_folds=FOLDS)
    best_scores = link_scores(best.scores, own)
    null = [
        link_scores(
            nested_scores(settings, solved, embeddings, own, n_folds=FOLDS, order=order).scores, own
        ).areas.mean()
        for order in orders[:NESTED_PERMUTATIONS]
    ]
    best_p = permutation_p(best_scores.auc.value, null)
    design = np.random.default_rng(DESIGN_SEED).permutation(len(genes))[: len(genes) // 2]
    unseen = np.setdiff1d(np.arange(len(genes)), design)
    landmark = np.isin(genes, table.features)
    strict = link_scores(refitted(table, genes, own, embeddings["diffusion"]), own)

    def part(scores: LinkScores, rows: NDArray[Any]) -> str:
        return str(bootstrap_interval(1 - scores.ranks[rows] / (scores.n_candidates[rows] - 1), seed=0))

    rows = [line(name, *result) for name, result in results.items()]
    rows.insert(4, line("train mean, Euclidean (reference 0.374)", floor, None, None))
    rows.append(
        line(f"nested choice among {len(settings)} settings", best_scores, best_p, float(np.mean(null)))
    )
    rows.append(line("both, whitening refitted without the held-out genes", strict, None, None))
    chosen = [str(s) + f", {s.source} source, {s.target}" for s in best.chosen]
    main = results["NTK, centred cosine (reference 0.577)"]
    return {
        "ntk_centred.auc": main[0].auc.value, "ntk_centred.p": main[1], "permuted.auc": main[2],
        "linear.auc": results["linear, centred cosine (reference 0.577)"][0].auc.value,
        "published_recipe.auc": results["published recipe: NTK, Euclidean (reference 0.537)"][0].auc.value,
        "best.auc": best_scores.auc.value, "best.low": best_scores.auc.low, "best.high": best_scores.auc.high,
        "best.p": best_p, "best.unseen": part(best_scores, unseen),
        "tables": [{
            "title": "Gene linking, 184 over-expressed genes held out one by one, ranked among 241",
            "head": ["method", "AUC (95 % over genes)", "@10", "@50", "median rank", "permuted AUC", "p"],
            "rows": rows,
            "notes": [
                f"Steiner graph: {net.steiner.summary()}.",
                f"Chosen inside the training genes, by outer fold: {', '.join(f'{chosen.count(c)} x {c}' for c in dict.fromkeys(chosen))}.",
                f"Nested choice on the {len(unseen)} genes no design decision was made on: {part(best_scores, unseen)}; "
                f"on the {len(design)} it was made on: {part(best_scores, design)}.",
                f"Genes that are no L1000 landmark (their own transcript is not measured): {part(best_scores, ~landmark)}; "
                f"landmarks: {part(best_scores, landmark)}.",
                f"{PERMUTATIONS} permutations of the genes' labels; {NESTED_PERMUTATIONS} for the nested choice, repeated in each.",
            ],
        }],
    }  # fmt: skip


def line(name: str, scores: LinkScores, p: float | None, permuted: float | None) -> list[str]:
    auc = scores.auc
    return [
        name, f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})", f"{scores.hit(10):.3f}", f"{scores.hit(50):.3f}",
        f"{scores.median_rank:g}", "–" if permuted is None else f"{permuted:.3f}", "–" if p is None else f"{p:.3f}",
    ]  # fmt: skip


if __name__ == "__main__":
    as_json = asked_for_json(__doc__.split("\n", maxsplit=1)[0])
    publish("gene_linking", measure(), as_json=as_json)
