"""Images find the labels that are theirs, wherever both lie, and never another's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile

from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image, write_plate
from image2reg.nuclei.pairs import labelled_fields, unpaired_labels


def put(*paths) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.ones((8, 8), np.uint16))


def pairs(images, labels, below) -> dict[str, str]:
    """Names of fields to where their labels lie."""
    return {
        field.name: field.label_path.relative_to(below).as_posix()
        for field in labelled_fields(images, labels)
    }


def test_files_of_one_name_are_paired_within_their_subfolder(tmp_path) -> None:
    for plate in ("p1", "p2"):
        put(tmp_path / "images" / plate / "A01.tif", tmp_path / "labels" / plate / "A01_mask.tif")
    expected = {"p1/A01.tif": "labels/p1/A01_mask.tif", "p2/A01.tif": "labels/p2/A01_mask.tif"}
    assert pairs(tmp_path / "images", tmp_path / "labels", tmp_path) == expected
    rows = {"path": [f"images/{plate}/A01.tif" for plate in ("p1", "p2")], "role": "input", "channel": "DNA"}
    pd.DataFrame(rows).assign(Metadata_Plate=["p1", "p2"]).to_csv(tmp_path / "plate.csv", index=False)
    found = labelled_fields(tmp_path / "plate.csv", tmp_path / "labels")
    assert [field.label_path.parent.name for field in found] == ["p1", "p2"]


def test_flat_labels_of_nested_images_are_found_by_name(tmp_path) -> None:
    put(
        tmp_path / "images" / "p1" / "A01.tif",
        tmp_path / "labels" / "A01.tif",
        tmp_path / "labels" / "A02.tif",
    )
    assert pairs(tmp_path / "images", tmp_path / "labels", tmp_path) == {"p1/A01.tif": "labels/A01.tif"}


def test_labels_serve_one_image_only(tmp_path) -> None:
    put(*(tmp_path / "images" / plate / "A01.tif" for plate in ("p1", "p2")), tmp_path / "labels" / "A01.tif")
    with pytest.raises(
        DataError, match=r"labels/A01\.tif: would be the labels of .*p1/A01\.tif and .*p2/A01\.tif"
    ):
        labelled_fields(tmp_path / "images", tmp_path / "labels")


def test_two_label_files_that_fit_alike_are_refused(tmp_path) -> None:
    put(tmp_path / "images" / "A01.tif", *(tmp_path / "labels" / plate / "A01.tif" for plate in ("p1", "p2")))
    with pytest.raises(DataError, match=r"A01\.tif: 2 label files have its name"):
        labelled_fields(tmp_path / "images", tmp_path / "labels")


@pytest.mark.parametrize("place", [".", "masks"])
def test_labels_among_the_images_are_no_images(tmp_path, place) -> None:
    mark = "_mask" if place == "." else ""
    put(*(tmp_path / f"{well}.tif" for well in ("A01", "A02")))
    put(*(tmp_path / place / f"{well}{mark}.tif" for well in ("A01", "A02")))
    expected = {f"{well}.tif": (tmp_path / place / f"{well}{mark}.tif") for well in ("A01", "A02")}
    found = {f.name: f.label_path for f in labelled_fields(tmp_path, tmp_path / place)}
    assert found == expected


def test_an_image_is_not_its_own_labels(tmp_path) -> None:
    put(tmp_path / "A01.tif")
    with pytest.raises(DataError, match=r"A01\.tif: no labels of this name among 1 files"):
        labelled_fields(tmp_path, tmp_path)


def test_a_manifest_without_masks_asks_for_labels(tmp_path) -> None:
    put(tmp_path / "A01.tif")
    rows = {"path": ["A01.tif"], "role": "input", "channel": "DNA", "Metadata_Well": "A01"}
    pd.DataFrame(rows).to_csv(tmp_path / "plate.csv", index=False)
    with pytest.raises(ConfigurationError, match="no row of role mask, and no labels are given"):
        labelled_fields(tmp_path / "plate.csv")


def test_files_of_one_channel_each_are_one_field_with_the_labels_of_any_of_them(tmp_path) -> None:
    for value, channel in enumerate(("w1", "w2", "w3")):
        put(*(tmp_path / "images" / plate / f"x_A01_s1_{channel}.tif" for plate in ("p1", "p2")))
        tifffile.imwrite(
            tmp_path / "images" / "p1" / f"x_A01_s1_{channel}.tif", np.full((8, 8), value, np.uint16)
        )
    put(
        tmp_path / "images" / "p1" / "x_A01_s1_w1_thumb.tif", tmp_path / "images" / "p1" / "._x_A01_s1_w1.tif"
    )
    put(*(tmp_path / "labels" / plate / "x_A01_s1_w1.tif" for plate in ("p1", "p2")))
    first, second = labelled_fields(tmp_path / "images", tmp_path / "labels", channels=["w3", "w1"])
    assert (first.name, first.metadata["Metadata_Well"], first.metadata["Metadata_Plate"]) == (
        "p1/x_A01_s1",
        "A01",
        "p1",
    )
    assert second.label_path == tmp_path / "labels" / "p2" / "x_A01_s1_w1.tif"
    image = first.image()
    assert (image.channels, np.asarray(image.data)[:, 0, 0].tolist()) == (("w3", "w1"), [2, 0])
    (tmp_path / "images" / "p2" / "x_A01_s1_w3.tif").unlink()
    with pytest.raises(
        DataError, match=r"field p2/x_A01_s1 has no image of channel 'w3', only x_A01_s1_w1.tif"
    ):
        labelled_fields(tmp_path / "images", tmp_path / "labels", channels=["w1", "w3"])
    with pytest.raises(
        DataError, match=r"_w2\.tif: no labels of this name.*name the channels as the files do"
    ):
        labelled_fields(tmp_path / "images", tmp_path / "labels")


def test_linked_folders_of_images_are_paired_too(tmp_path) -> None:
    put(tmp_path / "archive" / "A01.tif", tmp_path / "labels" / "p1" / "A01.tif")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "p1").symlink_to(tmp_path / "archive")
    assert pairs(tmp_path / "images", tmp_path / "labels", tmp_path) == {"p1/A01.tif": "labels/p1/A01.tif"}


def test_labels_are_found_as_cellpose_names_them_and_those_without_an_image_are_listed(tmp_path) -> None:
    put(tmp_path / "images" / "A01.tif", *(tmp_path / "labels" / f"A0{n}_cp_masks.tif" for n in (1, 2)))
    fields = labelled_fields(tmp_path / "images", tmp_path / "labels")
    assert [field.label_path.name for field in fields] == ["A01_cp_masks.tif"]
    assert unpaired_labels(fields, tmp_path / "labels") == [tmp_path / "labels" / "A02_cp_masks.tif"]
    put(tmp_path / "labels" / "A01.png")  # an image beside its labels
    assert len(unpaired_labels(fields, tmp_path / "labels")) == 1
    assert unpaired_labels(fields, tmp_path / "labels" / "A01_cp_masks.tif") == []


def test_a_black_and_white_mask_is_not_taken_for_one_nucleus(tmp_path) -> None:
    put(tmp_path / "images" / "A01.tif")
    labels = np.zeros((30, 30), np.uint8)
    labels[2:8, 2:8] = labels[12:18, 2:8] = labels[2:8, 12:18] = 255
    (tmp_path / "labels").mkdir()
    tifffile.imwrite(tmp_path / "labels" / "A01.tif", labels)
    (field,) = labelled_fields(tmp_path / "images", tmp_path / "labels")
    with pytest.raises(
        DataError, match=r"A01\.tif: 3 separate pieces all have the number 255, as in a black"
    ):
        field.labels()
    assert np.array_equal(field.labels(numbered=False), labels)
    labels[2:8, 12:18], labels[25, 25], labels[27, 27] = 0, 255, 255  # one nucleus in two pieces, and specks
    tifffile.imwrite(tmp_path / "labels" / "A01.tif", labels)
    assert np.array_equal(field.labels(), labels)


@pytest.mark.parametrize(
    ("names", "sites"),
    [
        (["control_s1", "drug_s1", "drug_s2"], ["control_s1", "drug_s1", "drug_s2"]),
        (["one_A01", "two_A01"], ["one_A01", "two_A01"]),
        (["x_A01_s1", "x_A01_s2"], ["1", "2"]),
        (["one", "two"], ["one", "two"]),
    ],
)
def test_fields_that_differ_in_a_word_of_their_names_are_told_apart(tmp_path, names, sites) -> None:
    put(*(tmp_path / place / f"{name}.tif" for place in ("images", "labels") for name in names))
    fields = labelled_fields(tmp_path / "images", tmp_path / "labels")
    assert [field.metadata["Metadata_Site"] for field in fields] == sites


def test_fields_of_a_plate_have_the_labels_of_their_own_well(tmp_path) -> None:
    one = Image(np.ones((8, 8), np.uint16), "YX")
    for place, wells in {"images": ["A/01", "B/02"], "labels": ["A/01", "B/02", "C/03"]}.items():
        (tmp_path / place).mkdir()
        for plate in ("p1", "p2"):
            write_plate(tmp_path / place / f"{plate}.zarr", {(well, "0"): one for well in wells})
    found = labelled_fields(tmp_path / "images" / "p1.zarr", tmp_path / "labels" / "p1.zarr")
    assert [field.label_path.relative_to(tmp_path).as_posix() for field in found] == [
        "labels/p1.zarr/A/01/0", "labels/p1.zarr/B/02/0"
    ]  # fmt: skip
    assert [field.metadata["Metadata_Well"] for field in found] == ["A01", "B02"]
    assert found[0].image().shape == found[0].labels().shape == (8, 8)
    assert len(unpaired_labels(found, tmp_path / "labels" / "p1.zarr")) == 1
    found = labelled_fields(tmp_path / "images", tmp_path / "labels")
    assert [field.label_path.relative_to(tmp_path / "labels").as_posix() for field in found] == [
        f"p{plate}.zarr/{field}" for plate in (1, 2) for field in ("A/01/0", "B/02/0")
    ]
    assert [field.metadata["Metadata_Plate"] for field in found] == ["p1", "p1", "p2", "p2"]
    write_plate(tmp_path / "few.zarr", {("B/02", "0"): one})  # as where segmenting the other failed
    with pytest.raises(DataError, match=r"images/p1\.zarr/A/01/0: no labels of this name"):
        labelled_fields(tmp_path / "images" / "p1.zarr", tmp_path / "few.zarr")


def test_a_folder_is_not_paired_with_itself(tmp_path) -> None:
    put(*(tmp_path / plate / "A01.tif" for plate in ("p1", "p2")))
    with pytest.raises(DataError, match=r"p1/A01\.tif: no labels of this name"):
        labelled_fields(tmp_path, tmp_path)
