"""Plates, queries and units: wells, grids, controls, files; nothing of a query is evaluated."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image, write
from image2reg.images.plates import write_plate
from image2reg.screen import parse_well, select_rows
from image2reg.screen.planned_fields import planned_fields, plate_names
from image2reg.screen.plates import control_columns, plate_grid, plate_shape, well_name
from image2reg.screen.sources import open_screen, with_layout
from image2reg.tables.manifest import Manifest

FRAME = pd.DataFrame(
    {
        "Metadata_Plate": ["1", "1", "1", "2", "2"],
        "Metadata_Drug": ["DMSO", "A", "it's", "DMSO", "B"],
        "Metadata_Dose_uM": ["0", "1", "10", "", "3.0"],
    }
)


@given(st.integers(0, 31), st.integers(0, 47))
def test_well_names_go_there_and_back(row, column):
    assert parse_well(well_name(row, column)) == (row, column)


@pytest.mark.parametrize("name", ["", "A", "7", "A0", "A49", "AG1", "A1B", "A01; DROP"])
def test_a_well_that_is_none_is_refused(name):
    with pytest.raises(DataError, match="write row and column, A01 to P24"):
        parse_well(name)


def test_grids():
    assert plate_shape(["A01", "H12"]) == (8, 12)
    assert plate_shape(["A01", "E03"]) == (8, 12)  # a part of a 96-well plate, not a plate of 48
    assert plate_shape(["A01", "AF48"]) == (32, 48)
    assert plate_shape(["A01", "I01"]) == (16, 24)
    grid = plate_grid(["A01", "B3"], np.array([1.0, 2.0]))
    assert grid.shape == (8, 12)
    assert grid[1, 2] == 2.0
    assert np.isnan(grid[0, 1])


def test_a_well_twice_is_refused():
    with pytest.raises(DataError, match=r"wells \['A01'\] occur more than once on one plate"):
        plate_grid(["A01", "A1", "B02"], np.zeros(3))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('Metadata_Drug == "DMSO"', [1, 0, 0, 1, 0]),
        ("Metadata_Drug != 'DMSO'", [0, 1, 1, 0, 1]),
        ("Drug != 'DMSO' and Dose_uM == 3", [0, 0, 0, 0, 1]),
        ("Metadata_Drug == \"it's\"", [0, 0, 1, 0, 0]),
        ("Metadata_Dose_uM == 3", [0, 0, 0, 0, 1]),
        ("Metadata_Dose_uM >= 1 and Metadata_Dose_uM < 10", [0, 1, 0, 0, 1]),
        ("not Metadata_Dose_uM < 3", [0, 0, 1, 1, 1]),
        ('Metadata_Drug in ["A", "B"]', [0, 1, 0, 0, 1]),
        ('Metadata_Drug not in ["A", "B"]', [1, 0, 1, 1, 0]),
        ("Metadata_Drug == 'A' or Metadata_Plate == 2 and Metadata_Drug == 'DMSO'", [0, 1, 0, 1, 0]),
        ("(Metadata_Drug == 'A' or Metadata_Plate == \"2\") and Metadata_Drug == 'DMSO'", [0, 0, 0, 1, 0]),
    ],
)  # fmt: skip
def test_queries(query, expected):
    assert select_rows(FRAME, query).tolist() == [bool(e) for e in expected]


@pytest.mark.parametrize(
    "query",
    ["", "Metadata_Drug", "Metadata_Drug = 'A'", "Metadata_Drug == A", "Metadata_Drug == 'A", "(Metadata_Drug == 'A'",
     "Metadata_Drug == 'A' extra", "Metadata_Drug in 'A'", "Metadata_Drug in ['A'", "Metadata_Drug < 'A'",
     "__import__('os').system('x')", "Metadata_Drug == 'A' and", "((((" * 20 + "Metadata_Drug == 'A'", "x" * 3000],
)  # fmt: skip
def test_a_query_that_is_none_is_explained(query):
    with pytest.raises((ConfigurationError, DataError), match=r"query"):
        select_rows(FRAME, query)


@given(st.text(max_size=40))
def test_any_text_is_explained(text):
    with pytest.raises((ConfigurationError, DataError), match="query"):
        select_rows(FRAME, text)


def test_a_query_of_what_is_not_there():
    with pytest.raises(DataError, match="no column 'Metadata_Compound'; there are"):
        select_rows(FRAME, "Metadata_Compound == 'A'")
    for query in ("Control type == 'neg'", "Metadata_Control type == 'neg'"):
        with pytest.raises(DataError, match="cannot name 'Metadata_Control type': rename that column"):
            select_rows(FRAME.assign(**{"Metadata_Control type": "neg"}), query)
    with pytest.raises(DataError, match="holds 'DMSO', which is no number"):
        select_rows(FRAME, "Metadata_Drug > 3")


def test_controls_and_what_is_wrong_with_them():
    kinds = control_columns(FRAME, "Metadata_Drug == 'DMSO'", "Metadata_Drug in ['A', 'B']")
    assert kinds.tolist() == ["negative", "positive", "", "negative", "positive"]
    message = (
        r"plates have no well with Metadata_Drug == 'A': \['2'\]; Metadata_Drug there holds \['DMSO', 'B'\]"
    )
    with pytest.raises(DataError, match=message):
        control_columns(FRAME, "Metadata_Drug == 'A'")
    with pytest.raises(DataError, match="2 rows are negative and positive control at once"):
        control_columns(FRAME, "Metadata_Drug == 'DMSO'", "Metadata_Drug == 'DMSO'")
    with pytest.raises(DataError, match=r"no well with Metadata_Drug == 'C'.* there holds \['DMSO', 'A', "):
        control_columns(FRAME, "Metadata_Drug == 'DMSO'", "Metadata_Drug == 'C'")


def test_a_plate_has_one_name_given_by_itself_or_in_a_folder_of_plates(tmp_path):
    image = Image(np.ones((1, 8, 8), np.uint16), "CYX", channels=("Hoechst",))
    write_plate(tmp_path / "P7.ome.zarr", {("B/03", "0"): image})
    for data in (tmp_path, tmp_path / "P7.ome.zarr"):
        opened = open_screen(data, channels={"DNA": "Hoechst"})
        fields = planned_fields(opened, "DNA")
        assert plate_names(opened).tolist() == ["P7"]
        assert fields.unit(0)["images"]["DNA"]["path"].endswith("B/03/0")
    write_plate(tmp_path / "again" / "P7.ome.zarr", {("B/03", "0"): image})
    assert plate_names(open_screen(tmp_path, channels={"DNA": "Hoechst"})).tolist() == ["P7", "again/P7"]


@pytest.mark.parametrize("name", ["A01.tif", "A01.ome.zarr"])
def test_a_unit_says_what_its_image_looked_like_unless_its_hash_is_known(tmp_path, name):
    def seen(value, sha256=""):
        write(Image(np.full((1, 8, 8), value, np.uint16), "CYX", channels=("DNA",)), path, overwrite=True)
        row = {"path": name, "role": "input", "channel": "DNA", "Metadata_Well": "A01", "sha256": sha256}
        (unit,) = planned_fields(Manifest(pd.DataFrame([row]), tmp_path), "DNA").units()
        return unit.get("seen")

    path = tmp_path / name
    first = seen(1)
    assert first == {k: [v.st_size, v.st_mtime_ns] for k, v in ((k, (tmp_path / k).stat()) for k in first)}
    assert all(k.startswith(name) for k in first)
    time.sleep(0.02)
    assert seen(2) != first != {}
    assert seen(2, sha256="0" * 64) is None


def test_data_that_are_not_there_are_no_manifest(tmp_path):
    with pytest.raises(DataError, match=r"--data .*images: no such file or folder"):
        open_screen(tmp_path / "images", channels=["DNA"])


WELLS = pd.DataFrame({"Metadata_Plate": ["p1", "p1"], "Metadata_Well": ["A1", "A02"]})


@pytest.mark.parametrize(
    "text",
    [
        "Well,Perturbation,Control\nA01,a,negative\nA02,b c,\n,,\n,,\n",
        "\ufeff Well , Perturbation,Control \r\na-1, a,negative \r\nA 2,b c , \r\n",
    ],
)
def test_a_layout_is_read_as_spreadsheets_leave_it(tmp_path, text):
    (tmp_path / "layout.csv").write_bytes(text.encode())
    joined = with_layout(WELLS, tmp_path / "layout.csv")
    assert joined["Metadata_Perturbation"].tolist() == ["a", "b c"]
    assert joined["Metadata_Control"].tolist() == ["negative", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Well,Control\nA01,x\n,y\n", "layout.csv: well '' is none"),
        (
            "Place,Control\nA01,x\n",
            r"layout.csv: no column Well \(or Metadata_Well\); there are \['Metadata_Place'",
        ),
        ("Well,Drug, Drug\nA01,x,y\n", r"columns \['Metadata_Drug'\] appear more than once"),
        (
            "Plate,Well\nPlate 1,A01\nPlate 1,A02\n",
            r"no row for 2 wells of the data, such as A01 \(plates of .*layout.csv: \['Plate 1'\]; plates of the "
            r"data: \['p1'\]\)",
        ),
    ],
)
def test_a_layout_that_does_not_fit_is_explained(tmp_path, text, message):
    (tmp_path / "layout.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        with_layout(WELLS, tmp_path / "layout.csv")


def test_small_letters_in_the_head_of_a_layout_are_plate_and_well(tmp_path):
    two = pd.concat([WELLS.assign(Metadata_Plate=plate) for plate in ("p1", "p2")])
    rows = [
        f"{plate},{well},drug of {plate}"
        for plate, well in two[["Metadata_Plate", "Metadata_Well"]].to_numpy()
    ]
    (tmp_path / "layout.csv").write_text("\n".join(["plate,WELL,compound", *rows]))
    frame = with_layout(two, tmp_path / "layout.csv")
    assert frame["Metadata_compound"].tolist() == ["drug of " + plate for plate in frame["Metadata_Plate"]]


def test_a_layout_knows_a_plate_by_its_folder_and_its_wells_without_images_are_noted(tmp_path):
    (tmp_path / "plate7").mkdir()
    for well in ("A01", "A02"):
        write(Image(np.zeros((8, 9), np.uint8), "YX"), tmp_path / "plate7" / f"{well}_DNA.tif")
    layout = pd.DataFrame({"Plate": "plate7", "Well": ["A01", "A02", "B01"], "Perturbation": "a"})
    layout.to_csv(tmp_path / "layout.csv", index=False)
    opened = open_screen(tmp_path / "plate7", channels=["DNA"], layout=tmp_path / "layout.csv")
    assert opened.frame["Metadata_Perturbation"].tolist() == ["a", "a"]
    assert opened.notes == ("layout.csv: 1 well without an image, such as B01",)


def predicted(source):
    about = {"model": "m 1.0", "predicted_from": source}
    return Image(np.zeros((1, 8, 9), np.uint8), "CYX", channels=("DNA",), annotations=about)


@pytest.mark.parametrize(
    ("plates", "layout", "found"),
    [
        ({"pred": "plate7"}, ["plate7"], {"plate7": "plate7"}),
        ({"pred": "bf"}, ["pred"], {"pred": "pred"}),  # the name that was given on purpose
        ({"pred": "plate7", "plate8": ""}, ["plate7", "plate8"], {"plate7": "plate7", "plate8": "plate8"}),
        ({"pred": "plate7", "plate7": ""}, ["plate7"], {"pred": "plate7", "plate7": "plate7"}),
        ({"a": "plate7", "b": "plate7"}, ["plate7"], {"a": "plate7", "b": "plate7"}),
    ],
)
def test_a_predicted_plate_is_known_by_the_plate_it_was_predicted_from(tmp_path, plates, layout, found):
    for form in ("folder", "ome-zarr"):
        root = tmp_path / form
        for plate, source in plates.items():
            if form == "folder":
                predicted(source).write(root / plate / "A01_s1_DNA.ome.tif")
                (root / plate / "A01_s0_DNA.ome.tif").write_bytes(b"II*")  # a broken one decides nothing
            else:
                write_plate(root / f"{plate}.ome.zarr", {("A/1", "0"): predicted(source)})
        text = "".join(f"{plate},A1,drug of {plate}\n" for plate in layout)
        (tmp_path / "layout.csv").write_text(f"Plate,Well,Perturbation\n{text}")
        opened = open_screen(root, channels=["DNA"], layout=tmp_path / "layout.csv")
        seen = dict(zip(opened.frame["Metadata_Plate"], opened.frame["Metadata_Perturbation"], strict=True))
        assert seen == {plate: f"drug of {of}" for plate, of in found.items()}
        assert len(opened.notes) == sum(source not in ("", "bf") for source in plates.values())
        if len(plates) == 1:  # the plate itself instead of a folder that holds it
            (alone,) = root.iterdir()
            opened = open_screen(alone, channels=["DNA"], layout=tmp_path / "layout.csv")
            assert set(opened.frame["Metadata_Plate"]) == set(found)


def test_a_folder_of_links_may_have_a_layout(tmp_path):
    (tmp_path / "plate7").mkdir()
    write(Image(np.zeros((8, 9), np.uint8), "YX"), tmp_path / "A01_DNA.tif")
    (tmp_path / "plate7" / "A01_DNA.tif").symlink_to(tmp_path / "A01_DNA.tif")
    (tmp_path / "layout.csv").write_text("Well,Perturbation\nA01,a\n")
    opened = open_screen(tmp_path / "plate7", channels=["DNA"], layout=tmp_path / "layout.csv")
    assert opened.frame["Metadata_Perturbation"].tolist() == ["a"]
