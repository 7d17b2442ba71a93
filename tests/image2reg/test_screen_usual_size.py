"""A screen that is not told how large nuclei are measures them once, and fields of another size by themselves."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage
from small_plate import planted_field, write_plate

from image2reg.engine import Shard
from image2reg.images.image import Image
from image2reg.nuclei.segmenters.classical import ClassicalSegmenter
from image2reg.screen import ScreenSettings, run_screen
from image2reg.screen.fields import field_labels, measure_field
from image2reg.screen.usual_size import USUAL

CONTROL = 'Metadata_Control == "negative"'
MEASURE = {"model": "classical", "nuclei": "DNA"}


def plate_without_pixel_size(folder):
    frame = write_plate(folder, n_rows=2, doses=(1, 16))
    frame.drop(columns=["voxel_y_um", "voxel_x_um"]).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def run(manifest, out, measure=MEASURE, **options):
    settings = ScreenSettings.model_validate({"measure": measure})
    return run_screen(manifest, out, control=CONTROL, settings=settings, **options)


def test_nuclei_are_measured_once_on_control_fields_and_shards_agree(tmp_path, monkeypatch):
    manifest = plate_without_pixel_size(tmp_path / "plate")
    measured = []
    measure = ClassicalSegmenter.measure_diameter
    monkeypatch.setattr(
        ClassicalSegmenter, "measure_diameter", lambda self, plane: measured.append(1) or measure(self, plane)
    )
    run(manifest, tmp_path / "out", shard=Shard(1, 2))
    record = json.loads((tmp_path / "out" / USUAL).read_text())
    assert record["diameter_px"] == pytest.approx(16, abs=1.5)  # planted: radius 7.5 to 8.5
    assert len(measured) == len(record["fields"]) == 6  # the control wells, and no other field
    run(manifest, tmp_path / "out", shard=Shard(2, 2))
    result = run(manifest, tmp_path / "out")
    assert len(measured) == 6
    assert result.wells["Nuclei_Count"].eq(9).all()
    assert result.usual_px == record["diameter_px"]
    other = run(manifest, tmp_path / "other", measure=MEASURE | {"diameter_px": 16.0})
    assert len(measured) == 6
    assert not (tmp_path / "other" / USUAL).exists()
    pd.testing.assert_series_equal(result.wells["Nuclei_Count"], other.wells["Nuclei_Count"])


def test_a_diameter_that_was_measured_on_what_are_no_controls_now_is_kept_and_told(tmp_path):
    manifest = plate_without_pixel_size(tmp_path / "plate")
    first = run(manifest, tmp_path / "out")
    assert not any("usual diameter" in note for note in first.notes)
    frame = pd.read_csv(manifest)
    frame["Metadata_Control"] = frame["Metadata_Control"].mask(frame["Metadata_Well"] == "A01")
    frame.to_csv(manifest, index=False)
    again = run(manifest, tmp_path / "out", overwrite=True)
    assert again.usual_px == first.usual_px
    assert again.seconds == 0
    told = "(usual_diameter.json); 1 of them, such as p1/A01, not of negative controls now"
    assert any(told in note for note in again.notes)


def test_images_that_know_their_pixels_are_not_measured(tmp_path):
    write_plate(tmp_path / "plate", n_rows=2, doses=(1, 16))
    result = run(tmp_path / "plate" / "manifest.csv", tmp_path / "out")
    assert json.loads((tmp_path / "out" / USUAL).read_text())["diameter_px"] is None
    assert result.usual_px is None


def test_a_control_field_that_cannot_be_read_is_left_out_of_the_measuring(tmp_path):
    manifest = plate_without_pixel_size(tmp_path / "plate")
    (tmp_path / "plate" / "A01_DNA.tif").write_bytes(b"broken")
    result = run(manifest, tmp_path / "out")
    assert json.loads((tmp_path / "out" / USUAL).read_text())["diameter_px"] == pytest.approx(16, abs=1.5)
    assert len(result.failures) == 1


@pytest.mark.parametrize("known", ["usual_px", "diameter_px", "voxel_um"])
def test_a_field_so_far_out_of_focus_that_nuclei_merge_is_blurred(known, tmp_path):
    plane = ndimage.gaussian_filter(planted_field(np.random.default_rng(0), 0.1)[0].astype(float), 14)
    tifffile.imwrite(tmp_path / "DNA.tif", np.rint(plane * 50).astype(np.uint16))
    settings = ScreenSettings.model_validate({"measure": MEASURE}).measure.model_dump(mode="json")
    told = {} if known == "voxel_um" else {known: 16.0}
    voxels = [None, *([0.85] * 2 if known == "voxel_um" else [None] * 2)]
    source = {"path": "DNA.tif", "channel": None, "pages": None, "voxel_um": voxels, "sha256": ""}
    unit = {"name": "p1/A01", "metadata": {}, "images": {"DNA": source}}
    tables = measure_field(unit, root=tmp_path, settings=settings | told)
    assert tables["fields"]["Metadata_Flags"].tolist() == ["blurred"]


@pytest.mark.parametrize("zoom", [1, 4])
def test_a_field_whose_nuclei_are_of_another_size_is_measured_by_itself(zoom):
    plane = planted_field(np.random.default_rng(0), 0.1)[0]
    image = Image(ndimage.zoom(plane, zoom, order=1)[None], "CYX", (None, None, None), ("DNA",), source="x")
    settings = ScreenSettings.model_validate({"measure": MEASURE}).measure.model_dump(mode="json")
    at_usual = ClassicalSegmenter().segment(image.data[0], diameter_px=16.0)
    by_itself = field_labels(image, settings)
    labels = field_labels(image, settings | {"usual_px": 16.0})
    assert (by_itself != at_usual).any()
    np.testing.assert_array_equal(labels, at_usual if zoom == 1 else by_itself)
