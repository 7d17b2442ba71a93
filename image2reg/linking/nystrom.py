"""Kernel ridge on centres, for more rows than a full kernel allows: rows pass in blocks and are not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from image2reg.errors import ConfigurationError, DataError
from image2reg.linking.kernels import kernel_matrix
from image2reg.randomness import generator

__all__ = ["EXACT_ROWS", "Nystrom", "choose_centres"]

EXACT_ROWS = 20_000  # a full kernel of this many rows is 1.6 GB in float32
_BLOCK_ROWS = 4096

Block = tuple[Tensor, Tensor]


def choose_centres(n_rows: int, n_centres: int, *, seed: int) -> NDArray[np.intp]:
    """Positions of the centres: drawn without replacement, in ascending order."""
    if not 1 <= n_centres <= n_rows:
        raise ConfigurationError(f"{n_centres} centres for {n_rows} rows; allowed are 1 to {n_rows}.")
    return np.sort(generator(seed, "centres").choice(n_rows, n_centres, replace=False))


@dataclass(frozen=True)
class Nystrom:
    """A kernel ridge regression whose function lives on centres.

    Attributes
    ----------
    centres : (m, d) Tensor
    coefficients : (m, t) Tensor
    offset : (t,) Tensor
        Mean of the training targets, added to every prediction.
    moments, cross : (m, m) and (m, t) Tensor, float64
        ``K'K`` and ``K'Y`` summed over all rows, in the order of the blocks.
    sums : (m,) Tensor
        ``K'1``.
    penalty : (m, m) Tensor
        ``ridge Kmm``.
    target_sum : (t,) Tensor
    n_rows : int
    kind, depth, centred
        What the kernel was.

    Notes
    -----
    Minimises ``|Y - K a|^2 + ridge a' Kmm a`` over the coefficients of the centres, K being the n x m kernel
    between rows and centres (Williams & Seeger 2001; Rudi et al. 2015). Sums are float64 and taken in the fixed
    order of fixed blocks, so the result does not depend on the number of workers that made the blocks.
    """

    centres: Tensor
    coefficients: Tensor
    offset: Tensor
    moments: Tensor
    cross: Tensor
    sums: Tensor
    penalty: Tensor
    target_sum: Tensor
    n_rows: int
    kind: str
    depth: int
    centred: bool = True

    @classmethod
    def fit(
        cls,
        blocks: Iterable[Block],
        centres: Tensor,
        *,
        ridge: float = 1.0,
        kind: str = "ntk",
        depth: int = 1,
        centred: bool = True,
        progress: Callable[[int], Any] | None = None,
    ) -> Nystrom:
        """Fit from blocks of rows.

        Parameters
        ----------
        blocks : iterable of ((rows, d), (rows, t)) Tensors
            See `blocks_of`; a block is forgotten once it is summed.
        centres : (m, d) Tensor
            Dtype and device decide where and how kernels are computed.
        ridge : float
            Above 0.
        centred : bool
            Take the mean off the targets, and add it to predictions.
        progress : callable, optional
            Told the number of rows so far.

        Raises
        ------
        ConfigurationError
            A ridge of 0 or below.
        DataError
            No rows, or a singular system.
        """
        if ridge <= 0:
            raise ConfigurationError(f"ridge is {ridge}; a fit on centres needs one above 0, usual is 1.")
        m, f64 = len(centres), torch.float64
        moments = torch.zeros(m, m, dtype=f64, device=centres.device)
        sums = torch.zeros(m, dtype=f64, device=centres.device)
        cross: Tensor | None = None
        target_sum: Tensor | None = None
        n_rows = 0
        for x, targets in blocks:
            k, y = kernel_matrix(x.to(centres), centres, kind=kind, depth=depth), targets.to(centres)
            if cross is None or target_sum is None:
                cross = torch.zeros(m, y.shape[1], dtype=f64, device=centres.device)
                target_sum = torch.zeros(y.shape[1], dtype=f64, device=centres.device)
            moments += (k.T @ k).to(f64)
            cross += (k.T @ y).to(f64)
            sums += k.sum(dim=0, dtype=f64)
            target_sum += y.sum(dim=0, dtype=f64)
            n_rows += len(x)
            if progress is not None:
                progress(n_rows)
        if cross is None or target_sum is None:
            raise DataError("a fit on centres was given no rows.")
        offset = target_sum / n_rows * float(centred)
        penalty = ridge * kernel_matrix(centres.to(f64), kind=kind, depth=depth)
        coefficients = _solve(moments + penalty, cross - torch.outer(sums, offset))
        return cls(centres, coefficients.to(centres), offset.to(centres), moments, cross, sums, penalty,
                   target_sum, n_rows, kind, depth, centred)  # fmt: skip

    def predict(self, x: Tensor) -> Tensor:
        """Predict (rows, t) targets for (rows, d) rows."""
        return self.offset + self.features(x.to(self.centres)) @ self.coefficients

    def features(self, x: Tensor) -> Tensor:
        """Kernel between rows and centres."""
        return kernel_matrix(x, self.centres, kind=self.kind, depth=self.depth)

    @cached_property
    def _solved(self) -> tuple[Tensor, Tensor, Tensor]:
        """Factor of the whole system, and its solutions for the targets and for ones."""
        factor = _factor(self.moments + self.penalty)
        of_ones = torch.cholesky_solve(self.sums[:, None], factor)
        return factor, torch.cholesky_solve(self.cross, factor), of_ones

    def without(self, x: Tensor, y: Tensor) -> Tensor:
        """Predict a group of training rows from a fit without them.

        Parameters
        ----------
        x, y : (rows, d), (rows, t)
            All rows of the group, as they were given to `fit`.

        Returns
        -------
        (rows, t) Tensor

        Notes
        -----
        A group of fewer rows than centres costs no new solve of the m x m system S: with k its kernel to the centres, Z
        its targets less the mean m of all others and ``H = k S^-1 k'``, the prediction is
        ``Y - (I - H)^-1 (Z - k S^-1 (K'Y - K'1 m'))`` (Allen's PRESS, 1974). Of a larger one the sums are subtracted.
        """
        f64 = torch.float64
        k = self.features(x.to(self.centres))
        y = y.to(self.centres)
        if len(x) >= self.n_rows:
            raise DataError(
                "one target only: leaving it out leaves nothing to learn from. Give at least two."
            )
        offset = (self.target_sum - y.sum(dim=0, dtype=f64)) / (self.n_rows - len(x)) * float(self.centred)
        if len(x) < len(self.centres):
            k, y = k.to(f64), y.to(f64)
            factor, of_targets, of_ones = self._solved
            half = torch.linalg.solve_triangular(factor, k.T, upper=False)
            rest = torch.eye(len(k), dtype=f64, device=k.device) - half.T @ half
            residual = y - offset - (k @ of_targets - (k @ of_ones) * offset)
            return (y - torch.linalg.solve(rest, residual)).to(self.centres)
        cross = self.cross - (k.T @ y).to(f64) - torch.outer(self.sums - k.sum(dim=0, dtype=f64), offset)
        coefficients = _solve(self.moments - (k.T @ k).to(f64) + self.penalty, cross)
        return (offset + k.to(f64) @ coefficients).to(self.centres)


def blocks_of(x: NDArray[Any], y: NDArray[Any], *, block_rows: int = _BLOCK_ROWS) -> Iterator[Block]:
    """Cut rows (a memory map will do) into fixed blocks."""
    for start in range(0, len(x), block_rows):
        part = slice(start, start + block_rows)
        yield torch.as_tensor(np.array(x[part])), torch.as_tensor(np.array(y[part]))


def _solve(system: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right, _factor(system))


def _factor(system: Tensor) -> Tensor:
    jitter = 1e-12 * system.diagonal().mean()
    system = system.clone()
    system.diagonal().add_(jitter)
    factor, failed = torch.linalg.cholesky_ex(system)
    if int(failed):
        raise DataError(
            f"the system of {len(system)} centres is singular: centres are identical. Take fewer, or raise the ridge."
        )
    return factor
