"""Crops of control and treated nuclei from the real sets, cut with the classical segmenter."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from scipy import ndimage

from image2reg.nuclei.crops import Crops, cut_crops
from image2reg.nuclei.segment import segment

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))
DIAMETER_PX = 15
CONTROL_DOSES, TREATED_DOSES = (0,), (8, 9, 10)


def translocation_fields(
    doses: tuple[int, ...] = CONTROL_DOSES + TREATED_DOSES, data: Path = DATA
) -> list[tuple[np.ndarray, np.ndarray, dict[str, str]]]:
    """(DNA, GFP) image, labels and metadata of each well of these doses; one field per well."""
    folder = data / "sbs_bbbc013_u2os_translocation"
    table = pd.read_csv(folder / "1049_Metadata.csv").set_index(["Row", "Column"])
    fields = []
    for path in sorted((folder / "images").glob("Channel2*.tif")):
        _, _, row, column = path.stem.split("-")
        dose = int(table.loc[(row, int(column)), "SBS_Doses"])
        if dose not in doses:
            continue
        dna = tifffile.imread(path)
        gfp = tifffile.imread(path.with_name(path.name.replace("Channel2", "Channel1")))
        metadata = {
            "Metadata_Plate": "sbs", "Metadata_Well": f"{row}{int(column):02d}", "Metadata_Row": row,
            "Metadata_Half": "A-C" if row in "ABC" else "E-G", "Metadata_Dose": str(dose),
            "Metadata_Treatment": "control" if dose in CONTROL_DOSES else "treated",
        }  # fmt: skip
        fields.append((np.stack([dna, gfp]), segment(dna, diameter_px=DIAMETER_PX), metadata))
    return fields


def translocation_crops(
    size_px: int = 48, doses: tuple[int, ...] = CONTROL_DOSES + TREATED_DOSES, data: Path = DATA
) -> Crops:
    """Nuclei of control (dose 0) and treated wells (the three highest doses unless told), DNA and GFP."""
    parts = [
        cut_crops(image, labels, size_px=size_px, channels=["DNA", "GFP"], metadata=metadata)
        for image, labels, metadata in translocation_fields(doses, data)
    ]
    return Crops.concat([part for part in parts if part is not None])


def neubias_pair(
    name: str, diameter_px: float, data: Path = DATA
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image and labels of ``control`` and of the other condition: one image each, whatever is in between."""
    found = {}
    for path in sorted((data / "neubias_cc_by").glob(f"*{name}_*.tif")):
        image = tifffile.imread(path)
        # blurred, so that foci and condensed chromosomes of one nucleus stay one object
        smooth = ndimage.gaussian_filter(image.astype(np.float32), diameter_px / 12)
        found[path.stem.rpartition("_")[2]] = (image, segment(smooth, diameter_px=diameter_px))
    return found
