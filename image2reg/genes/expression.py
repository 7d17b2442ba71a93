"""What expression says about a network: prizes of genes and costs of interactions."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from image2reg.errors import DataError
from image2reg.genes.interactome import Interactome

__all__ = ["coexpression_costs", "expression_prizes", "read_expression"]

# Ranks of both ends held at once: 2 x 128 MB, whether samples are twenty or a hundred thousand.
_BLOCK_VALUES = 2**24


def expression_prizes(
    net: Interactome,
    expression: pd.DataFrame,
    case: NDArray[np.bool_],
    targets: Collection[str],
    *,
    min_fold_change: float = 0.25,
    min_expressed: float = 0.1,
) -> NDArray[np.float64]:
    """Prize of each protein: how much its gene's expression sets the cell line apart, in 0 … 1; targets get 1.

    Parameters
    ----------
    net : Interactome
    expression : DataFrame (samples, genes)
        Log expression, columns gene symbols.
    case : (samples,) bool
        The samples of interest (U2OS); the others are the contrast.
    targets : collection of str
    min_fold_change : float
        Absolute differences of mean log expression below it count as 0.
    min_expressed : float
        Share of samples in which a gene must be above 0.

    Returns
    -------
    (proteins,) float64
        Genes without expression get 0.

    Raises
    ------
    DataError
        One side of the contrast is empty, no gene is in the network, genes that appear twice, or values that are not
        finite.
    """
    if len(case) != len(expression) or not case.any() or case.all():
        raise DataError(
            f"expression contrast: {int(case.sum())} of {len(expression)} samples are the case; both "
            "sides need at least one."
        )
    here = np.isin(net.names, expression.columns.to_numpy(str))
    if not here.any():
        raise DataError(
            f"none of {expression.shape[1]} expressed genes (such as {list(expression.columns[:3])}) "
            "is in the network; "
            "name columns by gene symbol."
        )
    values = _values(net, expression, here)
    change = np.abs(values[case].mean(axis=0) - values[~case].mean(axis=0))
    change[(change < min_fold_change) | ((values > 0).mean(axis=0) < min_expressed)] = 0.0
    prizes = np.zeros(len(net.names))
    prizes[here] = change / max(float(change.max()), np.finfo(np.float64).tiny)
    prizes[np.isin(net.names, list(targets))] = 1.0
    return prizes


def coexpression_costs(net: Interactome, expression: pd.DataFrame) -> Interactome:
    """Replace costs by ``1 - |Spearman rho|`` of the two genes over the samples.

    Parameters
    ----------
    net : Interactome
    expression : DataFrame (samples, genes)
        Bulk samples or single cells. Interactions of genes without (varying) expression cost 1.

    Returns
    -------
    Interactome

    Raises
    ------
    DataError
        Fewer than three samples, genes that appear twice, or values that are not finite.
    """
    if len(expression) < 3:
        raise DataError(f"co-expression over {len(expression)} samples is undefined; at least 3 are needed.")
    here = np.isin(net.names, expression.columns.to_numpy(str))
    ranks = rankdata(_values(net, expression, here), axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.linalg.norm(ranks, axis=0)
    rows = np.zeros((len(net.names), len(expression)))
    rows[here] = np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0).T
    a, b, _ = net.edges()
    block = max(1, _BLOCK_VALUES // len(expression))
    rho = np.concatenate([
        np.einsum("ij,ij->i", rows[a[s : s + block]], rows[b[s : s + block]]) for s in range(0, len(a), block)
    ])  # fmt: skip
    return net.with_edges(a, b, 1 - np.abs(rho))


def _values(net: Interactome, expression: pd.DataFrame, here: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give (samples, genes) of the network's genes that are measured."""
    repeated = sorted(
        set(expression.columns[expression.columns.duplicated()]) & set(net.names[here].tolist())
    )
    if repeated:
        raise DataError(
            f"expression: {len(repeated)} genes of the network have more than one column, such as {repeated[:5]}. "
            "Keep one each."
        )
    values = expression[net.names[here]].to_numpy(np.float64)
    wrong = ~np.isfinite(values).all(axis=0)
    if wrong.any():
        raise DataError(
            f"expression: {int(wrong.sum())} genes of the network have values that are not finite, such as "
            f"{net.names[here][wrong][:5].tolist()}. Fill them (0 where nothing was counted) or remove those genes."
        )
    return values


def read_expression(path: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read samples by genes from a table of profiles (CSV, Parquet), or from ``.h5ad`` (needs anndata).

    Returns
    -------
    expression : DataFrame (samples, genes), metadata : DataFrame (samples, columns), text
    """
    if not path.endswith(".h5ad"):
        from image2reg.tables.profiles import Profiles

        profiles = Profiles.read(path)
        return profiles.frame[profiles.features], profiles.metadata
    try:
        import anndata
    except ImportError as error:
        raise DataError(
            f"{path}: reading .h5ad needs anndata: pip install 'virtualstain[single-cell]', or export it as Parquet."
        ) from error
    held = anndata.read_h5ad(path)
    return held.to_df().reset_index(drop=True), held.obs.astype(str).reset_index(drop=True)
