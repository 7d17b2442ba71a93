"""From files to a gene network: read, prune, weigh, join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from image2reg.errors import ConfigurationError, DataError
from image2reg.expression.labels import listed
from image2reg.genes.interactions import read_interactions
from image2reg.genes.network import GeneNetwork
from image2reg.genes.steiner import prize_collecting, steiner_tree
from image2reg.provenance import file_sha256
from image2reg.wording import in_other_case, other_case, several_cases

__all__ = ["build_network", "read_targets"]

_GENE_COLUMNS = {"metadata_gene", "gene", "symbol"}


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
        Degree quantile; proteins above it are left out, except targets (as Image2Reg does): a question about TP53 is
        one about TP53, and it joins others only through what it binds itself.

    Returns
    -------
    GeneNetwork
        Its facts name the targets that are ``absent`` from the table (``in_other_case``: there in other capitals),
        those ``unreached`` (no interaction up to `max_cost` leads to them from the others), and those that are hubs
        and were kept (``hub_targets``); and the proteins of the table that differ in capitals alone
        (``several_cases``): they stay apart, since mouse Trp53 is not human TP53.

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
    wide = whole.without_hubs(hubs, keep=wanted)
    hub_targets = sorted(set(wanted) & set(whole.names) - set(whole.without_hubs(hubs).names))
    narrow = wide.confident(limit).largest_component()
    facts: dict[str, Any] = {
        "max_cost": limit,
        "hub_quantile": hubs,
        "hub_targets": hub_targets,
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
    try:
        steiner = steiner_tree(narrow, wanted) if prizes is None else prize_collecting(narrow, prizes, wanted)
    except DataError as error:
        far = sorted(set(wanted) & set(whole.names) - set(narrow.names))
        cheap = (
            f" Of the absent, {len(far)} have interactions, but none up to cost {limit:.3g} leads to them from most "
            f"proteins ({listed(far)}): raise --max-cost."
            if far
            else ""
        )
        raise DataError(f"{error}{cheap}{other_case(wanted, whole.names)}") from error
    absent = sorted(set(steiner.lost) - set(whole.names))
    facts |= {
        "absent": absent, "unreached": sorted(set(steiner.lost) - set(absent)),
        "in_other_case": in_other_case(absent, whole.names), "several_cases": several_cases(whole.names),
    }  # fmt: skip
    return GeneNetwork(wide, steiner, facts)


def read_targets(path: Path) -> list[str]:
    """Read gene symbols: one a line (``.txt``, ``#`` begins a comment), one gene set (``.gmt``), or a column.

    The column of a table (``.csv``, ``.parquet``) is ``Metadata_Gene``, ``gene`` or ``symbol``, in any capitals.
    Symbols are taken as they are written.

    Raises
    ------
    DataError
        No such file, no such column, several gene sets, or no gene.
    """
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}. Check the path.")
    if kind == ".gmt":
        from image2reg.expression.gene_sets import read_gmt

        sets = read_gmt(path)
        if len(sets) > 1:
            raise DataError(
                f"{path}: {len(sets)} gene sets, such as {list(sets)[:5]}. Give a file of the one set that is meant."
            )
        genes = set(*sets.values())
    elif kind == ".txt":
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 at byte {error.start}. Save it as plain text.") from error
        genes = {line.partition("#")[0].strip() for line in lines}
    else:
        genes = _column_of_genes(path)
    genes -= {""}
    if not genes:
        raise DataError(f"{path}: no gene symbol in it; write one a line, or fill Metadata_Gene.")
    return sorted(genes)


def _column_of_genes(path: Path) -> set[str]:
    from image2reg.tables.cells import read_csv
    from image2reg.tables.profiles import Profiles

    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", errors="ignore") as handle:
            header = handle.readline()
        if "Metadata_Gene" not in header:  # a plain list, not a table of profiles
            frame = read_csv(path)
            column = next((name for name in frame if name.strip().lower() in _GENE_COLUMNS), None)
            if column is None:
                raise DataError(
                    f"{path}: no column of gene symbols; there are {list(frame)[:8]}. Call it Metadata_Gene, gene or "
                    "symbol, or give a text file of one symbol a line."
                )
            return set(frame[column].str.strip())
    return set(Profiles.read(path).column("Metadata_Gene"))
