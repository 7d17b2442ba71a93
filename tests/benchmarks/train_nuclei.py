"""How the shipped segmenter was trained: one command, resumable.

    python tests/benchmarks/train_nuclei.py --out runs/nuclei [--resume]

The bundle lands in ``OUT/bundle``; shipping it is copying that folder to ``image2reg/weights/nuclei``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus_data import SPLIT, bbbc039, dsb2018, split

from image2reg.config import load_config
from image2reg.models.spec import DataSource
from image2reg.nuclei.segmenters.recipe import SegmenterRecipe
from image2reg.nuclei.segmenters.training import Facts, train_segmenter

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

FACTS = Facts(
    command="python tests/benchmarks/train_nuclei.py --out runs/nuclei",
    intended_use="Nuclei of cultured cells in Hoechst, DAPI or a stain predicted from brightfield, at any magnification "
    "given by a nucleus diameter, a pixel size, or measured on the image.",
    limits=(
        "Trained on 17 fields of one U2OS screen and 26 of mixed fluorescence microscopes; tissue was rare, "
        "colour and electron images were not there.",
        "Nuclei that overlap in projection share one outline; clumps of more than a few are split less well.",
        "Nuclei smaller than a thirtieth of the typical area (micronuclei, debris) are dropped.",
        "Objects whose pixels are nucleus by less than 80 % on average are dropped: cytoplasm mostly, but also nuclei that "
        "are far out of focus.",
        "The measured diameter is wrong where debris covers more area than nuclei; give diameter or pixel size then.",
        "Stacks are labelled plane by plane and linked: nuclei stacked along Z without a gap become one.",
    ),
    split=SPLIT
    + "; cytoplasm is drawn around training nuclei because an earlier version took the cytoplasm of Aits fields for "
    "nuclei; no Aits field was trained on. The rules that join pieces of clumps and draw outlines were fitted to the finished weights, on "
    "the fields that trained and validated them",
    sources=(
        DataSource(
            name="BBBC039v1, 30 of 200 fields",
            licence="CC0-1.0",
            credit="Broad Bioimage Benchmark Collection; Caicedo et al., Cytometry A 95:952 (2019)",
        ),
        DataSource(
            name="DSB2018 stage 1 (BBBC038), 45 fluorescence fields with corrected masks",
            licence="CC0-1.0",
            credit="Caicedo et al., Nat. Methods 16:1247 (2019); corrections by K. Lopuhin and others",
        ),
    ),
)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    sets = [split(fields) for fields in (bbbc039(), dsb2018())]
    splits = {name: [field for part in sets for field in part[name]] for name in sets[0]}
    recipe = load_config(SegmenterRecipe, CONFIGS / "nuclei.yaml")
    made = train_segmenter(splits, recipe, arguments.out, facts=FACTS, resume=arguments.resume, device="cpu")
    for metric in made.bundle.spec.metrics:
        print(
            f"{metric.channel} {metric.name} {metric.value:.3f} (classical {metric.floor:.3f}, n = {metric.n})"
        )


if __name__ == "__main__":
    main()
