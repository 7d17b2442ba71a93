"""Pulling a drawn nucleus to the measurements it was told: a sampler's last word on what the condition asked for.

A denoiser of few steps follows what fills the image (size, brightness) and falls short of what is small in its loss
(spots, gaps, fine texture). The decoder and the measurements have gradients, so the drawn latent can be moved by what
is missing, as guidance by a loss on the predicted clean image does (Bansal et al. 2023, universal guidance, section
3.2, backward guidance), here once at the end and by Polyak's rule (Polyak 1987): a step of loss over squared gradient,
which needs no learning rate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["corrected"]

_OUTLIER = 2.0
"""Deviations beyond count linearly: what no nucleus can be must not outweigh the rest."""
_FARTHEST = 0.25
"""Longest step, root mean square in standard deviations of latents: where gradients vanish Polyak's has no end."""


def corrected(z: Tensor, wanted: Tensor, measure: Callable[[Tensor], Tensor], *, steps: int) -> Tensor:
    """Move latents until what they decode to measures what is wanted.

    Parameters
    ----------
    z : (B, z, *latent)
    wanted : (B, M)
        Standardised measurements.
    measure : callable
        Latents to standardised measurements (B, M), with gradients.
    steps : int
        Gradients per image; each image moves by itself.
    """
    along = tuple(range(1, z.ndim))
    for _ in range(steps):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            loss = functional.huber_loss(measure(z), wanted, reduction="none", delta=_OUTLIER).sum(1)
            (gradient,) = torch.autograd.grad(loss.sum(), z)
        squared = gradient.square().sum(along).clamp_min(1e-8)
        farthest = _FARTHEST * (gradient[0].numel() / squared).sqrt()
        step = torch.minimum(loss.detach() / squared, farthest)
        z = z.detach() - step.reshape(-1, *(1 for _ in along)) * gradient
    return z.detach()
