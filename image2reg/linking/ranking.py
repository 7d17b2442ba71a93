"""Link profiles to genes: leave one gene out for all of them, rank, and put the same beside every baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.linking.evaluation import Evaluation, evaluate
from image2reg.linking.settings import Setting, grid
from image2reg.linking.sources import Scale, gene_means, query_groups, query_rows
from image2reg.tables.disguise import refuse_disguised
from image2reg.tables.profiles import ORIGINS, Profiles
from image2reg.wording import counted, other_case

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LinkResult", "link"]

GENE, PLATE = "Metadata_Gene", "Metadata_Plate"
_MIN_GENES = 3


@dataclass(frozen=True)
class LinkResult:
    """What linking found, and what it is worth.

    Attributes
    ----------
    table : DataFrame
        One row per origin and method: ``origin, method, auc, low, high, n, hit@1, hit@10, hit@50, median_rank, p,
        permuted``; candidates with equal scores count half. The first method is the asked one; linear ridge, the
        published recipe, train mean and random stand beside it. ``permuted`` and ``p`` come from sources with shuffled
        gene labels, NaN without any.
    rankings : DataFrame
        One row per origin and gene held out: ``origin, gene, rank`` (1 is best), ``tied_rank`` (equal scores count
        half), ``n_candidates, setting, best`` (the first candidates, ten at most, in order).
    queries : DataFrame
        Rows without a gene of the embedding, ranked by a model of all genes: their metadata, ``origin, rank`` (1 is
        best), ``candidate, score``. Rows that name one absent gene are one query (the mean), and so are the rows of
        one well that name none; ``Metadata_Count`` says of how many rows.
    curves : DataFrame
        ``origin, method, k, hit, hit_low, hit_high, k_auc, k_auc_low, k_auc_high``.
    absent : tuple of str
        Genes of the source that the embedding lacks.
    notes : tuple of str
        What a reader has to know.
    """

    table: pd.DataFrame
    rankings: pd.DataFrame
    queries: pd.DataFrame
    curves: pd.DataFrame
    absent: tuple[str, ...]
    notes: tuple[str, ...]


def link(
    source: Profiles,
    target: Profiles,
    *,
    gene: str = GENE,
    kernel: str = "ntk",
    depth: int = 1,
    ridge: float = 1.0,
    nested: bool = False,
    candidates: Sequence[str] | None = None,
    exclude_training: bool = False,
    by_row: bool = False,
    n_permutations: int = 100,
    n_best: int = 50,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> LinkResult:
    """Predict gene embeddings from profiles, and rank genes.

    Parameters
    ----------
    source : Profiles
        Rows where `gene` is empty, or names one the embedding lacks, are
        queries: they are ranked by a model of all other genes. ``Metadata_Origin`` keeps real, predicted and
        generated apart.
    target : Profiles
        One row per gene, ``Metadata_Gene`` and its embedding (`image2reg genes`).
    gene : str
        Column of the source that names the perturbed gene.
    kernel : {"ntk", "linear", "laplace"}
    depth : int
        Hidden layers of the NTK.
    ridge : float
    nested : bool
        Choose kernel, depth and ridge inside the training genes instead (kernel, depth, ridge are then ignored).
    candidates : sequence of str, optional
        Genes to rank; by default all of the embedding. A gene's own embedding always competes.
    exclude_training : bool
        Take the other genes of the source out of the candidates.
    by_row : bool
        Fit on single rows (nuclei, wells) instead of gene means; a gene's rows are left out together, and the
        predictions averaged. Above 20,000 rows the fit is on centres (Nyström).
    n_permutations : int
        Of the gene labels of the sources.
    n_best : int
        Candidates listed per query.
    seed : int
    device : str
        Where kernels of ``by_row`` are computed.
    progress : callable, optional
        Told the shuffles done, and how many there are; origin after origin.

    Returns
    -------
    LinkResult

    Raises
    ------
    DataError
        Fewer than three genes in common, gene embeddings that repeat a gene or are all identical, candidates that
        are not in the embedding, values that are not finite, genes of which each has a plate of its own.
    ConfigurationError
        ``nested`` with ``by_row``.
    """
    import pandas as pd

    Profiles.refuse_others(source=source, target=target)
    if nested and by_row:
        raise ConfigurationError("settings are chosen on gene means: pass nested or by_row, not both.")
    _refuse_missing(source, gene)
    genes, table = _embedding(target)
    allowed = _candidate_mask(genes, candidates)
    settings = grid() if nested else [Setting(kernel=kernel, depth=depth, ridge=ridge)]
    origins = (
        source.column("Metadata_Origin")
        if "Metadata_Origin" in source.frame
        else np.full(len(source), "real")
    )
    origins = np.where(origins == "", "real", origins)
    named = source.column(gene)
    absent = tuple(sorted(set(named) - set(genes) - {""}))
    notes = _absent_note(absent, len(set(named) - {""}), genes)
    parts: dict[str, list[pd.DataFrame]] = {"table": [], "rankings": [], "queries": [], "curves": []}
    for origin in sorted(set(origins), key=lambda o: (ORIGINS.index(o) if o in ORIGINS else len(ORIGINS), o)):
        rows = source.rows(origins == origin)
        known = np.isin(rows.column(gene), genes)
        if (n := len(set(rows.column(gene)[known]))) < _MIN_GENES:
            lost = f" Absent are {len(absent)}, such as {list(absent[:5])}." if absent else ""
            raise DataError(
                f"{source.source}: {n} gene{'' if n == 1 else 's'} of origin {str(origin)!r} "
                f"{'is' if n == 1 else 'are'} in the embedding; leaving one out needs at least {_MIN_GENES}.{lost}"
                f"{other_case(absent, genes)}"
            )
        trained = rows.rows(known)
        if PLATE in trained.frame:
            refuse_disguised(
                trained.column(gene), trained.column(PLATE), label="gene", group="plate", paired=True,
                where=f"{source.source} ({origin})", remedy=f"take {PLATE!r} out of the table and say so",
            )  # fmt: skip
        if not by_row:
            trained = gene_means(trained, gene)
        scale = Scale.fit(trained.values, what=f"{source.source} ({origin})")
        if scale.n_flat:
            notes += (
                f"{origin}: {scale.n_flat} of {len(source.features)} features do not vary and say nothing.",
            )
        done = evaluate(
            scale.apply(trained.values), _positions(genes, trained.column(gene)), table, settings,
            allowed=allowed, exclude_training=exclude_training, n_permutations=n_permutations, seed=seed, device=device,
            progress=progress,
        )  # fmt: skip
        parts["table"].append(done.table)
        parts["curves"].append(done.curves)
        parts["rankings"].append(_rankings(done, genes))
        if not known.all():
            unknown = rows.rows(~known)
            groups = query_groups(unknown, gene)
            queries = query_rows(unknown, groups)
            scores = (
                done.query(scale.apply(unknown.values), groups)
                if by_row
                else done.query(scale.apply(queries.values))
            )
            parts["queries"].append(_listed(queries, scores, genes, allowed, n_best))
            notes += _unnamed_note(origin, unknown.column(gene) == "", groups)
        notes += done.notes
        for frames in parts.values():
            if frames and "origin" not in frames[-1]:
                frames[-1].insert(0, "origin", origin)
    joined = {k: pd.concat(v, ignore_index=True) if v else pd.DataFrame() for k, v in parts.items()}
    return LinkResult(**joined, absent=absent, notes=notes)


def _refuse_missing(source: Profiles, gene: str) -> None:
    """Refuse values that are not finite in any row: a query's would be ranked like no profile at all."""
    wrong = ~np.isfinite(source.values)
    if wrong.any():
        row, column = (int(v) for v in np.argwhere(wrong)[0])
        raise DataError(
            f"{source.source}: {int(wrong.any(axis=0).sum())} of {wrong.shape[1]} features hold values that are not "
            f"finite, in {int(wrong.any(axis=1).sum())} of {len(wrong)} rows, the first in row {row + 1} "
            f"({source.column(gene)[row] or 'no gene'}), {source.features[column]!r}. Leave out those features "
            "(image2reg link --select) or rows, or fill them."
        )


def _embedding(target: Profiles) -> tuple[NDArray[Any], NDArray[np.float64]]:
    genes, table = target.column(GENE), target.values
    names, counts = np.unique(genes.astype(str), return_counts=True)
    if "" in names:
        raise DataError(
            f"{target.source}: {GENE} is empty in {int((genes == '').sum())} rows. Name the genes there."
        )
    repeated = names[counts > 1].tolist()
    if repeated:
        raise DataError(
            f"{target.source}: {len(repeated)} genes have more than one embedding, such as {repeated[:5]}. "
            "Keep one row each."
        )
    if not np.isfinite(table).all():
        raise DataError(
            f"{target.source}: {int((~np.isfinite(table)).sum())} embedding values are not finite."
        )
    if np.ptp(table, axis=0).max() <= 1e-12 * max(float(np.abs(table).max()), 1e-300):
        raise DataError(
            f"{target.source}: the embeddings of all {len(genes)} genes are identical; nothing can be ranked. "
            "Compute them again from a network with edges."
        )
    return genes, table


def _candidate_mask(genes: NDArray[Any], candidates: Sequence[str] | None) -> NDArray[np.bool_]:
    if candidates is None:
        return np.ones(len(genes), bool)
    unknown = sorted(set(candidates) - set(genes))
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(set(candidates))} candidates are not in the embedding, such as {unknown[:5]}. "
            f"Take them off the list, or embed a network that holds them.{other_case(unknown, genes)}"
        )
    return np.isin(genes, list(candidates))


def _absent_note(absent: tuple[str, ...], n: int, genes: NDArray[Any]) -> tuple[str, ...]:
    if not absent:
        return ()
    shown = ", ".join(absent[:20]) + (f" and {len(absent) - 20} more" if len(absent) > 20 else "")
    return (
        f"{len(absent)} of {n} genes are absent from the embedding and are ranked as queries: {shown}."
        + other_case(absent, genes),
    )


def _unnamed_note(origin: str, unnamed: NDArray[np.bool_], groups: NDArray[np.intp]) -> tuple[str, ...]:
    if not unnamed.any():
        return ()
    rows, queries = int(unnamed.sum()), len(set(groups[unnamed]))
    return (
        f"{origin}: {counted(rows, 'row')} without a gene, ranked as {counted(queries, 'query', 'queries')} (the "
        "mean of each well). Where these are controls, their genes are what no perturbation looks like.",
    )


def _positions(genes: NDArray[Any], names: NDArray[Any]) -> NDArray[np.intp]:
    where = {gene: i for i, gene in enumerate(genes)}
    return np.array([where[name] for name in names], dtype=np.intp)


def _rankings(done: Evaluation, genes: NDArray[Any]) -> pd.DataFrame:
    import pandas as pd

    best = np.argsort(-np.where(done.competing, done.scores, -np.inf), axis=1, kind="stable")[:, :10]
    return pd.DataFrame({
        "gene": genes[done.own], "rank": 1 + done.main.ranks.astype(int), "tied_rank": 1 + done.main.average_ranks,
        "n_candidates": done.main.n_candidates, "setting": done.settings,
        "best": [" ".join(genes[row][:n]) for row, n in zip(best, done.main.n_candidates, strict=True)],
    })  # fmt: skip


def _listed(
    rows: Profiles, scores: NDArray[np.float64], genes: NDArray[Any], allowed: NDArray[np.bool_], n_best: int
) -> pd.DataFrame:
    """List the best candidates of each query, in long form."""
    n_best = min(n_best, int(allowed.sum()))
    order = np.argsort(-np.where(allowed, scores, -np.inf), axis=1, kind="stable")[:, :n_best]
    frame = rows.metadata.loc[np.repeat(np.arange(len(rows)), n_best)].reset_index(drop=True)
    return frame.assign(
        rank=np.tile(np.arange(1, n_best + 1), len(rows)),
        candidate=genes[order].ravel(),
        score=np.take_along_axis(scores, order, axis=1).ravel(),
    )
