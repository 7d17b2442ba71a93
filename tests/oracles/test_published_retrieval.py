"""Numbers that others measured on the same real tables: BBBC021 nearest neighbour 0.913, TA-ORF same gene 0.084"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from image2reg.retrieval import average_precision, choose_processing, nearest_neighbours
from image2reg.tables import Profiles
from image2reg.tables.aggregate import aggregate

TREATMENT = ["Metadata_Compound", "Metadata_Concentration"]


def test_bbbc021_nearest_neighbour_as_given_and_prepared_without_labels(shared_data: Path) -> None:
    frame = pd.read_csv(shared_data / "bbbc021_profiles_moa" / "BBBC021_feature_selected_mad_robustize.csv")
    frame["Metadata_Batch"] = frame["Metadata_Plate"].str.split("_").str[0]
    wells = Profiles(frame)
    controls = wells.column("Metadata_Compound") == "DMSO"
    options = {"label": "Metadata_moa", "different": ["Metadata_Compound"]}
    plain = aggregate(wells.rows(~controls), TREATMENT)
    assert nearest_neighbours(plain, **options)["correct"].mean() == pytest.approx(0.913, abs=5e-4)
    chosen, _ = choose_processing(
        wells, controls=controls, by=TREATMENT, compound="Metadata_Compound", batch="Metadata_Batch"
    )
    ready = chosen.apply(wells, controls, TREATMENT)
    assert len(ready) == 103
    assert nearest_neighbours(ready, neighbours=chosen.neighbours, **options)["correct"].mean() >= 0.95


def test_ta_orf_same_gene_map(shared_data: Path) -> None:
    folder = shared_data / "rohban_ta_orf_l1000_u2os"
    z = pd.read_csv(folder / "l1000_z_978genes_x_1092wells.csv.gz", index_col=0)
    wells = pd.read_csv(folder / "well_metadata.csv.gz").set_index("id").loc[z.columns]
    treated = (wells["pert_type"] == "trt_oe").to_numpy()
    metadata = pd.DataFrame(
        {
            "Metadata_ORF": wells["pert_id"].to_numpy(),
            "Metadata_Gene": wells["x_genesymbol_mutation"].astype(str).str.split("_").str[0].to_numpy(),
        }
    )
    profiles = Profiles(pd.concat([metadata, z.T.reset_index(drop=True)], axis=1)).rows(treated)
    orfs = aggregate(profiles, ["Metadata_ORF", "Metadata_Gene"], method="modz")
    scores = average_precision(orfs, same=["Metadata_Gene"])
    assert np.isfinite(scores["average_precision"]).sum() == 235
    assert scores["average_precision"].mean() == pytest.approx(0.084, abs=5e-4)
