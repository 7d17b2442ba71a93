"""Profiles: metadata is text, features are numbers, files pass through unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import image2reg as i2r
from image2reg.errors import DataError
from image2reg.tables import Profiles
from image2reg.tables.aggregate import aggregate
from image2reg.tables.cells import read_csv


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Nuclei_AreaShape_Area": [1, 2, 3],
            "Metadata_Well": ["A01", "=A02", None],
            "Metadata_Dose_uM": [1.0, 2.5, np.nan],
            "Nuclei_Texture": [0.1, np.nan, 3.0],
        }
    )


@pytest.mark.parametrize("name", ["profiles.csv", "profiles.parquet"])
def test_a_table_comes_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    profiles = Profiles(table())
    profiles.write(tmp_path / name)
    again = Profiles.read(tmp_path / name)
    pd.testing.assert_frame_equal(profiles.frame, again.frame)
    assert list(again.frame.columns)[:2] == ["Metadata_Well", "Metadata_Dose_uM"]
    assert again.column("Metadata_Well").tolist() == ["A01", "=A02", ""]
    assert again.column("Metadata_Dose_uM").tolist() == ["1", "2.5", ""]
    np.testing.assert_array_equal(again.numbers("Metadata_Dose_uM"), [1.0, 2.5, np.nan])
    assert again.features == ["Nuclei_AreaShape_Area", "Nuclei_Texture"]
    assert again.values.dtype == np.float64


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"Metadata_Well": ["A01"]}), "no feature"),
        (pd.DataFrame({"Metadata_Well": [], "x": []}), "no row"),
        (pd.DataFrame({"x": ["a"], "y": [1]}), "'x' with 'a'"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "more than once"),
    ],
)
def test_what_is_no_table_of_profiles_is_refused(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Profiles(frame)


def test_tables_with_other_features_are_put_together_only_when_asked() -> None:
    one, other = Profiles(table()), Profiles(table().rename(columns={"Nuclei_Texture": "Nuclei_Other"}))
    with pytest.raises(DataError, match=r"2 names.*1 are common"):
        Profiles.concat([one, other])
    both = Profiles.concat([one, other], common_features=True)
    assert len(both) == 6
    assert both.features == ["Nuclei_AreaShape_Area"]


def test_columns_and_rows() -> None:
    profiles = Profiles(table(), source="mine.csv")
    with pytest.raises(DataError, match=r"mine.csv: no metadata column 'Metadata_Plate'.*Metadata_Well"):
        profiles.column("Metadata_Plate")
    with pytest.raises(DataError, match="must hold numbers"):
        profiles.numbers("Metadata_Well")
    assert len(profiles.rows(np.array([True, False, True]))) == 2
    assert profiles.rows(np.array([2, 0])).values[:, 0].tolist() == [3, 1]
    with pytest.raises(DataError, match="no row"):
        profiles.rows(np.zeros(3, bool))
    changed = profiles.with_values(profiles.values * 2)
    assert changed.values[1, 0] == 4
    assert changed.column("Metadata_Well").tolist() == profiles.column("Metadata_Well").tolist()


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Profiles.read(tmp_path / "none.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1broken")
    with pytest.raises(DataError, match=r"broken\.parquet: cannot be read"):
        Profiles.read(tmp_path / "broken.parquet")
    (tmp_path / "profiles.txt").write_text("x")
    with pytest.raises(DataError, match=r"\.csv, \.csv\.gz or \.parquet"):
        Profiles.read(tmp_path / "profiles.txt")
    (tmp_path / "level5.gctx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"read_signatures\(path\).profiles.write"):
        Profiles.read(tmp_path / "level5.gctx")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Metadata_Well,a,b\nA01,1,2,\nA02,3,4,\n", r"more cells than the 3 columns.*end of the lines"),
        ("Metadata_Well,a,a\nA01,1,2\n", r"columns \['a'\] appear more than once"),
        (",Metadata_Well,a\n0,A01,2\n1,A02,4\n", r"'Unnamed: 0'\] have no name: row numbers.*index=False"),
    ],
)
def test_columns_that_would_shift_or_count_as_features_are_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "profiles.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        Profiles.read(tmp_path / "profiles.csv")


def test_numbers_of_images_and_objects_are_no_features(tmp_path: Path) -> None:
    (tmp_path / "nuclei.csv").write_text(
        "ImageNumber,ObjectNumber,Metadata_Well,Area\n1,1,A01,2\n1,2,A01,3\n"
    )
    profiles = Profiles.read(tmp_path / "nuclei.csv")
    assert profiles.features == ["Area"]
    assert profiles.column("Metadata_ObjectNumber").tolist() == ["1", "2"]
    well = aggregate(profiles, ["Metadata_Well"])
    assert list(well.metadata.columns) == ["Metadata_Well", "Metadata_Count"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_nothing_and_blanks_are_read_alike_from_csv_and_parquet(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"Metadata_moa": ["a", " a ", "NA", "nan", None, "NaN "], "x": np.arange(6.0)})
    frame.to_csv(tmp_path / name, index=False) if name == "t.csv" else frame.to_parquet(tmp_path / name)
    assert Profiles.read(tmp_path / name).column("Metadata_moa").tolist() == ["a", "a", "", "", "", ""]


def test_places_are_no_features_and_are_named() -> None:
    places = {
        "Plate": 1, "well": "A01", "Row": 2, "Column Number": 3, "Nuclei_Location_Center_X": 1.5,
        "Location_Center_Y": 2.5, "Nuclei_AreaShape_Center_Y": 1.0,
        "Cells_AreaShape_BoundingBoxMaximum_X": 4, "Cells_Number_Object_Number": 1,
    }  # fmt: skip
    features = [
        "Nuclei_AreaShape_Area",
        "Nuclei_AreaShape_BoundingBoxArea",
        "Cells_Location_MaxIntensity_X_DNA",
        "WELLS",
    ]
    frame = pd.DataFrame(places | dict.fromkeys(features, 1.0), index=[0])
    profiles = Profiles(frame.assign(Metadata_Compound="a"))
    assert profiles.features == features
    assert profiles.set_aside == tuple(places)
    assert profiles.column("Metadata_Plate").tolist() == ["1"]
    assert Profiles.concat([profiles]).set_aside == tuple(places)
    assert "Metadata_Nuclei_Location_Center_X" not in aggregate(profiles, ["Metadata_Compound"]).frame


def test_csv_keeps_every_bit_of_a_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 5)) * 10 ** rng.uniform(-8, 8, size=(200, 5))
    profiles = Profiles(pd.DataFrame(values, columns=list("abcde")).assign(Metadata_Well="A01"))
    profiles.write(tmp_path / "profiles.csv")
    np.testing.assert_array_equal(Profiles.read(tmp_path / "profiles.csv").values, values)


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_table_with_other_separators_says_so_in_a_line(tmp_path: Path, mark: str, name: str) -> None:
    path = tmp_path / "t.csv"
    header = ["Metadata_Well", *(f"Cells_F{i}" for i in range(300))]
    path.write_text("\n".join([mark.join(header), mark.join(["A01", *["1,5"] * 300])]))
    for read in (Profiles.read, read_csv):
        with pytest.raises(
            DataError, match=rf"t\.csv: its cells are separated by {name}; .* Save it"
        ) as refused:
            read(path)
        assert len(str(refused.value)) < 300
    with pytest.raises(DataError, match="is a folder, not a table"):
        Profiles.read(tmp_path)


def test_what_is_no_table_of_profiles_is_refused_at_the_door() -> None:
    frame = pd.DataFrame({"Metadata_Gene": ["A", "B"], "f": [1.0, 2.0]})
    hint = r"not Profiles\. Read a file with image2reg\.tables\.Profiles\.read\(path\)"
    for call, name, kind in (
        (lambda: i2r.link("ta.parquet", Profiles(frame)), "source", "str"),  # type: ignore[arg-type]
        (lambda: i2r.link(Profiles(frame), frame), "target", "DataFrame"),  # type: ignore[arg-type]
        (lambda: i2r.retrieve(frame, label="Metadata_moa"), "profiles", "DataFrame"),  # type: ignore[arg-type]
        (lambda: i2r.retrieve({"real": "a.csv"}, label="x"), "real", "str"),  # type: ignore[dict-item]
    ):
        with pytest.raises(DataError, match=f"^{name} is a {kind}, {hint}"):
            call()
