"""Latent diffusion and flow matching as a task of the one training loop.

With data latents ``z1`` and ``t`` in [0, 1]:

* flow (Lipman et al. 2023; Liu et al. 2023): ``z_t = (1 - t) z0 + t z1``, target ``z1 - z0``; the network is told
  ``1000 t``. ``z0`` is noise, or the latent of a control nucleus plus noise;
* diffusion (Ho et al. 2020): ``z_t = sqrt(a_t) z1 + sqrt(1 - a_t) e``, target ``e``, or
  ``v = sqrt(a_t) e - sqrt(1 - a_t) z1`` (Salimans and Ho 2022); the square root of ``beta`` runs linearly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from image2reg.randomness import generator
from morphgen.condition import Condition
from morphgen.denoiser import ConditionalDenoiser
from morphgen.descriptors import describe
from morphgen.recipe import DiffusionRecipe
from morphgen.reconstruction import turn

if TYPE_CHECKING:
    from morphgen.autoencoder import MorphologyAutoencoder

__all__ = ["SCHEDULE", "DiffusionTask", "LatentTable", "descriptors_of", "encode_all"]

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0155,
}
"""MorphDiff's, in the words of diffusers' schedulers."""


@torch.no_grad()
def encode_all(
    autoencoder: MorphologyAutoencoder, crops: np.ndarray, *, views: int = 0, seed: int = 0, batch: int = 64
) -> Tensor:
    """Mean latents (V, N, z, *latent) float16, unscaled, of crops in [-1, 1].

    `views` of the eight turns and mirrorings are drawn for each crop; 0: the crop as it is, once.
    """
    device = next(autoencoder.parameters()).device
    rng = generator(seed, "views")
    which = rng.permuted(np.tile(np.arange(8), (len(crops), 1)), axis=1)[:, : max(views, 1)] * (views > 0)
    rounds = []
    for view in which.T:
        parts = []
        for i in range(0, len(crops), batch):
            turned = [
                turn(c, int(k))
                for c, k in zip(torch.from_numpy(crops[i : i + batch]), view[i : i + batch], strict=True)
            ]
            parts.append(autoencoder.posterior(torch.stack(turned).to(device))[0].half().cpu())
        rounds.append(torch.cat(parts))
    return torch.stack(rounds)


class LatentTable:
    """Latents of crops, the perturbation of each, and their measured morphology.

    Parameters
    ----------
    latents : (V, N, z, *latent)
        Scaled; V views.
    index : (N,) int64
        Row of `condition`.
    condition : Condition
        One row per perturbation.
    descriptors : (N, D) float32, optional
        As measured, until the prior that is trained on them standardises them.
    controls : (1, M, z, *latent), optional
    """

    def __init__(
        self,
        latents: Tensor,
        index: Tensor,
        condition: Condition,
        *,
        descriptors: Tensor | None = None,
        controls: Tensor | None = None,
    ) -> None:
        self.latents, self.index, self.condition = latents, index, condition
        self.descriptors, self.controls = descriptors, controls

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, Any]:
        """Draw `n` crops, each in a random view, with condition, descriptors and control."""
        views, total = self.latents.shape[:2]
        rows = torch.from_numpy(rng.integers(total, size=n))
        view = torch.from_numpy(rng.integers(views, size=n))
        batch: dict[str, Any] = {"z": self.latents[view, rows].float(), "ids": rows.tolist()}
        condition = self.condition.rows(self.index[rows])
        batch |= condition.as_batch()
        if self.descriptors is not None:
            batch["condition.morphology"] = self.descriptors[rows]
        if self.controls is not None:
            chosen = torch.from_numpy(rng.integers(self.controls.shape[1], size=n))
            batch["control"] = self.controls[0, chosen].float()
        return batch


class DiffusionTask:
    """Train a `ConditionalDenoiser`.

    Parameters
    ----------
    model : ConditionalDenoiser
    recipe : DiffusionRecipe
    training : LatentTable
    validation : LatentTable, optional
        Perturbations and crops of their own; the score is minus the mean error at fixed noise and times.
    """

    def __init__(
        self,
        model: ConditionalDenoiser,
        recipe: DiffusionRecipe,
        training: LatentTable,
        validation: LatentTable | None = None,
    ) -> None:
        self.model, self.recipe, self.training, self.validation = model, recipe, training, validation
        self.phases: dict[str, nn.Module] = {"denoiser": model}
        steps = torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, 1000) ** 2  # type: ignore[operator]
        self.alphas = torch.cumprod(1 - steps, 0)

    def batch(self, step: int, rng: np.random.Generator) -> dict[str, Any]:
        """Draw latents, conditions, times and noise."""
        del step  # what is drawn depends on the generator alone
        batch = self.training.draw(self.recipe.training.batch_size, rng)
        return self._noised(batch, rng)

    def _noised(self, batch: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        n = len(batch["z"])
        # One time in each of n equal parts: as many early as late ones in every batch (Kingma et al. 2021).
        times = (rng.permutation(n) + rng.random(n)) / n
        batch["time"] = torch.from_numpy(times.astype(np.float32))
        batch["noise"] = torch.from_numpy(rng.standard_normal(tuple(batch["z"].shape), dtype=np.float32))
        batch["drop"] = torch.from_numpy(rng.random(n) < self.recipe.condition.drop)
        return batch

    def _path(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, the time the network is told, and what it shall predict."""
        z, noise, t = batch["z"], batch["noise"], batch["time"]
        shape = (-1, *([1] * (z.ndim - 1)))
        if self.recipe.process == "flow":
            start = noise
            if self.recipe.source == "control":
                start = batch["control"] + self.recipe.source_noise * noise
            return torch.lerp(start, z, t.reshape(shape)), 1000 * t, z - start
        told = (t * 1000).long().clamp_max(999)
        alpha = self.alphas.to(z.device)[told].reshape(shape)
        noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
        target = noise if self.recipe.process == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * z
        return noisy, told.float(), target

    def loss(self, phase: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Prediction error, absolute or squared."""
        del phase
        noisy, told, target = self._path(batch)
        condition = Condition.of_batch(batch)
        tokens, pooled = self.model.condition(condition, drop=batch["drop"])
        error = self.model(noisy, told, tokens, pooled).float() - target
        return {"loss": error.abs().mean() if self.recipe.norm == "l1" else error.square().mean()}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Error on unseen perturbations with their own and with shuffled conditions.

        ``use`` is the relative rise when conditions are exchanged between crops; 0 for a model that ignores them.
        """
        if self.validation is None:
            return {}
        assert isinstance(module, ConditionalDenoiser)
        device = next(module.parameters()).device
        rng = np.random.default_rng(0)
        batch = self._noised(self.validation.draw(256, rng), rng)
        batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        noisy, told, target = self._path(batch)
        condition = Condition.of_batch(batch)
        shuffled = condition.rows(torch.from_numpy(rng.permutation(256)).to(device))
        own, others = (
            float((module.predict(noisy, told, c).float() - target).square().mean())
            for c in (condition, shuffled)
        )
        return {"denoising": own, "use": others / own - 1, "score": -own}


def descriptors_of(crops: np.ndarray) -> Tensor:
    """Measure crops in [-1, 1] (`morphgen.descriptors.describe`)."""
    return torch.cat([describe(torch.from_numpy(crops[i : i + 256])) for i in range(0, len(crops), 256)])
