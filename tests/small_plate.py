"""A small synthetic plate: discs for nuclei, a second channel that moves into them with dose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from image2reg.screen.plates import well_name


def planted_field(
    rng: np.random.Generator, share: float, *, n_nuclei: int = 9, side: int = 120
) -> np.ndarray:
    """(2, side, side) uint16: DNA, and GFP of which `share` is in the nuclei."""
    y, x = np.indices((side, side))
    dna, gfp = np.full((side, side), 100.0), np.full((side, side), 100.0)
    centres = [(20 + 40 * (i // 3), 20 + 40 * (i % 3)) for i in range(n_nuclei)]
    for cy, cx in centres:
        distance = np.hypot(y - cy - rng.uniform(-2, 2), x - cx - rng.uniform(-2, 2))
        nucleus, cell = distance < rng.uniform(7.5, 8.5), distance < 16
        dna[nucleus] = 900
        gfp[cell] += 300 * (1 - share)
        gfp[nucleus] += 600 * share * rng.uniform(0.9, 1.1)
    blurred = np.stack([dna, gfp]) + rng.normal(0, 8, (2, side, side))
    return np.clip(np.rint(blurred), 0, 65535).astype(np.uint16)


def write_plate(folder: Path, *, doses=(1, 2, 4, 8, 16), n_rows: int = 3, seed: int = 0) -> pd.DataFrame:
    """Three negative columns, one per dose, one positive; the manifest is written beside the images and returned."""
    rng, rows = np.random.default_rng(seed), []
    columns = [("DMSO", 0, "negative", 0.1)] * 3
    columns += [("drug", dose, "", 0.1 + 0.8 / (1 + (4 / dose) ** 3)) for dose in doses]
    columns += [("drug B", 20, "positive", 0.9)]
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(n_rows):
        for column, (name, dose, kind, share) in enumerate(columns):
            well = well_name(row, column)
            image = planted_field(rng, share)
            for number, channel in enumerate(("DNA", "GFP")):
                path = f"{well}_{channel}.tif"
                tifffile.imwrite(folder / path, image[number])
                rows.append((path, channel, well, name, str(dose), kind))
    names = ["path", "channel", *(f"Metadata_{n}" for n in ("Well", "Perturbation", "Dose_uM", "Control"))]
    known = {"role": "input", "Metadata_Plate": "p1", "voxel_y_um": 0.8, "voxel_x_um": 0.8}
    manifest = pd.DataFrame(rows, columns=names).assign(**known)
    manifest.to_csv(folder / "manifest.csv", index=False)
    return manifest
