"""Few steps against many, and against MorphDiff's sizes: ``python tests/benchmarks/sampling_speed.py [--json]``.

One thread, one run. (1) The shipped planted generator: planted-parameter R² and KS share against seconds, by sampler and
steps, by corrections and by guidance, on a third of the validation genes. (2) Time per 128 x 128 five-channel image: the ``small`` recipe with
random weights at its own steps, against the ``morphdiff`` recipe's 100 DDIM steps, of which TIMED are run and the time
per step is multiplied by 100 (each step costs the same).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from result_files import asked_for_json, publish
from torch import Tensor

from image2reg.config import load_config
from morphgen import planted
from morphgen.agreement import compare_features
from morphgen.autoencoder import MorphologyAutoencoder
from morphgen.condition import Condition
from morphgen.correction import corrected
from morphgen.crop_features import crop_features
from morphgen.denoiser import ConditionalDenoiser
from morphgen.descriptors import describe, descriptor_names
from morphgen.follow import follow_test
from morphgen.presets import PRESETS
from morphgen.prior import MorphologyPrior
from morphgen.recipe import DiffusionRecipe, VaeRecipe
from morphgen.ruler import Ruler, parameter_r2
from morphgen.sample import MorphologyGenerator, load
from morphgen.samplers import denoise, evaluations, flow

N_CELLS, CHANNELS, SIZE, TIMED, GENES = 12, 5, 128, 1, 978
STEPS = [
    ("euler", 4), ("euler", 8), ("heun", 4), ("heun", 8), ("multistep", 4), ("multistep", 6), ("multistep", 8), ("euler", 100),
]  # fmt: skip
CORRECTIONS = [0, 1, 8]
GUIDANCE = [0.0, 1.5, 2.5]
# As many steps as "few" may be.
FEW = 8


def said(key: tuple[str, int]) -> str:
    name = key[0] if key[0] == "multistep" else key[0].capitalize()
    return f"{key[1]} {name} steps"


def scores(
    model: MorphologyGenerator, data: planted.PlantedData, real: Any, **options: Any
) -> dict[str, float]:
    began = time.process_time()
    crops = model.generate(data.signatures, n=N_CELLS, seed=0, **options)
    seconds = (time.process_time() - began) / len(crops)
    made = crop_features(np.asarray(crops.images))
    groups = data.signature_index
    agreement = compare_features(real, made, groups, groups)
    kept = agreement.features["feature"].tolist()
    means = made[kept].groupby(groups).mean().to_numpy()
    truth = real[kept].groupby(groups).mean().to_numpy()
    followed = follow_test(data.signatures.values, means, real_means=truth, permutations=199)
    r2 = parameter_r2(Ruler.shipped().read(made, groups), data.parameters)["mean"]
    return {
        "seconds": seconds, "ks_share": agreement.ks_share, "r2": r2, "follow": followed.signature_correlation,
        "follow_real": followed.real_correlation,
    }  # fmt: skip


class Networks(NamedTuple):
    """A recipe's networks with random weights."""

    autoencoder: MorphologyAutoencoder
    denoiser: ConditionalDenoiser
    prior: MorphologyPrior | None
    recipe: DiffusionRecipe

    def measured(self, z: Tensor) -> Tensor:
        assert self.prior is not None
        return self.prior.standardise(describe(self.autoencoder.decode(z)))


def networks(name: str) -> Networks:
    vae = load_config(VaeRecipe, None, overrides=list(PRESETS[name][0]))
    recipe = load_config(DiffusionRecipe, None, overrides=list(PRESETS[name][1]))
    autoencoder = MorphologyAutoencoder(channels=CHANNELS, settings=vae.autoencoder).eval()
    side = SIZE // autoencoder.factor
    genes = [f"G{i}" for i in range(GENES)]
    described = len(descriptor_names([f"C{i}" for i in range(CHANNELS)])) if recipe.prior.members else 0
    model = ConditionalDenoiser(
        latent_channels=vae.autoencoder.latent_channels, latent_size=(side, side), settings=recipe.denoiser,
        condition={"genes": genes, **recipe.condition.model_dump(exclude={"drop"}), "descriptors": described},
    )  # fmt: skip
    prior = None
    if described:
        condition = {"genes": genes, **recipe.prior.condition.model_dump(exclude={"drop"})}
        prior = MorphologyPrior(
            descriptors=described, members=recipe.prior.members, condition=condition
        ).eval()
    return Networks(autoencoder, model.eval(), prior, recipe)


@torch.no_grad()
def seconds_per_image(name: str, *, batch: int) -> tuple[float, int, float]:
    """CPU seconds per image, steps they stand for, millions of parameters (U-Net)."""
    autoencoder, model, prior, recipe = own = networks(name)
    z = torch.randn(batch, *model.latent_shape)
    condition = Condition(torch.randn(batch, GENES))
    timed = recipe.steps if recipe.process == "flow" else TIMED
    warm = condition if prior is None else prior.draw(condition, torch.rand(batch, prior.n_kept))
    model.predict(z, torch.full((batch,), 500.0), warm)
    if warm.morphology is not None:
        corrected(z, warm.morphology, own.measured, steps=1)
    autoencoder.decode(z)
    began = time.process_time()
    if prior is not None:
        condition = prior.draw(condition, torch.rand(batch, prior.n_kept))
    once = time.process_time() - began
    began = time.process_time()
    if recipe.process == "flow":
        drawn = flow(model, z, condition, steps=timed, sampler=recipe.sampler)
    else:
        drawn = denoise(model, z, condition, process=recipe.process, steps=timed, sampler=recipe.sampler)
    per_step = (time.process_time() - began) / timed
    began = time.process_time()
    if condition.morphology is not None:
        drawn = corrected(drawn, condition.morphology, own.measured, steps=recipe.corrections)
    autoencoder.decode(drawn)
    once += time.process_time() - began
    parameters = sum(p.numel() for p in model.unet.parameters()) / 1e6
    return (per_step * recipe.steps + once) / batch, recipe.steps, parameters


def main() -> None:
    as_json = asked_for_json(__doc__)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    small, small_steps, small_size = seconds_per_image("small", batch=8)
    large, large_steps, large_size = seconds_per_image("morphdiff", batch=1)
    model = load("planted-nuclei")
    names = planted.dataset("validation", n_per_signature=1).signatures.column("Metadata_Perturbation")[::3]
    data = planted.dataset("validation", n_per_signature=N_CELLS, signatures=list(names))
    real = crop_features(data.images)
    by_steps = {(s, k): scores(model, data, real, sampler=s, steps=k) for s, k in STEPS}
    own = model.sampling["sampler"], model.sampling["steps"]
    usual = model.sampling["corrections"]
    by_corrections = {k: scores(model, data, real, corrections=k) for k in CORRECTIONS} | {
        usual: by_steps[own]
    }
    by_guidance = {w: scores(model, data, real, guidance=w) for w in GUIDANCE}
    many = by_steps["euler", 100]
    quality = {
        key: min(row[score] / many[score] for score in ("r2", "ks_share", "follow_real"))
        for key, row in by_steps.items()
    }
    best = max((key for key in by_steps if key[1] <= FEW), key=lambda key: quality[key])
    columns = ["seconds", "r2", "ks_share", "follow", "follow_real"]
    head = ["CPU s per image", "planted R²", "KS share", "follow r (signature)", "follow r (real)"]
    tables = [
        {
            "title": "Time per 128 x 128 five-channel image, one thread",
            "head": ["recipe", "U-Net, million", "steps", "CPU s per image"],
            "rows": [["small", f"{small_size:.1f}", small_steps, f"{small:.3f}"],
                     ["morphdiff", f"{large_size:.0f}", large_steps, f"{large:.1f}"]],
            "notes": [f"Random weights. morphdiff: {TIMED} steps run, time per step times 100, plus decoding; small: with prior and corrections."],
        },
        {
            "title": f"Steps against quality (planted, validation genes, {N_CELLS} nuclei each)",
            "head": ["sampler", "steps", "network evaluations", *head],
            "rows": [[s, k, evaluations(s, k, 1.0), *(f"{row[c]:.4f}" for c in columns)]
                     for (s, k), row in by_steps.items()],
            "notes": [
                "Of the 100 steps' scores (the smallest of the ratios of R², KS share and follow r (real)) are kept: "
                + ", ".join(f"{quality[key]:.1%} by {said(key)}" for key in by_steps if key[1] <= FEW)
                + f"; the model's own are {said(own)}. All with {usual} corrections."
            ],
        },
        {
            "title": "Corrections against following and fidelity (planted, validation genes)",
            "head": ["corrections", *head],
            "rows": [[k, *(f"{by_corrections[k][c]:.4f}" for c in columns)] for k in sorted(by_corrections)],
            "notes": ["Steps by which the drawn nucleus is pulled to the morphology it was told (`morphgen.correction`)."],
        },
        {
            "title": "Guidance against following and fidelity (planted, validation genes)",
            "head": ["guidance", *head],
            "rows": [[w, *(f"{row[c]:.4f}" for c in columns)] for w, row in by_guidance.items()],
        },
    ]  # fmt: skip
    result = {
        "speedup_vs_morphdiff": large / small, "quality_at_8": quality[best], "quality_own": quality[own], "r2_at_8": by_steps[best]["r2"], "r2_at_100": many["r2"],
        "seconds_small": small, "seconds_morphdiff": large, "tables": tables,
    }  # fmt: skip
    publish("sampling_speed", result, as_json=as_json)


if __name__ == "__main__":
    main()
