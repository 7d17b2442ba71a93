"""Manifests and splits: round trips, unsafe paths, and groups that stay whole, for arbitrary content."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image2reg.errors import DataError
from image2reg.tables import Manifest, read_csv, split_by_group, write_csv
from image2reg.tables.cells import escape_cell, restore_cell

# Any text without control characters (those are refused) and without halves of surrogate pairs (no UTF-8).
CELLS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
FORMULA_LIKE = st.text(st.sampled_from("=+-@'1a \"\uff1d,"), max_size=6)
NAMES = st.text(st.sampled_from("ab=+-@'01_. é"), min_size=1, max_size=8).map(lambda n: f"x{n}y.tif")


@given(st.one_of(CELLS, FORMULA_LIKE))
def test_an_escaped_cell_is_restored_and_starts_no_formula(text: str) -> None:
    assert restore_cell(escape_cell(text)) == text
    escaped = escape_cell(text)
    if escaped[:1] in ("=", "@", "+", "-"):
        float(escaped)  # only plain numbers may start with a sign


@given(st.lists(st.tuples(st.one_of(CELLS, FORMULA_LIKE), FORMULA_LIKE), min_size=1, max_size=8))
def test_csv_round_trip_of_any_cells(cells: list[tuple[str, str]]) -> None:
    frame = pd.DataFrame(cells, columns=["first", "=second"])
    with tempfile.TemporaryDirectory() as folder:
        write_csv(frame, Path(folder) / "t.csv")
        pd.testing.assert_frame_equal(read_csv(Path(folder) / "t.csv"), frame)


@given(
    st.lists(st.tuples(NAMES, CELLS, st.floats(1e-3, 1e3) | st.none()), min_size=1, max_size=6),
    st.sampled_from(["csv", "parquet"]),
)
def test_manifest_round_trip(content: list[tuple[str, str, float | None]], form: str) -> None:
    frame = pd.DataFrame(content, columns=["path", "Metadata_Perturbation", "voxel_y_um"])
    frame = frame.assign(role="input", channel="bf", Metadata_Site=[str(n) for n in range(len(frame))])
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(frame, folder)
        manifest.write(Path(folder) / f"m.{form}")
        pd.testing.assert_frame_equal(Manifest.read(Path(folder) / f"m.{form}").frame, manifest.frame)


@given(st.lists(st.sampled_from(["a", "b.tif", "..", "...", ".", "c..d"]), min_size=1, max_size=5))
def test_any_path_that_climbs_is_refused_and_no_other(pieces: list[str]) -> None:
    frame = pd.DataFrame({"path": ["/".join(pieces)], "role": ["input"], "channel": ["bf"]})
    with tempfile.TemporaryDirectory() as folder:
        if ".." in pieces:
            with pytest.raises(DataError, match="climbs out of the folder"):
                Manifest(frame, folder)
        else:
            assert len(Manifest(frame, folder)) == 1


@given(st.lists(st.integers(0, 7), min_size=3, max_size=40), st.integers(0, 100))
def test_groups_stay_whole_whatever_their_sizes(plates: list[int], seed: int) -> None:
    frame = pd.DataFrame(
        {
            "path": [f"{n}.tif" for n in range(len(plates))], "role": "input", "channel": "bf",
            "Metadata_Plate": [f"P{p}" for p in plates], "Metadata_Site": [str(n) for n in range(len(plates))],
        }
    )  # fmt: skip
    manifest = Manifest(frame, ".")
    if len(set(plates)) < 3:
        with pytest.raises(DataError, match="cannot fill 3 splits"):
            split_by_group(manifest, group="plate", seed=seed)
        return
    split = split_by_group(manifest, group="plate", seed=seed).frame
    assert (split.groupby("Metadata_Plate")["split"].nunique() == 1).all()
    assert set(split["split"]) == {"train", "validation", "test"}
