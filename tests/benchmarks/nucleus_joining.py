"""What the rule that joins pieces of clumps is worth on fields it was not fitted on.

python tests/benchmarks/nucleus_joining.py
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from nucleus_data import bbbc039, dsb2018, split
from result_files import asked_for_json, publish

from image2reg.models.networks.interface import deploy
from image2reg.nuclei.match import Matching, match, match_dataset
from image2reg.nuclei.segmenters.catalogue import find_segmenter_bundle
from image2reg.nuclei.segmenters.designs import find_design
from image2reg.nuclei.segmenters.distance import MIDDLE
from image2reg.nuclei.segmenters.joining import JoiningRule
from image2reg.nuclei.segmenters.network import NetworkSegmenter
from image2reg.nuclei.segmenters.training import finish_network
from image2reg.nuclei.size import typical_diameter, without_small

DESIGN = "distance_unet"
FOLDS, SEED, SPECK_PX = 5, 0, 30
# Fields are shown a little larger and smaller too: one size alone moves AP by more than rules differ.
FACTORS = (0.94, 0.97, 1.0, 1.03, 1.06)
RULES = ("one threshold (not fitted)", "learned from other fields")


def main() -> None:
    """Fit on four fifths of the fields, score on the rest, five times."""
    as_json = asked_for_json(str(__doc__).splitlines()[0])
    fields = [
        f for found in (bbbc039(), dsb2018()) for part in ("train", "validation") for f in split(found)[part]
    ]
    fold = np.random.default_rng(SEED).permutation(len(fields)) % FOLDS
    design = find_design(DESIGN)
    matched: dict[tuple[str, str], list[Matching]] = defaultdict(list)
    for k in range(FOLDS):
        kept = [f for f, n in zip(fields, fold, strict=True) if n == k]
        for name in RULES:
            network = find_segmenter_bundle("nuclei").build({DESIGN: design.build})
            network.rule = JoiningRule(MIDDLE)
            if name != RULES[0]:
                others = [f for f, n in zip(fields, fold, strict=True) if n != k]
                assert finish_network(network, design, others)
            segmenter = NetworkSegmenter("fold", DESIGN, deploy(network))
            for field in kept:
                truth = without_small(field.labels, SPECK_PX)
                for factor in FACTORS:
                    diameter = factor * (field.diameter_px or typical_diameter(field.labels))
                    found = without_small(segmenter.segment(field.image, diameter_px=diameter), SPECK_PX)
                    matched[field.source, name].append(match(truth, found, thresholds=(0.5, 0.7, 0.9)))
        print(f"fold {k + 1} of {FOLDS}", file=sys.stderr)
    rows = []
    for source in ("BBBC039", "DSB2018"):
        for name in RULES:
            pooled = match_dataset(matched[source, name])
            n_fields = len(matched[source, name]) // len(FACTORS)
            rows.append(
                [source, name, n_fields, pooled.at(0.5)["ap"], *(pooled.at(t)["f1"] for t in (0.5, 0.7, 0.9))]
            )
    publish(
        Path(__file__).stem,
        {
            "tables": [
                {
                    "title": "Clumps: which pieces are one nucleus, on fields kept from the rule",
                    "head": ["set", "rule", "fields", "AP@0.5", "F1@0.5", "F1@0.7", "F1@0.9"],
                    "rows": rows,
                    "notes": [
                        f"{FOLDS} folds over the fields that trained and validated the network, whose weights are the shipped ones "
                        f"in every fold: what differs is the rule alone. Each field at {len(FACTORS)} sizes, objects from "
                        f"{SPECK_PX} px."
                    ],
                }
            ]
        },
        as_json=as_json,
    )


if __name__ == "__main__":
    main()
