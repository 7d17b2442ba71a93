"""Crops: what is cut, what the disk gives back, what is refused"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image
from image2reg.nuclei.crops import OTHER, OWN, Crops, cut_crops, write_crops

if TYPE_CHECKING:
    from pathlib import Path


def field() -> tuple[Image, np.ndarray]:
    labels = np.zeros((40, 50), np.int32)
    labels[2:8, 3:9], labels[20:26, 20:26], labels[20:26, 27:33] = 5, 7, 8
    data = np.arange(2 * 40 * 50, dtype=np.uint16).reshape(2, 40, 50)
    return Image(data, "CYX", (None, 0.5, 0.5), ("DNA", "GFP")), labels


def cut() -> Crops:
    image, labels = field()
    found = cut_crops(image, labels, size_px=16, metadata={"Metadata_Well": "A01"})
    assert found is not None
    return found


def test_a_crop_shows_its_nucleus_in_the_middle_and_others_as_others() -> None:
    crops, (image, _) = cut(), field()
    assert (len(crops), crops.images.shape, crops.voxel_um) == (3, (3, 2, 16, 16), (0.5, 0.5))
    centre = [round(float(crops.column(f"Metadata_Center{a}_px")[1])) for a in "YX"]
    cy, cx = centre
    assert np.array_equal(crops.images[1], image.data[:, cy - 8 : cy + 8, cx - 8 : cx + 8])
    assert (crops.masks[1] == OWN).sum() == 36
    assert (crops.masks[1] == OTHER).sum() > 0
    assert crops.column("Metadata_Object").tolist() == ["5", "7", "8"]
    assert set(crops.column("Metadata_Well")) == {"A01"}
    # beyond the edge: the edge pixel, and no mask
    assert (crops.masks[0, 0] == 0).all()
    assert crops.images[0, 0, 0, 8] == crops.images[0, 0, 3, 8]


def test_crops_that_reach_beyond_the_field_are_left_out_where_they_are_to_be_whole() -> None:
    every, (image, labels) = cut(), field()
    found = cut_crops(image, labels, size_px=16, metadata={"Metadata_Well": "A01"}, whole=True)
    assert found is not None
    assert np.array_equal(found.images, every.images[1:])
    assert np.array_equal(found.masks, every.masks[1:])
    pd.testing.assert_frame_equal(found.metadata, every.metadata[1:].reset_index(drop=True))
    assert cut_crops(image, labels, size_px=40, whole=True) is None
    touching = np.zeros_like(labels)
    touching[:16, :16] = 1
    assert cut_crops(image, touching, size_px=16, whole=True) is not None


def test_disk_gives_back_what_was_written(tmp_path: Path) -> None:
    crops = cut()
    crops.write(tmp_path / "a.zarr")
    back = Crops.read(tmp_path / "a.zarr")
    assert back.channels == ("DNA", "GFP")
    assert back.voxel_um == (0.5, 0.5)
    pd.testing.assert_frame_equal(back.metadata, crops.metadata)
    parts = list(back.batches(2))
    assert [len(part) for part in parts] == [2, 1]
    assert np.array_equal(np.concatenate([p.images for p in parts]), crops.images)
    assert np.array_equal(back.load().masks, crops.masks)
    assert back.rows(np.array([2])).column("Metadata_Object").tolist() == ["8"]
    with pytest.raises(DataError, match="already exists"):
        crops.write(tmp_path / "a.zarr")


def test_parts_go_to_disk_one_by_one_and_are_counted(tmp_path: Path) -> None:
    crops = cut()
    write_crops(tmp_path / "two.zarr", [crops, crops], n=6)
    assert len(Crops.read(tmp_path / "two.zarr")) == 6
    assert np.array_equal(
        Crops.concat([crops, crops]).images, Crops.read(tmp_path / "two.zarr").load().images
    )
    with pytest.raises(DataError, match="3 nuclei came, 4 were announced"):
        write_crops(tmp_path / "wrong.zarr", [crops], n=4)
    assert not (tmp_path / "wrong.zarr").exists()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    image, labels = field()
    crops = cut()
    assert cut_crops(image, np.zeros_like(labels)) is None
    with pytest.raises(DataError, match=r"image is \(40, 50\) and its labels are \(40, 49\)"):
        cut_crops(image, labels[:, 1:])
    with pytest.raises(ConfigurationError, match="a crop of 15 px; the edge length is even"):
        cut_crops(image, labels, size_px=15)
    with pytest.raises(DataError, match="do not fit"):
        Crops(crops.images, crops.metadata, crops.masks, ("DNA",))
    with pytest.raises(DataError, match="not a directory of crops"):
        Crops.read(tmp_path)
    with pytest.raises(ConfigurationError, match=r"ends in \.zarr"):
        crops.write(tmp_path / "crops")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": cut().images.astype(np.uint8)}, "holds uint8, image uint16, so that their brightness"),
        ({"voxel_um": (0.25, 0.25)}, r"pixels of \(0.25, 0.25\) um \(y, x\), those of image of \(0.5, 0.5\)"),
    ],
)
def test_crops_of_other_numbers_or_pixels_do_not_go_together(tmp_path: Path, change, said: str) -> None:
    crops = cut()
    other = dataclasses.replace(crops, source="other", **change)
    with pytest.raises(DataError, match=f"other: {said}"):
        write_crops(tmp_path / "two.zarr", [crops, other], n=6)
    assert not (tmp_path / "two.zarr").exists()
    with pytest.raises(DataError, match=f"other: {said}"):
        Crops.concat([crops, other])
    unknown = dataclasses.replace(crops, voxel_um=(None, None))
    assert len(Crops.concat([crops, unknown])) == 6


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "a.tif, channel 'DNA': 1 of 2000 voxels are NaN or infinite, the first at Y=3, X=4"),
        (1e300, "a.tif, channel 'DNA': the largest value is 1e.300; allowed are values up to"),
    ],
)
def test_crops_show_numbers(value: float, said: str) -> None:
    image, labels = field()
    data = image.data.astype(np.float64)
    data[0, 3, 4] = value
    with pytest.raises(DataError, match=said):
        cut_crops(image.replace(data=data, source="a.tif"), labels, size_px=16)


def test_a_stack_is_not_cut() -> None:
    image, labels = field()
    stack = Image(np.stack([image.data] * 3, axis=1), "CZYX", channels=image.channels, source="a.tif")
    with pytest.raises(DataError, match=r"a\.tif: a stack of 3 planes; crops are cut of one\. Project it"):
        cut_crops(stack, labels, size_px=16)
