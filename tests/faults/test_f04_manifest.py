"""F04: hostile, damaged or huge manifests are refused, or reported row by row."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import DataError
from image2reg.images import Image
from image2reg.tables import Manifest, from_folder, read_csv, split_by_group, write_csv


def table(*paths: str, **columns: object) -> pd.DataFrame:
    sites = [str(n) for n in range(len(paths))]
    return pd.DataFrame({"path": paths, "role": "input", "channel": "bf", "Metadata_Site": sites}).assign(
        **columns
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.tif", "climbs out"),
        ("a/../../secret.tif", "climbs out"),
        ("a/..", "climbs out"),
        ("/etc/passwd", "is absolute"),
        ("C:/images/a.tif", "is absolute"),
        ("c:a.tif", "is absolute"),
        ("\\\\server\\share\\a.tif", "network"),
        ("//server/share/a.tif", "network"),
        ("a\\b.tif", "write '/'"),
        ("http://host/a.tif", "web address"),
        ("file:///etc/passwd", "web address"),
        ("", "is empty"),
        (" a.tif", "space"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "parquet", "frame"])
def test_unsafe_paths_are_refused_with_row_and_reason(
    tmp_path: Path, path: str, reason: str, form: str
) -> None:
    frame = table("fine.tif", path)
    if form == "csv":
        frame.to_csv(tmp_path / "m.csv", index=False)
    elif form == "parquet":
        frame.to_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match="1 of 2 paths refused: row 2 ") as refused:
        Manifest(frame, tmp_path) if form == "frame" else Manifest.read(tmp_path / f"m.{form}")
    assert reason in str(refused.value)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("form", ["csv", "frame"])
def test_nul_is_refused(tmp_path: Path, form: str) -> None:
    if form == "csv":
        (tmp_path / "m.csv").write_bytes(b"path,role,channel\na.tif\x00.png,input,bf\n")
        with pytest.raises(DataError, match="line 2 holds a NUL byte"):
            Manifest.read(tmp_path / "m.csv")
    else:
        with pytest.raises(DataError, match="control character"):
            Manifest(table("a.tif\0.png"), tmp_path)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "real").mkdir(parents=True)
    (outside / "a.tif").write_bytes(b"x")
    (root / "real" / "b.tif").write_bytes(b"x")
    (root / "file.tif").symlink_to(outside / "a.tif")
    (root / "folder").symlink_to(outside)
    (root / "sibling").symlink_to(tmp_path / "root-2")
    (root / "inner").symlink_to(root / "real")
    for path in ("file.tif", "folder/a.tif", "folder/missing.tif", "sibling/a.tif"):
        with pytest.raises(DataError, match="is a link out of the folder"):
            Manifest(table(path), root)
    assert Manifest(table("inner/b.tif"), root).problems().empty


def test_links_are_followed_in_a_folder_that_was_named_and_in_no_table(tmp_path: Path) -> None:
    """Links into an archive are usual in a laboratory; those of a manifest may be somebody else's choice."""
    archive, root = tmp_path / "archive", tmp_path / "root"
    (archive / "deep").mkdir(parents=True)
    root.mkdir()
    for name in ("A01_BF.tif", "deep/B01_BF.tif", "C01_BF.zarr"):
        Image(np.ones((4, 4), np.uint8), "YX").write(archive / name)
    for name in ("A01_BF.tif", "deep", "C01_BF.zarr"):
        (root / name).symlink_to(archive / name)
    manifest = from_folder(root, inputs="BF")
    assert manifest.frame["path"].tolist() == ["A01_BF.tif", "C01_BF.zarr", "deep/B01_BF.tif"]
    assert manifest.replace(manifest.frame).problems(hashes=True).empty
    with pytest.raises(
        DataError, match=r"3 of 3 rows name links out of .* Give the commands the folder itself"
    ):
        manifest.write(root / "m.csv")
    with pytest.raises(DataError, match="is a link out of the folder"):
        Manifest(manifest.frame, root)


def test_a_linked_root_is_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.tif").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Manifest(table("a.tif"), tmp_path / "link").problems().empty


def test_rows_with_problems_are_reported_one_by_one(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        (tmp_path / name).write_bytes(name.encode())
    good = hashlib.sha256(b"a.tif").hexdigest()
    frame = table(
        "a.tif", "b.tif", "c.tif", "gone.tif", "a.tif", "c.tif",
        sha256=[good.upper(), good, "abc", "", "", ""],
        Metadata_Site=["1", "2", "3", "4", "1", "6"],
    )  # fmt: skip
    manifest = Manifest(frame, tmp_path)
    found = manifest.problems(hashes=True)
    said = {row: " | ".join(rows["problem"]) for row, rows in found.groupby("row")}
    assert set(said) == {2, 3, 4, 5, 6}
    assert "the file changed: sha256 is" in said[2]
    assert "'abc' is not 64 hexadecimal digits" in said[3]
    assert "no such file" in said[4]
    assert "same field, role and channel as row 1" in said[5]
    assert "same image as row 3" in said[6]
    assert found["path"].tolist()[0] == "b.tif"
    assert "the file changed" not in str(manifest.problems().to_dict())
    with pytest.raises(
        DataError, match=r"(?s)6 problems in 6 rows:.*row 2 \(b.tif\): the file changed.*and 1 more"
    ):
        manifest.refuse_problems(hashes=True)


def test_fields_without_input_name_or_one_split_are_reported(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "path": ["a.tif", "b.tif", "c.tif", "d.tif"], "role": ["target", "input", "target", "input"],
            "channel": ["x", "x", "y", "x"], "Metadata_Well": ["A01", "A02", "A02", ""],
            "split": ["train", "train", "test", "train"],
        }
    )  # fmt: skip
    said = Manifest(frame, tmp_path).problems(files=False).set_index("row")["problem"].to_dict()
    assert said == {
        1: "its field has no input image",
        2: "its field is in several splits",
        4: "Metadata_Plate, Metadata_Well, Metadata_Site and Metadata_Time are all empty, so its field is unknown",
    }
    with pytest.raises(DataError, match="3 problems in 4 rows"):
        Manifest(frame, tmp_path).fields()


def test_hashes_are_filled_and_checked(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"one")
    (tmp_path / "b.zarr").mkdir()
    manifest = Manifest(table("a.tif", "b.zarr", "gone.tif"), tmp_path).with_hashes()
    assert manifest.frame["sha256"].tolist() == [hashlib.sha256(b"one").hexdigest(), "", ""]
    assert manifest.problems(files=False, hashes=True).empty
    (tmp_path / "a.tif").write_bytes(b"two")
    assert manifest.problems(files=False, hashes=True)["row"].tolist() == [1]
    folder = manifest.replace(manifest.frame.assign(sha256="0" * 64).iloc[1:2])
    assert "a folder has no sha256" in folder.problems(hashes=True)["problem"][0]


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\uff1d1", "'=1", "''+x", '="a"', "-"]


def test_formula_cells_are_escaped_in_every_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"=name": FORMULAS, "plain": ["-1.5", "+2e3", "a=b", "x", "A-1", "'quoted'", "", "0", "."]}
    )
    write_csv(frame, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as handle:
        cells = list(csv.reader(handle))
    assert cells[0] == ["'=name", "plain"]
    assert all(row[0].startswith("'") for row in cells[1:])
    assert [row[1] for row in cells[1:]] == frame["plain"].tolist()
    pd.testing.assert_frame_equal(read_csv(tmp_path / "t.csv"), frame)


def test_formula_cells_survive_a_manifest(tmp_path: Path) -> None:
    manifest = Manifest(table("=x.tif", "-y.tif", Metadata_Perturbation=["=HYPERLINK(1)", "@a"]), tmp_path)
    manifest.write(tmp_path / "m.csv")
    assert ",'=HYPERLINK(1)," in (tmp_path / "m.csv").read_text()
    assert "\n'=x.tif," in (tmp_path / "m.csv").read_text()
    pd.testing.assert_frame_equal(Manifest.read(tmp_path / "m.csv").frame, manifest.frame)


def assert_rows_survive(tmp_path: Path, n_rows: int) -> None:
    fields = np.arange(n_rows) // 2
    frame = pd.DataFrame(
        {
            "path": [
                f"P{20 * k // n_rows}/s{k}_{c}.tif"
                for k, c in zip(fields, np.arange(n_rows) % 2, strict=True)
            ],
            "role": np.where(np.arange(n_rows) % 2, "target", "input"),
            "channel": np.where(np.arange(n_rows) % 2, "dna", "bf"),
            "Metadata_Plate": [f"P{20 * k // n_rows}" for k in fields],
            "Metadata_Site": fields.astype(str),
        }
    )
    Manifest(frame, tmp_path).write(tmp_path / "m.csv")
    manifest = Manifest.read(tmp_path / "m.csv")
    assert len(manifest) == n_rows
    assert manifest.n_fields == n_rows // 2
    assert len(manifest.problems()) == n_rows  # not one of the files is there
    split = split_by_group(manifest, group="plate")
    assert (split.frame.groupby("Metadata_Plate")["split"].nunique() == 1).all()


def test_ten_thousand_rows(tmp_path: Path) -> None:
    assert_rows_survive(tmp_path, 10_000)


@pytest.mark.slow
def test_a_million_rows(tmp_path: Path) -> None:
    assert_rows_survive(tmp_path, 1_000_000)
