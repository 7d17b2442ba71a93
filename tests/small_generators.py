"""Crops, signatures and recipes small enough to train a generator in a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from image2reg.config import load_config
from image2reg.tables.profiles import Profiles
from morphgen.bundling import Facts
from morphgen.crops import CropSet
from morphgen.recipe import DiffusionRecipe, VaeRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from image2reg.models.bundle import Bundle

GENES = tuple(f"GENE{i}" for i in range(12))
FACTS = Facts(command="morphgen demo")

VAE = (
    "autoencoder={widths: [8, 16], patch: 2, norm_groups: 4, latent_channels: 4}",
    "training={steps: 3, batch_size: 4, warmup_steps: 0, validate_every: 2, checkpoint_every: 1, log_every: 1, "
    "workers: 0, precision: fp32, learning_rate: 0.002}",
)
DIFFUSION = (
    "denoiser={widths: [16, 16], attention: [false, true], norm_groups: 8, heads: 2}",
    "condition={tokens: 2, width: 16, hidden: 8, drop: 0.2}",
    "prior={members: 2, condition: {tokens: 2, width: 16, hidden: 8, drop: 0.0}, training: {steps: 20, batch_size: 4, "
    "warmup_steps: 0, checkpoint_every: 10, workers: 0}}",
    "training={steps: 3, batch_size: 4, warmup_steps: 0, validate_every: 2, checkpoint_every: 1, log_every: 1, "
    "workers: 0, precision: fp32, learning_rate: 0.002}",
)


def small_signatures(n: int = 6, seed: int = 0, **metadata: Any) -> Profiles:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(0, 1.5, (n, len(GENES))), columns=list(GENES))
    for name, value in {"Metadata_Perturbation": [f"P{seed}-{i}" for i in range(n)], **metadata}.items():
        frame[name] = value
    return Profiles(frame, source="small signatures")


def small_crops(n: int = 24, *, channels: int = 1, dims: int = 2, size: int = 16, seed: int = 0) -> CropSet:
    """Discs whose radius follows the first gene; planted, and easy to see."""
    rng = np.random.default_rng(seed)
    signatures = small_signatures(seed=seed)
    index = np.arange(n) % len(signatures)
    radius = size / 4 + np.tanh(signatures.values[index, 0]) * size / 8
    axes = np.meshgrid(*[np.arange(size) - (size - 1) / 2] * dims, indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in axes))
    discs = 1 / (1 + np.exp(distance[None] - radius.reshape(-1, *[1] * dims)))
    images = np.repeat(discs[:, None], channels, axis=1) + rng.normal(0, 0.02, (n, channels, *[size] * dims))
    return CropSet(
        images=images.clip(0, 1.2).astype(np.float32),
        channels=tuple(["DNA", "RNA", "ER"][:channels]),
        voxel_um=(None, 0.65, 0.65),
        signature_index=index,
        signatures=signatures,
        controls=images[::2].clip(0, 1.2).astype(np.float32),
        name="small crops",
    )


def vae_recipe(*changes: str) -> VaeRecipe:
    return load_config(VaeRecipe, None, overrides=[*VAE, *changes])


def diffusion_recipe(*changes: str) -> DiffusionRecipe:
    return load_config(DiffusionRecipe, None, overrides=[*DIFFUSION, *changes])


def small_generator(out: Path, *changes: str, crops: CropSet | None = None) -> Bundle:
    """Train autoencoder and generator for a few steps; ``out/vae`` and ``out/diffusion``."""
    from morphgen.train import train_diffusion, train_vae

    crops = small_crops() if crops is None else crops
    vae = train_vae(crops, crops, vae_recipe(), out / "vae", facts=FACTS, device="cpu")
    return train_diffusion(
        crops, small_crops(seed=1) if crops.dims == 2 and len(crops.channels) == 1 else None, vae,
        diffusion_recipe(*changes), out / "diffusion", facts=FACTS, device="cpu",
    )  # fmt: skip
