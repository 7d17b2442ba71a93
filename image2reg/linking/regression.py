"""Kernel ridge regression by Cholesky, and what it predicts for every row it did not see, from the same solve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from image2reg.errors import ConfigurationError, DataError

__all__ = ["CENTRES", "held_out", "inverse", "predict"]

CENTRES = ("fold", "intercept", "none")


def inverse(kernel: Tensor, ridge: float) -> Tensor:
    """``(K + ridge I)^-1`` by Cholesky factorisation.

    Parameters
    ----------
    kernel : (n, n) symmetric positive semi-definite
    ridge : float
        0 or above, on the scale of the kernel.

    Raises
    ------
    DataError
        The matrix is singular: rows are identical or linearly dependent and the ridge does not make up for it.
    """
    return torch.cholesky_inverse(_factor(kernel, ridge))


def _factor(kernel: Tensor, ridge: float) -> Tensor:
    """Lower Cholesky factor of the kernel plus ridge (LAPACK works in blocks)."""
    if ridge < 0:
        raise ConfigurationError(f"ridge is {ridge}; allowed is 0 or above, usual is 1.")
    matrix = kernel.clone()
    matrix.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    diagonal = factor.diagonal()
    # A factor that exists by rounding alone: its smallest pivot is what rounding leaves of the largest.
    limit = 8 * len(matrix) ** 0.5 * torch.finfo(matrix.dtype).eps
    if int(failed) or bool((diagonal.min() / diagonal.max()) ** 2 < limit):
        raise DataError(
            f"the kernel of {len(matrix)} rows with ridge {ridge:g} is singular: rows are identical or one follows "
            "from the others. Raise the ridge (usual is 1), or remove the repeated rows."
        )
    return factor


def predict(kernel: Tensor, targets: Tensor, ridge: float, cross: Tensor, *, centre: str = "fold") -> Tensor:
    """Predict new rows: ``mean + K(new, train) (K + ridge I)^-1 (Y - mean)``.

    Parameters
    ----------
    kernel : (n, n)
    targets : (n, d)
    cross : (m, n)
        Kernel between new rows and training rows.
    centre : {"fold", "intercept", "none"}

    Returns
    -------
    (m, d) Tensor
    """
    factor = _factor(kernel, ridge)
    offset = torch.zeros_like(targets[0])
    if centre == "fold":
        offset = targets.mean(dim=0)
    elif centre == "intercept":
        ones = torch.cholesky_solve(torch.ones_like(targets[:, :1]), factor)[:, 0]
        offset = ones @ targets / ones.sum()
    return offset + cross @ torch.cholesky_solve(targets - offset, factor)


def held_out(
    kernel: Tensor,
    targets: Tensor,
    ridge: float,
    *,
    centre: str = "fold",
    groups: Sequence[Any] | NDArray[Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """Predict each row (or group of rows) from a model fitted on all others, for all of them from one solve.

    Parameters
    ----------
    kernel : (n, n) symmetric
    targets : (n, d), dtype of the kernel
    ridge : float
    centre : {"fold", "intercept", "none"}
        ``fold`` subtracts the mean of the training targets of each fold; ``intercept`` fits a free intercept that
        the ridge does not shrink (another estimator: it is not the mean); ``none`` does neither.
    groups : (n,) labels, optional
        Rows of one label (wells of one gene) are left out together. Unhashable order does not matter.

    Returns
    -------
    predicted : (n, d) Tensor
    mean : (n, d) Tensor
        Mean of the training targets of each row's fold.

    Raises
    ------
    ConfigurationError
        Unknown `centre`.
    DataError
        A single row or group, shapes that differ, or a singular kernel.

    Notes
    -----
    With ``B = (K + ridge I)^-1`` and I the rows left out, the prediction is
    ``Y_I - (B_II)^-1 ([B Y]_I - [B 1]_I m)``, where m is the fold's training mean or 0; for the free intercept B is
    the upper-left block of the inverse of the bordered system, ``B - B 1 1' B / (1' B 1)``. Allen's PRESS (1974)
    in kernel form; each equals a refit without I to rounding.
    """
    if centre not in CENTRES:
        raise ConfigurationError(f"centre is {centre!r}; allowed are {', '.join(CENTRES)}.")
    n = len(kernel)
    if targets.shape[0] != n:
        raise DataError(f"{n} rows of the kernel but {targets.shape[0]} targets; give one target per row.")
    codes = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(codes) != n:
        raise DataError(f"{len(codes)} group labels for {n} rows; give one per row.")
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise DataError("one target only: leaving it out leaves nothing to learn from. Give at least two.")
    b = inverse(kernel, ridge)
    ones = b.sum(dim=1)
    if centre == "intercept":
        b = b - torch.outer(ones, ones) / ones.sum()
    mean = _fold_means(targets, codes, sizes)
    offset = mean if centre == "fold" else torch.zeros_like(mean)
    residual = b @ targets - (ones[:, None] * offset if centre == "fold" else 0.0)
    if len(sizes) == n:
        return targets - residual / b.diagonal()[:, None], mean
    predicted = torch.empty_like(targets)
    for members in np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1]):
        i = torch.from_numpy(members).to(b.device)
        predicted[i] = targets[i] - torch.linalg.solve(b[i][:, i], residual[i])
    return predicted, mean


def _fold_means(targets: Tensor, codes: NDArray[np.intp], sizes: NDArray[np.intp]) -> Tensor:
    """Mean over the rows outside each row's group."""
    index = torch.from_numpy(codes).to(targets.device)
    sums = torch.zeros(len(sizes), targets.shape[1], dtype=targets.dtype, device=targets.device)
    sums.index_add_(0, index, targets)
    outside = torch.as_tensor(len(codes) - sizes, dtype=targets.dtype, device=targets.device)
    return ((targets.sum(dim=0) - sums) / outside[:, None])[index]
