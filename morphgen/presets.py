"""Recipes by name: sizes for two processor cores, for half an hour of one accelerator, and MorphDiff's."""

from __future__ import annotations

from pathlib import Path

from image2reg.config import load_config
from image2reg.errors import ConfigurationError
from morphgen.recipe import DiffusionRecipe, VaeRecipe

__all__ = ["PRESETS", "diffusion_recipe", "vae_recipe"]

PRESETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "small": ((), ()),
    "gpu": (
        (
            "autoencoder={widths: [128, 256], patch: 4, blocks: 2, norm_groups: 16, latent_channels: 48}",
            "loss={adversary: 0.5, adversary_start: 5000, adversary_width: 64, adversary_layers: 3}",
            "training={steps: 12000, batch_size: 64, learning_rate: 0.0003}",
        ),
        (
            "denoiser={widths: [192, 384, 384], attention: [false, true, true], blocks: 2, heads: 8}",
            "condition={tokens: 8, width: 256}",
            "views=8",
            "training={steps: 30000, batch_size: 128, learning_rate: 0.0003, ema_decay: 0.9995}",
        ),
    ),
    # MorphDiff @ 80f79ca: configs/autoencoder/autoencoder_kl_32x32x4_5c.yaml and configs/ldm/morph_5c.yaml. What its
    # defects are named for (frozen gene encoder, no condition dropout) is not repeated.
    "morphdiff": (
        (
            "autoencoder={widths: [128, 256, 512], patch: 1, blocks: 2, norm_groups: 32, latent_channels: 4, "
            "attention: true, shortcut: false}",
            "loss={pyramid: 0.0, kl: 1.0e-06, perceptual: 1.0, perceptual_by: lpips, "
            "perceptual_model: alexnet.safetensors, adversary: 0.5, adversary_start: 50001, "
            "adversary_width: 64, adversary_layers: 3}",
            "training={steps: 100000, batch_size: 8, learning_rate: 0.000012, precision: fp32}",
        ),
        (
            "denoiser={widths: [192, 384, 384, 768, 768], attention: [true, true, true, true, false], blocks: 2, "
            "heads: 8, norm_groups: 32}",
            "condition={tokens: 16, width: 64, hidden: 64, noise: 0.0, drop: 0.1}",
            "prior.members=0",
            "process=epsilon",
            "norm=l1",
            "sampler=ddim",
            "steps=100",
            "training={steps: 100000, batch_size: 8, learning_rate: 0.000006, warmup_steps: 200, precision: fp32}",
        ),
    ),
}


def _source(
    config: str, shipped: Path, presets: dict[str, tuple[str, ...]]
) -> tuple[Path | None, tuple[str, ...]]:
    if not config or config in presets:
        return None, presets.get(config, ())
    if Path(config).is_file():
        return Path(config), ()
    found = shipped / config / "config.yaml"
    if found.is_file():
        return found, ()
    raise ConfigurationError(
        f"--config {config}: no such file, preset ({', '.join(presets)}) or shipped model. Without --config the "
        "recipe is 'small'."
    )


def vae_recipe(config: str, overrides: list[str]) -> VaeRecipe:
    """Load an autoencoder's recipe: a preset, a file, or a shipped model's; then ``--set``.

    Raises
    ------
    ConfigurationError
        None of these; or a key or value that is not allowed.
    """
    path, preset = _source(config, Path(__file__).parent / "weights", {k: v[0] for k, v in PRESETS.items()})
    return load_config(VaeRecipe, path, overrides=[*preset, *overrides])


def diffusion_recipe(config: str, overrides: list[str]) -> DiffusionRecipe:
    """Load a generator's recipe, as `vae_recipe` does."""
    path, preset = _source(config, Path(__file__).parent / "weights", {k: v[1] for k, v in PRESETS.items()})
    return load_config(DiffusionRecipe, path, overrides=[*preset, *overrides])
