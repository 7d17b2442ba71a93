"""`image2reg features` and `image2reg crops`, as a user types them"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from image2reg.cli import app
from image2reg.errors import DataError
from image2reg.nuclei.crops import Crops
from image2reg.tables import Profiles, from_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """Two wells of two channels with labels, one of them empty, and a third whose image is no image."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    labels = np.zeros((40, 40), np.uint16)
    labels[5:15, 5:15], labels[22:30, 20:34] = 3, 4
    for well, shown in {"A01": labels, "A02": labels * 0, "A03": labels}.items():
        image = rng.integers(0, 999, (2, 40, 40)).astype(np.uint16)
        for channel, data in zip(("DNA", "GFP"), image, strict=True):
            tifffile.imwrite(tmp_path / "images" / f"{well}_{channel}.tif", data)
        tifffile.imwrite(tmp_path / "labels" / f"{well}_DNA_labels.tif", shown)
    return tmp_path


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_plate_of_two_channels_by_manifest(plate: Path) -> None:
    from_folder(plate / "images", inputs=["DNA", "GFP"]).write(plate / "images" / "plate.csv")
    (plate / "images" / "A03_GFP.tif").write_bytes(b"no image")
    said = json.loads(
        run(
            "features",
            plate / "images" / "plate.csv",
            plate / "labels",
            "--out",
            plate / "f.parquet",
            "--json",
            code=5,
        )
    )
    profiles = Profiles.read(plate / "f.parquet")
    assert (said["nuclei"], said["empty"]) == (2, ["A02"])
    assert said["failures"][0]["source"] == "A03"
    assert (plate / "f.failures.csv").read_text().startswith("source,kind,error\nA03,")
    assert set(profiles.column("Metadata_Well")) == {"A01"}
    assert profiles.column("Metadata_Object").tolist() == ["3", "4"]
    assert "Nuclei_Intensity_MeanIntensity_GFP" in profiles.features


@pytest.mark.parametrize(("command", "out"), [("features", "f.csv"), ("crops", "c.zarr")])
def test_what_failed_is_no_longer_listed_once_it_succeeds(plate: Path, command: str, out: str) -> None:
    words = (command, plate / "images", plate / "labels", "--out", plate / out, "--overwrite")
    words += ("--size", 16) if command == "crops" else ()
    for path in (plate / "images").glob("*_GFP.tif"):
        path.unlink()
    good = (plate / "images" / "A03_DNA.tif").read_bytes()
    (plate / "images" / "A03_DNA.tif").write_bytes(b"no image")
    run(*words, code=5)
    listed = plate / f"{out.partition('.')[0]}.failures.csv"
    assert "A03" in listed.read_text()
    (plate / "images" / "A03_DNA.tif").write_bytes(good)
    run(*words)
    assert not listed.exists()


def test_one_image_and_its_labels(plate: Path) -> None:
    image, labels = plate / "images" / "A01_DNA.tif", plate / "labels" / "A01_DNA_labels.tif"
    run("features", image, labels, "--out", plate / "one.csv", "--channel", "Hoechst", "--voxel-um", "0.5")
    profiles = Profiles.read(plate / "one.csv")
    assert {"Nuclei_AreaShape_Area_um2", "Nuclei_Intensity_MeanIntensity_Hoechst"} <= set(profiles.features)
    said = run("crops", image, labels, "--out", plate / "one.zarr", "--size", 16)
    assert "2 nuclei of 1 field:" in said
    assert Crops.read(plate / "one.zarr").column("Metadata_Well").tolist() == ["A01", "A01"]


def test_a_stack_without_a_distance_of_planes_is_told_to_be_measured_as_cubes(tmp_path: Path) -> None:
    labels = np.zeros((4, 20, 20), np.uint16)
    labels[1:3, 5:15, 5:15] = 1
    tifffile.imwrite(tmp_path / "labels.tif", labels, metadata={"axes": "ZYX"}, ome=True)
    for name, size in {"unknown": {}, "known": {"PhysicalSizeZ": 2.0}}.items():
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", labels * 9, ome=True, metadata={
            "axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, **size})  # fmt: skip
    words = ("--channel", "DNA", "--voxel-um", 0.5, "--out")
    said = run("features", tmp_path / "unknown.ome.tif", tmp_path / "labels.tif", *words, tmp_path / "u.csv")
    assert (
        "1 stack measured as if voxels were cubes: the distance of planes or the pixel size is not known"
        in said
    )
    said = run("features", tmp_path / "known.ome.tif", tmp_path / "labels.tif", *words, tmp_path / "k.csv")
    assert "cubes" not in said
    volume = Profiles.read(tmp_path / "k.csv").frame.Nuclei_AreaShape_Volume_um3
    assert volume.tolist() == [100.0]


def test_nuclei_near_the_edge_are_left_out_of_crops_unless_asked_for(plate: Path) -> None:
    image, labels = plate / "images" / "A01_DNA.tif", plate / "labels" / "A01_DNA_labels.tif"
    words = ("crops", image, labels, "--size")
    with pytest.raises(DataError, match=r"the crops of 64 px of all 2 nuclei would reach .*--keep-border"):
        run(*words, 64, "--out", plate / "none.zarr")
    assert "cut by" not in run(*words, 64, "--keep-border", "--out", plate / "all.zarr")
    said = run(*words, 12, "--out", plate / "small.zarr")
    assert "1 nucleus cut by the edge of the crop; a larger --size shows them whole" in said
    assert len(Crops.read(plate / "all.zarr")) == 2


def test_channels_are_named_in_order_and_not_as_a_screen_maps_them(plate: Path) -> None:
    words = ("--channel", "DNA=channel_0", "--out", plate / "x.csv")
    with pytest.raises(ValueError, match=r"named in the order .*Write --channel DNA\."):
        run("features", plate / "images", plate / "labels", *words)


def test_images_without_labels_are_named(plate: Path) -> None:
    (plate / "labels" / "A01_DNA_labels.tif").rename(plate / "labels" / "other.tif")
    with pytest.raises(ValueError, match=r"A01_DNA\.tif: no labels of this name among 3 files"):
        run("features", plate / "images", plate / "labels", "--out", plate / "x.parquet")
    with pytest.raises(ValueError, match="no labels given"):
        run("features", plate / "images", "--out", plate / "x.parquet")


def test_a_table_does_not_replace_what_it_is_made_of(plate: Path) -> None:
    manifest = plate / "images" / "plate.csv"
    from_folder(plate / "images", inputs=["DNA", "GFP"]).write(manifest)
    with pytest.raises(ValueError, match=r"is the input .*plate\.csv or holds it"):
        run("features", manifest, plate / "labels", "--out", manifest, "--overwrite")
    for out in (plate / "labels", plate):
        with pytest.raises(ValueError, match="or holds it, and would replace it"):
            run("crops", manifest, plate / "labels", "--out", out, "--overwrite")


@pytest.mark.parametrize(
    ("words", "work"),
    [
        (("features", "{}/images"), "image2reg.nuclei.pairs.labelled_fields"),
        (("embed", "{}/crops.zarr", "--model", "{}/model"), "image2reg.embedding.encoder.load_encoder"),
        (("genes", "--network", "{}/network"), "image2reg.genes.network.GeneNetwork.read"),
    ],
)
def test_a_table_that_cannot_be_written_is_refused_before_the_work(
    plate: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], work: str
) -> None:
    monkeypatch.setattr(work, lambda *_, **__: pytest.fail("the work began"))
    with pytest.raises(DataError, match=r"table\.csv\.gz: profiles are written as \.csv or \.parquet"):
        run(*(word.format(plate) for word in words), "--out", plate / "table.csv.gz")


def test_crops_of_an_odd_size_are_refused_before_any_field_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("image2reg.nuclei.pairs.labelled_fields", None)
    words = ["crops", str(tmp_path), str(tmp_path), "--size", "49", "--out", str(tmp_path.parent / "c.zarr")]
    result = CliRunner().invoke(app, words)
    assert str(result.exception) == "a crop of 49 px; the edge length is even and 2 or more. Take 50."
