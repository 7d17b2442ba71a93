"""What the rules that read a network's maps are worth on fields that neither they nor the network were taught.

    python tests/benchmarks/nucleus_joining.py

The networks, each half of the shipped one's training, are trained first where they are not there (`nucleus_models.py`).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import torch
from nucleus_models import FOLDS, RUNS, folds, recipe, trained
from nucleus_segmentation import LEVELS, SPECK_PX
from result_files import asked_for_json, publish

from image2reg.nuclei.match import Matching, match, match_dataset
from image2reg.nuclei.segmenters.designs import find_design
from image2reg.nuclei.segmenters.distance import MIDDLE
from image2reg.nuclei.segmenters.joining import JoiningRule
from image2reg.nuclei.segmenters.outlines import OutlineRule
from image2reg.nuclei.segmenters.training import finish_network
from image2reg.nuclei.size import without_small

DESIGN = "distance_unet"
# Fields are shown a little larger and smaller too: one size alone moves AP by more than rules differ.
FACTORS = (0.94, 0.97, 1.0, 1.03, 1.06)
RULES = (
    "one threshold (not fitted)",
    "joining learned from the fields the network learned from",
    "joining and outlines learned from them",
)


def main() -> None:
    """Keep each fold from a network and its rule, and score them on it."""
    as_json = asked_for_json(str(__doc__).splitlines()[0])
    torch.set_num_threads(1)
    matched: dict[tuple[str, str], list[Matching]] = defaultdict(list)
    dealt = folds()
    for k, kept in enumerate(dealt):
        segmenter = trained(f"fold-{k}", RUNS)
        network = segmenter.network
        # Anew: a network that an earlier run left there holds the rules as they were fitted then.
        others = [field for n, fold in enumerate(dealt) if n != k for field in fold]
        assert finish_network(network, find_design(DESIGN), others, recipe("fold-0").augment)
        joining, outlines = network.rule, network.outlines
        unfitted = (JoiningRule(MIDDLE), OutlineRule())
        for name, rules in zip(RULES, (unfitted, (joining, unfitted[1]), (joining, outlines)), strict=True):
            network.rule, network.outlines = rules
            for field in kept:
                truth = without_small(field.labels, SPECK_PX)
                measured = field.diameter_px or segmenter.measure_diameter(field.image)
                for factor in FACTORS:
                    labels = segmenter.segment(field.image, diameter_px=factor * measured)
                    found = without_small(labels, SPECK_PX)
                    matched[field.source, name].append(match(truth, found, thresholds=LEVELS))
        print(f"fold {k + 1} of {FOLDS}", file=sys.stderr)
    rows = []
    for source in ("BBBC039", "DSB2018"):
        for name in RULES:
            pooled = match_dataset(matched[source, name])
            n_fields = len(matched[source, name]) // len(FACTORS)
            rows.append([source, name, n_fields, pooled.at(0.5)["ap"], *(pooled.at(t)["f1"] for t in LEVELS)])
    publish(
        Path(__file__).stem,
        {
            "tables": [
                {
                    "title": "Clumps and outlines: which pieces are one nucleus, and where it ends, on fields kept from both",
                    "head": ["set", "rule", "fields", "AP@0.5", "F1@0.5", "F1@0.7", "F1@0.9"],
                    "rows": rows,
                    "notes": [
                        f"{FOLDS} folds over the fields that train and validate the shipped network; each is kept from a network of "
                        f"the same recipe ({recipe('fold-0').training.steps} steps) and from its rules. Each field at {len(FACTORS)} sizes around "
                        "the one the segmenter measures (BBBC039: is told), "
                        f"objects from {SPECK_PX} px."
                    ],
                }
            ]
        },
        as_json=as_json,
    )


if __name__ == "__main__":
    main()
