"""The segmenters that are compared: without training, trained here within a small equal budget, and shipped.

python tests/benchmarks/nucleus_models.py three_class_unet|hover_net|aits-PLATE|fold-K --runs runs/segmenters
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from nucleus_data import ROOT, aits, bbbc039, dsb2018, split
from numpy.typing import NDArray
from scipy import ndimage

from image2reg.config import load_config
from image2reg.models.bundle import load_bundle
from image2reg.models.settings import TrainingSettings
from image2reg.nuclei.segmenters.examples import NucleusField
from image2reg.nuclei.segmenters.network import NetworkSegmenter, load_network
from image2reg.nuclei.segmenters.recipe import SegmenterRecipe
from image2reg.nuclei.segmenters.training import Facts, train_segmenter

RUNS = ROOT / "runs" / "segmenters"
PLATES = ("170702000001", "170702090001")

# (patch, batch size, steps): each about as long as the shipped network takes, half an hour of one core. The paper gave
# its U-Net 7,500 steps.
BUDGET = {"three_class_unet": (128, 4, 1000), "hover_net": (256, 1, 300)}


# Fields that are not test fields are kept in turn from a network of the shipped recipe, trained half as long.
FOLDS, FOLD_SEED = 4, 12

# Smoothing of image and distance, px, and the least distance between two seeds, px; the same on every set.
SIGMA, APART = 1.0, 6


class OtsuWatershed:
    """The simplest baseline: one Otsu threshold, holes filled, watershed on the distance from the outline."""

    name = "Otsu + watershed"

    def segment(self, image: NDArray[np.generic], **_: object) -> NDArray[np.int32]:
        """Label one plane, whatever size its nuclei are said to have."""
        from skimage.feature import peak_local_max
        from skimage.filters import threshold_otsu
        from skimage.segmentation import watershed

        smooth = ndimage.gaussian_filter(image.astype(np.float32), SIGMA)
        if np.ptp(smooth) == 0:
            return np.zeros(image.shape, np.int32)
        mask = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
        distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), SIGMA)
        seeds = np.zeros(mask.shape, np.int32)
        peaks = peak_local_max(distance, min_distance=APART, labels=ndimage.label(mask)[0])
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        return watershed(-distance, seeds, mask=mask)


def recipe(name: str) -> SegmenterRecipe:
    """Give the recipe of a baseline or of the screen's own segmenter."""
    if name.startswith("aits"):
        return load_config(SegmenterRecipe, ROOT / "configs" / "aits-nuclei.yaml")
    if name.startswith("fold"):
        shipped = load_config(SegmenterRecipe, ROOT / "configs" / "nuclei.yaml")
        steps = shipped.training.steps // 2
        changes = {"steps": steps, "validate_every": steps, "seed": int(name.removeprefix("fold-"))}
        return shipped.model_copy(update={"training": shipped.training.model_copy(update=changes)})
    patch, batch, steps = BUDGET[name]
    return SegmenterRecipe(
        name=name.replace("_", "-"),
        design={"name": name},
        patch=patch,
        training=TrainingSettings(
            steps=steps, batch_size=batch, learning_rate=1e-3, warmup_steps=10,
            weight_decay=1e-2, gradient_clip=1.0, precision="bf16", validate_every=steps, checkpoint_every=steps,
            log_every=10,
        ),
    )  # fmt: skip


def folds() -> list[list[NucleusField]]:
    """Training and validation fields of both CC0 sets, dealt out set by set."""
    dealt: list[list[NucleusField]] = [[] for _ in range(FOLDS)]
    rng = np.random.default_rng(FOLD_SEED)
    for found in (bbbc039(), dsb2018()):
        parts = split(found)
        fields = parts["train"] + parts["validation"]
        for n, which in enumerate(rng.permutation(len(fields))):
            dealt[n % FOLDS].append(fields[which])
    return dealt


def trained(name: str, runs: Path, *, tta: bool = False) -> NetworkSegmenter:
    """Load a model of this benchmark, trained first where it is not there.

    ``aits-PLATE`` is trained on the other plate's fields, ``fold-K`` on all folds but K.
    """
    folder = runs / name
    if not (folder / "bundle").exists():
        told = recipe(name)
        if name.startswith("aits"):
            screen = aits(diameter_px=told.diameter_px)
            fields = [field for field in screen if field.group != name.removeprefix("aits-")]
        elif name.startswith("fold"):
            kept = int(name.removeprefix("fold-"))
            fields = [field for n, fold in enumerate(folds()) if n != kept for field in fold]
        else:
            fields = [field for found in (bbbc039(), dsb2018()) for field in split(found)["train"]]
        facts = Facts(
            command=f"python tests/benchmarks/nucleus_models.py {name}", licence="for measurement only"
        )
        train_segmenter({"train": fields}, told, folder, facts=facts, resume=folder.exists(), device="cpu")
    return load_network(load_bundle(folder / "bundle"), device="cpu", tta=tta)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--runs", type=Path, default=RUNS)
    arguments = parser.parse_args()
    trained(arguments.name, arguments.runs)
