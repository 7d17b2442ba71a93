"""How every shipped bundle was trained; one command each, resumable.

    python tests/benchmarks/train_bundles.py brightfield-nuclei --out runs/brightfield-nuclei [--resume]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from staining_data import mcf7, well

from image2reg.models.train import fit
from virtualstain.fields import standardise
from virtualstain.recipe import Recipe
from virtualstain.train import StainTask, network_for

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SETS = {"brightfield-nuclei": mcf7, "phase-neuron": well}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=SETS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    a = parser.parse_args()
    recipe = Recipe(**yaml.safe_load((CONFIGS / f"{a.name}.yaml").read_text()))
    splits = SETS[a.name]()
    train, reference = standardise(splits["train"], recipe)
    validation, _ = standardise(splits["validation"], recipe, reference=reference)
    planes = train[0].inputs.shape[1]
    torch.manual_seed(recipe.training.seed)
    network = network_for(recipe, planes=planes)
    result = fit(StainTask(network, recipe, train, validation), recipe.training, a.out, resume=a.resume)
    print(result.best_step, result.best_score, result.seconds)
