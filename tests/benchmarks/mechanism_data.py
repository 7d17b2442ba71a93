"""The real tables of the mechanism benchmarks as profiles.

Where the files are is told by VIRTUALSTAIN_DATA (default: ``shared/data`` beside the repository).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from image2reg.expression import read
from image2reg.tables import Profiles

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))
TREATMENT = ["Metadata_Compound", "Metadata_Concentration"]


def bbbc021(data: Path = DATA) -> tuple[Profiles, np.ndarray]:
    """Read 632 wells with 189 features, already divided by their plates' controls; and which wells are DMSO."""
    frame = pd.read_csv(data / "bbbc021_profiles_moa" / "BBBC021_feature_selected_mad_robustize.csv")
    frame["Metadata_Batch"] = frame["Metadata_Plate"].str.split("_").str[0]
    profiles = Profiles(frame, source="BBBC021")
    return profiles, profiles.column("Metadata_Compound") == "DMSO"


def ljp005(data: Path = DATA) -> tuple[Profiles, np.ndarray]:
    """Read one L1000 plate (A375, 24 h): 55 compounds at 6 doses and DMSO, z against DMSO; and which wells are DMSO.

    Labels are those of the repurposing table by Broad id (first 13 characters), else by name compared by letters
    and digits alone; small letters, separated by ``|``.
    """
    table = read(data / "reader_fixtures" / "test_l1000.gct")
    wells = table.column_metadata
    kept = wells["pert_type"].isin(["trt_cp", "ctl_vehicle"]).to_numpy()
    wells = wells[kept]
    values = table.values.to_numpy().T.astype(np.float64)[kept]
    known = pd.read_csv(data / "moa_annotations" / "repurposing_info.tsv.gz", sep="\t", dtype=str)
    known = known[known["moa"].notna()]
    by_id = known.assign(key=known["broad_id"].str[:13]).drop_duplicates("key").set_index("key")["moa"]
    by_name = known.assign(key=known["pert_iname"].map(_plain)).drop_duplicates("key").set_index("key")["moa"]
    labels = [
        by_id.get(broad[:13], by_name.get(_plain(name), "")) if kind == "trt_cp" else ""
        for broad, name, kind in zip(wells["pert_id"], wells["pert_iname"], wells["pert_type"], strict=True)
    ]
    metadata = pd.DataFrame(
        {
            "Metadata_Compound": wells["pert_id"].to_numpy(),
            "Metadata_Dose_uM": pd.to_numeric(wells["pert_dose"], errors="coerce").to_numpy(),
            "Metadata_moa": [label.lower() for label in labels],
        }
    )
    controls = (wells["pert_type"] == "ctl_vehicle").to_numpy()
    level = np.median(values[controls], axis=0)
    spread = 1.4826 * np.median(np.abs(values[controls] - level), axis=0)
    z = pd.DataFrame(
        (values - level) / (spread + 0.1), columns=table.row_metadata["pr_gene_symbol"].to_numpy()
    )
    return Profiles(pd.concat([metadata, z], axis=1), source="LJP005"), controls


def _plain(name: str) -> str:
    return "".join(c for c in str(name).lower() if c.isalnum())


def highest_doses(profiles: Profiles, n: int = 3) -> np.ndarray:
    """Mark the wells of the `n` highest doses of each compound."""
    dose = pd.Series(profiles.numbers("Metadata_Dose_uM"))
    rank = dose.groupby(profiles.column("Metadata_Compound")).rank(ascending=False, method="first")
    return (rank <= n).to_numpy()


def ta_orf(data: Path = DATA) -> tuple[Profiles, np.ndarray]:
    """Read 1,092 L1000 wells of over-expressed genes in U2OS; and which wells are controls."""
    folder = data / "rohban_ta_orf_l1000_u2os"
    z = pd.read_csv(folder / "l1000_z_978genes_x_1092wells.csv.gz", index_col=0)
    wells = pd.read_csv(folder / "well_metadata.csv.gz").set_index("id").loc[z.columns]
    treated = (wells["pert_type"] == "trt_oe").to_numpy()
    allele = wells["x_genesymbol_mutation"].astype(str)
    metadata = pd.DataFrame(
        {
            "Metadata_ORF": np.where(treated, wells["pert_id"], "control"),
            "Metadata_Gene": np.where(treated, allele.str.split("_").str[0], ""),
            "Metadata_Plate": wells["det_plate"].to_numpy(),
        }
    )
    frame = pd.concat([metadata, z.T.reset_index(drop=True)], axis=1)
    return Profiles(frame, source="TA-ORF"), ~treated
