"""What an embedding is trained for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["supervised_contrast", "variance_invariance_covariance"]


def supervised_contrast(embedded: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Pull nuclei of one label together, push others away.

    Parameters
    ----------
    embedded : (N, D)
    labels : (N,) integer

    Notes
    -----
    Khosla et al., Supervised Contrastive Learning (2020), equation 2 (L_out). A row without another of its label
    does not count.
    """
    z = functional.normalize(embedded.float(), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, -1e9)
    positive = (labels[:, None] == labels[None]) & ~itself
    log_share = logits - logits.logsumexp(dim=1, keepdim=True)
    n_positive = positive.sum(dim=1)
    per_row = -(log_share * positive).sum(dim=1) / n_positive.clamp(min=1)
    counted = n_positive > 0
    return (per_row * counted).sum() / counted.sum().clamp(min=1)


def variance_invariance_covariance(first: Tensor, second: Tensor) -> Tensor:
    """Two views of one nucleus agree; each feature varies; no two features vary together.

    Notes
    -----
    Bardes, Ponce & LeCun, VICReg (2022), equations 1 to 6, weights 25, 25 and 1.
    """
    first, second = first.float(), second.float()
    agreement = functional.mse_loss(first, second)
    spread = first.new_zeros(())
    covariance = first.new_zeros(())
    for view in (first, second):
        centred = view - view.mean(dim=0)
        deviation = (centred.var(dim=0) + 1e-4).sqrt()
        spread = spread + functional.relu(1 - deviation).mean() / 2
        matrix = centred.T @ centred / max(1, len(view) - 1)
        off_diagonal = matrix.square().sum() - matrix.diagonal().square().sum()
        covariance = covariance + off_diagonal / view.shape[1] / 2
    return 25 * agreement + 25 * spread + covariance
