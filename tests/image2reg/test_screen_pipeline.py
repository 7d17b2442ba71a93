"""A screen from images to hits: what is right is found, and what is wrong is said, counted and left out."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as PillowImage
from scipy import ndimage
from small_plate import planted_field, write_plate

from image2reg.engine import Outcome, Shard
from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image
from image2reg.report.plots import crop_rows
from image2reg.report.screening import screen_report
from image2reg.screen import ScreenSettings, planning, run_screen
from image2reg.screen.fields import feature_names, measure_field, read_unit, without_nuclei
from image2reg.screen.plates import well_name
from image2reg.screen.wells import OF_A_WELL, score_wells, well_table

CONTROL, POSITIVE = 'Metadata_Control == "negative"', 'Metadata_Control == "positive"'
RATIO = "Nuclei_RingIntensity_NucleusToRing_GFP"
SETTINGS = ScreenSettings.model_validate({"measure": {"model": "classical"}})


def run(folder, out, **options):
    settings = options.pop("settings", SETTINGS)
    data = options.pop("data", None) or folder / "manifest.csv"
    return run_screen(data, out, control=CONTROL, positive=POSITIVE, settings=settings, **options)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plate")
    write_plate(folder, doses=(1, 4, 8))
    return folder


@pytest.fixture(scope="module")
def finished(plate, tmp_path_factory):
    out = tmp_path_factory.mktemp("screen") / "out"
    return out, run(plate, out)


def changed_plate(tmp_path, change):
    """A plate of its own, with a changed manifest."""
    frame = write_plate(tmp_path / "plate", n_rows=2, doses=(1, 16))
    change(frame, tmp_path / "plate").to_csv(tmp_path / "plate" / "manifest.csv", index=False)
    return tmp_path / "plate"


def test_planted_doses_are_hits_and_controls_are_not(finished):
    _, result = finished
    ratio = result.quality.set_index("readout").loc[RATIO]
    assert ratio["z_prime"] > 0.5
    assert result.wells.loc[result.wells["Metadata_Control"] == "negative", "Hit"].sum() == 0
    assert result.wells.loc[result.wells["Metadata_Control"] == "positive", "Hit"].all()
    hits = result.hits[result.hits["hit"] & (result.hits["score"] == f"RobustZ_{RATIO}")]
    assert {"drug 4", "drug 8", "drug B 20"} <= set(hits["name"])
    (curve,) = [c for c in result.curves if c.readout == RATIO]
    assert curve.fit.reason.startswith("3 doses above 0 in 18 wells")


def test_files_of_a_screen(finished):
    out, result = finished
    assert {p.name for p in out.iterdir()} >= {
        "plan.jsonl", "nuclei.parquet", "fields.csv", "wells.csv", "plate_quality.csv", "hits.csv", "dose_response.csv",
        "run.json",
    }  # fmt: skip
    assert not (out / "failures.csv").exists()
    nuclei = pd.read_parquet(out / "nuclei.parquet")
    assert len(nuclei) == result.n_nuclei == 21 * 9
    assert set(nuclei["Metadata_Perturbation"]) == {"DMSO", "drug", "drug B"}
    assert pd.read_csv(out / "wells.csv")["Nuclei_Count"].eq(9).all()


def test_the_report_shows_plates_curves_and_crops(finished, tmp_path):
    _, result = finished
    path = screen_report(
        tmp_path / "r.html", result, SETTINGS.call, title="<b>Screen</b>", command="image2reg screen"
    )
    text = path.read_text()
    assert "&lt;b&gt;Screen" in text
    assert text.count('class="crops"') == 4 * len(result.exhibits) > 0
    assert "DNA, control well p1/" in text
    assert text.count("<svg") == 3 + 3
    assert "of 4 perturbations (1 positive control among them), in" in text
    assert "Robust z: 0 is the median of the plate" in text
    n_hits = result.hits.loc[result.hits["hit"] & ~result.hits["is_control"], "name"].nunique()
    assert f"{len(result.exhibits)} of {n_hits} hits: the strongest that have nuclei left" in text
    assert "ranked, never hits" not in text  # groups of control wells are no perturbations


def test_the_report_says_what_a_b_score_of_0_is_and_how_many_wells_are_too_few(finished, tmp_path):
    out, _ = finished
    call = {"normalise": "b-score", "min_replicates": 4}
    settings = ScreenSettings.model_validate({"call": call})
    result = run(None, tmp_path / "out", data=out / "wells.csv", settings=settings)
    text = screen_report(tmp_path / "r.html", result, settings.call, title="t", command="c").read_text()
    assert "B-score: 0 is what row and column of the plate let expect" in text
    assert "median of the plate's negative controls" not in text
    assert "4 perturbations in fewer than 4 wells with a score: ranked, never hits" in text


def test_crops_of_a_hit_and_of_its_control_are_shown_at_one_magnification():
    rows = {"hit": np.ones((3, 1, 8, 8), np.float32), "control": np.zeros((8, 1, 8, 8), np.float32)}
    pictures = re.findall('base64,([^"]+)', crop_rows(rows, ["DNA"], "crops"))
    sizes = [PillowImage.open(io.BytesIO(base64.b64decode(picture))).size for picture in pictures]
    assert sizes[0] == sizes[1]


def test_what_is_said_of_wells_may_be_corrected_without_measuring_again(finished, plate, tmp_path):
    copy, out = (
        Path(shutil.copytree(plate, tmp_path / "plate")),
        Path(shutil.copytree(finished[0], tmp_path / "out")),
    )
    frame = pd.read_csv(copy / "manifest.csv", dtype=str)
    other = frame["Metadata_Perturbation"].mask(frame["Metadata_Well"].eq("A04"), "other")
    said = {
        "Metadata_Gene": "g",
        "Metadata_Perturbation": other,
        "Metadata_Plate": "p2",
        "Metadata_Time": "24",
    }
    frame.assign(**said).to_csv(copy / "manifest.csv", index=False)
    assert run(copy, out, shard=Shard(1, 2), overwrite=True).n_run == 0
    result = run(copy, out, overwrite=True)
    assert result.seconds == 0.0
    wells, before = (table.set_index("Metadata_Well") for table in (result.wells, finished[1].wells))
    assert wells.loc["A04", "Metadata_Perturbation"] == "other"
    assert wells["Metadata_Gene"].eq("g").all()
    pd.testing.assert_series_equal(wells["Nuclei_AreaShape_Area"], before["Nuclei_AreaShape_Area"])
    nuclei = pd.read_parquet(out / "nuclei.parquet")
    assert nuclei.groupby("Metadata_Well")["Metadata_Perturbation"].first()["A04"] == "other"
    fresh = run(copy, tmp_path / "fresh")
    assert (out / "nuclei.parquet").read_bytes() == (tmp_path / "fresh" / "nuclei.parquet").read_bytes()
    pd.testing.assert_frame_equal(result.hits, fresh.hits)


def test_measured_fields_whose_images_left_the_folder_are_not_lost(plate, tmp_path):
    copy, out = Path(shutil.copytree(plate, tmp_path / "plate")), tmp_path / "out"
    layout = pd.read_csv(plate / "manifest.csv").filter(like="Metadata_").drop_duplicates()
    layout.drop(columns="Metadata_Plate").to_csv(tmp_path / "layout.csv", index=False)
    (copy / "manifest.csv").unlink()
    options = {"data": copy, "channels": ["DNA", "GFP"], "layout": tmp_path / "layout.csv"}
    run(None, out, **options)
    before = sorted((out / "units").rglob("*.*"))
    for path in copy.glob("A0[12]_*.tif"):
        path.unlink()
    for shard in (None, Shard(2, 2)):
        with pytest.raises(
            DataError, match=r"no images any more of 2 fields measured in .* such as 'plate/A01'"
        ):
            run(None, out, overwrite=True, shard=shard, **options)
    assert sorted((out / "units").rglob("*.*")) == before


def test_crops_of_the_report_come_from_fields_that_count(tmp_path):
    """A second site of every well has more nuclei, and is out of focus."""
    folder, rng = tmp_path / "plate", np.random.default_rng(3)
    frame = write_plate(folder, doses=(1, 4, 8))
    for name in frame["path"]:
        tifffile.imwrite(folder / f"s1_{name}", np.pad(tifffile.imread(folder / name), 60, mode="median"))
        field = planted_field(rng, 0.9, side=240, n_nuclei=16)[0].astype(float)
        tifffile.imwrite(folder / f"s2_{name}", ndimage.gaussian_filter(field, 4).astype(np.uint16))
    sites = [frame.assign(Metadata_Site=n, path=[f"s{n}_{path}" for path in frame["path"]]) for n in (1, 2)]
    pd.concat(sites).to_csv(folder / "manifest.csv", index=False)
    result = run(folder, tmp_path / "out")
    assert result.n_kept_out == len(result.wells)
    assert result.exhibits
    assert all(crop[0].max() > 860 for exhibit in result.exhibits for crop in exhibit.crops)


def two_times(keep):
    """Every field a second time; of the later ones those that `keep` chooses."""

    def twice(frame, folder):
        later = frame[keep(frame)].assign(Metadata_Time="2")
        for path in later["path"]:
            shutil.copy(folder / path, folder / f"late_{path}")
        return pd.concat([frame.assign(Metadata_Time="1"), later.assign(path="late_" + later["path"])])

    return twice


def test_time_points_taken_together_are_noted(tmp_path):
    result = run(
        changed_plate(tmp_path, two_times(lambda frame: frame["Metadata_Well"] != "A04")), tmp_path / "out"
    )
    (note,) = (note for note in result.notes if "time points" in note)
    assert note.startswith(
        "up to 2 time points of a well are taken together, as its fields are, and 1 well of fewer"
    )
    assert "such as p1/A04, may differ from its controls by time alone" in note


def test_time_points_without_a_control_are_refused_before_any_image_is_read(tmp_path):
    def treated(frame):
        return frame["Metadata_Control"].ne("negative")

    with pytest.raises(
        DataError, match=r"plate p1: no negative control at 1 time point of 2 \(\['2'\]; controls are"
    ):
        run(changed_plate(tmp_path, two_times(treated)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_replicates_of_different_times_are_noted_unless_they_are_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (f"p{time}", well_name(*divmod(i, 12)), ["DMSO", "a", "b"][i % 3], f"{time} h", rng.normal())
        for time in (24, 48)
        for i in range(18)
    ]
    names = [f"Metadata_{name}" for name in ("Plate", "Well", "Perturbation", "Time")]
    pd.DataFrame(rows, columns=[*names, "Nuclei_X"]).to_csv(tmp_path / "wells.csv", index=False)

    def notes(out, **call):
        settings = ScreenSettings.model_validate({"call": call})
        control = 'Metadata_Perturbation == "DMSO"'
        return run_screen(tmp_path / "wells.csv", tmp_path / out, control=control, settings=settings).notes

    told = "wells of 2 perturbations were taken at different times (Metadata_Time) and are judged as replicates; "
    assert told + "--group Metadata_Perturbation --group Metadata_Time judges" in " ".join(notes("together"))
    assert "different times" not in " ".join(
        notes("apart", group_by=["Metadata_Perturbation", "Metadata_Time"])
    )


@pytest.mark.parametrize("of_a_well", [1, 2])
def test_times_of_a_plate_are_told_of_tables_too_and_no_group_is_advised_that_would_share_its_controls(
    tmp_path, of_a_well
):
    rng = np.random.default_rng(0)
    rows = [
        ("p", well_name(*divmod(i, 12)), ["DMSO", "a", "b"][i % 3], str((i // 3 + t) % 2), "1", rng.normal())
        for i in range(18)
        for t in range(of_a_well)
    ]
    names = [f"Metadata_{name}" for name in ("Plate", "Well", "Perturbation", "Time", "Object")]
    table = pd.DataFrame(rows, columns=[*names, "Nuclei_X"])
    table.to_csv(tmp_path / "nuclei.csv", index=False)
    control = 'Metadata_Perturbation == "DMSO"'
    (note,) = (
        note
        for note in run_screen(tmp_path / "nuclei.csv", tmp_path / "out", control=control).notes
        if "time" in note
    )
    said = [
        "wells of up to 2 time points share the controls",
        "up to 2 time points of a well are taken together",
    ]
    assert note.startswith(said[of_a_well - 1])
    assert note.endswith(
        "screen each for itself to tell them apart: the folder of one, or a table with the rows of one Metadata_Time"
    )


def test_the_report_names_wells_with_their_plate_and_all_plates_that_are_poor(tmp_path):
    rng = np.random.default_rng(0)
    wells = pd.DataFrame(
        [
            (f"p{plate}", well, name, kind, rng.normal(), rng.normal())
            for plate in range(14)
            for name, kind, column in (("DMSO", "negative", 1), ("x", "positive", 2), ("a", "", 3))
            for well in (f"A{column:02d}", f"B{column:02d}", f"AA{column:02d}")
        ],
        columns=[
            "Metadata_Plate",
            "Metadata_Well",
            "Metadata_Perturbation",
            "Metadata_Control",
            "Nuclei_Count",
            "f",
        ],
    )
    wells.loc[8, "Nuclei_Count"] = np.nan
    wells.to_csv(tmp_path / "wells.csv", index=False)
    settings = ScreenSettings.model_validate({"call": {"readouts": ["Nuclei_Count", "f"]}})
    result = run(None, tmp_path / "out", data=tmp_path / "wells.csv", settings=settings)
    text = screen_report(tmp_path / "r.html", result, settings.call, title="t", command="c").read_text()
    assert "1 well without a field that can be judged: p0/AA03" in text
    assert "on 14 plates of 14: p0 (best" in text
    assert "<title>AA03: no value</title>" in text


def test_the_report_says_how_many_curves_it_does_not_show(tmp_path):
    doses, names = (0.1, 0.3, 1, 3, 10, 30), [f"c{i}" for i in range(30)]
    rows = [("DMSO", "", "negative", 1 + i / 80) for i in range(8)]
    rows += [(name, f"{dose}", "", 1 + 9 / (1 + (2 / dose) ** 2)) for name in names for dose in doses]
    wells = pd.DataFrame(
        rows, columns=[f"Metadata_{n}" for n in ("Perturbation", "Dose_uM", "Control")] + ["f"]
    )
    places = [f"{'ABCDEFGHIJKLMNOP'[i % 16]}{i // 16 + 1}" for i in range(len(wells))]
    wells = wells.assign(Metadata_Plate="p", Metadata_Well=places)
    wells.to_csv(tmp_path / "wells.csv", index=False)
    result = run_screen(tmp_path / "wells.csv", tmp_path / "out", control=CONTROL)
    text = screen_report(tmp_path / "r.html", result, SETTINGS.call, title="t", command="c").read_text()
    assert "The first 24 of 30 curves; all are in dose_response.csv." in text


def test_profiles_give_the_hits_that_images_gave(finished, tmp_path):
    out, result = finished
    again = run(None, tmp_path / "nuclei", data=out / "nuclei.parquet")
    pd.testing.assert_series_equal(again.wells[RATIO], result.wells[RATIO], check_exact=False, rtol=1e-6)
    assert list(again.hits["hit"]) == list(result.hits["hit"])
    assert again.fields is None
    assert "Nuclei_Count is the number of rows of each well" in again.notes[-1]
    by_ratio = ScreenSettings.model_validate({"call": {"readouts": [RATIO]}})
    again = run(None, tmp_path / "ratio", data=out / "nuclei.parquet", settings=by_ratio)
    assert not any("is the number of rows" in note for note in again.notes)


def test_a_corrected_layout_calls_measured_wells_again(finished, tmp_path):
    out, result = finished
    again = run(None, tmp_path / "same", data=out / "wells.csv")
    pd.testing.assert_frame_equal(again.hits, result.hits, check_exact=False, rtol=1e-6)
    assert set(again.wells) == set(result.wells)  # nothing is scored twice
    short = ScreenSettings.model_validate({"call": {"group_by": ["Perturbation"], "dose": "Dose_uM"}})
    full = ScreenSettings.model_validate(
        {"call": {"group_by": ["Metadata_Perturbation"], "dose": "Metadata_Dose_uM"}}
    )
    named = [run(None, tmp_path / str(s is short), data=out / "wells.csv", settings=s) for s in (short, full)]
    pd.testing.assert_frame_equal(named[0].hits, named[1].hits)
    wells = result.wells[["Metadata_Well", "Metadata_Perturbation"]].replace({"drug": "another drug"})
    wells.set_axis(["Well", "Perturbation"], axis=1).to_csv(tmp_path / "layout.csv", index=False)
    corrected = run(None, tmp_path / "new", data=out / "wells.csv", layout=tmp_path / "layout.csv")
    assert set(corrected.hits["Metadata_Perturbation"]) >= {"another drug", "drug B"}
    assert corrected.hits["hit"].sum() == result.hits["hit"].sum()


def test_two_shards_and_a_call_that_finishes(plate, finished, tmp_path):
    for index in (2, 1):
        part = run(plate, tmp_path / "out", shard=Shard(index, 2))
        assert isinstance(part, Outcome)
        assert part.n_run == {1: 10, 2: 11}[index]
    assert not (tmp_path / "out" / "hits.csv").exists()
    result = run(plate, tmp_path / "out")
    assert result.seconds == 0.0  # nothing was left to measure
    for name in ("nuclei.parquet", "wells.csv", "hits.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (finished[0] / name).read_bytes()


def test_only_the_first_shard_makes_the_plan_and_others_look_at_their_own_images(
    plate, tmp_path, monkeypatch
):
    copy, out = Path(shutil.copytree(plate, tmp_path / "plate")), tmp_path / "out"
    run(copy, out, shard=Shard(1, 3))
    opened, open_screen = [], planning.open_screen
    monkeypatch.setattr(
        planning, "open_screen", lambda *args, **options: opened.append(args) or open_screen(*args, **options)
    )
    fewer = planted_field(np.random.default_rng(1), 0.1, n_nuclei=8)
    tifffile.imwrite(copy / "A01_DNA.tif", fewer[0])  # the first shard's
    assert run(copy, out, shard=Shard(2, 3)).n_run == 7
    assert not opened
    with pytest.raises(DataError, match=r"1 finished unit changed since .* the first of 'p1/A01'"):
        run(copy, out, shard=Shard(1, 3))
    assert run(copy, out, shard=Shard(1, 3), overwrite=True).n_run == 1
    assert len(opened) == 2
    frame = pd.read_csv(copy / "manifest.csv")
    frame.iloc[:-2].to_csv(copy / "manifest.csv", index=False)
    with pytest.raises(DataError, match=r"another plan \(21 units then, 20 now\)"):
        run(copy, out, shard=Shard(3, 3))


def test_an_image_that_came_after_the_plan_was_made_is_noticed_when_it_is_replaced(plate, tmp_path):
    copy, out = Path(shutil.copytree(plate, tmp_path / "plate")), tmp_path / "out"
    late = copy / "C07_DNA.tif"  # the last shard's
    image = tifffile.imread(late)
    late.unlink()
    run(copy, out, shard=Shard(1, 21))
    tifffile.imwrite(late, image)
    assert run(copy, out, shard=Shard(21, 21)).results.failed == {}
    tifffile.imwrite(late, image // 2, metadata=None, description="another")
    with pytest.raises(DataError, match=r"1 finished unit changed since .* the first of 'p1/C07'"):
        run(copy, out, shard=Shard(21, 21))


def test_a_layout_that_names_fields_otherwise_makes_another_plan_and_other_corrections_do_not(
    plate, tmp_path
):
    layout = pd.read_csv(plate / "manifest.csv", dtype=str).filter(like="Metadata_").drop_duplicates()
    options = {"layout": tmp_path / "layout.csv", "shard": Shard(1, 2)}
    layout.assign(Time="24").to_csv(options["layout"], index=False)
    assert run(plate, tmp_path / "out", **options).n_run == 10
    layout.assign(Time="24", Gene="g").to_csv(options["layout"], index=False)
    assert run(plate, tmp_path / "out", **options).n_run == 0
    layout.assign(Time="48").to_csv(options["layout"], index=False)
    with pytest.raises(DataError, match=r"holds the results of another plan"):
        run(plate, tmp_path / "out", **options)


def test_shards_of_a_folder_notice_images_that_came_since(plate, tmp_path):
    copy, out = Path(shutil.copytree(plate, tmp_path / "plate")), tmp_path / "out"
    (copy / "manifest.csv").unlink()
    layout = pd.read_csv(plate / "manifest.csv").filter(like="Metadata_").drop_duplicates()
    layout.drop(columns="Metadata_Plate").to_csv(tmp_path / "layout.csv", index=False)
    options = {"data": copy, "channels": ["DNA", "GFP"], "layout": tmp_path / "layout.csv"}
    late = copy / "C07_DNA.tif", copy / "C07_GFP.tif"
    for path in late:
        path.rename(tmp_path / path.name)
    assert run(None, out, shard=Shard(1, 2), **options).n_units == 20
    for path in late:
        (tmp_path / path.name).rename(path)
    with pytest.raises(DataError, match=r"another plan \(20 units then, 21 now\)"):
        run(None, out, shard=Shard(2, 2), **options)


def test_a_finished_screen_is_kept_unless_told(finished, plate, tmp_path):
    out = Path(shutil.copytree(finished[0], tmp_path / "out"))
    with pytest.raises(DataError, match=r"hits\.csv: already exists.*--overwrite"):
        run(plate, out)
    stricter = SETTINGS.model_copy(update={"call": SETTINGS.call.model_copy(update={"fdr": 0.01})})
    assert run(plate, out, settings=stricter, overwrite=True).seconds == 0.0  # nothing is measured again


def test_a_screen_that_grows_keeps_what_is_measured(tmp_path):
    frame = write_plate(tmp_path / "plate", n_rows=3, doses=(1, 16))
    path = tmp_path / "plate" / "manifest.csv"
    frame[~frame["Metadata_Well"].str.startswith("B")].to_csv(path, index=False)
    run(tmp_path / "plate", tmp_path / "out")
    frame.to_csv(path, index=False)
    part = run(tmp_path / "plate", tmp_path / "out", shard=Shard(1, 1), overwrite=True)
    assert (part.n_run, part.n_units) == (6, 18)
    grown = run(tmp_path / "plate", tmp_path / "out", overwrite=True)
    fresh = run(tmp_path / "plate", tmp_path / "fresh")
    pd.testing.assert_frame_equal(grown.wells, fresh.wells)
    assert (tmp_path / "out" / "nuclei.parquet").read_bytes() == (
        tmp_path / "fresh" / "nuclei.parquet"
    ).read_bytes()


def test_an_image_that_was_replaced_is_measured_anew_and_a_copy_is_not(finished, plate, tmp_path):
    out = Path(shutil.copytree(finished[0], tmp_path / "out"))
    copy = Path(shutil.copytree(plate, tmp_path / "plate"))  # keeps times
    assert run(copy, out, overwrite=True).seconds == 0.0
    fewer = planted_field(np.random.default_rng(1), 0.1, n_nuclei=8)
    tifffile.imwrite(copy / "A01_DNA.tif", fewer[0])
    for name in ("hits.csv", "wells.csv"):
        (out / name).unlink()
    with pytest.raises(DataError, match=r"1 finished unit changed since .* the first of 'p1/A01'"):
        run(copy, out)
    result = run(copy, out, overwrite=True)
    assert result.wells.set_index("Metadata_Well").loc["A01", "Nuclei_Count"] == 8


def test_another_version_of_the_program_is_another_plan(finished, plate, tmp_path, monkeypatch):
    out = Path(shutil.copytree(finished[0], tmp_path / "out"))
    (out / "hits.csv").unlink()
    monkeypatch.setattr("image2reg.provenance.installed_versions", lambda: {"virtualstain": "99.0"})
    with pytest.raises(DataError, match=r"another plan \(version was '\d.*', is '99\.0'\)"):
        run(plate, out)


def test_bad_fields_are_flagged_counted_and_kept_out(tmp_path):
    def spoil(frame, folder):
        rng = np.random.default_rng(1)
        blurred = ndimage.gaussian_filter(planted_field(rng, 0.9)[0].astype(float), 9)
        tifffile.imwrite(folder / "A04_DNA.tif", blurred.astype(np.uint16))
        soft = ndimage.gaussian_filter(planted_field(rng, 0.9)[0].astype(float), 1.2)
        tifffile.imwrite(folder / "A05_DNA.tif", np.minimum(soft, 300).astype(np.uint16))
        noise = np.random.default_rng(2).normal(100, 3, (120, 120)).astype(np.uint16)
        tifffile.imwrite(folder / "B04_DNA.tif", noise)
        tifffile.imwrite(folder / "B05_DNA.tif", planted_field(rng, 0.9, n_nuclei=1)[0])
        haze = ndimage.gaussian_filter(np.random.default_rng(3).normal(0, 1, (120, 120)), 15)
        tifffile.imwrite(folder / "A06_DNA.tif", (noise + 8 * haze / haze.std() + 60).astype(np.uint16))
        return frame

    folder = changed_plate(tmp_path, spoil)
    result = run(folder, tmp_path / "out")
    flags = result.fields.set_index("Metadata_Well")["Metadata_Flags"]
    assert "blurred" in flags["A04"]
    assert "saturated" in flags["A05"]
    assert flags["B04"] == flags["A06"] == "empty"  # what haze shows looks like cells out of focus
    assert result.n_kept_out == 2
    wells = result.wells.set_index("Metadata_Well")
    assert wells.loc[["A04", "A05"], "Nuclei_Count"].isna().all()  # judged by no field
    assert (wells.loc[["B04", "A06"], "Nuclei_Count"] == 0).all()  # a finding, not a fault
    assert wells.loc["B05", "Nuclei_Count"] == 1
    assert np.isnan(wells.loc["B05", RATIO])
    assert wells.loc[["A04", "A05", "B04"], "Hit"].sum() == 0
    text = screen_report(tmp_path / "r.html", result, SETTINGS.call, title="t", command="c").read_text()
    assert "1 field saturated" in text
    everything = ScreenSettings.model_validate({"measure": {"model": "classical"}, "call": {"keep_out": []}})
    assert run(folder, tmp_path / "out", settings=everything, overwrite=True).n_kept_out == 0


def test_a_predicted_stain_is_not_taken_for_one_out_of_focus(tmp_path):
    soft = ndimage.gaussian_filter(planted_field(np.random.default_rng(1), 0.9)[0].astype(np.float32), 5)
    settings = SETTINGS.measure.model_dump(mode="json") | {"nuclei": "DNA", "usual_px": 16.0}
    flags = {}
    for name, said in {"real": {}, "predicted": {"model": "brightfield-nuclei 1.0.0"}}.items():
        Image(soft, "YX", annotations=said).write(tmp_path / f"{name}.ome.tif")
        about = {
            "path": f"{name}.ome.tif",
            "channel": None,
            "pages": None,
            "voxel_um": (None,) * 3,
            "sha256": "",
        }
        unit = {"name": name, "images": {"DNA": about}}
        (row,) = measure_field(unit, root=tmp_path, settings=settings)["fields"].to_dict("records")
        assert row["Field_Focus"] < 3.5
        flags[name] = row["Metadata_Flags"]
    assert flags == {"real": "blurred", "predicted": ""}


def test_predicted_plates_are_told_from_recorded_ones_in_tables_and_report(tmp_path):
    rows = []
    for plate in ("recorded", "predicted"):
        frame = write_plate(tmp_path / "plates" / plate, n_rows=2, doses=(1, 16))
        rows.append(frame.assign(path=f"{plate}/" + frame["path"], Metadata_Plate=plate))
    for path in (tmp_path / "plates" / "predicted").glob("*_DNA.tif"):
        dna = Image(tifffile.imread(path), "YX", annotations={"model": "brightfield-nuclei 1.0"})
        dna.write(path, overwrite=True)
    frame = pd.concat(rows)
    frame.to_csv(tmp_path / "plates" / "manifest.csv", index=False)
    (tmp_path / "plates" / "predicted" / "A05_DNA.tif").write_bytes(b"II*")
    result = run(tmp_path / "plates", tmp_path / "out")
    model = "DNA: brightfield-nuclei 1.0"
    places = ["Metadata_Plate", "Metadata_Origin", "Metadata_PredictedBy"]
    tables = {name: pd.read_csv(tmp_path / "out" / name) for name in ("wells.csv", "fields.csv")}
    tables["nuclei"] = pd.read_parquet(tmp_path / "out" / "nuclei.parquet")
    for table in tables.values():
        known = table[table["Metadata_Well"] != "A05"].fillna("")[places].drop_duplicates()
        assert known.to_numpy().tolist() == [["recorded", "real", ""], ["predicted", "predicted", model]]
        assert "Field_PredictedBy" not in table
    assert any("1 plate of 2: predicted" in note and model in note for note in result.notes)
    assert any("wells of 3 perturbations lie on plates of both kinds" in note for note in result.notes)
    page = screen_report(tmp_path / "r.html", result, SETTINGS.call, title="t", command="c").read_text()
    assert "plate predicted (predicted)" in page
    assert "plate recorded (predicted)" not in page
    origins = result.quality[["plate", "origin"]].drop_duplicates().to_numpy().tolist()
    assert origins == [["recorded", "real"], ["predicted", "predicted"]]
    apart = SETTINGS.model_validate({"call": {"group_by": ["Metadata_Perturbation", "Metadata_Origin"]}})
    again = run(None, tmp_path / "x", data=tmp_path / "out" / "wells.csv", settings=apart)
    assert {"drug real", "drug predicted"} <= set(again.hits["name"])


def test_fields_without_nuclei_are_told_apart_by_their_light():
    fields = pd.DataFrame({
        "Metadata_Plate": ["p1"] * 5 + ["p2"] * 2,
        "Metadata_Flags": ["", "", "blurred", "", "saturated;empty", "", "blurred"],
        "Field_Count": [50, 60, 0, 0, 0, 9, 0],
        "Field_Light": [100.0, 120.0, 20.0, 90.0, 95.0, 10.0, 9.0],
    })  # fmt: skip
    judged = without_nuclei(fields, np.array([True, True, False, False, False, True, False]))
    assert judged["Metadata_Flags"].tolist() == [
        "", "", "empty", "blurred", "saturated;blurred", "", "blurred",
    ]  # fmt: skip
    untold = without_nuclei(fields, np.zeros(7, bool))
    assert untold["Metadata_Flags"].tolist() == fields["Metadata_Flags"].tolist()


def test_nuclei_cut_by_the_border_do_not_make_up_for_too_few_whole_ones():
    place = {"Metadata_Plate": "p", "Metadata_Well": np.repeat(["A01", "A02"], 6)}
    cut = ["True"] * 4 + ["False"] * 2 + ["True"] + ["False"] * 5
    nuclei = pd.DataFrame({**place, "Metadata_TouchesBorder": cut, "Nuclei_AreaShape_Area": np.arange(12.0)})
    fields = pd.DataFrame(
        {"Metadata_Plate": "p", "Metadata_Well": ["A01", "A02"], "Metadata_Flags": "", "Field_Count": 6}
    )
    wells = well_table(nuclei, fields, keep_out=(), min_nuclei=5)
    assert wells["Nuclei_Count"].tolist() == wells["Well_Nuclei"].tolist() == [6, 6]
    np.testing.assert_array_equal(wells["Nuclei_AreaShape_Area"], [np.nan, 9.0])


def test_an_unreadable_frame_is_listed_and_the_rest_is_done(tmp_path):
    def spoil(frame, folder):
        (folder / "B01_GFP.tif").write_bytes(b"II*\0 not a picture")
        (folder / "A05_DNA.tif").unlink()
        return frame

    folder = changed_plate(tmp_path, spoil)
    result = run(folder, tmp_path / "out")
    listed = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert list(listed["unit"]) == ["p1/A05", "p1/B01"]
    assert listed["error"].str.contains(r"A05_DNA.tif|B01_GFP.tif").all()
    assert len(result.wells) == 12
    lost = result.wells.set_index("Metadata_Well").loc[["A05", "B01"]]
    assert lost[["Well_Fields", "Well_Nuclei", "Hit"]].to_numpy().sum() == 0
    assert lost["Nuclei_Count"].isna().all()
    assert lost["Metadata_Perturbation"].tolist() == ["drug", "DMSO"]
    assert list(result.wells["Metadata_Well"]) == sorted(result.wells["Metadata_Well"])
    text = screen_report(tmp_path / "r.html", result, SETTINGS.call, title="t", command="c").read_text()
    assert "2 fields failed (failures.csv), the first p1/A05" in text
    assert "2 wells without a field that can be judged: A05, B01" in text


def test_a_broken_or_missing_image_of_a_folder_is_its_fields_failure_too(tmp_path):
    frame = write_plate(tmp_path / "images", n_rows=2, doses=(1, 16))
    layout = frame.drop_duplicates("Metadata_Well").drop(
        columns=["path", "channel", "role", "Metadata_Plate"]
    )
    layout.drop(columns=["voxel_y_um", "voxel_x_um"]).to_csv(tmp_path / "layout.csv", index=False)
    (tmp_path / "images" / "A01_DNA.tif").write_bytes(b"no picture")
    (tmp_path / "images" / "A05_GFP.tif").unlink()
    (tmp_path / "images" / "B04_DNA.tif").unlink()
    tifffile.imwrite(tmp_path / "images" / "overview.tif", np.zeros((8, 9), np.uint8))
    settings = {"measure": {"model": "classical", "diameter_px": 17.5}}
    result = run(
        None, tmp_path / "out", data=tmp_path / "images", channels=["DNA", "GFP"], layout=tmp_path / "layout.csv",
        settings=ScreenSettings.model_validate(settings),
    )  # fmt: skip
    listed = pd.read_csv(tmp_path / "out" / "failures.csv").set_index("unit")["error"]
    assert list(listed.index) == ["images/A01", "images/A05", "images/B04"]
    assert "A01_DNA.tif" in listed["images/A01"]
    assert "no image of channel 'GFP', only of ['DNA']" in listed["images/A05"]
    assert "no image of channel 'DNA', only of ['GFP']" in listed["images/B04"]
    assert len(result.fields) == 9
    note = "overview.tif: left out, no channel asked for is in its name"
    assert result.notes[0] == note
    text = screen_report(tmp_path / "r.html", result, SETTINGS.call, title="t", command="c").read_text()
    assert f'<li class="warning"><b>warning</b>{note}' in text


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        (r"(?P<Site>\d\d)", ConfigurationError,
         r"--pattern '\(\?P<Site>.*': there is no well in A01_DNA.tif; its groups are \['Site'\]"),
        (r"(?P<Well>\d\d)", ConfigurationError, r"--pattern .*: its Well is '01' in A01_DNA.tif"),
        (None, DataError, "there is no well in the name of x_DNA.tif. Say with --pattern where it stands"),
        (r"(?P<Well>[A-Zx]\d*)", ConfigurationError, "its Well is 'x' in x_DNA.tif"),
    ],
)  # fmt: skip
def test_a_folder_without_wells_is_explained(tmp_path, pattern, error, message):
    for name in ("A01", "A02", "x"):
        tifffile.imwrite(tmp_path / f"{name}_DNA.tif", np.zeros((8, 9), np.uint8))
        if pattern and "x" not in pattern:
            (tmp_path / "x_DNA.tif").unlink(missing_ok=True)
    (tmp_path / "layout.csv").write_text("Well,Control\nA01,negative\n")
    with pytest.raises(error, match=message):
        run(
            None,
            tmp_path / "out",
            data=tmp_path,
            channels=["DNA"],
            pattern=pattern,
            layout=tmp_path / "layout.csv",
        )


@pytest.mark.parametrize("form", ["W00{}F0001T0001Z001C1", "LT1--c3___--W00{}--P00001--C1"])
def test_wells_by_number_are_explained(tmp_path, form):
    for name in (form.format("01"), form.format("13")):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((8, 9), np.uint8))
    with pytest.raises(
        DataError, match=r"wells are numbered in the names, such as .*W0001.*Rename the files, or list"
    ):
        run(None, tmp_path / "out", data=tmp_path, channels=["DNA=C1"])


def test_a_plate_of_which_every_field_failed_is_named(tmp_path):
    def gone(frame, _folder):
        return pd.concat(
            [frame, frame.assign(Metadata_Plate="p2", path=["gone/" + path for path in frame["path"]])]
        )

    result = run(changed_plate(tmp_path, gone), tmp_path / "out")
    assert len(result.failures) == len(result.wells) == 12
    beyond, lost = result.notes[-2:]
    assert beyond.startswith("nothing could be called: ")  # two replicates beside six controls
    assert lost == "1 plate of which every field failed, in no table: ['p2']"


def test_plates_of_a_manifest_may_differ_in_their_stains(tmp_path):
    def unstained(frame, folder):
        shutil.copytree(folder, folder / "p2")
        second = frame[frame["channel"] == "DNA"]
        return pd.concat([frame, second.assign(Metadata_Plate="p2", path="p2/" + second["path"])])

    by_count = ScreenSettings.model_validate(
        {**SETTINGS.model_dump(), "call": {"readouts": ["Nuclei_Count"]}}
    )
    folder = changed_plate(tmp_path, unstained)
    result = run(folder, tmp_path / "out", settings=by_count)
    assert not result.failures
    assert result.wells.groupby("Metadata_Plate")[RATIO].count().to_dict() == {"p1": 12, "p2": 0}
    told = f"1 plate without scores in {RATIO}, as no control well there has a value: p2"
    assert told not in result.notes
    result = run(folder, tmp_path / "out", overwrite=True)
    assert told in result.notes
    scored = result.wells.groupby("Metadata_Plate")[
        [f"RobustZ_{RATIO}", "RobustZ_Nuclei_AreaShape_Area"]
    ].count()
    assert scored.to_numpy().tolist() == [[12, 12], [0, 12]]
    assert result.hits.loc[result.hits["score"].str.endswith(RATIO), "n_plates"].max() == 1
    blank = result.wells.assign(Nuclei_Count=np.nan)
    with pytest.raises(
        DataError, match=r"readout Nuclei_Count: no control well has a value \(12 control wells"
    ):
        score_wells(blank, ["Nuclei_Count"])


def test_a_file_that_is_not_the_one_of_the_manifest_is_a_failure(tmp_path):
    folder = changed_plate(
        tmp_path, lambda frame, _: frame.assign(sha256=np.where(frame.index == 3, "0" * 64, ""))
    )
    result = run(folder, tmp_path / "out")
    assert [f[0] for f in result.failures] == ["p1/A02"]
    assert "differs from the sha256 in the manifest" in result.failures[0][2]


def test_all_fields_failing_is_an_error(tmp_path):
    def spoil(frame, folder):
        for path in frame["path"]:
            (folder / path).unlink()
        return frame

    with pytest.raises(DataError, match=r"all 12 fields failed; the first: .*no such file"):
        run(changed_plate(tmp_path, spoil), tmp_path / "out")


def test_a_plate_without_controls_is_refused_before_any_image_is_read(tmp_path):
    def bare(frame, _folder):
        other = frame.assign(
            Metadata_Plate="p2", Metadata_Control="", path=["gone/" + p for p in frame["path"]]
        )
        return pd.concat([frame, other])

    with pytest.raises(DataError, match=r"1 of 2 plates have no well with .*\['p2'\]"):
        run(changed_plate(tmp_path, bare), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_well_twice_is_refused(finished, tmp_path):
    def twice(frame, _folder):
        return pd.concat([frame, frame[frame["Metadata_Well"] == "A01"].assign(Metadata_Well="A1")])

    with pytest.raises(DataError, match=r"4 problems in 26 rows"):
        run(changed_plate(tmp_path, twice), tmp_path / "out")

    def other_content(frame, _folder):
        site = frame[frame["Metadata_Well"] == "A04"].assign(Metadata_Site="2", Metadata_Perturbation="other")
        return pd.concat([frame, site.assign(path=["gone/" + p for p in site["path"]])])

    with pytest.raises(DataError, match="well p1/A04 has fields with different Metadata_Perturbation"):
        run(changed_plate(tmp_path / "b", other_content), tmp_path / "out")

    def half_told(frame, _folder):
        told = frame.assign(Metadata_siRNA="si1")
        site = told[told["Metadata_Well"] == "A04"].assign(Metadata_Site="2", Metadata_siRNA="")
        return pd.concat([told, site.assign(path=["gone/" + p for p in site["path"]])])

    by_reagent = ScreenSettings.model_validate(
        {**SETTINGS.model_dump(), "call": {"group_by": ["Metadata_siRNA"]}}
    )
    with pytest.raises(
        DataError, match=r"well p1/A04 has fields with different Metadata_siRNA: \['si1', ''\]"
    ):
        run(changed_plate(tmp_path / "c", half_told), tmp_path / "out", settings=by_reagent)
    wells = pd.read_csv(finished[0] / "wells.csv")
    pd.concat([wells, wells[:2]]).to_csv(tmp_path / "wells.csv", index=False)
    with pytest.raises(
        DataError, match=r"more than one row each for 2 wells, such as \['p1/A01', 'p1/A02'\]"
    ):
        run(None, tmp_path / "other", data=tmp_path / "wells.csv")


def test_channels_of_different_size_fail_as_one_field(tmp_path):
    def spoil(frame, folder):
        tifffile.imwrite(folder / "A04_GFP.tif", np.zeros((50, 60), np.uint16))
        return frame

    result = run(changed_plate(tmp_path, spoil), tmp_path / "out")
    assert (
        "channel 'GFP' is (50, 60), the first channel of field p1/A04 is (120, 120)" in result.failures[0][2]
    )


def test_the_pixels_of_a_field_are_those_that_any_channel_knows_and_of_one_size(tmp_path):
    def field(**sizes):
        images = {}
        for channel, size in sizes.items():
            file = f"{channel}.ome.tif"
            plane = Image(np.zeros((9, 9), np.uint8), "YX", (None, size, size))
            plane.write(tmp_path / file, overwrite=True)
            about = {
                "path": file,
                "channel": None,
                "pages": None,
                "voxel_um": (None, None, None),
                "sha256": "",
            }
            images[channel] = about
        return read_unit({"name": "A01", "images": images}, tmp_path)

    assert field(DNA=None, GFP=0.65).voxel_um == (None, 0.65, 0.65)
    assert field(DNA=0.65, GFP=0.66).voxel_um == (None, 0.65, 0.65)
    with pytest.raises(DataError, match=r"GFP.ome.tif: its voxels are \(None, 0.325, 0.325\) um"):
        field(DNA=0.65, GFP=0.325)


def test_a_folder_with_a_layout_is_a_screen_too(plate, finished, tmp_path):
    frame = pd.read_csv(plate / "manifest.csv", dtype=str).drop_duplicates("Metadata_Well")
    layout = frame[["Metadata_Well", "Metadata_Perturbation", "Metadata_Dose_uM", "Metadata_Control"]]
    layout = layout.set_axis(["Well", "Perturbation", "Dose_uM", "Control"], axis=1)
    layout.to_csv(tmp_path / "layout.csv", index=False)
    pixels = SETTINGS.model_copy(
        update={"measure": SETTINGS.measure.model_copy(update={"diameter_px": 17.5})}
    )
    (tmp_path / "images").mkdir()
    for path in plate.glob("*.tif"):
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    result = run(
        None, tmp_path / "out", data=tmp_path / "images", channels=["DNA", "GFP"], layout=tmp_path / "layout.csv",
        settings=pixels,
    )  # fmt: skip
    np.testing.assert_allclose(result.wells[RATIO], finished[1].wells[RATIO], rtol=1e-3)
    layout[1:].to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(DataError, match=r"no row for 1 well of the data, such as A01.*--pattern"):
        run(
            None,
            tmp_path / "x",
            data=tmp_path / "images",
            channels=["DNA", "GFP"],
            layout=tmp_path / "short.csv",
        )
    pd.concat([layout, layout[:1]]).to_csv(tmp_path / "double.csv", index=False)
    with pytest.raises(DataError, match="more than one row each for 1 well, such as A01"):
        run(
            None,
            tmp_path / "x",
            data=tmp_path / "images",
            channels=["DNA", "GFP"],
            layout=tmp_path / "double.csv",
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            {"readouts": ["Nuclei_Areashape"]},
            r"readout 'Nuclei_Areashape' is not measured; near are \['Nuclei_AreaShape",
        ),
        ({"readouts": ["Metadata_Well"]}, "readout 'Metadata_Well' is not measured"),
        ({"readouts": ["area"]}, r"near are \['Nuclei_AreaShape_Area', "),
        (
            {"group_by": ["Metadata_siRNA"]},
            "no column 'Metadata_siRNA': it is not known which wells are replicates",
        ),
        ({"dose": "Metadata_Perturbation"}, "--dose Metadata_Perturbation: 'DMSO' is no number"),
    ],
)
def test_wrong_columns_are_explained(finished, tmp_path, call, message):
    settings = ScreenSettings.model_validate({"call": call})
    with pytest.raises(DataError, match=message):
        run(None, tmp_path / "out", data=finished[0] / "nuclei.parquet", settings=settings)


def test_a_wrong_readout_is_refused_before_any_image_is_read(plate, finished, tmp_path):
    names = {"readouts": ["Nuclei_RingIntensity_NucleusToRing_gfp"]}
    settings = ScreenSettings.model_validate({**SETTINGS.model_dump(), "call": names})
    with pytest.raises(DataError, match=r"near are \['Nuclei_RingIntensity_NucleusToRing_GFP'"):
        run(plate, tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()
    measured = set(finished[1].wells.filter(regex="^(Nuclei|Well)_"))
    assert measured == {*OF_A_WELL, *feature_names(["DNA", "GFP"], SETTINGS.measure)}


def test_wrong_options_are_explained(plate, finished, tmp_path):
    rule = ScreenSettings.model_validate({"call": {"rule": "best"}})
    with pytest.raises(
        ConfigurationError, match=r"call.rule 'best' is not known .*; there is \['aits-sirna'\]"
    ):
        run(plate, tmp_path / "out", settings=rule)
    with pytest.raises(ConfigurationError, match="a folder needs its channels"):
        run(plate, tmp_path / "out", data=plate)
    for shard in (None, Shard(1, 2)):
        with pytest.raises(DataError, match=r"no\.csv: no such file or folder"):
            run(plate, tmp_path / "out", data=tmp_path / "no.csv", shard=shard)
    with pytest.raises(ConfigurationError, match="these profiles are measured already"):
        run(None, tmp_path / "out", data=finished[0] / "nuclei.parquet", shard=Shard(1, 2))
    other = ScreenSettings.model_validate({"measure": {"model": "classical", "nuclei": "RFP"}})
    with pytest.raises(
        ConfigurationError, match=r"--nuclei RFP: no such input channel; there are \['DNA', 'GFP'\]"
    ):
        run(plate, tmp_path / "out", settings=other)


def measured_again(finished, tmp_path, change):
    """Judge the measured wells of the finished screen with other metadata."""
    wells = pd.read_csv(finished[0] / "wells.csv", dtype={"Metadata_Dose_uM": str}, keep_default_na=False)
    change(wells).to_csv(tmp_path / "wells.csv", index=False)
    return run(None, tmp_path / "out", data=tmp_path / "wells.csv")


def test_equal_doses_are_one_dose_however_they_are_written(finished, tmp_path):
    def spelled(wells):
        odd = wells["Metadata_Well"].str.startswith("A") & wells["Metadata_Dose_uM"].eq("4")
        return wells.assign(Metadata_Dose_uM=wells["Metadata_Dose_uM"].mask(odd, "4.0"))

    result = measured_again(finished, tmp_path, spelled)
    assert result.hits.loc[result.hits["Metadata_Dose_uM"] == "4.0", "n_replicates"].tolist() == [
        3,
        3,
        0,
    ]  # counts are all equal
    assert "4" not in set(result.hits["Metadata_Dose_uM"])


def test_fields_of_a_well_may_write_its_dose_differently(tmp_path):
    def spelled(frame, folder):
        second = frame[frame["Metadata_Well"] == "A04"].assign(Metadata_Site="2")
        for path in second["path"]:
            shutil.copy(folder / path, folder / f"s2_{path}")
        dose = second["Metadata_Dose_uM"].astype(float).map("{:.1f}".format)
        second = second.assign(path="s2_" + second["path"], Metadata_Dose_uM=dose)
        return pd.concat([frame.assign(Metadata_Site="1"), second])

    wells = run(changed_plate(tmp_path, spelled), tmp_path / "out").wells.set_index("Metadata_Well")
    assert wells.loc["A04", "Metadata_Dose_uM"] == wells.loc["B04", "Metadata_Dose_uM"]


def test_wells_of_one_dose_are_no_replicates_where_the_compound_is_not_said(finished, tmp_path):
    for change in ({"columns": {"Metadata_Perturbation": "Metadata_Compound"}}, {}):

        def unnamed(wells, change=change):
            return wells.rename(**change) if change else wells.assign(Metadata_Perturbation="")

        what = "no column" if change else "column"
        with pytest.raises(DataError, match=f"{what} 'Metadata_Perturbation'.*name columns with --group"):
            measured_again(finished, tmp_path, unnamed)


def test_readouts_without_spread_are_noted(finished, tmp_path):
    def flat(wells):
        negative = wells["Metadata_Control"] == "negative"
        return wells.assign(Nuclei_A=0, Nuclei_B=(~negative).astype(int), Nuclei_C=range(len(wells)))

    wells = flat(pd.read_csv(finished[0] / "wells.csv", dtype=str))
    wells.to_csv(tmp_path / "wells.csv", index=False)
    settings = ScreenSettings.model_validate({"call": {"readouts": ["Nuclei_A", "Nuclei_B", "Nuclei_C"]}})
    result = run(None, tmp_path / "out", data=tmp_path / "wells.csv", settings=settings)
    assert result.notes[:2] == [
        "1 plate without scores in Nuclei_A, as it is the same in all wells there: p1",
        "1 plate whose control wells are all equal in Nuclei_B (or a single one), where robust z is in units of the "
        "spread of all wells: p1",
    ]
    assert not any("Nuclei_C" in note for note in result.notes)
    page = screen_report(tmp_path / "r.html", result, settings.call, title="t", command="c").read_text()
    assert result.notes[0] in page


def test_wells_without_a_name_are_noted(finished, tmp_path):
    def merged(wells):
        return wells.assign(
            Metadata_Perturbation=wells["Metadata_Perturbation"].mask(wells["Metadata_Well"] == "B04", ""),
            Metadata_Dose_uM=wells["Metadata_Dose_uM"].mask(wells["Metadata_Well"] == "B04", ""),
        )

    result = measured_again(finished, tmp_path, merged)
    assert any("1 well with nothing in Metadata_Perturbation, such as p1/B04" in n for n in result.notes)
    assert (result.hits["name"] == "no name").sum() == 3


def test_the_published_rule_and_genes_with_pathways(finished, tmp_path):
    wells = pd.read_csv(finished[0] / "wells.csv", dtype={"Metadata_Well": str})
    wells = wells[
        [n for n in wells if n.startswith("Metadata_") or n in ("Nuclei_Count", "Nuclei_AreaShape_Area")]
    ]
    names = {
        (p, d): f"{p}{d}"
        for p, d in zip(wells["Metadata_Perturbation"], wells["Metadata_Dose_uM"], strict=True)
    }
    genes = [
        names[p, d] for p, d in zip(wells["Metadata_Perturbation"], wells["Metadata_Dose_uM"], strict=True)
    ]
    lost = wells["Metadata_Dose_uM"] == 8
    wells["Nuclei_Count"] = np.where(lost, 0.5, wells["Nuclei_Count"] + np.linspace(0, 0.5, len(wells)))
    wells["Metadata_Gene"] = genes
    second = wells.assign(Metadata_Plate="p2", Metadata_Gene=wells["Metadata_Gene"] + "b", Nuclei_Count=9.0)
    second["Nuclei_Count"] += np.linspace(0, 0.5, len(second))
    pd.concat([wells, second]).to_csv(tmp_path / "wells.csv", index=False)
    (tmp_path / "sets.gmt").write_text("doses\tx\tdrug1\tdrug4\tdrug8\tdrug1b\tdrug4b\n")
    settings = ScreenSettings.model_validate(
        # one true hit on small plates: 3 wells against 9 cannot have a smaller p than 1/220
        {"call": {"rule": "aits-sirna", "readouts": ["Nuclei_Count", "Nuclei_AreaShape_Area"], "fdr": 0.2}}
    )
    result = run(
        None, tmp_path / "out", data=tmp_path / "wells.csv", settings=settings, gmt=tmp_path / "sets.gmt"
    )
    assert set(result.wells.loc[result.wells["Metadata_Rule"] != "", "Metadata_Gene"]) == {"drug8"}
    assert list(result.genes.loc[result.genes["hit"], "Metadata_Gene"]) == ["drug8"]
    assert result.pathways.loc[0, "n_hits"] == 1


def test_genes_in_single_wells_and_positive_controls_are_no_background_of_pathways(tmp_path):
    rng = np.random.default_rng(0)
    names = ["DMSO"] * 16 + [f"g{i}" for i in range(12) for _ in range(3)] + [f"once{i}" for i in range(20)]
    names += ["killer"] * 3
    values = rng.normal(size=len(names)) + 30 * np.isin(names, ["g0", "g1", "g2", "killer"])
    wells = pd.DataFrame(
        {
            "Metadata_Plate": "p",
            "Metadata_Well": [well_name(*divmod(i, 12)) for i in range(len(names))],
            "Metadata_Perturbation": names,
            "Metadata_Gene": ["" if name == "DMSO" else name for name in names],
            "Nuclei_X": values,
        }
    )
    wells.to_csv(tmp_path / "wells.csv", index=False)
    members = [f"g{i}" for i in range(6)]
    (tmp_path / "sets.gmt").write_text("\t".join(["half", "x", *members, "once0", "killer"]) + "\n")
    settings = ScreenSettings.model_validate({"call": {"readouts": ["Nuclei_X"]}})

    def screened(out, **controls):
        data, gmt = tmp_path / "wells.csv", tmp_path / "sets.gmt"
        queries = {role: f'Metadata_Perturbation == "{name}"' for role, name in controls.items()}
        return run_screen(data, tmp_path / out, **queries, settings=settings, gmt=gmt)

    all_of = screened("all", control="DMSO", positive="killer")
    assert "killer" in set(all_of.genes.loc[all_of.genes["hit"], "Metadata_Gene"])
    (half,) = all_of.pathways.to_dict("records")
    assert (half["n_hits"], half["n_tested"], half["expected"]) == (3, 6, 3 * 6 / 12)
    # The gene of a positive control that is in the library, too, is judged by its reagents there.
    both = wells["Metadata_Gene"].mask(wells["Metadata_Perturbation"].eq("killer"), "g5")
    wells.assign(Metadata_Gene=both).to_csv(tmp_path / "wells.csv", index=False)
    of_both = screened("both", control="DMSO", positive="killer").genes.set_index("Metadata_Gene").loc["g5"]
    assert (of_both["n_reagents"], of_both["hit"]) == (1, False)
    single = wells["Metadata_Perturbation"].str.startswith(("DMSO", "once"))
    wells[single].to_csv(tmp_path / "wells.csv", index=False)
    alone = screened("alone", control="DMSO")
    assert alone.pathways is None
    assert any("no gene was tested" in note for note in alone.notes)
