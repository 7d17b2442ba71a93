"""Splits: whole groups, fractions, determinism, and the refusal of a group in two splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import ConfigurationError, DataError
from image2reg.tables import Manifest, group_folds, refuse_shared_groups, split_by_group


def plates(n_plates: int = 10, n_wells: int = 4, n_sites: int = 2, root: Path = Path()) -> Manifest:
    keys = [
        (f"P{p}", f"A{w:02d}", str(s))
        for p in range(n_plates)
        for w in range(n_wells)
        for s in range(n_sites)
    ]
    frame = pd.DataFrame(
        [
            {"path": f"{p}_{w}_{s}_{c}.tif", "role": role, "channel": c, "Metadata_Plate": p, "Metadata_Well": w,
             "Metadata_Site": s, "Metadata_Donor": f"D{int(p[1:]) % 3}"}
            for p, w, s in keys for role, c in (("input", "bf"), ("target", "dna"))
        ]
    )  # fmt: skip
    return Manifest(frame, root)


@pytest.mark.parametrize(
    ("group", "columns"),
    [
        ("plate", ["Metadata_Plate"]),
        ("well", ["Metadata_Plate", "Metadata_Well"]),
        ("field", ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]),
        ("Metadata_Donor", ["Metadata_Donor"]),
    ],
)
def test_groups_stay_whole_and_every_split_is_filled(group: str, columns: list[str]) -> None:
    split = split_by_group(plates(), group=group, seed=3)
    assert (split.frame.groupby(columns)["split"].nunique() == 1).all()
    assert set(split.frame["split"]) == {"train", "validation", "test"}
    refuse_shared_groups(split, group=group)


def test_fractions_are_of_fields_and_are_met() -> None:
    split = split_by_group(plates(20), group="plate", fractions={"train": 0.5, "holdout": 0.5})
    counts = split.frame.drop_duplicates("path")["split"].value_counts()
    assert counts.to_dict() == {"train": 160, "holdout": 160}
    assert set(split_by_group(plates(), group="plate", fractions=(0.8, 0, 0.2)).frame["split"]) == {
        "train",
        "test",
    }


def test_splits_are_drawn_over_the_fields_that_have_a_target() -> None:
    frame = plates(10, 4, 1).frame
    stained = frame["Metadata_Plate"].isin(["P1", "P4", "P7"]) & (frame["Metadata_Well"] == "A02")
    few = Manifest(frame[(frame["role"] == "input") | stained], Path())
    for group in ("plate", "well", "field"):
        split = split_by_group(few, group=group, seed=1).frame
        targets = split[split["role"] == "target"]
        assert sorted(targets["split"]) == ["test", "train", "validation"]
        refuse_shared_groups(few.replace(split), group=group)
        others = split[~split["Metadata_Plate"].isin(targets["Metadata_Plate"])]
        assert set(others["split"]) == {"train"}
    two = Manifest(few.frame[(few.frame["role"] == "input") | (few.frame["Metadata_Plate"] != "P1")], Path())
    with pytest.raises(
        DataError, match=r"2 different plate value\(s\) with a target \['P4', 'P7'\] cannot fill"
    ):
        split_by_group(two, group="plate")


def test_large_groups_are_placed_first() -> None:
    uneven = pd.concat(
        [plates(1, 16).frame, plates(6, 2).frame.query("Metadata_Plate != 'P0'")], ignore_index=True
    )
    split = split_by_group(Manifest(uneven, "."), group="plate", fractions=(0.7, 0.1, 0.2), seed=0)
    assert split.frame.loc[split.frame["Metadata_Plate"] == "P0", "split"].iloc[0] == "train"


def test_same_seed_same_split_whatever_the_order_of_rows() -> None:
    manifest = plates()
    first = split_by_group(manifest, group="well", seed=5).frame.set_index("path")["split"]
    shuffled = manifest.replace(manifest.frame.sample(frac=1, random_state=0))
    second = split_by_group(shuffled, group="well", seed=5).frame.set_index("path")["split"]
    pd.testing.assert_series_equal(first.sort_index(), second.sort_index())
    assert not first.equals(split_by_group(manifest, group="well", seed=6).frame.set_index("path")["split"])


def test_a_group_in_two_splits_is_refused_by_name() -> None:
    manifest = plates(3)
    frame = manifest.frame.assign(split="train")
    frame.loc[(frame["Metadata_Plate"] == "P1") & (frame["Metadata_Well"] == "A00"), "split"] = "test"
    leaky = manifest.replace(frame)
    refuse_shared_groups(leaky, group="well")
    with pytest.raises(DataError, match=r"1 plate value.* in several splits: 'P1' in test and train"):
        refuse_shared_groups(leaky, group="plate")
    frame.loc[frame["split"] == "test", "split"] = ""
    refuse_shared_groups(manifest.replace(frame), group="plate")


def test_folds_test_every_group_once() -> None:
    folds = group_folds(plates(7), group="plate", n_folds=3, seed=1)
    tested = [set(fold.where(split="test").frame["Metadata_Plate"]) for fold in folds]
    assert sorted(plate for fold in tested for plate in fold) == [f"P{i}" for i in range(7)]
    for fold in folds:
        refuse_shared_groups(fold, group="plate")
    assert np.ptp([len(fold) for fold in tested]) <= 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: split_by_group(plates(2), group="plate"),
            DataError,
            "2 different plate value.* cannot fill 3 splits",
        ),
        (lambda: split_by_group(plates(), group="batch"), DataError, "'batch' needs column 'Metadata_Batch'"),
        (
            lambda: split_by_group(plates(), group="plate", fractions=(1, 1, 1)),
            ConfigurationError,
            "must be 1",
        ),
        (
            lambda: split_by_group(plates(), group="plate", fractions=(0.5, 0.5)),
            ConfigurationError,
            "give three",
        ),
        (
            lambda: split_by_group(plates(), group="plate", fractions={"a": 2, "b": -1}),
            ConfigurationError,
            "at least 0",
        ),
        (lambda: group_folds(plates(), group="plate", n_folds=1), ConfigurationError, "n_folds is 1"),
        (lambda: group_folds(plates(2), group="plate", n_folds=5), DataError, "cannot fill 5 splits"),
    ],
)
def test_refusals_name_what_was_seen(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()


def test_an_empty_plate_is_unknown_and_not_one_group() -> None:
    manifest = plates()
    frame = manifest.frame.copy()
    frame.loc[[4, 5], "Metadata_Plate"] = ""
    with pytest.raises(DataError, match="Metadata_Plate is empty in 2 of 160 rows, first row 5"):
        split_by_group(manifest.replace(frame), group="plate")
