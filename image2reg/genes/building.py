"""From files to a gene network: read, prune, weigh, join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from image2reg.errors import ConfigurationError, DataError
from image2reg.genes.interactions import read_interactions
from image2reg.genes.network import GeneNetwork
from image2reg.genes.steiner import prize_collecting, steiner_tree
from image2reg.provenance import file_sha256

__all__ = ["build_network", "read_targets"]


def build_network(
    interactions: Path,
    targets: Path,
    *,
    expression: Path | None = None,
    case: str | None = None,
    names: Path | None = None,
    max_cost: float | None = None,
    hubs: float = 0.999,
) -> GeneNetwork:
    """Build the network of some targets.

    Parameters
    ----------
    interactions : Path
        See `read_interactions`.
    targets : Path
        See `read_targets`.
    expression : Path, optional
        Samples by genes; interactions then cost ``1 - |Spearman|`` of their genes inside the Steiner step.
    case : str, optional
        ``COLUMN=VALUE``: samples of interest; with it, prizes are collected.
    names : Path, optional
    max_cost : float, optional
        By default the median cost of the whole table.
    hubs : float
        Degree quantile; proteins above it are left out, targets among them too (they are listed as lost).

    Returns
    -------
    GeneNetwork

    Raises
    ------
    DataError
        As the parts say: wrong columns, no target in the network.
    ConfigurationError
        `case` without expression, or not of the form ``COLUMN=VALUE``.
    """
    if case is not None and expression is None:
        raise ConfigurationError("--case names samples of the expression table; pass --expression too.")
    whole = read_interactions(interactions, names=names)
    wanted = read_targets(targets)
    limit = whole.median_cost() if max_cost is None else max_cost
    # Targets that are hubs themselves go with the hubs: as nodes of thousands of edges they would join everything.
    wide = whole.without_hubs(hubs)
    narrow = wide.confident(limit).largest_component()
    facts: dict[str, Any] = {
        "max_cost": limit,
        "hub_quantile": hubs,
        "interactions_sha256": file_sha256(interactions),
    }
    prizes = None
    if expression is not None:
        from image2reg.genes.expression import coexpression_costs, expression_prizes, read_expression

        values, metadata = read_expression(str(expression))
        facts["expression_sha256"] = file_sha256(expression)
        chosen = None
        if case is not None:
            column, _, value = case.partition("=")
            if column not in metadata:
                raise ConfigurationError(
                    f"--case {case!r}: no column {column!r}; there are {list(metadata.columns)}. Write COLUMN=VALUE."
                )
            chosen = (metadata[column] == value).to_numpy()
            prizes = expression_prizes(narrow, values, chosen, wanted)
            facts["case"] = case
        narrow = coexpression_costs(narrow, values if chosen is None else values[chosen])
    steiner = steiner_tree(narrow, wanted) if prizes is None else prize_collecting(narrow, prizes, wanted)
    return GeneNetwork(wide, steiner, facts)


def read_targets(path: Path) -> list[str]:
    """Read gene symbols: one a line (``.txt``), or the distinct ``Metadata_Gene`` of a table of profiles.

    Raises
    ------
    DataError
        No such file, or no gene in it.
    """
    if path.suffix.lower() == ".txt":
        if not path.is_file():
            raise DataError(f"{path}: no such file. Check the path.")
        genes = {line.strip() for line in path.read_text("utf-8-sig").splitlines()} - {""}
    else:
        from image2reg.tables.profiles import Profiles

        genes = set(Profiles.read(path).column("Metadata_Gene")) - {""}
    if not genes:
        raise DataError(f"{path}: no gene symbol in it; write one a line, or fill Metadata_Gene.")
    return sorted(genes)
