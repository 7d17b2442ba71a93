"""Real sets with a condition, as crops: the translocation plate by dose, Jurkat by phase, MCF7 under cycloheximide.

No set within reach pairs images of nuclei with L1000, so the "signature" of each is a few numbers with names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Picture
from staining_data import DATA

from image2reg.nuclei.crops import Crops, cut_crops
from image2reg.nuclei.segment import segment

TRANSLOCATION_PX, NUCLEUS_PX = 32, 15
PHASES = ("G1", "S_phase", "G2", "Prophase")


def translocation(data: Path = DATA) -> Crops:
    """GFP and DNA of each nucleus of 72 wells (BSD-3), 32 x 32 px: 0 is the well's background, in grey levels.

    ``Metadata_Level`` is the dose level 0 to 10 (0: 15 negative wells, 10: 6 positive ones), ``Metadata_Half`` the
    half of the plate, which by the description of BBBC013 is the drug.
    """
    folder = data / "sbs_bbbc013_u2os_translocation"
    parts = []
    for row in pd.read_csv(folder / "1049_Metadata.csv").itertuples():
        well = f"{row.Row}-{row.Column:02d}"
        found = [sorted((folder / "images").glob(f"Channel{c}-*-{well}.tif")) for c in (1, 2)]
        if not all(found):
            continue
        planes = np.stack([np.asarray(Picture.open(files[0]), np.float32) for files in found])
        planes -= np.percentile(planes, 5, axis=(1, 2), keepdims=True)
        labels = segment(planes[1], diameter_px=NUCLEUS_PX)
        metadata = {
            "Metadata_Well": well.replace("-", ""),
            "Metadata_Level": str(row.SBS_Doses),
            "Metadata_Half": "AC" if row.Row in "ABCD" else "EG",
        }
        crops = cut_crops(
            np.maximum(planes, 0),
            labels,
            size_px=TRANSLOCATION_PX,
            channels=("GFP", "DNA"),
            metadata=metadata,
        )
        assert crops is not None
        inside = np.array(
            [
                TRANSLOCATION_PX // 2 <= float(c) <= n - TRANSLOCATION_PX // 2
                for name, n in (
                    ("Metadata_CenterY_px", labels.shape[0]),
                    ("Metadata_CenterX_px", labels.shape[1]),
                )
                for c in crops.column(name)
            ]
        ).reshape(2, -1)
        parts.append(crops.rows(inside.all(axis=0)))
    return Crops.concat(parts)


def jurkat_phases(data: Path = DATA) -> Crops:
    """Brightfield and DNA of single cells (BSD-3), 40 x 40 px, with ``Metadata_Phase`` and ``Metadata_Tile``.

    Experiment 1, the four phases with hundreds of cells. Each phase is one montage of 30 x 30 tiles, so phase is
    confounded with montage. 0 is the background of the DNA stain.
    """
    with np.load(data / "ifc_jurkat_bf_dna_cellcycle" / "ifc_crops.npz") as file:
        images, phase, experiment, tile = (file[n] for n in ("images", "phase", "experiment", "tile_index"))
    kept = np.isin(phase.astype(str), PHASES) & (experiment == 1)
    images = images[kept][:, :2].astype(np.float32)
    images[:, 1] = np.maximum(images[:, 1] - np.percentile(images[:, 1], 1), 0)
    metadata = pd.DataFrame({"Metadata_Phase": phase[kept].astype(str), "Metadata_Tile": tile[kept]})
    return Crops(images, metadata, channels=("Brightfield", "DNA"), source="Jurkat by phase")


def cycloheximide(data: Path = DATA) -> Crops:
    """MCF7 crops (central 64 x 64 px, three channels) under 0 to 50 uM cycloheximide, on two plates.

    One well per dose and plate: dose is confounded with well. For measurement only; the images may not be passed on.
    Intensities of each plate are given in thousandths of the 99.9th percentile of its DMSO cells, above their first.
    """
    folder = data / "bbbc021_singlecell_chx_dose"
    with np.load(folder / "crops.npz") as file:
        images = file["images"][:, :, 2:66, 2:66].astype(np.float32)
    index = pd.read_csv(folder / "index.csv")
    dose, plate = index["conc_uM"].fillna(0).to_numpy(), index["plate"].to_numpy(str)
    for name in np.unique(plate):
        controls = images[(plate == name) & (dose == 0)]
        low, high = (np.percentile(controls, q, axis=(0, 2, 3)).reshape(-1, 1, 1) for q in (1, 99.9))
        scaled = 1000 * (images[plate == name] - low) / (high - low)
        images[plate == name] = np.rint(np.maximum(scaled, 0))
    metadata = pd.DataFrame({"Metadata_Dose_uM": [f"{d:g}" for d in dose], "Metadata_Plate": plate})
    return Crops(
        images, metadata, channels=("DNA", "Channel1", "Channel2"), source="MCF7 under cycloheximide"
    )
