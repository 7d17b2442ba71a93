"""Cells under a real condition, generated for held-out tiles or plates: Jurkat by phase, MCF7 under cycloheximide by dose.

    python tests/benchmarks/conditional_generation.py [--json] [--runs FOLDER]

Jurkat: brightfield and DNA, phase of the cell cycle; the last third of each montage's tiles is held out (one montage per
phase, so phase is confounded with montage). MCF7: three channels, dose; each of two plates is held out in turn (one well
per dose and plate, so dose is confounded with well). Read once, settings fixed beforehand; about fifteen processor minutes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conditional_runs import (
    KEY,
    Study,
    alike,
    kept_cells,
    one,
    profiles,
    renamed,
    some_of_each,
    usable_features,
    well_precision,
    wells_of,
)
from generation_data import PHASES, cycloheximide, jurkat_phases
from result_files import publish

from image2reg.config import load_config
from image2reg.models.spec import DataSource
from image2reg.nuclei.crops import Crops
from image2reg.randomness import generator
from image2reg.tables.profiles import Profiles
from morphgen.fidelity import Cells, shuffled
from morphgen.recipe import DiffusionRecipe, VaeRecipe

DNA = "Nuclei_Intensity_IntegratedIntensity_DNA"
SAMPLE = 20


def _vae(widths: list[int], latents: int, steps: int) -> VaeRecipe:
    return load_config(
        VaeRecipe,
        None,
        overrides=[
            f"autoencoder={{widths: {widths}, patch: 8, latent_channels: {latents}}}",
            "loss={kl: 1.0e-06, noise: 0.3}",
            "range_quantiles=[0.0, 0.9995]",
            f"training={{steps: {steps}, batch_size: 16, validate_every: 3000, learning_rate: 0.002}}",
        ],
    )


def _diffusion(steps: int) -> DiffusionRecipe:
    return load_config(
        DiffusionRecipe,
        None,
        overrides=[
            "denoiser={widths: [96, 144], attention: [true, true]}",
            "condition={tokens: 2, width: 32, hidden: 64, noise: 0.0, drop: 0.1}",
            "prior={condition: {tokens: 2, width: 32, hidden: 64, noise: 0.05, drop: 0.0}}",
            "prior.training.learning_rate=0.001",
            "prior.training.weight_decay=0.3",
            "views=4",
            f"training={{steps: {steps}, batch_size: 32, learning_rate: 0.0015, warmup_steps: 50, ema_decay: 0.99, "
            "validate_every: 3000, checkpoint_every: 100}",
        ],
    )


JURKAT = Study(
    name="jurkat", channels=("Brightfield", "DNA"), nucleus_channel=1, vae=_vae([64], 24, 400),
    diffusion=_diffusion(600),
    source=DataSource(name="Jurkat by phase of the cell cycle", licence="BSD-3-Clause",
                      credit="Blasi et al. 2016; Hennig et al. 2016; M. Doan"),
    command="python tests/benchmarks/conditional_generation.py", split="last third of each montage's tiles held out",
)  # fmt: skip
MCF7 = Study(
    name="mcf7", channels=("DNA", "Channel1", "Channel2"), nucleus_channel=0, vae=_vae([64, 64], 40, 300),
    diffusion=_diffusion(600),
    source=DataSource(name="BBBC021 crops, cycloheximide", licence="unstated", credit="BBBC021; Caie et al. 2010"),
    command="python tests/benchmarks/conditional_generation.py", split="one of two plates held out",
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Cells to train on and held-out ones, by the name of their condition, and the conditions as numbers."""

    study: Study
    name: str
    training: Crops
    held_out: Crops
    column: str
    conditions: Profiles
    n: int

    def keys(self, crops: Crops) -> np.ndarray:
        return crops.column(self.column).astype(str)


def jurkat() -> list[Split]:
    crops = jurkat_phases()
    table = pd.DataFrame(np.eye(len(PHASES)), columns=list(PHASES))
    table.insert(0, KEY, PHASES)
    held = crops.column("Metadata_Tile").astype(int) >= 600
    conditions = Profiles(table, source="phases of the cell cycle")
    return [Split(JURKAT, "tiles", crops.rows(~held), crops.rows(held), "Metadata_Phase", conditions, 60)]


def mcf7() -> list[Split]:
    crops, splits = cycloheximide(), []
    plate, dose = crops.column("Metadata_Plate"), crops.column("Metadata_Dose_uM").astype(str)
    # 5 uM is on one plate only.
    shared = dose != "5"
    doses = sorted(set(dose[shared]), key=float)
    table = pd.DataFrame({KEY: doses, "log_dose": np.log10(1 + np.array(doses, float))})
    for name in np.unique(plate.astype(str)):
        training, held = (crops.rows(shared & rows) for rows in (plate != name, plate == name))
        splits.append(
            Split(MCF7, name, training, held, "Metadata_Dose_uM", Profiles(table, source="cycloheximide"), 55)
        )
    return splits


def arms(split: Split, runs: Path) -> tuple[Cells, dict[str, Cells]]:
    """Half of the held-out cells, and what is compared with them."""
    study, folder = split.study, runs / f"{split.study.name}_{split.name}"
    training = study.crop_set(split.training.images, split.keys(split.training), split.conditions)
    vae = study.autoencoder(training, folder / "vae")
    model = study.generator(training, vae, folder / "generator")
    n = SAMPLE * -(-split.n // SAMPLE)
    made = study.drawn(model, split.conditions, n, folder / "generated")
    free = study.drawn(model, split.conditions.rows(np.arange(1)), n, folder / "unconditional", guidance=0.0)
    names = split.conditions.column(KEY).astype(str).tolist()
    real, seen = (
        kept_cells(folder / name, lambda c=crops: study.measured(c.images, split.keys(c)))
        for name, crops in (("held_out", split.held_out), ("training", split.training))
    )
    mean = study.measured(np.asarray(split.training.images, np.float32).mean(axis=0, keepdims=True), ["mean"])
    anything = seen.take(generator(0, "any").integers(len(seen), size=n * len(names)), np.repeat(names, n))
    second = pd.Series(1, index=range(len(real))).groupby(real.groups).cumsum().to_numpy() % 2 == 0
    return real.take(np.flatnonzero(~second)), {
        "generated": made,
        "floor: generated, conditions exchanged": shuffled(made),
        "floor: unconditional model": renamed(free, dict.fromkeys(names, names[0])),
        "floor: any training cells": anything,
        "floor: mean image": mean.take(np.zeros(n * len(names), np.int64), np.repeat(names, n)),
        "training cells of the same condition": some_of_each(seen, n, seed=3),
        "ceiling: other held-out cells": real.take(np.flatnonzero(second)),
    }


def scores(real: Cells, others: dict[str, Cells], n: int) -> dict[str, dict[str, float]]:
    """KS share, R² of feature means, precision of finding the condition, ratio of integrated DNA by condition."""
    names = usable_features(real)
    library = profiles(real, np.char.add("real ", wells_of(real, SAMPLE)), names)
    found = {}
    for name, arm in others.items():
        agreement = alike(real, arm, n)
        queries = profiles(arm, wells_of(arm, SAMPLE), names).dropna()
        row = {
            "ks_share": agreement.ks_share,
            "r2_means": agreement.r2_means,
            "retrieval": float(well_precision(queries, library).mean()),
        }
        for key in sorted(set(real.groups.tolist())):
            row[f"dna {key}"] = one(arm, key).features[DNA].median() / one(real, key).features[DNA].median()
        found[name] = row
    return found


def table_of(
    splits: list[Split], runs: Path, title: str, notes: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores by arm, means over the splits, and their table."""
    each = [scores(*arms(split, runs), split.n) for split in splits]
    found = {arm: {k: float(np.mean([e[arm][k] for e in each])) for k in each[0][arm]} for arm in each[0]}
    order = [f"dna {name}" for name in splits[0].conditions.column(KEY).astype(str)]
    head = [
        "arm",
        f"KS share (n = {splits[0].n})",
        "R² of feature means",
        f"retrieval (mAP, samples of {SAMPLE})",
    ]
    head += [f"integrated DNA over real, {name.removeprefix('dna ')}" for name in order]
    rows = [
        [arm, *(f"{row[k]:.3f}" for k in ("ks_share", "r2_means", "retrieval", *order))]
        for arm, row in found.items()
    ]
    return found, {"title": title, "head": head, "rows": rows, "notes": notes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--runs", type=Path, help="keep trainings here, and continue what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        runs.mkdir(parents=True, exist_ok=True)
        phases, first = table_of(
            jurkat(), runs, "Jurkat cells by phase of the cell cycle, held-out tiles",
            ["One montage per phase: phase is confounded with montage, in training and test alike.",
             "Retrieval: medians of samples find samples of held-out cells of their phase."],
        )  # fmt: skip
        doses, second = table_of(
            mcf7(), runs, "MCF7 under cycloheximide (uM), each of two plates held out in turn",
            ["One well per dose and plate: dose is confounded with well. Intensities are scaled to each plate's DMSO cells.",
             "What a perfect generator would draw are the training cells of the same condition: of another plate."],
        )  # fmt: skip
    result = {
        "jurkat": phases["generated"], "mcf7": doses["generated"], "arms": {"jurkat": phases, "mcf7": doses},
        "tables": [first, second],
    }  # fmt: skip
    publish("conditional_generation", result, as_json=options.json)


if __name__ == "__main__":
    main()
