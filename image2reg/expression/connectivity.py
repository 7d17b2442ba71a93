"""Connectivity of signatures: how much one perturbation raises and lowers the genes that another one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.retrieval.similarity import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["connectivity", "enrichment_score", "normalised_connectivity", "signature_similarity", "tau"]

Floats = NDArray[np.float64]


def enrichment_score(
    signatures: NDArray[np.floating], members: NDArray[np.bool_], *, weight: float = 1.0
) -> Floats:
    """Weighted Kolmogorov-Smirnov enrichment of a gene set at the top (positive) or bottom of each signature.

    Parameters
    ----------
    signatures : (n, d) float
        Finite z-scores, one row per signature.
    members : (d,) bool
        Genes of the set; some but not all.
    weight : float
        Exponent of the magnitude a member steps up by; 0 is the unweighted statistic.

    Returns
    -------
    (n,) float64
        Between -1 and 1: the running sum at its largest deviation from 0.

    Raises
    ------
    DataError
        The set holds none or all of the genes, or values are not finite.

    Notes
    -----
    Subramanian et al. 2005 (PNAS 102:15545), equation of ES; weight 1 as in Subramanian et al. 2017.
    """
    values = _finite(signatures)
    inside = np.asarray(members, bool)
    n_members = int(inside.sum())
    if inside.shape != values.shape[1:] or not 0 < n_members < inside.size:
        raise DataError(
            f"enrichment: the set holds {n_members} of {values.shape[1]} measured genes; allowed is at least one and "
            "not all. Check the gene names (symbols against ids)."
        )
    order = np.argsort(-values, axis=1, kind="stable")
    hit = inside[order]
    step = np.where(hit, np.abs(np.take_along_axis(values, order, axis=1)) ** weight, 0.0)
    total = step.sum(axis=1, keepdims=True)
    # Members that are all exactly 0 carry no weight: each counts the same.
    step = np.where(total > 0, step / np.where(total > 0, total, 1), hit / n_members)
    running = np.cumsum(step - ~hit / (inside.size - n_members), axis=1)
    place = np.argmax(np.abs(running), axis=1)
    return np.asarray(running[np.arange(len(values)), place])


def connectivity(
    signatures: NDArray[np.floating],
    genes: Sequence[str],
    up: Sequence[str],
    down: Sequence[str],
    *,
    weight: float = 1.0,
) -> Floats:
    """Weighted connectivity score of each signature to a query's up and down genes.

    Parameters
    ----------
    signatures : (n, d) float
    genes : d names
        Names of the columns; text.
    up, down : gene names
        Those that are not measured are left out; at least one of each must be.
    weight : float

    Returns
    -------
    (n,) float64
        (ES_up - ES_down) / 2 where the two have different signs, else 0; between -1 and 1.

    Raises
    ------
    DataError
        No gene of a set is measured, or a gene is in both sets (both are named).

    Notes
    -----
    Subramanian et al. 2017, Cell 171:1437, WTCS.
    """
    both = sorted(set(up) & set(down))
    if both:
        raise DataError(
            f"connectivity: {len(both)} genes are in the up and in the down set, such as {both[:5]}."
        )
    names = np.array([str(gene) for gene in genes], dtype=object)
    masks = {}
    for what, wanted in (("up", up), ("down", down)):
        masks[what] = np.isin(names.astype(str), [str(gene) for gene in wanted])
        if not masks[what].any():
            raise DataError(
                f"connectivity: none of the {len(wanted)} {what} genes ({list(wanted)[:4]}) is among the {len(names)} "
                f"measured ({list(names[:4])}). Symbols and ids must be of one kind."
            )
    es_up = enrichment_score(signatures, masks["up"], weight=weight)
    es_down = enrichment_score(signatures, masks["down"], weight=weight)
    return np.where(np.sign(es_up) != np.sign(es_down), (es_up - es_down) / 2, 0.0)


def normalised_connectivity(
    scores: NDArray[np.floating], *, groups: Sequence[object] | NDArray[Any] | None = None
) -> Floats:
    """Divide each score by the mean magnitude of the scores of its sign in its group.

    Parameters
    ----------
    scores : (n,) float
        Weighted connectivity scores of one query.
    groups : n labels, optional
        Cell line and type of perturbation; all one group where it is None.

    Returns
    -------
    (n,) float64
        0 stays 0. Mean magnitude 1 per sign and group.

    Notes
    -----
    Subramanian et al. 2017, NCS: makes scores comparable between cell lines and kinds of perturbation.
    """
    values = np.asarray(scores, np.float64)
    member = np.zeros(len(values), int)
    if groups is not None:
        if len(groups) != len(values):
            raise DataError(f"normalised connectivity: {len(groups)} groups for {len(values)} scores.")
        member = np.unique([str(g) for g in groups], return_inverse=True)[1]
    out = np.zeros_like(values)
    for side in (values > 0, values < 0):
        count = np.bincount(member[side], minlength=member.max(initial=0) + 1)
        total = np.bincount(member[side], np.abs(values[side]), minlength=len(count))
        mean = total / np.maximum(count, 1)
        out[side] = values[side] / mean[member[side]]
    return out


def tau(scores: NDArray[np.floating], reference: NDArray[np.floating]) -> Floats:
    """Signed share of a reference bank that is weaker than each score, in percent.

    Parameters
    ----------
    scores : (n,) float
        Normalised connectivity of a query to n signatures.
    reference : (q, n) float
        Normalised connectivity of q reference queries to the same signatures.

    Returns
    -------
    (n,) float64
        Between -100 and 100: sign(score) x 100 x the share of the reference's magnitudes below the score's.

    Raises
    ------
    DataError
        Shapes do not fit, or the bank is empty.

    Notes
    -----
    Subramanian et al. 2017, tau: corrects for signatures that connect to everything.
    """
    values, bank = np.asarray(scores, np.float64), np.asarray(reference, np.float64)
    if bank.ndim != 2 or bank.shape[1:] != values.shape or not len(bank):
        raise DataError(
            f"tau: reference is {bank.shape} for scores {values.shape}; allowed is (queries, {len(values)}), at least "
            "one query."
        )
    return np.asarray(np.sign(values) * 100 * (np.abs(bank) < np.abs(values)).mean(axis=0))


def signature_similarity(
    queries: NDArray[np.floating], references: NDArray[np.floating], similarity: str = "cosine"
) -> Floats:
    """Cosine, Pearson or Spearman similarity of every query to every reference, (q, n) float64."""
    first, second = np.asarray(queries, np.float64), np.asarray(references, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise DataError(
            f"similarity: queries {first.shape}, references {second.shape}; both are (signatures, genes) with the "
            "same genes in the same order."
        )
    return unit_rows(first, similarity, where="queries") @ unit_rows(second, similarity, where="references").T


def _finite(signatures: NDArray[np.floating]) -> Floats:
    values = np.asarray(signatures, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise DataError(
            f"signatures have shape {values.shape} with {int((~np.isfinite(values)).sum())} values that are not "
            "finite; allowed is (signatures, genes), finite. Leave missing genes out."
        )
    return values
