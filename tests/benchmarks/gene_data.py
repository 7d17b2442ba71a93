"""The real data of gene linking: over-expression wells, the interactome, and the protocol's network.

Where the files are is told by VIRTUALSTAIN_DATA, or they lie in ``shared/data`` beside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from image2reg.genes import GeneNetwork, read_interactions, steiner_tree
from image2reg.tables import Profiles

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))
INTERACTIONS = "irefindex/iRefIndex_v14_C9.costs.txt"
CONTROLS = {"EMPTY", "LUCIFERASE", "LACZ", "EGFP", "BFP", "HCRED", "NAN", "-666", "UNTRT", ""}


def wells(data: Path = DATA) -> Profiles:
    """1,092 wells of U2OS over-expression, 978 landmark z-scores; controls have no gene."""
    folder = data / "rohban_ta_orf_l1000_u2os"
    about = pd.read_csv(folder / "well_metadata.csv.gz", dtype=str, keep_default_na=False)
    values = pd.read_csv(folder / "l1000_z_978genes_x_1092wells.csv.gz", index_col=0, keep_default_na=False).T
    gene = about["pert_mfc_desc"].where(~about["pert_mfc_desc"].str.upper().isin(CONTROLS), "")
    replicate = about["pert_id"].where(about["pert_type"] == "trt_oe", "")
    named = pd.DataFrame({
        "Metadata_Gene": gene, "Metadata_Construct": replicate, "Metadata_Plate": about["det_plate"],
        "Metadata_Well": about["det_well"].str[-3:],
    })  # fmt: skip
    return Profiles(
        pd.concat([named, values.reset_index(drop=True).astype(np.float64)], axis=1), source="Rohban L1000"
    )


def network(genes: list[str], data: Path = DATA) -> GeneNetwork:
    """Steps 2 of the protocol: hubs above the 99.9th percentile off, costs up to the median, Steiner graph."""
    whole = read_interactions(data / INTERACTIONS)
    wide = whole.without_hubs()
    limit = whole.median_cost()
    return GeneNetwork(
        wide, steiner_tree(wide.confident(limit).largest_component(), genes), {"max_cost": limit}
    )
