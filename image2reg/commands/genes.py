"""Commands of the gene network: build it, embed its genes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from image2reg.commands.options import AsJson, Out, Overwrite, Seed

if TYPE_CHECKING:
    from collections.abc import Sequence


def network(
    *,
    interactions: Annotated[
        Path, typer.Option(help="Table of interactions: iRefIndex costs, STRING or BioGRID.")
    ],
    targets: Annotated[
        Path,
        typer.Option(
            help="Genes to join: text, one a line; a GMT of one set; or a table with Metadata_Gene."
        ),
    ],
    out: Out,
    expression: Annotated[
        Path | None,
        typer.Option(help="Log expression, samples by gene symbols (.csv, .parquet, .h5ad): edge costs."),
    ] = None,
    case: Annotated[
        str | None,
        typer.Option(help="COLUMN=VALUE of the samples whose contrast to the others gives prizes."),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="STRING's protein info, identifier to gene symbol.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Keep interactions up to this cost; default: the median.")
    ] = None,
    hubs: Annotated[
        float, typer.Option(help="Degree quantile above which proteins are left out, targets never.")
    ] = 0.999,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Join the targets by the cheapest interactions: a Steiner graph in the interactome."""
    from image2reg.atomic import refuse_existing, refuse_inputs
    from image2reg.console import emit
    from image2reg.genes.building import build_network
    from image2reg.wording import counted, other_case

    refuse_inputs([out], [path for path in (interactions, targets, expression, names) if path is not None])
    refuse_existing(out, overwrite=overwrite)
    built = build_network(
        interactions, targets, expression=expression, case=case, names=names, max_cost=max_cost, hubs=hubs
    )
    built.write(out, overwrite=overwrite)
    steiner, facts = built.steiner, built.facts
    told = {
        "absent": "lost, not among the interactions",
        "unreached": f"lost, no interactions up to cost {facts['max_cost']:.3g} lead to them",
        "hub_targets": f"hubs, kept as targets (--hubs {hubs:g})",
    }
    lines = [f"{words}: {_named(facts[key])}" for key, words in told.items() if facts[key]]
    hint = other_case(facts["in_other_case"], facts["in_other_case"].values())
    if apart := facts["several_cases"]:
        lines.append(
            f"{counted(len(apart), 'protein')} written in several capitals, each a protein of its own: "
            f"{_named([' and '.join(names) for names in apart])}. If these are one species, write one spelling: their "
            "interactions are divided among them"
        )
    emit(
        {"written": str(out), "genes": len(steiner.graph.names), "interactions": steiner.graph.n_edges,
         "targets": len(steiner.terminals), "lost": list(steiner.lost), "method": steiner.method,
         **{key: facts[key] for key in (*told, "in_other_case", "several_cases")}},
        "\n".join([steiner.summary(), *lines, *([hint.strip()] if hint else []), f"written: {out}"]),
        as_json=as_json,
    )  # fmt: skip


def _named(genes: Sequence[str], most: int = 20) -> str:
    return ", ".join(genes[:most]) + (f" and {len(genes) - most} more" if len(genes) > most else "")


def genes(
    *,
    network: Annotated[Path, typer.Option(help="Directory that image2reg network wrote.")],
    out: Out,
    method: Annotated[str, typer.Option(help="diffusion, netmf or autoencoder.")] = "diffusion",
    dimensions: Annotated[
        int | None, typer.Option(help="Columns of the embedding; default: all, or 64.", min=1)
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Embed the genes of a network: one Parquet table, no image enters."""
    from image2reg.atomic import refuse_existing, refuse_inputs
    from image2reg.console import emit
    from image2reg.genes.network import GeneNetwork
    from image2reg.genes.table import embed_genes
    from image2reg.tables.profiles import refuse_format

    refuse_inputs([out], [network])
    refuse_existing(out, overwrite=overwrite)
    refuse_format(out)
    table = embed_genes(GeneNetwork.read(network), method=method, dimensions=dimensions, seed=seed)
    table.write(out, overwrite=overwrite)
    n = len(table.features)
    asked = f" of the {dimensions} asked for: no more than genes" if dimensions and n < dimensions else ""
    idle = ": more than genes; --dimensions takes fewer" if n > len(table) else ""
    emit(
        {"written": str(out), "genes": len(table), "dimensions": n, "method": method},
        f"{len(table)} genes, {n} dimensions{asked}{idle} ({method}): {out}",
        as_json=as_json,
    )
