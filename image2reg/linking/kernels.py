"""Kernels of the regression: the closed-form neural tangent kernel, linear, Laplace; computed in row blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from image2reg.errors import ConfigurationError

__all__ = ["KERNELS", "kernel_device", "kernel_matrix", "ntk"]

KERNELS = ("ntk", "linear", "laplace")
_BLOCK_ROWS = 2048


def ntk(x: Tensor, z: Tensor, *, depth: int = 1) -> Tensor:
    """Neural tangent kernel of an infinitely wide fully connected ReLU network with bias.

    Parameters
    ----------
    x : (n, d) float32 or float64
    z : (m, d), same dtype and device
    depth : int
        Hidden layers, 1 or more.

    Returns
    -------
    (n, m) Tensor
        The diagonal of ``ntk(x, x)`` at depth 1 is ``2 (|x|^2 + 1)``.

    Notes
    -----
    The bias is a constant coordinate of the input, ``x~ = (x, 1)``. With ``N = |x~||z~|`` and ``u`` their cosine,
    ``S = T = u`` and, for each hidden layer, ``T <- k1(S) + T k0(S)``, ``S <- k1(S)``, where
    ``k0(u) = (pi - arccos u) / pi`` and ``k1(u) = (u (pi - arccos u) + sqrt(1 - u^2)) / pi`` are the arc-cosine
    kernels (Cho & Saul 2009). The result is ``N T`` (Jacot et al. 2018; NTK parametrisation
    ``f = sqrt(2/m) a . relu(W x~)``, all weights N(0, 1)).
    """
    norms = torch.outer(_bias_norm(x), _bias_norm(z))
    covariance = ((x @ z.T).add_(1.0) / norms).clamp_(-1.0, 1.0)
    tangent = covariance
    for _ in range(depth):
        angle = math.pi - torch.arccos(covariance)
        following = (covariance * angle + torch.sqrt((1 - covariance**2).clamp_min_(0.0))) / math.pi
        tangent = following + tangent * (angle / math.pi)
        covariance = following.clamp(-1.0, 1.0)
    return norms * tangent


def _bias_norm(x: Tensor) -> Tensor:
    return torch.sqrt((x * x).sum(dim=1) + 1.0)


def _laplace(x: Tensor, z: Tensor) -> Tensor:
    """``exp(-|x - z|)``; rows are scaled to a mean squared norm of 1 before they come here."""
    squared = (x * x).sum(1)[:, None] + (z * z).sum(1)[None] - 2 * (x @ z.T)
    return torch.exp(-torch.sqrt(squared.clamp_min_(0.0)))


def kernel_matrix(
    x: Tensor, z: Tensor | None = None, *, kind: str = "ntk", depth: int = 1, block_rows: int = _BLOCK_ROWS
) -> Tensor:
    """Kernel between the rows of `x` and `z`, a block of rows at a time.

    Parameters
    ----------
    x : (n, d)
    z : (m, d), optional
        By default `x`; then only the lower triangle of blocks is computed.
    kind : {"ntk", "linear", "laplace"}
    depth : int
        Hidden layers of the NTK; other kernels have none.
    block_rows : int
        Rows worked on at once: temporary memory is a few times ``block_rows x m``.

    Returns
    -------
    (n, m) Tensor, dtype and device of `x`

    Raises
    ------
    ConfigurationError
        Unknown kernel, or a depth below 1.

    Examples
    --------
    >>> import torch
    >>> kernel_matrix(torch.zeros(1, 3, dtype=torch.float64)).item()
    2.0
    """
    if kind not in KERNELS:
        raise ConfigurationError(f"kernel {kind!r} is not known; allowed are {', '.join(KERNELS)}.")
    if depth < 1:
        raise ConfigurationError(f"depth is {depth}; a network has at least 1 hidden layer.")
    other = x if z is None else z
    made = torch.empty(len(x), len(other), dtype=x.dtype, device=x.device)
    for start in range(0, len(x), block_rows):
        rows = x[start : start + block_rows]
        # Of a symmetric matrix only the lower triangle is computed, block by block.
        columns = other if z is not None else other[: start + len(rows)]
        block = _block(rows, columns, kind, depth)
        made[start : start + len(rows), : len(columns)] = block
        if z is None:
            made[: start + len(rows), start : start + len(rows)] = block.T
    return made


def _block(x: Tensor, z: Tensor, kind: str, depth: int) -> Tensor:
    if kind == "ntk":
        return ntk(x, z, depth=depth)
    return x @ z.T if kind == "linear" else _laplace(x, z)


def kernel_device(name: str) -> torch.device:
    """Device by name: ``auto`` takes the GPU where torch sees one.

    Raises
    ------
    ConfigurationError
        Unknown, or a GPU that is not there.
    """
    has_gpu = torch.cuda.is_available()
    if name not in {"auto", "cpu", "cuda"} or (name == "cuda" and not has_gpu):
        raise ConfigurationError(
            f"device {name!r}: allowed are auto, cpu{' and cuda' if has_gpu else ''} here."
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")
