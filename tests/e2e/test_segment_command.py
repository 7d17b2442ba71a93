"""image2reg segment, match, models and train segmenter, as a user types them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from small_nuclei import discs, field, grid

from image2reg.cli import main
from image2reg.images import Image, read, read_plate, write_plate
from image2reg.nuclei.segmenters import batch


@dataclass
class Done:
    stdout: str
    stderr: str


def image2reg(*words: object, code: int = 0) -> Done:
    """Run the command's own entry point in this process: starting Python costs more than what is tested."""
    out, err, left = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["image2reg", *map(str, words)])
        try:
            main()
        except SystemExit as leave:
            left = int(leave.code or 0)
    assert left == code, err.getvalue() or out.getvalue()
    return Done(out.getvalue(), err.getvalue())


@pytest.fixture
def images(tmp_path) -> Path:
    """Two good fields with their truth, an empty field, and a file that is no image."""
    for n in range(2):
        made = field(n)
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "truth").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"A0{n + 1}.tif", made.image)
        tifffile.imwrite(tmp_path / "truth" / f"A0{n + 1}.tif", made.labels.astype(np.uint16))
    tifffile.imwrite(tmp_path / "images" / "A03.tif", np.full((90, 90), 100, np.uint16))
    (tmp_path / "images" / "A04.tif").write_bytes(b"II*\0 not a picture")
    return tmp_path


def test_a_folder_with_a_broken_file_is_labelled_and_scored(images) -> None:
    done = image2reg("segment", images / "images", "--model", "classical", "--diameter-px", 28,
                     "--out", images / "labels", "--json", code=5)  # fmt: skip
    said = json.loads(done.stdout)
    assert [row["n_objects"] for row in said["fields"]] == [12, 12, 0]
    assert said["fields"][2]["flags"] == ["empty"]
    with (images / "labels" / "failures.csv").open() as handle:
        (failure,) = csv.DictReader(handle)
    assert failure["source"].endswith("A04.tif")
    assert "A04.tif" in failure["error"]
    (images / "labels" / "A03.tif").unlink()
    scores = json.loads(image2reg("match", images / "labels", images / "truth", "--json").stdout)
    assert scores["pooled"]["0.5"]["f1"] == 1.0
    assert scores["true"] == scores["predicted"] == 24
    assert scores["aji"] > 0.8
    assert scores["unscored"] == []
    assert "AJI" in image2reg("match", images / "labels", images / "truth").stdout


def test_the_list_of_failures_is_true_after_every_run(images) -> None:
    words = ("--model", "classical", "--diameter-px", 28)
    listed = images / "labels" / "failures.csv"
    image2reg("segment", images / "images", *words, "--out", images / "labels", code=5)
    image2reg(
        "segment",
        images / "images" / "A01.tif",
        *words,
        "--overwrite",
        "--out",
        images / "labels" / "A01.tif",
    )
    assert "A04.tif" in listed.read_text()  # not what this run was about
    tifffile.imwrite(images / "images" / "A04.tif", field(3).image)
    image2reg("segment", images / "images", *words, "--out", images / "labels", "--resume")
    assert not listed.exists()


def test_existing_labels_are_not_overwritten_unasked(images) -> None:
    out = images / "one.tif"
    words = (
        "segment",
        images / "images" / "A01.tif",
        "--model",
        "classical",
        "--diameter-px",
        28,
        "--out",
        out,
    )
    assert "12 objects in 1 field:" in image2reg(*words).stdout
    assert "one.tif" in image2reg(*words, code=3).stderr
    image2reg(*words, "--overwrite")
    assert read(out).load().data.max() == 12


def test_eight_poses_are_averaged_where_there_is_a_network(images) -> None:
    words = (
        "segment",
        images / "images" / "A01.tif",
        "--diameter-px",
        28,
        "--tta",
        "--out",
        images / "one.tif",
    )
    assert "12 objects in 1 field:" in image2reg(*words).stdout
    refused = image2reg(*words, "--overwrite", "--model", "classical", code=2)
    assert "test-time augmentation: 'classical' has no network" in refused.stderr
    assert read(images / "one.tif").load().data.max() == 12


def test_true_labels_that_nothing_is_scored_against_are_told(images) -> None:
    truth = images / "truth"
    (images / "found").mkdir()
    shutil.copy(truth / "A01.tif", images / "found")
    (truth / "A01.tif").rename(truth / "A01_cp_masks.tif")
    done = image2reg("match", images / "found", truth)
    assert (
        f"1 file of true labels not scored, without labels of that name here, such as {truth / 'A02.tif'}"
        in done.stdout
    )
    assert "1 image, 12 true objects, 12 found" in done.stdout


def test_labels_of_another_size_than_the_truth_are_refused(images) -> None:
    tifffile.imwrite(images / "small.tif", np.zeros((9, 9), np.uint16))
    done = image2reg("match", images / "small.tif", images / "truth" / "A01.tif", code=3)
    assert "truth has shape (210, 210), prediction (9, 9); they must cover the same pixels" in done.stderr


def test_a_plate_becomes_a_plate_of_labels(tmp_path) -> None:
    image, _ = discs((120, 120), grid(2))
    stack = np.stack([image, image[::-1]]).astype(np.uint16)
    fields = {
        (well, "0"): Image(stack, "CYX", (None, 0.5, 0.5), ("BF", "Hoechst")) for well in ("A/01", "B/02")
    }
    write_plate(tmp_path / "plate.zarr", fields)
    refused = image2reg(
        "segment", tmp_path / "plate.zarr", "--model", "classical", "--out", tmp_path / "l.zarr", code=3
    )
    assert "has 2 channels ['BF', 'Hoechst']. Say which shows the objects: --channel NAME" in refused.stderr
    assert not (tmp_path / "l.zarr").exists()
    image2reg("segment", tmp_path / "plate.zarr", "--model", "classical", "--channel", "Hoechst",
              "--out", tmp_path / "l.zarr")  # fmt: skip
    labels = read_plate(tmp_path / "l.zarr")
    assert list(labels) == [("A/01", "0"), ("B/02", "0")]
    made = labels.image("B/02", "0")
    assert made.load().data.max() == 4
    assert made.voxel_um[1:] == (0.5, 0.5)


def test_an_interrupted_plate_of_labels_goes_on_with_what_is_missing(tmp_path, monkeypatch) -> None:
    image, _ = discs((120, 120), grid(2))
    plain = Image(image, "YX")
    write_plate(tmp_path / "plate.zarr", {(f"A/0{n}", "0"): plain for n in (1, 2, 3)})
    labelled, segment = [], batch.segment_image

    def stopping(segmenter, image, **options):
        assert image.voxel_um[1:] == (0.5, 0.5)  # what is given holds for a plate too
        labelled.append(Path(image.source).parent.name)
        if len(labelled) == 2:
            raise KeyboardInterrupt
        return segment(segmenter, image, **options)

    monkeypatch.setattr(batch, "segment_image", stopping)
    words = ("segment", tmp_path / "plate.zarr", "--model", "classical", "--out", tmp_path / "l.zarr")
    image2reg(*words, "--voxel-um", 0.5, code=130)
    assert not (tmp_path / "l.zarr").exists()
    assert "--resume to go on" in image2reg(*words, "--voxel-um", 0.5, code=3).stderr.replace("\n", " ")
    image2reg(*words, "--resume", "--voxel-um", 0.6, code=2)
    image2reg(*words, "--resume", "--voxel-um", 0.5)
    assert labelled == ["01", "02", "02", "03"]
    assert len(list(read_plate(tmp_path / "l.zarr"))) == 3
    assert len((tmp_path / "l.fields.csv").read_text().splitlines()) == 4


def test_stacks_and_time_points_keep_their_axes(tmp_path) -> None:
    image, _ = discs((120, 120), grid(2))
    movie = np.stack([np.stack([image] * 3), np.stack([image[::-1]] * 3)])[:, None].astype(np.uint16)
    Image(movie, "TCZYX", (1.0, 0.5, 0.5), ("Hoechst",)).write(tmp_path / "movie.ome.tif")
    image2reg(
        "segment", tmp_path / "movie.ome.tif", "--model", "classical", "--out", tmp_path / "labels.ome.tif"
    )
    labels = read(tmp_path / "labels.ome.tif").to_axes("TZYX").load()
    assert labels.shape == (2, 3, 120, 120)
    assert [int(frame.max()) for frame in labels.data] == [4, 4]
    assert labels.voxel_um == (1.0, 0.5, 0.5)


def test_a_segmenter_is_trained_on_a_folder(images) -> None:
    (images / "images" / "A04.tif").unlink()
    (images / "images" / "A03.tif").unlink()
    recipe = images / "own.yaml"
    recipe.write_text(
        "kind: segmenter\nname: own\npatch: 64\ndesign: {arguments: {widths: [8, 16]}}\n"
        "split: {validation: 0, test: 0.5}\ntraining: {steps: 3, batch_size: 2, warmup_steps: 1, workers: 0}\n"
    )
    words = ("train", "segmenter", "--data", images / "images", "--masks", images / "truth", "--config", recipe,
             "--set", "training.seed=3", "--group", "field", "--out", images / "run", "--json")  # fmt: skip
    said = json.loads(image2reg(*words).stdout)
    described = json.loads((images / "run" / "bundle" / "bundle.json").read_text())
    assert described["training"]["command"] == "image2reg " + shlex.join(map(str, words))
    assert said["split"].startswith("by field: train 1 field of 1 group")
    assert {score["name"] for score in said["scores"]} >= {"f1@0.5", "ap@0.5"}
    image2reg("segment", images / "images" / "A01.tif", "--model", images / "run" / "bundle",
              "--out", images / "own.tif")  # fmt: skip
    shutil.rmtree(images / "truth")  # not looked at: another recipe is refused before any image is read
    refused = image2reg(*words, "--resume", "--set", "augment.noise=0.2", code=2)
    assert "other settings (augment.noise: 0.12 -> 0.2)" in refused.stderr
    assert "steps: 3 -> 4" in image2reg(*words, "--resume", "--set", "training.steps=4", code=2).stderr


def test_an_unknown_model_names_those_there_are(images) -> None:
    words = ("segment", images / "images" / "A01.tif", "--model", "nucleii", "--out", images / "x.tif")
    assert "no model is called 'nucleii'" in image2reg(*words, code=4).stderr


def test_models_are_listed_by_the_installed_program() -> None:
    program = Path(sys.executable).with_name("image2reg")
    done = subprocess.run([program, "models", "--json"], capture_output=True, text=True, check=True)
    assert all(row["problem"] is None for row in json.loads(done.stdout)["models"])


@pytest.mark.parametrize("flag", ["--overwrite", "--resume"])
def test_labels_never_replace_their_images(images, flag, monkeypatch) -> None:
    folder = images / "images"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.chdir(folder)
    for given, out in ((folder, folder), ("A01.tif", "A01.tif"), ("A01.tif", "."), ("../images", ".")):
        refused = image2reg("segment", given, "--out", out, "--model", "classical", flag, code=2)
        assert "A01.tif or holds it, and would replace it. Choose another --out." in refused.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_labels_of_a_plate_do_not_replace_it(tmp_path) -> None:
    image, _ = discs((60, 60), grid(1))
    write_plate(tmp_path / "plate.zarr", {("A/01", "0"): Image(image, "YX")})
    for given in (tmp_path / "plate.zarr", tmp_path):
        refused = image2reg("segment", given, "--out", tmp_path / "plate.zarr", "--overwrite", code=2)
        assert f"plate.zarr is the input {tmp_path / 'plate.zarr'}" in refused.stderr
    assert read_plate(tmp_path / "plate.zarr").image("A/01", "0").load().data.max() > 500


@pytest.mark.parametrize(
    "out", ["images/A01.tif/x.tif", "images/A01.tif/x", "/proc/none/d.tif", "/proc/none"]
)
def test_a_folder_that_cannot_be_made_is_said_before_any_work(images, out, monkeypatch) -> None:
    monkeypatch.setattr("image2reg.nuclei.segmenters.batch.read", lambda *_, **__: pytest.fail("worked"))
    refused = image2reg("segment", images / "images" / "A02.tif", "--out", images / out,
                        "--model", "classical", code=6)  # fmt: skip
    assert "could not be written" in refused.stderr
    assert "choose another --out" in refused.stderr


def test_failures_are_listed_with_the_labels_and_in_nobody_elses_file(images, monkeypatch) -> None:
    monkeypatch.chdir(images)
    own = images / "failures.csv"
    own.write_text("freezer,date\n1,May\n")
    broken = images / "images" / "A04.tif"
    (images / "images" / "A05.tif").write_bytes(broken.read_bytes())
    words = ("segment", broken, images / "images" / "A05.tif", "--model", "classical")
    assert "2 failed; see lab/failures.csv" in image2reg(*words, "--out", "lab", code=5).stdout
    assert (images / "lab" / "failures.csv").read_text().startswith(f"source,kind,error\n{broken},DataError,")
    for path in words[1:3]:
        path.write_bytes((images / "images" / "A01.tif").read_bytes())
    image2reg(*words, "--out", "lab", "--resume")
    assert not (images / "lab" / "failures.csv").exists()
    refused = image2reg(*words, "--out", ".", code=3)
    assert "this one is another: its columns are ['freezer', 'date']" in refused.stderr
    assert own.read_text() == "freezer,date\n1,May\n"
    assert not (images / "A04.tif").exists()


def test_a_channel_called_by_a_number_is_found(tmp_path) -> None:
    image, _ = discs((120, 120), grid(2))
    both = np.stack([np.full_like(image, 100), image]).astype(np.uint16)
    Image(both, "CYX", (None, 0.5, 0.5), ("488", "405")).write(tmp_path / "two.ome.tif")
    for n, typed in enumerate(("405", "1")):
        done = image2reg("segment", tmp_path / "two.ome.tif", "--model", "classical", "--channel", typed,
                         "--out", tmp_path / f"{n}.tif")  # fmt: skip
        assert "4 objects in 1 field" in done.stdout


def test_images_without_a_stain_are_not_judged_as_stained_nuclei(images) -> None:
    done = image2reg("segment", images / "images" / "A03.tif", "--model", "texture", "--json",
                     "--out", images / "cells.tif")  # fmt: skip
    (row,) = json.loads(done.stdout)["fields"]
    assert set(row) == {"source", "output", "n_objects", "confluence"}


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


def test_every_field_has_a_row_beside_the_labels_whichever_run_made_it(images) -> None:
    folder, out = images / "images", images / "labels"
    (folder / "A04.tif").unlink()
    words = ("segment", folder, "--model", "classical", "--diameter-px", 28, "--out", out)
    image2reg("segment", folder / "A01.tif", *words[2:])
    image2reg(*words, "--resume")
    rows = table(out / "fields.csv")
    assert [(row["output"], row["n_objects"], row["flags"]) for row in rows] == [
        ("A01.tif", "12", ""), ("A02.tif", "12", ""), ("A03.tif", "0", "empty")
    ]  # fmt: skip
    assert rows[0]["source"] == str(folder / "A01.tif")
    assert float(rows[0]["focus"]) > 3.5
    assert 0 < float(rows[0]["confluence"]) < 1
    before = (out / "fields.csv").read_bytes()
    done = image2reg(*words, "--resume")
    assert done.stdout == f"3 fields already there: {out}\n"
    assert (out / "fields.csv").read_bytes() == before
    (out / "fields.csv").unlink()  # as after a run that was killed
    image2reg(*words, "--resume")
    assert table(out / "fields.csv") == [row | {"made_with": ""} for row in rows]
    (out / "A02.tif").unlink()
    image2reg("segment", folder / "A01.tif", *words[2:], "--overwrite")
    assert [row["output"] for row in table(out / "fields.csv")] == ["A01.tif", "A03.tif"]


def test_labels_made_in_two_ways_do_not_lie_in_one_folder_unasked(images) -> None:
    folder, out = images / "images", images / "labels"
    (folder / "A04.tif").unlink()
    words = ("segment", folder, "--model", "classical", "--out", out)
    image2reg(*words, "--diameter-px", 28)
    (out / "A02.tif").unlink()
    refused = image2reg(*words, "--diameter-px", 14, "--resume", code=2).stderr.replace("\n", " ")
    assert (
        "A01.tif was made with 'classical; diameter_px 28.0', this run has 'classical; diameter_px" in refused
    )
    assert not (out / "A02.tif").exists()
    image2reg(*words, "--diameter-px", 28, "--resume")
    image2reg(*words, "--diameter-px", 14, "--overwrite")
    assert {row["made_with"] for row in table(out / "fields.csv")} == {"classical; diameter_px 14.0"}


@pytest.mark.parametrize("place", ["labels", "."])
def test_labels_of_an_earlier_run_among_the_images_are_no_images(images, place) -> None:
    folder, out = images / "images", images / "images" / place
    for path in sorted(folder.glob("*.tif")):
        path.unlink()
    for n in range(2):
        picture = np.clip(field(n).image / field(n).image.max() * 255, 0, 255).astype(np.uint8)
        PIL.Image.fromarray(picture).save(folder / f"A0{n + 1}.png")
    words = ("segment", folder, "--model", "classical", "--diameter-px", 28, "--out", out)
    assert " in 2 fields:" in image2reg(*words).stdout
    assert image2reg(*words, "--resume").stdout == f"2 fields already there: {out}\n"
    (out / "A02.tif").unlink()
    assert " in 1 field:" in image2reg(*words, "--resume").stdout
    assert " in 2 fields:" in image2reg(*words[:-1], images / "other").stdout
    for path in folder.glob("*.png"):
        path.unlink()
    assert "holds labels of an earlier run only" in image2reg(*words, "--overwrite", code=3).stderr


def test_a_run_that_is_stopped_has_listed_what_it_did(images, monkeypatch) -> None:
    from image2reg.nuclei.segmenters import batch

    def stop(path: Path, **options: object) -> Image:
        if path.name == "A02.tif":
            raise KeyboardInterrupt
        return read(path, **options)

    monkeypatch.setattr(batch, "read", stop)
    image2reg("segment", images / "images", "--model", "classical", "--out", images / "labels", code=130)
    assert [row["output"] for row in table(images / "labels" / "fields.csv")] == ["A01.tif"]


def test_a_table_of_another_kind_is_not_replaced(images) -> None:
    (images / "fields.csv").write_text("field,crop\n")
    refused = image2reg("segment", images / "images", "--out", images, "--model", "classical", code=3)
    assert "this one is another: its columns are ['field', 'crop']" in refused.stderr
    assert not (images / "A01.tif").exists()


def test_of_many_flagged_fields_the_rest_is_counted(images) -> None:
    (images / "empty").mkdir()
    for n in range(23):
        tifffile.imwrite(images / "empty" / f"{n}.tif", np.full((40, 40), 100, np.uint16))
    done = image2reg("segment", images / "empty", "--model", "classical", "--out", images / "labels")
    assert done.stdout.count(": empty\n") == 20
    assert done.stdout.endswith(f"and 3 more flagged fields; see {images / 'labels' / 'fields.csv'}\n")


def test_a_plate_of_labels_is_complete_or_made_again(tmp_path) -> None:
    image, _ = discs((60, 60), grid(1))
    fields = {(well, "0"): Image(image, "YX") for well in ("A/01", "B/02")}
    write_plate(tmp_path / "plate.zarr", fields)
    words = ("segment", tmp_path / "plate.zarr", "--model", "classical", "--out", tmp_path / "l.zarr")
    image2reg(*words)
    rows = table(tmp_path / "l.fields.csv")
    assert [(row["output"], row["n_objects"]) for row in rows] == [
        ("l.zarr/A/01/0", "1"),
        ("l.zarr/B/02/0", "1"),
    ]
    assert "2 fields already there" in image2reg(*words, "--resume").stdout
    write_plate(tmp_path / "plate.zarr", fields | {("C/03", "0"): Image(image, "YX")}, overwrite=True)
    refused = image2reg(*words, "--resume", code=2)
    assert (
        "the 1 field it lacks (C/03/0) cannot be added. Pass --overwrite without --resume" in refused.stderr
    )
    image2reg(*words, "--overwrite")
    assert len(table(tmp_path / "l.fields.csv")) == 3


def test_what_labels_cannot_be_called_is_refused(images) -> None:
    one, other = images / "images" / "A01.tif", images / "images" / "A01.png"
    refused = image2reg("segment", one, "--out", images / "d8.png", "--model", "classical", code=2)
    assert "labels are not written as .png. Allowed are .tif, .tiff, .zarr for one image" in refused.stderr
    assert not (images / "d8.png").exists()
    other.write_bytes(one.read_bytes())
    refused = image2reg("segment", one.parent, "--out", images / "l", "--model", "classical", code=2)
    assert f"{other} and {one} would both be written to" in refused.stderr
    assert "Rename or move one of them" in refused.stderr


@pytest.mark.parametrize(
    ("name", "size", "note"),
    [
        ("A01", 28, None),
        ("A01", 45, None),
        (
            "A01",
            300,
            "A01.tif: nothing found at a diameter of 300 px. Check the diameter and the pixel size.",
        ),
        ("A01", 9, r"A01.tif: objects measure 2\d(\.\d)? px, looked for at 9 px. Check the diameter"),
        ("A03", 300, None),
    ],
)
def test_a_wrong_diameter_is_noted(images, name, size, note) -> None:
    done = image2reg("segment", images / "images" / f"{name}.tif", "--diameter-px", size,
                     "--out", images / "x.tif")  # fmt: skip
    if note is None:
        assert "Check the diameter" not in done.stdout
    else:
        assert re.search(note, done.stdout)


def test_dark_nuclei_are_not_taken_for_an_empty_field(images) -> None:
    bright = tifffile.imread(images / "images" / "A01.tif")
    tifffile.imwrite(images / "dark.tif", (bright.max() - bright).astype(np.uint16))
    done = image2reg("segment", images / "dark.tif", "--out", images / "x.tif")
    assert "dark.tif: nothing found. Looked for are nuclei brighter than what is around them." in done.stdout
    done = image2reg("segment", images / "images" / "A03.tif", "--out", images / "y.tif")
    assert "nothing" not in done.stdout
