"""From a folder to a trained bundle, its report and its scores, through the functions behind the commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from small_fields import make_field

from image2reg.config import load_config
from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.images import Image, write
from image2reg.images.plates import write_plate
from image2reg.interruption import Interrupted
from virtualstain.check import check_lines, check_path
from virtualstain.loading import open_manifest, split_fields, stain_field_of, with_split
from virtualstain.model import StainModel
from virtualstain.recipe import Recipe, SplitSettings, stack_defaults
from virtualstain.runs import find_recipe, train_from
from virtualstain.scored_runs import evaluate_model, evaluate_pair

QUICK = (
    "training.steps=4", "training.warmup_steps=1", "training.batch_size=2", "training.validate_every=4",
    "training.precision=fp32", "patch=[1,24,24]", "network.arguments={dims: 2, patch: [2, 2], widths: [8, 16]}",
)  # fmt: skip
CHANNELS = {"inputs": ["Brightfield=BF"], "targets": ["Hoechst=DAPI"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six wells of two fields, one file per channel; one field lacks its stain."""
    root = tmp_path / "mine"
    root.mkdir()
    for i, well in enumerate(("A01", "A02", "B01", "B02", "C03", "C04")):
        for site in (1, 2):
            item = make_field(10 * i + site, 1, flat=True, stains=1)
            tifffile.imwrite(root / f"{well}_s{site}_BF.tif", item.inputs[0, 0].astype(np.uint16))
            if (well, site) != ("A01", 2):
                tifffile.imwrite(root / f"{well}_s{site}_DAPI.tif", item.targets[0, 0].astype(np.uint16))
    return root


def test_a_folder_is_understood_before_anything_is_trained(folder: Path) -> None:
    report = check_path(folder, out=folder / "manifest.csv", split_by="well", **CHANNELS)
    assert report["fields"] == 12
    assert report["channels"] == {"input Brightfield": 12, "target Hoechst": 11}
    assert report["problems"] == []
    assert "12 fields, 6 wells" in check_lines(report)
    split = open_manifest(folder / "manifest.csv").frame.groupby("Metadata_Well")["split"].nunique()
    assert (split == 1).all()
    with pytest.raises(ConfigurationError, match="say which channel is the input"):
        check_path(folder)


def test_fields_without_a_stain_are_counted_and_leave_no_split_empty(folder: Path) -> None:
    for path in sorted(folder.glob("*_DAPI.tif"))[3:]:
        path.unlink()
    report = check_path(folder, split_by="auto", out=folder / "m.csv", **CHANNELS)
    assert any(
        "9 of 12 fields have no target: neither trained nor scored on (those that have one: " in note
        for note in report["notes"]
    )
    stained = open_manifest(folder / "m.csv").frame.query("role == 'target'")
    assert sorted(stained["split"]) == ["test", "train", "validation"]


def test_an_image_is_described_and_its_faults_named(tmp_path: Path) -> None:
    write(Image(np.zeros((13, 20, 20), np.uint16), "ZYX"), tmp_path / "black.tif")
    report = check_path(tmp_path / "black.tif")
    assert report["axes"] == "ZYX"
    assert any("no voxel size" in note for note in report["notes"])
    assert any("constant" in problem for problem in report["problems"])


def test_models_are_suggested_that_would_take_the_image(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).integers(0, 999, (3, 40, 40)).astype(np.uint16)
    cases = {
        (0.3112, ("Brightfield",)): "  models that take it: brightfield-nuclei",
        (0.65, ("R", "G", "B")): "  models that take it: brightfield-nuclei (with --channel --resample)",
        (None, ("BF", "DAPI")): "  models that take it: brightfield-nuclei (with --voxel-um)",
        (3.0, ("BF",)): "    brightfield-nuclei takes voxels of 0.062 to 0.78 um along Y",
        (3.1, ("BF",)): "    phase-neuron takes stacks of 13 planes",
    }
    for k, ((voxel, names), line) in enumerate(cases.items()):
        write(Image(cells[: len(names)], "CYX", (None, voxel, voxel), names), tmp_path / f"{k}.ome.tif")
        assert line in check_lines(check_path(tmp_path / f"{k}.ome.tif")).splitlines()
    given = check_path(tmp_path / "2.ome.tif", voxel_um=(None, 0.3112, 0.3112))
    assert cases[0.3112, ("Brightfield",)] in check_lines(given).splitlines()


def test_a_stain_is_offered_to_no_model_of_brightfield(tmp_path: Path) -> None:
    stain = np.random.default_rng(0).poisson(90, (1, 60, 60)).astype(np.uint16)
    stain[:, 20:35, 20:40] *= 12
    light = np.random.default_rng(1).poisson(9000, (1, 60, 60)).astype(np.uint16)
    for data, names, fits in (
        (stain, ("Hoechst",), False),
        (stain, (), False),
        (np.concatenate([light, stain]), ("BF", "Hoechst"), True),
        (np.concatenate([stain, light]), ("C1", "C2"), True),
    ):
        write(Image(data, "CYX", (None, 0.3, 0.3), names), tmp_path / "x.ome.tif", overwrite=True)
        report = check_path(tmp_path / "x.ome.tif")
        assert report["models"] == (["brightfield-nuclei"] if fits else [])
        assert ("looks like fluorescence" in check_lines(report)) != fits


def test_one_unreadable_image_of_a_folder_is_named_and_the_rest_described(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="found nowhere"):
        check_path(folder, inputs=["Phase"])
    (folder / "B02_s1_BF.tif").write_bytes((folder / "B02_s1_BF.tif").read_bytes()[:100])
    report = check_path(folder, **CHANNELS, out=folder / "m.csv")
    assert (report["fields"], len(report["problems"])) == (12, 2)
    assert "left out: " in report["problems"][1]
    assert "B02_s1_BF.tif" in report["problems"][1]
    assert "B02_s1_BF.tif" not in (folder / "m.csv").read_text()


def test_a_plate_is_described_by_its_first_field(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).integers(0, 999, (1, 40, 40)).astype(np.uint16)
    field = Image(cells, "CYX", (None, 0.3, 0.3), ("Brightfield",))
    write_plate(
        tmp_path / "p.ome.zarr", {("A/1", "0"): field, ("A/2", "0"): field.replace(channels=("GFP",))}
    )
    report = check_path(tmp_path / "p.ome.zarr")
    lines = check_lines(report)
    assert "plate of 2 fields, 2 wells; the first, A/1/0:" in lines
    assert "models that take it: brightfield-nuclei" in lines
    assert "1 field with other channels, planes or voxel size, the first is A/2/0" in lines


def test_inputs_of_another_voxel_size_are_noted_before_training_refuses_them(tmp_path: Path) -> None:
    for name, size in {"A01": 0.5, "A02": 0.52, "A03": 0.5, "B01": None, "B02": 0.25}.items():
        image = Image(
            np.random.default_rng(0).random((2, 3, 9, 9)).astype("f4"),
            "CZYX",
            (1.0, size, size),
            ("BF", "DNA"),
        )
        image.write(tmp_path / f"{name}.ome.tif")
    (note,) = check_path(tmp_path, inputs=["BF"], targets=["DNA"])["notes"]
    assert "voxel sizes differ: 1 x 0.5 x 0.5 um (z, y, x) in 2 inputs, but B01.ome.tif 1 x ? x ?, " in note
    assert "B02.ome.tif 1 x 0.25 x 0.25. One model" in note
    for name in ("B01", "B02"):
        (tmp_path / f"{name}.ome.tif").unlink()
    assert check_path(tmp_path, inputs=["BF"], targets=["DNA"])["notes"] == []


def test_a_voxel_size_that_is_given_is_in_the_manifest_where_the_file_says_none(
    folder: Path, tmp_path: Path
) -> None:
    def sizes(**given: object) -> dict[str, list[float]]:
        report = check_path(folder, out=folder / "m.csv", overwrite=True, **CHANNELS, **given)
        rows = open_manifest(folder / "m.csv").frame.set_index("path")[[f"voxel_{a}_um" for a in "zyx"]]
        return {"notes": report["notes"], **{path: list(row) for path, row in rows.iterrows()}}

    image = Image(tifffile.imread(folder / "B01_s1_BF.tif"), "YX", (None, 0.65, 0.65))
    write(image, folder / "B01_s1_BF.tif", overwrite=True)
    assert np.isnan(sizes()["A01_s1_BF.tif"]).all()
    for is_damaged in (False, True):  # a file that cannot be read is left out
        if is_damaged:
            (folder / "B02_s1_BF.tif").write_bytes((folder / "B02_s1_BF.tif").read_bytes()[:100])
        found = sizes(voxel_um=(None, 0.325, 0.325))
        for name in ("A01_s1_BF.tif", "A01_s1_DAPI.tif"):
            np.testing.assert_array_equal(found[name], [np.nan, 0.325, 0.325])
        assert found["B01_s1_BF.tif"][1:] == [0.65, 0.65]
        assert any("said by 1 file and kept: B01_s1_BF.tif ? x 0.65 x 0.65" in n for n in found["notes"])
    with pytest.raises(ConfigurationError, match=r"m.csv: a manifest has columns for it. Fill voxel_z_um"):
        check_path(folder / "m.csv", voxel_um=(None, 0.325, 0.325))
    with pytest.raises(ConfigurationError, match="each positive or '-'"):
        check_path(folder, **CHANNELS, voxel_um=(None, -0.325, 0.325))


def test_the_coarsest_unit_that_fills_the_splits_is_taken(folder: Path) -> None:
    manifest = open_manifest(folder, **CHANNELS)
    drawn, group = with_split(manifest, SplitSettings())
    assert group == "well"  # one plate cannot fill three splits
    assert drawn.frame.groupby("Metadata_Well")["split"].nunique().max() == 1
    kept, _ = with_split(drawn, SplitSettings())
    pd.testing.assert_frame_equal(kept.frame, drawn.frame)
    leaky = drawn.frame.assign(split=["train", "test"] * (len(drawn) // 2) + ["train"] * (len(drawn) % 2))
    with pytest.raises(DataError, match="well"):
        with_split(drawn.replace(leaky), SplitSettings(group="well"))
    half = drawn.frame.assign(split=drawn.frame["split"].where(drawn.frame.index > 0, ""))
    with pytest.raises(DataError, match="rows have no split"):
        with_split(drawn.replace(half), SplitSettings())


def test_a_split_by_well_over_several_plates_is_kept(folder: Path) -> None:
    drawn, _ = with_split(open_manifest(folder, **CHANNELS), SplitSettings(group="well"))
    plates = drawn.frame.assign(Metadata_Plate=drawn.frame["Metadata_Well"].str[1:])
    kept, group = with_split(drawn.replace(plates), SplitSettings())
    assert group == "well"
    assert kept.frame["split"].tolist() == drawn.frame["split"].tolist()
    leaky = plates.assign(split=np.where(plates["Metadata_Site"] == "1", "train", "test"))
    with pytest.raises(DataError, match=r"well value\(s\) are in several splits"):
        with_split(drawn.replace(leaky), SplitSettings())


def test_a_run_is_resumed_with_what_it_began_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    quick = [*QUICK, "training.schedule=constant"]
    train_from(folder, out, **CHANNELS, overrides=quick)
    record = {name: (out / name).read_bytes() for name in ("config.yaml", "manifest.csv")}
    with pytest.raises(ConfigurationError, match=r"loss.mse: 0.0 -> 3.0.*--config .*config.yaml"):
        train_from(tmp_path / "unread", out, **CHANNELS, overrides=[*quick, "loss.mse=3"], resume=True)
    for name in ("D01_s1_BF.tif", "D01_s1_DAPI.tif"):
        (folder / name).write_bytes((folder / name.replace("D01", "A01")).read_bytes())
    with monkeypatch.context() as unread:
        unread.setattr("virtualstain.runs.split_fields", lambda *_, **__: pytest.fail("fields were opened"))
        with pytest.raises(ConfigurationError, match="begun with other images or another split"):
            train_from(folder, out, **CHANNELS, overrides=quick, resume=True)
    assert {name: (out / name).read_bytes() for name in record} == record
    for name in ("D01_s1_BF.tif", "D01_s1_DAPI.tif"):
        (folder / name).unlink()
    image = folder / "B01_s1_BF.tif"  # the same name, and so the same manifest
    recorded = image.read_bytes()
    tifffile.imwrite(image, np.flip(tifffile.imread(image), 1))
    with pytest.raises(
        ConfigurationError, match=r"other settings \(\w+ fields: \d+, sha256 .* -> \d+, sha256 "
    ):
        train_from(folder, out, **CHANNELS, overrides=quick, resume=True)
    image.write_bytes(recorded)
    longer = [*quick, "training.steps=6"]
    assert train_from(folder, out, **CHANNELS, overrides=longer, resume=True).fit.steps_done == 6
    falling = [*longer, "training.schedule=cosine", "training.steps=8"]
    with pytest.raises(ConfigurationError, match=r"training.schedule: .*training.steps: 6 -> 8"):
        train_from(folder, out, **CHANNELS, overrides=falling, resume=True)


def test_what_ran_is_on_record_from_its_beginning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted(2, "Interrupted at step 3.")

    monkeypatch.setattr("virtualstain.runs.train", stopped)
    with pytest.raises(Interrupted):
        train_from(folder, tmp_path / "run", **CHANNELS, overrides=QUICK)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["configuration"]["targets"] == ["Hoechst"]
    assert list(record["inputs"]) == ["manifest.csv"]


def test_channels_and_runs_may_be_called_by_numbers(folder: Path, tmp_path: Path) -> None:
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("BF", "405").replace("DAPI", "488")))
    done = train_from(folder, tmp_path / "2026", inputs=["405"], targets=["488"], overrides=QUICK)
    assert done.bundle.spec.name == "2026"
    assert done.bundle.spec.inputs[0].channels == ("405",)


def test_fields_open_with_what_they_have(folder: Path) -> None:
    recipe = Recipe(targets=("Hoechst",))
    manifest, _ = with_split(open_manifest(folder, **CHANNELS), SplitSettings())
    fields = [f for part in split_fields(manifest, recipe, group="well").values() for f in part]
    assert len(fields) == 12
    assert sum(bool(f.present[0]) for f in fields) == 11
    assert {f.group.split("/")[-1] for f in fields} == {"A01", "A02", "B01", "B02", "C03", "C04"}
    with pytest.raises(DataError, match="input channel 'Phase' is missing; it has"):
        split_fields(manifest, Recipe(inputs=("Phase",)))


def test_padding_is_left_out_whether_a_field_is_in_memory_or_on_disk(tmp_path: Path) -> None:
    item = make_field(0, 1, flat=True, stains=1)
    field = item.inputs[0, 0].astype(np.uint16)
    field[:, :9] = 0
    for name, plane in (("BF", field), ("DAPI", item.targets[0, 0].astype(np.uint16))):
        tifffile.imwrite(tmp_path / f"f_{name}.tif", plane)
    (one,) = open_manifest(tmp_path, **CHANNELS).fields()
    held, left = (stain_field_of(one, ["Brightfield"], ["Hoechst"], budget=n) for n in (10**6, 0))
    assert not isinstance(left.inputs, np.ndarray)
    assert held.valid is not None
    np.testing.assert_array_equal(left.valid, held.valid)


def test_channels_and_masks_of_a_field_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    shapes = {"BF": (40, 44), "Phase": (40, 40), "DAPI": (40, 44), "labels": (20, 44)}
    for name, shape in shapes.items():
        tifffile.imwrite(tmp_path / f"f_{name}.tif", np.ones(shape, np.uint16))
    (two,) = open_manifest(tmp_path, inputs=["BF", "Phase"], targets=["DAPI"]).fields()
    with pytest.raises(DataError, match=r"input 'Phase' is \(1, 40, 40\) .* must be of one shape"):
        stain_field_of(two, ["BF", "Phase"], ["DAPI"], budget=10**6)
    (one,) = open_manifest(tmp_path, inputs=["BF"], targets=["DAPI"], masks=["labels"]).fields()
    with pytest.raises(DataError, match=r"its mask is \(20, 44\)"):
        stain_field_of(one, ["BF"], ["DAPI"], budget=10**6)


def test_channels_of_other_pixels_are_no_pair(tmp_path: Path) -> None:
    """Two cameras, or two magnifications, give images of one shape."""

    def opened(**sizes: float | None) -> tuple[float | None, ...]:
        for name, size in sizes.items():
            image = Image(np.ones((40, 44), np.uint16), "YX", (None, size, size))
            write(image, tmp_path / f"f_{name}.ome.tif", overwrite=True)
        (one,) = open_manifest(tmp_path, inputs=["BF", "Phase"], targets=["DAPI"]).fields()
        return stain_field_of(one, ["BF", "Phase"], ["DAPI"], budget=10**6).voxel_um

    assert opened(BF=None, Phase=0.325, DAPI=None) == (None, 0.325, 0.325)
    with pytest.raises(
        DataError, match=r"f_DAPI.ome.tif: its voxels are \(None, 0.65, 0.65\) um .* \(None, 0.325"
    ):
        opened(BF=None, Phase=0.325, DAPI=0.65)


def test_training_from_a_folder_ends_in_bundle_scores_and_report(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train_from(folder, out, **CHANNELS, overrides=QUICK)
    assert done.bundle.spec.name == "run"
    assert "by well" in done.bundle.spec.training.split
    assert {p.name for p in out.iterdir()} >= {
        "bundle",
        "report.html",
        "scores.csv",
        "manifest.csv",
        "config.yaml",
        "run.json",
    }
    with pytest.raises(DataError, match=r"already exists\. Pass --resume to continue"):
        train_from(folder, out, **CHANNELS, overrides=QUICK)
    again = train_from(folder, out, **CHANNELS, overrides=QUICK, resume=True)
    pd.testing.assert_frame_equal(again.scores, done.scores)
    shutil.rmtree(out / "checkpoints")  # it is large, and the model is finished
    made = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"its training is complete .* choose another --out to train anew"):
        train_from(folder, out, **CHANNELS, overrides=QUICK, resume=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == made
    table = evaluate_model(str(out / "bundle"), _manifest(folder), split="test", out=tmp_path / "eval").scores
    scores = table.set_index(["channel", "metric"])["value"]
    assert scores["Hoechst", "pearson"] == pytest.approx(
        done.scores.set_index(["channel", "metric"])["value"]["Hoechst", "pearson"], abs=1e-4
    )
    assert (tmp_path / "eval" / "report.html").exists()


def test_where_nothing_can_be_written_no_image_is_read(tmp_path: Path) -> None:
    (file := tmp_path / "file").write_text("")
    absent = tmp_path / "absent"
    for out, overwrite in ((file / "x", False), (file, True)):
        with pytest.raises(ResourceError, match="could not be written"):
            evaluate_pair(absent, absent, out=out, overwrite=overwrite)
        with pytest.raises(ResourceError, match="could not be written"):
            evaluate_model("absent", absent, out=out, overwrite=overwrite)
    for out, resume in ((file / "x", False), (file, True)):
        with pytest.raises(ResourceError, match="could not be written"):
            train_from(absent, out, resume=resume)


def _manifest(folder: Path) -> Path:
    check_path(folder, out=folder / "manifest.csv", split_by="auto", **CHANNELS)
    return folder / "manifest.csv"


def test_a_shipped_recipe_splits_other_data_by_its_own_units(folder: Path, tmp_path: Path) -> None:
    quick = [*QUICK, "members=1", "registration=null", "training.precision=fp32"]
    done = train_from(folder, tmp_path / "run", config="brightfield-nuclei", **CHANNELS, overrides=quick)
    assert "by well" in done.bundle.spec.training.split


def test_a_stacked_target_gets_a_3d_network_without_being_told(tmp_path: Path) -> None:
    root = tmp_path / "stacks"
    root.mkdir()
    for i in range(3):
        item = make_field(i, 6, flat=False, stains=1)
        tifffile.imwrite(root / f"f{i}_BF.tif", item.inputs[0].astype(np.uint16), metadata={"axes": "ZYX"})
        tifffile.imwrite(root / f"f{i}_DAPI.tif", item.targets[0].astype(np.uint16), metadata={"axes": "ZYX"})
    quick = [
        *(o for o in QUICK if not o.startswith(("patch", "network"))), "patch=[4,24,24]",
        "network.arguments={dims: 3, patch: [1, 2, 2], widths: [8, 16]}",
    ]  # fmt: skip
    done = train_from(root, tmp_path / "run", **CHANNELS, overrides=quick)
    assert done.bundle.spec.architecture.arguments["dims"] == 3
    assert done.bundle.spec.inputs[0].n_planes is None
    options = {**CHANNELS, "resume": True}
    train_from(root, tmp_path / "run", overrides=quick, **options)
    with pytest.raises(ConfigurationError, match=r"another recipe \(loss.mse: 0.0 -> 3.0\)"):
        train_from(tmp_path / "unread", tmp_path / "run", overrides=[*quick, "loss.mse=3"], **options)


def test_the_defaults_for_stacks_fit_thin_ones() -> None:
    for planes, depth in ((40, 16), (16, 16), (10, 8), (5, 4)):
        assert load_config(Recipe, None, overrides=stack_defaults(planes)).patch == (depth, 96, 96)


def test_a_long_folder_name_makes_a_name_that_fits_a_bundle(folder: Path, tmp_path: Path) -> None:
    done = train_from(folder, tmp_path / ("run " * 30), **CHANNELS, overrides=QUICK)
    assert len(done.bundle.spec.name) <= 64


def test_a_model_is_scored_on_the_voxel_size_it_was_made_for(
    folder: Path, tmp_path: Path, make_model: Callable[..., StainModel]
) -> None:
    bundle = str(make_model().bundle.directory)
    manifest = open_manifest(folder, **CHANNELS)
    cases = {np.nan: "no voxel size .* voxel_y_um", 0.2: r"\? x 0.2 x 0.2 um .* Predict with --resample"}
    for voxel, words in cases.items():
        path = folder / f"{voxel}.csv"
        manifest.replace(manifest.frame.assign(voxel_y_um=voxel, voxel_x_um=voxel)).write(path)
        with pytest.raises(DataError, match=words):
            evaluate_model(bundle, path)
    manifest.replace(manifest.frame.assign(voxel_y_um=0.5, voxel_x_um=0.5)).write(folder / "own.csv")
    done = evaluate_model(bundle, folder / "own.csv")
    assert any("the data say no split: every field was scored" in note for note in done.notes)
    table = done.scores
    assert set(table[table["metric"] == "pearson"]["level"]) == {"field in group"}  # two fields of each well


def test_a_pair_of_images_is_scored_by_channel_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(100, 10, (2, 1, 120, 120)).astype(np.float32)
    made = real + rng.normal(0, 10, real.shape).astype(np.float32)
    write(Image(real, "CZYX", (1, 0.5, 0.5), ("Hoechst", "Mito")), tmp_path / "real.ome.tif")
    write(Image(made[::-1].copy(), "CZYX", (1, 0.5, 0.5), ("Mito", "Hoechst")), tmp_path / "made.ome.tif")
    table = evaluate_pair(tmp_path / "made.ome.tif", tmp_path / "real.ome.tif").scores
    for k, name in enumerate(("Hoechst", "Mito")):
        row = table[(table["channel"] == name) & (table["metric"] == "pearson")].iloc[0]
        assert row.value == pytest.approx(np.corrcoef(real[k].ravel(), made[k].ravel())[0, 1], abs=1e-5)
    assert "nuclei_f1@0.5" in set(table["metric"])
    write(Image(real[:, :, :60], "CZYX", (1, 0.5, 0.5), ("Hoechst", "Mito")), tmp_path / "half.ome.tif")
    with pytest.raises(DataError, match="They must be of one shape"):
        evaluate_pair(tmp_path / "half.ome.tif", tmp_path / "real.ome.tif")
    write(Image(real, "CZYX", (1, 0.5, 0.5), ("A", "B")), tmp_path / "other.ome.tif")
    with pytest.raises(DataError, match="share no name"):
        evaluate_pair(tmp_path / "other.ome.tif", tmp_path / "real.ome.tif")


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="no shipped recipe of that name; there are"):
        find_recipe("no-such-recipe")
    assert find_recipe("") is None
