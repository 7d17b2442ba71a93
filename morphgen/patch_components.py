"""The linear part of an autoencoder: principal components of small patches, measured once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["PatchComponents", "fold", "unfold"]

_MAX_PATCHES = 200_000
_LEAST_SPREAD = 1e-4


def fold(x: Tensor, factor: int) -> Tensor:
    """(B, C, Y, X) to (B, C·f·f, Y / f, X / f), and stacks alike: torch's `pixel_unshuffle` for any number of axes."""
    d = x.ndim - 2
    split = x.reshape(*x.shape[:2], *(n for size in x.shape[2:] for n in (size // factor, factor)))
    within, places = [3 + 2 * k for k in range(d)], [2 + 2 * k for k in range(d)]
    return split.permute(0, 1, *within, *places).flatten(1, 1 + d)


def unfold(patches: Tensor, factor: int) -> Tensor:
    """Undo `fold`."""
    d = patches.ndim - 2
    split = patches.unflatten(1, (-1, *[factor] * d))
    order = [n for k in range(d) for n in (2 + d + k, 2 + k)]
    sizes = (size * factor for size in patches.shape[2:])
    return split.permute(0, 1, *order).reshape(len(patches), split.shape[1], *sizes)


class PatchComponents(nn.Module):
    """Patches to their leading principal components with unit variance, and back.

    Latents of unit variance that do not correlate within a patch are what a diffusion begins from most easily; fine
    components count as much as coarse ones, so that fine texture is generated and not averaged away.

    Parameters
    ----------
    channels, dims : int
        Of the crops.
    factor : int
        Side of a patch; one patch becomes one place of the latent.
    components : int
        Latent channels; those beyond the values of a patch stay 0.
    """

    centre: Tensor
    basis: Tensor
    spread: Tensor

    def __init__(self, channels: int, dims: int, factor: int, components: int) -> None:
        super().__init__()
        self.factor = factor
        values = channels * factor**dims
        self.register_buffer("centre", torch.zeros(values))
        self.register_buffer("basis", torch.zeros(components, values))
        self.register_buffer("spread", torch.ones(components))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Measure the components over all patches of crops (N, C, *spatial)."""
        patches = fold(x, self.factor).movedim(1, -1).reshape(-1, len(self.centre))
        patches = patches[:: -(-len(patches) // _MAX_PATCHES)].double()
        centre = patches.mean(0)
        patches = patches - centre
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        n = min(len(self.spread), len(self.centre))
        self.centre.copy_(centre)
        self.basis.zero_()
        self.basis[:n] = vectors.flip(1)[:, :n].T
        self.spread.fill_(1.0)
        self.spread[:n] = values.flip(0)[:n].clamp_min(0).sqrt().clamp_min(_LEAST_SPREAD)

    def encode(self, x: Tensor) -> Tensor:
        """Components (B, z, *latent) of crops (B, C, *spatial)."""
        patches = fold(x, self.factor).movedim(1, -1)
        return (((patches - self.centre) @ self.basis.T) / self.spread).movedim(-1, 1)

    def decode(self, z: Tensor) -> Tensor:
        """Crops of components."""
        patches = (z.movedim(1, -1) * self.spread) @ self.basis + self.centre
        return unfold(patches.movedim(-1, 1), self.factor)
