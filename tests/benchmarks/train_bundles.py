"""How every shipped bundle was trained: one command each, resumable.

    python tests/benchmarks/train_bundles.py brightfield-nuclei --out runs/brightfield-nuclei [--resume]

The bundle lands in ``OUT/bundle``; shipping it is copying that folder to ``virtualstain/weights/NAME``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from staining_data import MCF7_SPLIT, WELL_ROWS, Split, flat_phantom, mcf7, phantoms, well

from image2reg.config import load_config
from image2reg.models.spec import DataSource, Metric
from virtualstain.bundling import Facts
from virtualstain.evaluate import ScoredField
from virtualstain.objects import nuclei_metrics, score_nuclei
from virtualstain.recipe import Recipe
from virtualstain.train import train

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
COMMAND = "python tests/benchmarks/train_bundles.py {name} --out runs/{name}"

SETS: dict[str, tuple[Callable[[], Split], Facts]] = {
    "brightfield-nuclei": (
        partial(mcf7, n_phantoms=40, validation=False),
        Facts(
            command=COMMAND.format(name="brightfield-nuclei"),
            intended_use="Where nuclei are in a brightfield image of adherent cells: counting, segmentation, tracking.",
            split=MCF7_SPLIT,
            sources=(
                DataSource(
                    name="celldetective MCF7 nuclei with lymphocytes (55 of 108 fields)",
                    licence="images from a GPL-3.0 repository; the deposit's own terms were not seen, so no image ships",
                    credit="celldetective developers, zenodo.org/records/10650279",
                ),
                DataSource(
                    name="40 synthetic fields (virtualstain.phantom), in the training of one of four members",
                    licence="BSD-3-Clause",
                    credit="made by this package",
                ),
            ),
            limits=(
                "Brightness is relative: fields are standardised one by one, so do not compare intensities between fields.",
                "One cell line (MCF7 with lymphocytes) from one laboratory; other cells and modalities are untested.",
                "Some training pairs are off by up to 10 px, so outlines are softer than the real stain's.",
                "Exactly zero borders (registration padding) come back as zero.",
            ),
        ),
    ),
    "phase-neuron": (
        partial(well, validation=False),
        Facts(
            command=COMMAND.format(name="phase-neuron"),
            intended_use="Demonstration on the well it was trained on, and a start for fine-tuning.",
            split=f"train: rows 0 to {WELL_ROWS['validation'][1]}, test: rows {WELL_ROWS['test'][0]} to "
            f"{WELL_ROWS['test'][1]} of one well",
            sources=(
                DataSource(
                    name="in-silico labelling, condition B, well A4 (human motor neurons)",
                    licence="Apache-2.0",
                    credit="Christiansen et al., Cell 173:792 (2018); github.com/google/in-silico-labeling",
                ),
            ),
            limits=(
                "One well of one plate: scores say how well a strip of this well is predicted, not another plate.",
                "The voxel size is not in the source, so it cannot be checked or matched.",
            ),
        ),
    ),
    "phantom-3d": (
        phantoms,
        Facts(
            command=COMMAND.format(name="phantom-3d"),
            intended_use="Tests and demonstrations of the 3D path; a start for fine-tuning on real stacks.",
            split="by seed: train 0 to 23, validation 100 and 101, test 200 to 205",
            sources=(
                DataSource(
                    name="synthetic phantom (virtualstain.phantom)",
                    licence="BSD-3-Clause",
                    credit="made by this package",
                ),
            ),
            limits=(
                "Trained on synthetic cells only: it says nothing about real brightfield stacks.",
                "The phantom has no multiple scattering, aberrations, bleaching or motion.",
            ),
        ),
    ),
}

# Nuclear stain, typical nucleus in pixels, scale of the stain's values.
NUCLEI: dict[str, tuple[str, float, Literal["linear", "log"]]] = {
    "brightfield-nuclei": ("Hoechst", 56, "log"),
    "phase-neuron": ("DAPI", 24, "linear"),
    "phantom-3d": ("Hoechst", 50, "linear"),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SETS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    a = parser.parse_args()
    data, facts = SETS[a.name]
    splits = data()

    def nuclei(scored: Sequence[list[ScoredField]]) -> list[Metric]:
        """Score what a segmenter finds in the nuclear stain of the test fields."""
        channel, diameter_px, intensity = NUCLEI[a.name]
        items = [item for row in scored for item in row if item.channel == channel]
        masks = [field.masks for field in splits["test"]]
        annotated = masks if all(m is not None for m in masks) else None
        found = score_nuclei(items, diameter_px=diameter_px, masks=annotated, intensity=intensity)
        return nuclei_metrics(found, channel)

    recipe = load_config(Recipe, CONFIGS / f"{a.name}.yaml")
    # The images of this set may not be passed on, so its golden sample is synthetic.
    golden = flat_phantom(999).inputs[:, :, :96, :96] if a.name == "brightfield-nuclei" else None
    trained = train(splits, recipe, a.out, facts=facts, resume=a.resume, extra=nuclei, golden=golden)
    print(trained.scores.to_string())
