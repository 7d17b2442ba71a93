"""Crops and signatures meet by name; who has none is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_generators import small_signatures

from image2reg.errors import DataError
from image2reg.nuclei.crops import Crops
from morphgen.crop_loading import crop_set, open_crops, split_crops
from morphgen.domain import SignatureDomain


def crops(names: list[str], control: list[str] | None = None) -> Crops:
    table = pd.DataFrame({"Metadata_Perturbation": names})
    if control:
        table["Metadata_Control"] = control
    images = np.arange(len(names) * 64, dtype=np.float32).reshape(-1, 1, 8, 8)
    return Crops(images, table, source="some crops")


SIGNATURES = small_signatures(3)


def test_rows_meet_by_name_and_controls_stand_apart() -> None:
    made = crop_set(crops(["P0-2", "none", "P0-0"], ["no", "yes", "no"]), SIGNATURES)
    assert made.signature_index.tolist() == [2, 0]
    assert made.images[:, 0, 0, 0].tolist() == [0.0, 128.0]
    assert made.controls[:, 0, 0, 0].tolist() == [64.0]


def test_crops_without_a_signature_are_named() -> None:
    with pytest.raises(
        DataError, match=r"1 of 2 crops have a Metadata_Perturbation without signature, such as \['X'\]"
    ):
        crop_set(crops(["P0-1", "X"]), SIGNATURES)


def test_two_signatures_of_one_name_are_refused() -> None:
    twice = small_signatures(3, Metadata_Perturbation=["A", "A", "B"])
    with pytest.raises(
        DataError, match=r"1 values of Metadata_Perturbation have several signatures, such as \['A'\]"
    ):
        crop_set(crops(["A"]), twice)


def test_a_missing_path_is_said() -> None:
    from pathlib import Path

    with pytest.raises(DataError, match="no such crops or manifest"):
        open_crops(Path("absent.zarr"))


def test_channels_of_a_manifest_meet_by_name_and_keep_their_pixel_size(tmp_path) -> None:
    from image2reg.images.image import Image

    rows, spot = [], np.zeros((32, 32), np.uint16)
    spot[10:20, 10:20] = 1
    for field, order in (("a", ("DNA", "ER")), ("b", ("ER", "DNA"))):
        for channel in order:
            name = f"{field}_{channel}.ome.tif"
            level = {"DNA": 100, "ER": 7}[channel]
            image = Image(level * spot[None], "CYX", channels=(channel,), voxel_um=(None, 0.3, 0.3))
            image.write(tmp_path / name)
            rows.append({"path": name, "role": "input", "channel": channel, "Metadata_Site": field})
        Image(spot, "YX").write(tmp_path / f"{field}_mask.ome.tif")
        rows.append(
            {"path": f"{field}_mask.ome.tif", "role": "mask", "channel": "DNA", "Metadata_Site": field}
        )
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    made = open_crops(tmp_path / "manifest.csv", size_px=16)
    assert made.channels == ("DNA", "ER")
    assert made.images.max((2, 3)).tolist() == [[100, 7], [100, 7]]
    assert made.voxel_um == (0.3, 0.3)
    assert made.source.endswith("manifest.csv")
    pd.DataFrame(rows[:-2] + rows[-1:]).to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(
        DataError, match=r"has input channels \['ER'\] and 1 masks; needed are \['DNA', 'ER'\]"
    ):
        open_crops(tmp_path / "manifest.csv")


def test_no_group_is_on_both_sides() -> None:
    made = crop_set(crops([f"P0-{i % 3}" for i in range(12)]), SIGNATURES)
    groups = np.array([f"P0-{i % 3}" for i in range(12)])
    training, validation = split_crops(made, groups, share=0.1, seed=0)
    assert set(training.signature_index) & set(validation.signature_index) == set()
    assert len(training) + len(validation) == 12
    assert split_crops(made, np.full(12, "a"), share=0.1, seed=0)[1] is None


def test_distance_of_a_signature_rises_without_end() -> None:
    rng = np.random.default_rng(0)
    training = rng.normal(size=(60, 20)).astype(np.float32)
    domain = SignatureDomain.of(training, np.arange(60).astype(str))
    near, far, farther = (domain.quantile(k * training[:5]).mean() for k in (1.0, 5.0, 50.0))
    assert near < 0.5
    assert 1 < far < farther


def test_a_range_is_known_from_two_perturbations_and_from_one_everything_lies_outside() -> None:
    training = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    two = SignatureDomain.of(training, np.array(["a", "b"]))
    assert two.quantiles.tolist() == [5.0] * 8
    alone = SignatureDomain.of(training, np.array(["a", "a"]))
    assert (alone.quantile(np.array([[1.0, 0.0]])) > 1).all()
    single = SignatureDomain.of(training[1:], np.array(["a"]))
    far, own = single.quantile(training)
    assert own < 0.5
    assert far > 1
