"""From control to perturbed nucleus: does the image follow the signature, and is it still the same nucleus?

    python tests/benchmarks/planted_routes.py [--json]

PLANTED (`morphgen.planted`), so the truth is known nucleus by nucleus: each test nucleus before its deformation is the
control, the same nucleus after it the truth. Signatures of every third test gene; routes as settled on validation genes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from typing import Any

import numpy as np
import pandas as pd
from result_files import asked_for_json, publish

from morphgen import planted
from morphgen.crop_features import crop_features
from morphgen.ruler import Ruler, parameter_r2
from morphgen.sample import MorphologyGenerator, load
from morphgen.sampling import FROM_CONTROL

MODEL = "planted-nuclei"
N_CELLS, EVERY, SEED = 24, 3, 21
ROUTES: dict[str, dict[str, Any]] = {
    "SDEdit": {"route": "sdedit"},
    "SDEdit, strength 0.8": {"route": "sdedit", "strength": 0.8},
    "inversion": {"route": "inversion"},
    "inversion, guidance {guidance:g}, {corrections} corrections".format_map(FROM_CONTROL): FROM_CONTROL,
}
HEAD = ["images", "R² of planted parameters", "r with its own nucleus", "pixel r", "CPU s per image"]


class Truth:
    """Deformed test nuclei, and how near other images of the same nuclei come to them."""

    def __init__(self, data: planted.PlantedData) -> None:
        self.data, self.features = data, crop_features(data.images)
        usable = self.features.notna().mean().gt(0.98) & self.features.std().gt(0)
        self.names = list(self.features.columns[usable])
        self.own = self.within(self.features)

    def within(self, features: pd.DataFrame) -> pd.DataFrame:
        """Deviations of nuclei from the mean under their signature."""
        table = features[self.names]
        return table - table.groupby(self.data.signature_index).transform("mean")

    def row(self, name: str, images: np.ndarray, seconds: float | None = None) -> list[Any]:
        features = crop_features(images)
        read = Ruler.shipped().read(features, self.data.signature_index)
        same = self.within(features).corrwith(self.own).median()
        pixels = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, self.data.images, strict=True)
        ]
        each = None if seconds is None else f"{seconds / len(images):.2f}"
        return [
            name,
            parameter_r2(read, self.data.parameters)["mean"],
            float(same),
            float(np.mean(pixels)),
            each,
        ]


def drawn(model: MorphologyGenerator, data: planted.PlantedData, **options: Any) -> np.ndarray:
    """Images of each signature, begun at its own controls where a route is named."""
    made = []
    for number in range(len(data.signatures)):
        own = data.controls[data.signature_index == number]
        begin = {"control": own} if "route" in options else {}
        crops = model.generate(
            data.signatures.rows(np.array([number])), n=len(own), seed=0, **begin, **options
        )
        made.append(np.asarray(crops.images))
    return np.concatenate(made)


def main() -> None:
    as_json = asked_for_json(__doc__ or "")
    names = planted.signature_table("unseen").column("Metadata_Perturbation")[::EVERY]
    data = planted.dataset("unseen", n_per_signature=N_CELLS, signatures=list(names), seed=SEED)
    truth, model = Truth(data), load(MODEL)
    other = np.concatenate(
        [np.roll(np.flatnonzero(data.signature_index == k), 1) for k in range(len(data.signatures))]
    )
    rows = [
        truth.row("floor: the control itself", data.controls),
        truth.row("floor: the truth of another nucleus", data.images[other]),
    ]
    for name, options in {"from noise, no control": {}, **ROUTES}.items():
        began = time.process_time()
        images = drawn(model, data, **options)
        rows.append(truth.row(name, images, time.process_time() - began))
    rows.append(truth.row("ceiling: the truth", data.images))
    notes = [
        f"{len(names)} signatures never seen, {N_CELLS} test nuclei each. Planted, not biology.",
        "r with its own nucleus: median over features of the correlation, within signatures, between an image and the true "
        "deformation of the nucleus it began at. Pixel r: with the same truth.",
    ]
    table = {
        "title": "From control to perturbed nucleus, by route",
        "head": HEAD,
        "rows": rows,
        "notes": notes,
    }
    by_name = {row[0]: dict(zip(("r2", "identity", "pixel_r"), row[1:4], strict=True)) for row in rows}
    publish("planted_routes", {"model": MODEL, "arms": by_name, "tables": [table]}, as_json=as_json)


if __name__ == "__main__":
    main()
