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

_EDGE_BLOCK = 65_536


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
        One side of the contrast is empty, or no gene is in the network.
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
    values = expression[net.names[here]].to_numpy(np.float64)
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
        Fewer than three samples.
    """
    if len(expression) < 3:
        raise DataError(f"co-expression over {len(expression)} samples is undefined; at least 3 are needed.")
    here = np.isin(net.names, expression.columns.to_numpy(str))
    ranks = rankdata(expression[net.names[here]].to_numpy(np.float64), axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.linalg.norm(ranks, axis=0)
    rows = np.zeros((len(net.names), len(expression)))
    rows[here] = np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0).T
    a, b, _ = net.edges()
    rho = np.concatenate([
        np.einsum("ij,ij->i", rows[a[s : s + _EDGE_BLOCK]], rows[b[s : s + _EDGE_BLOCK]])
        for s in range(0, len(a), _EDGE_BLOCK)
    ])  # fmt: skip
    return net.with_edges(a, b, 1 - np.abs(rho))


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
