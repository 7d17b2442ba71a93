"""What the autoencoder is charged for, and the task the one training loop runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from morphgen.autoencoder import MorphologyAutoencoder
from morphgen.recipe import VaeRecipe

__all__ = ["AutoencoderTask", "adaptive_weight", "pyramid_loss"]

Perceptual = Callable[[Tensor, Tensor], Tensor]


def pyramid_loss(first: Tensor, second: Tensor, *, levels: int = 3) -> Tensor:
    """Mean absolute difference over the bands of a Laplacian pyramid, finest first, each counted alike.

    Burt and Adelson (1983); as a reconstruction loss Bojanowski et al. (2018), equation 5, without its weights.
    """
    pool = functional.avg_pool2d if first.ndim == 4 else functional.avg_pool3d
    terms, difference = [], first - second
    for _ in range(levels):
        if min(difference.shape[2:]) < 4 or any(n % 2 for n in difference.shape[2:]):
            break
        coarse = pool(difference, 2)
        terms.append((difference - functional.interpolate(coarse, scale_factor=2)).abs().mean())
        difference = coarse
    return torch.stack([*terms, difference.abs().mean()]).sum()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """Weigh the adversary so that its gradient at the decoder's last layer is as long as the reconstruction's.

    Esser et al. (2021), VQGAN, equation 7; at most 10^4, and without gradient itself.
    """
    ours = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].norm()
    theirs = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
    return (ours / (theirs + 1e-4)).clamp(0, 1e4).detach()


class AutoencoderTask:
    """Reconstruct crops: L1, Laplacian pyramid, KL, a perceptual distance, and a patch adversary after a while.

    Parameters
    ----------
    network : MorphologyAutoencoder
    recipe : VaeRecipe
    training, validation : (N, C, *spatial) float32
        In [-1, 1]. The score is minus the mean absolute validation error.
    perceptual : callable, optional
        Crops, crops to (B,) distances; needed when ``loss.perceptual`` is not 0.
    """

    def __init__(
        self,
        network: MorphologyAutoencoder,
        recipe: VaeRecipe,
        training: np.ndarray,
        validation: np.ndarray,
        *,
        perceptual: Perceptual | None = None,
    ) -> None:
        self.network, self.recipe, self.perceptual = network, recipe, perceptual
        self.training, self.validation = training, torch.from_numpy(validation)
        self.phases: dict[str, nn.Module] = {"autoencoder": network}
        loss = recipe.loss
        if loss.adversary:
            from monai.networks.nets import PatchDiscriminator

            self.phases["discriminator"] = PatchDiscriminator(
                spatial_dims=network.dims, channels=loss.adversary_width, in_channels=network.channels,
                num_layers_d=loss.adversary_layers, norm="INSTANCE",
            )  # fmt: skip

    def batch(self, step: int, rng: np.random.Generator) -> dict[str, Any]:
        """Draw crops, each turned and mirrored at random in Y and X."""
        rows = np.sort(rng.integers(len(self.training), size=self.recipe.training.batch_size))
        crops = torch.from_numpy(np.ascontiguousarray(self.training[rows]))
        turned = [turn(crop, int(k)) for crop, k in zip(crops, rng.integers(8, size=len(rows)), strict=True)]
        return {"x": torch.stack(turned), "ids": rows.tolist(), "step": step}

    def loss(self, phase: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Terms of the autoencoder's or the discriminator's loss."""
        x, weights = batch["x"], self.recipe.loss
        adversarial = weights.adversary > 0 and batch["step"] > weights.adversary_start
        if phase == "discriminator":
            return self._judge_both(x, batch["made"]) if adversarial else {"loss": 0 * self._parameter_sum()}
        mean, log_variance = self.network.posterior(x)
        mean, log_variance = mean.float(), log_variance.float()
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        if weights.noise:
            level = weights.noise * torch.rand(len(z), *[1] * (z.ndim - 1), device=z.device)
            z = z + level * torch.randn_like(z)
        made = self.network.decode(z * self.network.latent_scale).float()
        terms = {"l1": weights.l1 * (made - x).abs().mean()}
        if weights.pyramid:
            terms["pyramid"] = weights.pyramid * pyramid_loss(made, x)
        if self.perceptual is not None and weights.perceptual:
            terms["perceptual"] = weights.perceptual * self.perceptual(made, x).mean()
        reconstruction = torch.stack(list(terms.values())).sum()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / len(x)
        terms["kl"] = weights.kl * divergence
        total = reconstruction + terms["kl"]
        if adversarial:
            batch["made"] = made.detach()  # the discriminator judges what the autoencoder was judged for
            fooled = -self.phases["discriminator"](made)[-1].float().mean()
            last = self._last_weight()
            terms["adversarial"] = weights.adversary * adaptive_weight(reconstruction, fooled, last) * fooled
            total = total + terms["adversarial"]
        return {**terms, "loss": total}

    def _last_weight(self) -> Tensor:
        """Weight of the convolution that writes the image."""
        return [p for p in self.network.network.decoder.parameters() if p.ndim > 2][-1]

    def _parameter_sum(self) -> Tensor:
        """Give the idle adversary a loss that moves nothing."""
        return torch.stack([p.sum() for p in self.phases["discriminator"].parameters()]).sum()

    def _judge_both(self, real: Tensor, made: Tensor) -> dict[str, Tensor]:
        """Hinge loss (Lim and Ye 2017)."""
        judge = self.phases["discriminator"]
        on_real, on_made = judge(real)[-1].float(), judge(made)[-1].float()
        return {"loss": 0.5 * (functional.relu(1 - on_real).mean() + functional.relu(1 + on_made).mean())}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean absolute error of the round trip, in units of the range [-1, 1]."""
        if not len(self.validation):
            return {}
        device = next(module.parameters()).device
        parts = [
            (module(x.to(device)).float() - x.to(device)).abs().flatten(1).mean(1)
            for x in self.validation.split(64)
        ]
        error = float(torch.cat(parts).mean())
        return {"l1": error, "score": -error}


def turn(crops: Tensor, which: int) -> Tensor:
    """One of the eight symmetries of the Y, X square; `which` from 0 to 7, 0 leaves it as it is."""
    turned = torch.rot90(crops, which % 4, (-2, -1))
    return turned.flip(-1) if which >= 4 else turned
