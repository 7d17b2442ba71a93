"""Fit the ruler that `morphgen.ruler` ships: nuclei of training fields under parameters drawn at random.

python tests/benchmarks/write_planted_ruler.py [--groups 500]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from staining_data import ROOT

from morphgen import planted
from morphgen.crop_features import crop_features
from morphgen.ruler import Ruler

CELLS = 28
# Share of parameters at rest in a group, so that each is seen with and without the others.
AT_REST = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--out", type=Path, default=ROOT / "morphgen" / "samples" / "planted" / "ruler.json")
    options = parser.parse_args()
    rng = np.random.default_rng(1955)
    low, high = np.array(list(planted.RANGES.values())).T
    parameters = rng.uniform(low, high, (options.groups, len(low)))
    parameters[rng.random(parameters.shape) < AT_REST] = 0
    made = planted.deformed("train", parameters, n_per_row=CELLS, seed=1955)
    ruler = Ruler.fit(
        crop_features(made.images), made.signature_index, parameters, crop_features(made.controls[:1500])
    )
    options.out.write_text(ruler.as_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
