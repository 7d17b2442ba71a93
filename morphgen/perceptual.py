"""Perceptual distance of crops: features of a nucleus encoder of ours, or LPIPS where its extra and backbone are."""

from __future__ import annotations

from functools import partial
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from image2reg.errors import BundleError
from morphgen.recipe import ReconstructionSettings
from morphgen.reconstruction import Perceptual

__all__ = ["EncoderDistance", "perceptual_of"]


class EncoderDistance:
    """Distance in the feature maps of the convolutions of a nucleus encoder (Johnson et al. 2016, unit-normed).

    Not LPIPS, and never called so: no layer weights were fitted to anyone's judgement.

    Parameters
    ----------
    branch : nn.Sequential
        Convolutions of the encoder's nucleus branch; maps after each activation are compared.
    n_channels : int
        What it takes; with 1, every channel of a crop is compared by itself.
    """

    def __init__(self, branch: nn.Sequential, n_channels: int) -> None:
        self.branch, self.n_channels = branch.eval().requires_grad_(requires_grad=False), n_channels

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Compare crops (B, C, Y, X) in [-1, 1]: (B,) distances."""
        self.branch.to(first.device)
        terms = [
            (functional.normalize(a, dim=1) - functional.normalize(b, dim=1))
            .square()
            .sum(1)
            .flatten(1)
            .mean(1)
            for a, b in zip(self._maps(first), self._maps(second), strict=True)
        ]
        return torch.stack(terms).mean(0).reshape(len(first), -1).mean(1)

    def _maps(self, x: Tensor) -> list[Tensor]:
        if self.n_channels == 1:
            x = x.reshape(-1, 1, *x.shape[2:])
        # An encoder sees crops standardised by themselves.
        x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True).clamp_min(1e-2)
        maps = []
        for layer in self.branch:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps


def perceptual_of(loss: ReconstructionSettings) -> Perceptual | None:
    """Build the distance a recipe asks for; None where it has no weight.

    Raises
    ------
    ConfigurationError, BundleError
        LPIPS without its extra or backbone (`image2reg.models.perceptual`); no encoder of that name, or one without
        plain convolutions.
    """
    if not loss.perceptual:
        return None
    if loss.perceptual_by == "lpips":
        from image2reg.models.perceptual import lpips_distance

        return partial(_per_channel, lpips_distance(Path(loss.perceptual_model)))
    from image2reg.embedding.networks import SmallBranch, build_encoder
    from image2reg.models.registry import find_bundle

    shipped = Path(str(resources.files("image2reg"))) / "weights"
    bundle = find_bundle(loss.perceptual_model, [shipped])
    name = bundle.spec.architecture.name
    network = bundle.build({name: lambda **arguments: build_encoder(name, **arguments)})
    branch = network.branches["nucleus"]  # type: ignore[index]
    if not isinstance(branch, SmallBranch):
        raise BundleError(
            f"{bundle.directory}: design {name!r}; the perceptual distance needs the encoder design 'small'. Set "
            "loss.perceptual_by=lpips, or loss.perceptual=0."
        )
    return EncoderDistance(branch, int(bundle.spec.architecture.arguments["n_channels"]))


def _per_channel(distance: Perceptual, first: Tensor, second: Tensor) -> Tensor:
    """Compare each channel as grey RGB; the mean over channels (MorphDiff's way)."""
    shape = (-1, 1, *first.shape[-2:])
    planes = distance(first.reshape(shape).expand(-1, 3, -1, -1), second.reshape(shape).expand(-1, 3, -1, -1))
    return planes.reshape(len(first), -1).mean(1)
