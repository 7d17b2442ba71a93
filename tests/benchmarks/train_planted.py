"""Train the shipped generator on the planted benchmark: ``python tests/benchmarks/train_planted.py [--out DIR]``.

Planted, not biology: real nuclei (BBBC039) deformed by known functions of real signatures (`morphgen.planted`). All
genes but a tenth (validation) and a fifth (test) are trained on, as consensus and as single wells, at three doses.
Every setting was chosen on the validation genes; the test genes are read by ``planted_generation.py`` alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from image2reg.config import load_config
from image2reg.intervals import bootstrap_interval
from image2reg.models.bundle import CARD_FILE, Bundle, load_bundle, save_bundle
from image2reg.models.registry import find_bundle
from image2reg.models.spec import DataSource, Metric
from morphgen.bundling import Facts
from morphgen.crop_features import crop_features
from morphgen.crops import CropSet
from morphgen.planted import dataset
from morphgen.recipe import DiffusionRecipe, VaeRecipe
from morphgen.ruler import Ruler, parameter_r2
from morphgen.sample import MorphologyGenerator
from morphgen.train import train_diffusion, train_vae

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python tests/benchmarks/train_planted.py"
DOSES = (0.5, 1.0, 1.5)
N_SCORED = 12

SOURCES = (
    DataSource(
        name="BBBC039 (U2OS, Hoechst), nuclei deformed by known functions", licence="CC0-1.0",
        credit="Broad Bioimage Benchmark Collection, Ljosa et al. 2012; copy of DeepTrackAI/cell_counting_dataset",
    ),
    DataSource(
        name="TA-ORF L1000 (U2OS, over-expression) signatures", licence="BSD-3-Clause",
        credit="Rohban et al. 2017, eLife 6:e24060",
    ),
)  # fmt: skip


def facts(recipe: str) -> Facts:
    return Facts(
        command=COMMAND,
        licence="BSD-3-Clause",
        sources=SOURCES,
        split=f"by gene and by field of nuclei (morphgen.planted), {recipe}: 70 % trained on, 10 % validation, 20 % test",
        intended_use="The planted benchmark and `morphgen demo`: to see how a generator is trained, sampled and scored. "
        "The phenotypes are made up, so nothing about a gene can be learned from its images.",
        limits=(
            "PLANTED: which signature changes a nucleus in which way was drawn at random; no image says anything of biology.",
            "U2OS nuclei of 64 x 64 pixels at 0.656 um, 978 landmark z-scores (level 4 or 5) of the size of L1000's.",
            "Trained on one processor core that was shared; images are a little softer than real ones, and so are the "
            "cracks of fragmented nuclei.",
        ),
    )  # fmt: skip


def crops(split: str, n: int, *, doses: tuple[float, ...] = (1.0,), wells: bool = False) -> CropSet:
    """Planted data as the training takes it; one signature has at least `n` nuclei."""
    data = dataset(split, n_per_signature=n, doses=doses, wells=wells)
    return CropSet(
        images=data.images, channels=("DNA",), voxel_um=(None, data.pixel_um, data.pixel_um),
        signature_index=data.signature_index, signatures=data.signatures, controls=data.controls,
        name=f"planted {split}",
    )  # fmt: skip


def scored(model: MorphologyGenerator) -> tuple[Metric, ...]:
    """Planted parameters read from nuclei generated under validation signatures; the test genes are not touched."""
    data = dataset("validation", n_per_signature=N_SCORED)
    made = model.generate(data.signatures, n=N_SCORED, seed=0)
    parameters = Ruler.shipped().read(crop_features(np.asarray(made.images)), data.signature_index)
    genes = data.signatures.column("Metadata_Gene")
    errors = ((parameters - data.parameters) ** 2 / data.parameters.var(axis=0)).mean(axis=1)
    shuffled = parameter_r2(np.roll(parameters, len(parameters) // 2, axis=0), data.parameters)["mean"]
    interval = bootstrap_interval(1 - errors, seed=0, groups=genes)
    return (
        Metric(
            name="planted_r2", channel="DNA", value=float(1 - errors.mean()), ci95=(interval.low, interval.high),
            n=len(set(genes)), level="gene", floor=shuffled,
            note="R² of the seven planted parameters, signatures of validation genes; floor: signatures exchanged",
        ),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("planted-runs"), help="run directories; resumed if there"
    )
    parser.add_argument("--set", action="append", default=[], help="a.b=value for the generator's recipe")
    out, changes = (given := parser.parse_args()).out, given.set
    recipe = load_config(VaeRecipe, ROOT / "configs" / "planted-nuclei-vae.yaml")
    if not (out / "vae" / "bundle").exists():
        training = crops("train", 3, doses=(0.0, 1.0, 1.5), wells=True)
        train_vae(
            training, crops("validation", 8), recipe, out / "vae", facts=facts("all crops"), resume=True
        )
    vae = find_bundle(out / "vae" / "bundle", [])
    generator = load_config(DiffusionRecipe, ROOT / "configs" / "planted-nuclei.yaml", overrides=changes)
    training = crops("train", 20, doses=DOSES, wells=True)
    bundle = train_diffusion(
        training, crops("validation", 16), vae, generator, out / generator.name, facts=facts("consensus and wells"),
        resume=True,
    )  # fmt: skip
    with_metrics(load_bundle(bundle.directory), scored(MorphologyGenerator(bundle)))
    print(bundle.directory)


def with_metrics(bundle: Bundle, metrics: tuple[Metric, ...]) -> None:
    """Write the bundle again with its scores; the card says them too."""
    kept = {n: (bundle.directory / n).read_bytes() for n in bundle.spec.files if n != CARD_FILE}
    spec = bundle.spec.model_copy(update={"metrics": metrics})
    save_bundle(bundle.directory, spec, None, files=kept, overwrite=True)


if __name__ == "__main__":
    main()
