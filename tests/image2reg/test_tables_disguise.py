"""A label that is the plate in disguise is refused with the confusion table wherever a label is scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_profiles import planted

from image2reg.embedding.contrasts import contrast
from image2reg.errors import DataError
from image2reg.linking import link
from image2reg.retrieval import retrieve
from image2reg.screen.plates import control_columns
from image2reg.tables import Profiles, refuse_disguised

WORDS = {"label": "drug", "group": "plate", "where": "table.csv"}


def test_every_plate_with_one_label_is_refused_with_the_table() -> None:
    drugs, plates = np.repeat(["a", "b"], 6), np.repeat(["p1", "p2", "p3", "p4"], 3)
    with pytest.raises(
        DataError, match=r"(?s)table.csv: every plate holds a single drug: .* in disguise.*p4 +0 +3"
    ):
        refuse_disguised(drugs, plates, **WORDS)
    with pytest.raises(DataError, match="Put two on one plate, or ask somebody"):
        refuse_disguised(drugs, plates, **WORDS, remedy="ask somebody")
    # each drug is on two plates: rows of other plates can be found without the plate's help
    refuse_disguised(drugs, plates, **WORDS, paired=True)
    with pytest.raises(DataError, match="single drug and every drug sits on a single plate"):
        refuse_disguised(drugs, np.where(drugs == "a", "p1", "p2"), **WORDS, paired=True)


def test_one_mixed_plate_and_rows_without_a_label_are_no_disguise() -> None:
    drugs, plates = np.array(["a", "a", "b", "b"]), np.array(["p1", "p1", "p2", "p1"])
    refuse_disguised(drugs, plates, **WORDS)
    refuse_disguised(drugs[:2], np.array(["p1", "p2"]), **WORDS)  # one label: nothing to tell apart
    with pytest.raises(DataError, match="disguise"):
        refuse_disguised(np.array(["a", "", "b", "b"]), np.array(["p1", "p2", "p2", "p2"]), **WORDS)


def test_a_large_table_shows_its_corner() -> None:
    names = np.array([f"{i:02d}" for i in range(20)])
    with pytest.raises(DataError, match=r"… 8 more groups and 12 more labels$"):
        refuse_disguised(names, names, **WORDS)


def test_retrieval_refuses_a_batch_or_plate_that_equals_the_mechanism() -> None:
    wells = planted()
    table = wells.rows(wells.column("Metadata_moa") != "")
    for column, word, options in (
        ("Metadata_Batch", "batch", {"batch": "Metadata_Batch"}),
        ("Metadata_Plate", "plate", {}),
    ):
        frame = table.frame.assign(**{column: table.column("Metadata_moa")})
        with pytest.raises(DataError, match=rf"(?s)the mechanism is the {word} in disguise.*moa 0 +16 +0"):
            retrieve(table.replace(frame), label="Metadata_moa", different="Metadata_Compound", **options)


def genes_on_plates(plates: list[str]) -> tuple[Profiles, Profiles]:
    rng = np.random.default_rng(0)
    genes = ["A", "B", "C", "D"]
    values = pd.DataFrame(rng.normal(size=(4, 3)), columns=["x", "y", "z"])
    source = pd.DataFrame({"Metadata_Gene": genes, "Metadata_Plate": plates}).join(values)
    target = pd.DataFrame({"Metadata_Gene": genes}).join(values)
    return Profiles(source, source="profiles.csv"), Profiles(target, source="genes.parquet")


def test_linking_refuses_genes_with_a_plate_each() -> None:
    with pytest.raises(
        DataError, match=r"(?s)profiles.csv \(real\): .*gene is the plate in disguise.*p4 +0 +0 +0 +1"
    ):
        link(*genes_on_plates(["p1", "p2", "p3", "p4"]), n_permutations=0)
    assert len(link(*genes_on_plates(["p1", "p1", "p2", "p3"]), n_permutations=0).rankings) == 4


def test_a_contrast_of_wells_is_refused_where_plates_hold_one_side() -> None:
    frame = pd.DataFrame(
        {
            "Metadata_Plate": np.repeat(["p1", "p2", "p3", "p4"], 4),
            "Metadata_Well": [f"A{i:02d}" for i in range(16)],
            "Metadata_Drug": np.repeat(["DMSO", "x", "DMSO", "y"], 4),
            "size": np.arange(16.0),
        }
    )
    nuclei = Profiles(frame, source="nuclei.parquet")
    with pytest.raises(DataError, match=r"(?s)nuclei.parquet: .*in disguise.*--unit plate.*p1 +4 +0"):
        contrast(nuclei, "Metadata_Drug", control="DMSO", unit="well")
    assert contrast(nuclei, "Metadata_Drug", control="DMSO", unit="plate")["n_control"].tolist() == [2]


def test_a_screen_refuses_plates_without_controls_so_a_perturbation_cannot_be_its_plate() -> None:
    wells = pd.DataFrame({"Metadata_Plate": ["p1", "p2"], "Metadata_Perturbation": ["DMSO", "x"]})
    with pytest.raises(DataError, match="1 of 2 plates have no well with"):
        control_columns(wells, 'Metadata_Perturbation == "DMSO"', None, source="wells")
