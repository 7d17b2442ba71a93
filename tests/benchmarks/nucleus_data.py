"""The real fields with known nuclei, split by named group; one function per set.

Where the files are is told by VIRTUALSTAIN_DATA, else ``shared/data`` beside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from skimage.io import imread
from skimage.measure import label

from image2reg.nuclei.segmenters.examples import NucleusField

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))

Split = dict[str, list[NucleusField]]

# Median over the training fields of BBBC039, and what 20x with 1104 pixels a side makes of the same cell line.
BBBC039_DIAMETER_PX = 29.0
# Shares of fields, drawn once with numpy's default_rng(0).
TEST_SHARE, VALIDATION_SHARE = 1 / 3, 1 / 10
SPLIT = (
    "fields drawn once (default_rng(0)): a third tests, a tenth validates, the rest trains; a field of BBBC039 is a "
    "well of its own, the experiments behind DSB2018 are not recorded"
)


def bbbc039(data: Path = DATA) -> list[NucleusField]:
    """U2OS, Hoechst, a chemical screen: instances are the connected pieces of equal colour."""
    folder = data / "bbbc039_u2os_hoechst"
    return [
        NucleusField(
            name=path.stem,
            group=path.stem.split("_")[1],
            image=imread(path),
            labels=label(imread(folder / "masks" / f"{path.stem}.png")[..., 0], background=0, connectivity=1),
            source="BBBC039",
            diameter_px=BBBC039_DIAMETER_PX,
        )
        for path in sorted((folder / "images").glob("*.tif"))
    ]


def dsb2018(data: Path = DATA) -> list[NucleusField]:
    """Fluorescence fields of many microscopes."""
    folder = data / "dsb2018_fluo"
    return [
        NucleusField(
            name=path.stem,
            group=path.stem,
            image=imread(path),
            labels=imread(folder / "labels" / path.name),
            source="DSB2018",
        )
        for path in sorted((folder / "images").glob("*.png"))
    ]


def aits(data: Path = DATA, *, diameter_px: float | None = None) -> list[NucleusField]:
    """U2OS, Hoechst, the genome-wide siRNA screen; grouped by plate. No licence: for measurement only."""
    folder = data / "aits_u2os_nuclei"
    return [
        NucleusField(
            name=path.stem,
            group=path.stem.split("_")[1],
            image=imread(path),
            labels=imread(folder / "labels_nuclei" / path.name),
            source="Aits",
            diameter_px=diameter_px,
        )
        for path in sorted((folder / "images_nuclei").glob("*.png"))
    ]


def split(fields: list[NucleusField]) -> Split:
    """Draw test, validation and training fields once."""
    order = np.random.default_rng(0).permutation(len(fields))
    n_test, n_validation = round(TEST_SHARE * len(fields)), round(VALIDATION_SHARE * len(fields))
    parts = {
        "test": order[:n_test],
        "validation": order[n_test : n_test + n_validation],
        "train": order[n_test + n_validation :],
    }
    return {name: [fields[i] for i in sorted(index)] for name, index in parts.items()}
