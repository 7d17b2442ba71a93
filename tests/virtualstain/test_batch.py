"""Many images and plates: failures are listed, the rest is done, nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image, read, write
from image2reg.images.plates import read_plate, write_plate
from virtualstain.batch import find_images, predict_many
from virtualstain.model import StainModel
from virtualstain.predict import predict

Factory = Callable[..., StainModel]


def plane(seed: int, *, constant: bool = False) -> Image:
    data = (
        np.full((24, 26), 5, np.uint16)
        if constant
        else np.random.default_rng(seed).integers(0, 999, (24, 26))
    )
    return Image(data.astype(np.uint16)[None], "CYX", (None, 0.5, 0.5), ("Brightfield",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(3):
        write(plane(i), tmp_path / "in" / f"cell{i}.ome.tif")
    return tmp_path / "in"


def test_a_plate_becomes_a_plate_and_a_bad_field_is_listed(make_model: Factory, tmp_path: Path) -> None:
    images = {("A/1", "0"): plane(0), ("A/1", "1"): plane(1, constant=True), ("B/2", "0"): plane(2)}
    write_plate(tmp_path / "plate.ome.zarr", images)
    done = predict_many([tmp_path / "plate.ome.zarr"], tmp_path / "out.ome.zarr", model=make_model())
    plate = read_plate(tmp_path / "out.ome.zarr")
    assert list(plate) == [("A/1", "0"), ("B/2", "0")]
    assert plate.image("B/2", "0").channels == ("Hoechst", "Mito")
    assert [f["source"].split("/")[-3:] for f in done.failures] == [["A", "1", "1"]]
    assert "constant image" in (tmp_path / "out.failures.csv").read_text()


def test_a_prediction_says_which_plate_or_folder_it_was_made_of(
    make_model: Factory, folder: Path, tmp_path: Path
) -> None:
    write_plate(tmp_path / "plate7.ome.zarr", {("A/1", "0"): plane(0)})
    model = make_model()
    predict_many([tmp_path / "plate7.ome.zarr"], tmp_path / "out.ome.zarr", model=model)
    predict_many([tmp_path / "out.ome.zarr"], tmp_path / "twice.ome.zarr", model=model, channels=["Mito"])
    predict_many([folder], tmp_path / "out", model=model)
    predict_many([folder / "cell0.ome.tif"], tmp_path / "streamed.ome.zarr", model=model)
    made = {
        "out.ome.zarr/A/1/0": "plate7",
        "twice.ome.zarr/A/1/0": "plate7",
        "out/cell1.ome.tif": "in",
        "streamed.ome.zarr": "in",
    }
    assert {name: read(tmp_path / name).annotations["predicted_from"] for name in made} == made


def test_what_holds_for_many_fields_is_said_once(make_model: Factory, tmp_path: Path) -> None:
    write_plate(tmp_path / "plate.ome.zarr", {("A/1", str(k)): plane(k) for k in range(3)})
    done = predict_many(
        [tmp_path / "plate.ome.zarr"], tmp_path / "out.ome.zarr", model=make_model(offset=(4, 0))
    )
    (note,) = (n for n in done.written[0]["flags"] if "lies in the frame" in n)
    assert note.startswith("3 fields: ")


def test_a_voxel_size_that_replaces_the_files_is_told(
    make_model: Factory, folder: Path, tmp_path: Path
) -> None:
    write(plane(3).replace(voxel_um=(None, 1.0, 1.0)), folder / "coarse.ome.tif")
    write_plate(tmp_path / "plate.ome.zarr", {("A/1", "0"): plane(4).replace(voxel_um=(None, 0.8, 0.8))})
    done = predict_many(
        [folder, tmp_path / "plate.ome.zarr"], tmp_path / "out", model=make_model(), voxel_um=(None, 0.5, 0.5)
    )
    told = {Path(row["source"]).name: " ".join(row["flags"]) for row in done.written}
    assert [name for name, flags in told.items() if "the file says" in flags] == [
        "coarse.ome.tif",
        "plate.ome.zarr",
    ]
    assert (
        "taken for voxels of ? x 0.5 x 0.5 um (z, y, x) as was asked; the file says ? x 1 x 1 um"
        in told["coarse.ome.tif"]
    )


def single_channels(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = plane(number)
        write(Image(image.data[0], "YX", image.voxel_um), folder / f"{name}.tif")
    return folder


@pytest.mark.parametrize(
    ("names", "asked", "left"),
    [
        (("A01_BF", "A01_DAPI", "A02_BF"), ("BF",), 1),
        (("A01_BF", "A01_DAPI", "A02_BF"), (), 1),  # an alias of the model's Brightfield
        (("A01_s1_w1", "A01_s1_w2", "A02_s1_w1"), ("w1",), 1),
        (("A01_BF", "A02_BF", "B01_bright field"), (), 0),
        (("A01_s1", "A01_s2", "A02_s1"), (), 0),
        (("A01_w1", "A01_w2"), ("0",), 0),  # a position is of no name
    ],
)
def test_files_of_other_channels_are_left_out_and_counted(
    make_model: Factory, tmp_path: Path, names: tuple[str, ...], asked: tuple[str, ...], left: int
) -> None:
    folder = single_channels(tmp_path / "in", *names)
    done = predict_many([folder], tmp_path / "out", model=make_model(), channels=asked)
    others = [name for name in names if left and ("DAPI" in name or "w2" in name)]
    assert [Path(row["source"]).stem for row in done.written] == [n for n in names if n not in others]
    assert (done.n_other, done.failures) == (left, [])


def test_files_of_one_channel_and_images_of_several_lie_in_one_folder(
    make_model: Factory, tmp_path: Path
) -> None:
    folder = single_channels(tmp_path / "BF_day1", "A01_BF", "A01_DAPI", "A02_DAPI")
    both = np.concatenate([plane(1).data, plane(2).data])
    write(Image(both, "CYX", (None, 0.5, 0.5), ("DAPI", "BF")), folder / "A03_BF.ome.tif")
    done = predict_many([folder], tmp_path / "out", model=make_model(), channels=["BF"])
    assert [Path(row["source"]).name for row in done.written] == ["A01_BF.tif", "A03_BF.ome.tif"]
    assert [Path(row["source"]).name for row in done.failures] == ["A02_DAPI.tif"]  # may be one, and is none
    alone = predict(make_model(), Image(both[1:], "CYX", (None, 0.5, 0.5)))
    made = read(tmp_path / "out" / "A03_BF.ome.tif").load().data
    np.testing.assert_array_equal(made, alone.image.data[:, 0])


def test_jpegs_of_a_folder_are_predicted_where_nothing_else_is(make_model: Factory, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpeg"):
        Picture.fromarray((plane(0).data[0] // 4).astype(np.uint8)).save(tmp_path / "in" / name)
    options = {"model": make_model(), "voxel_um": (None, 0.5, 0.5)}
    done = predict_many([tmp_path / "in"], tmp_path / "out", **options)
    assert [Path(row["output"]).name for row in done.written] == ["a.ome.tif", "b.ome.tif"]
    write(plane(0), tmp_path / "in" / "a.tif")  # a.jpg is its preview
    assert [path.name for path in find_images([tmp_path / "in"])] == ["a.tif"]


def test_channels_side_by_side_are_not_all_taken_for_the_input(make_model: Factory, tmp_path: Path) -> None:
    folder = single_channels(tmp_path / "in", "A01_s1_w1", "A01_s1_w2")
    for inputs in ([folder], sorted(folder.iterdir())):
        with pytest.raises(
            ConfigurationError, match=r"2 files are channels of fields .*A01_s1_w1.*--channel w1"
        ):
            predict_many(inputs, tmp_path / "out", model=make_model())
    assert not (tmp_path / "out").exists()


def test_what_was_there_already_is_counted_and_thumbnails_are_no_fields(
    make_model: Factory, folder: Path, tmp_path: Path
) -> None:
    write(plane(3), folder / "A01_s1_w1_thumb3B7F.tif")
    assert [path.stem for path in find_images([folder])] == [f"cell{i}.ome" for i in range(3)]
    (tmp_path / "out").mkdir()
    write(plane(0), tmp_path / "out" / "cell1.ome.tif")
    done = predict_many([folder], tmp_path / "out", model=make_model(), resume=True)
    assert (len(done.written), done.n_present) == (2, 1)


def test_resuming_a_plate_that_lacks_a_field_says_so_and_keeps_the_list_of_failures(
    make_model: Factory, tmp_path: Path
) -> None:
    source, out = tmp_path / "plate.ome.zarr", tmp_path / "out.ome.zarr"
    write_plate(source, {("A/1", "0"): plane(0), ("A/1", "1"): plane(1, constant=True)})
    predict_many([source], out, model=make_model())
    with pytest.raises(
        ConfigurationError, match=r"1 field it lacks \(A/1/1\) cannot be added. Pass --overwrite"
    ):
        predict_many([source], out, model=make_model(), resume=True)
    assert (tmp_path / "out.failures.csv").exists()
    write_plate(source, {("A/1", "0"): plane(0)}, overwrite=True)
    assert not predict_many([source], out, model=make_model(), resume=True).written


def test_an_interrupted_plate_goes_on_with_what_is_missing(
    make_model: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, model = tmp_path / "plate.ome.zarr", tmp_path / "out.ome.zarr", make_model()
    write_plate(source, {("A/1", str(k)): plane(k) for k in range(3)})
    predict_many([source], tmp_path / "whole.ome.zarr", model=model)
    predicted: list[str] = []

    def stopping(model: StainModel, image: Image, **options: object) -> object:
        predicted.append(image.source[-1])
        if len(predicted) == 2:
            raise KeyboardInterrupt
        return predict(model, image, **options)

    monkeypatch.setattr("virtualstain.batch.predict", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict_many([source], out, model=model)
    assert not out.exists()
    half = tmp_path / ".out.ome.zarr.unfinished" / "plate" / "A" / "1" / "1"
    half.mkdir(parents=True)
    (half / "zarr.json").write_text("{")  # as a kill in the middle of a field leaves it
    with pytest.raises(DataError, match=r"an interrupted run left 1 field of it .* Pass --resume"):
        predict_many([source], out, model=model)
    with pytest.raises(ConfigurationError, match="was begun with other images, model or options"):
        predict_many([source], out, model=model, resume=True, tta=True)
    done = predict_many([source], out, model=model, resume=True)
    assert predicted == ["0", "1", "1", "2"]
    assert [note[:8] for note in done.written[0]["flags"]] == [
        "3 fields"
    ]  # small images: of the first field too
    for (well, name), again in zip(read_plate(out), read_plate(tmp_path / "whole.ome.zarr"), strict=True):
        assert (well, name) == again
        images = (read_plate(p).image(well, name).load().data for p in (out, tmp_path / "whole.ome.zarr"))
        np.testing.assert_array_equal(*images)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert not list(out.glob(".*"))


def test_a_plate_takes_the_voxel_size_that_is_given(make_model: Factory, tmp_path: Path) -> None:
    source = tmp_path / "plate.ome.zarr"
    write_plate(source, {("A/1", str(i)): plane(i).replace(voxel_um=(None, None, None)) for i in range(2)})
    with pytest.raises(DataError, match=r"all 2 fields of .* failed; the first: .*Pass --voxel-um"):
        predict_many([source], tmp_path / "out.ome.zarr", model=make_model())
    with pytest.raises(
        ConfigurationError, match=r"the stain of a plate is a plate. Give a name that ends in \.zarr"
    ):
        predict_many([source], tmp_path / "out.ome.tif", model=make_model())
    predict_many([source], tmp_path / "out.ome.zarr", model=make_model(), voxel_um=(None, 0.5, 0.5))
    assert read_plate(tmp_path / "out.ome.zarr").image("A/1", "1").voxel_um == (None, 0.5, 0.5)


def test_results_keep_the_names_of_their_images(make_model: Factory, folder: Path, tmp_path: Path) -> None:
    done = predict_many([folder], tmp_path / "out", model=make_model())
    assert [Path(row["output"]).name for row in done.written] == [f"cell{i}.ome.tif" for i in range(3)]
    assert read(tmp_path / "out" / "cell1.ome.tif").voxel_um == (None, 0.5, 0.5)


def test_an_existing_result_is_refused_replaced_or_left_out(
    make_model: Factory, folder: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "out", make_model()
    predict_many([folder / "cell0.ome.tif"], out, model=model)
    before = (out / "cell0.ome.tif").stat().st_mtime_ns
    with pytest.raises(DataError, match=r"cell0\.ome\.tif: already exists"):
        predict_many([folder], out, model=model)
    assert sorted(p.name for p in out.iterdir()) == ["cell0.ome.tif"]  # refused before any work
    done = predict_many([folder], out, model=model, resume=True)
    assert len(done.written) == 2
    assert (out / "cell0.ome.tif").stat().st_mtime_ns == before
    assert len(predict_many([folder], out, model=model, overwrite=True).written) == 3


def test_all_failing_is_an_error_not_a_silent_nothing(make_model: Factory, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(2):
        write(plane(i, constant=True), tmp_path / "in" / f"{i}.ome.tif")
    with pytest.raises(DataError, match=r"all 2 images failed; the first: .*constant image"):
        predict_many([tmp_path / "in"], tmp_path / "out", model=make_model())


def test_what_cannot_be_named_is_refused(make_model: Factory, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="names one file for 3 images"):
        predict_many([folder], tmp_path / "one.ome.tif", model=make_model())
    with pytest.raises(ConfigurationError, match=r"no writer for '\.npy'; allowed are \.ome\.tif"):
        predict_many([folder], tmp_path / "one.npy", model=make_model())
    assert not (tmp_path / "one.npy").exists()
    (tmp_path / "other").mkdir()
    write(plane(9), tmp_path / "other" / "cell0.ome.tif")
    with pytest.raises(
        ConfigurationError,
        match=r"cell0\.ome\.tif and .*other/cell0\.ome\.tif would both be written to .*Rename",
    ):
        predict_many([folder, tmp_path / "other"], tmp_path / "out", model=make_model())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no image in this folder; looked for .* and saw 1 other entries"):
        find_images([tmp_path / "empty"])


def test_folders_that_were_not_entered_are_named(make_model: Factory, folder: Path, tmp_path: Path) -> None:
    (folder / "day2").mkdir()
    write(plane(7), folder / "day2" / "cell0.ome.tif")
    done = predict_many([folder], tmp_path / "out", model=make_model())
    assert len(done.written) == 3
    assert "1 folder of images in it (day2) not entered" in done.notes[0]
    assert predict_many([folder / "day2"], tmp_path / "out2", model=make_model()).notes == []
    (tmp_path / "above").mkdir()
    (folder / "day2").rename(tmp_path / "above" / "day2")
    with pytest.raises(DataError, match=r"no image in this folder.*1 folder of images in it \(day2\)"):
        find_images([tmp_path / "above"])


@pytest.mark.parametrize("flags", [{"overwrite": True}, {"resume": True}])
def test_results_never_replace_their_images(
    make_model: Factory, folder: Path, tmp_path: Path, flags: dict[str, bool]
) -> None:
    before = (folder / "cell0.ome.tif").read_bytes()
    write_plate(tmp_path / "plate.ome.zarr", {("A/1", "0"): plane(0)})
    for given, out in (
        (folder, folder),
        (folder / "cell0.ome.tif", folder),
        (tmp_path / "plate.ome.zarr",) * 2,
    ):
        with pytest.raises(ConfigurationError, match="or holds it, and would replace it"):
            predict_many([given], out, model=make_model(), **flags)
    assert (folder / "cell0.ome.tif").read_bytes() == before


def test_a_list_of_failures_goes_once_all_succeed(make_model: Factory, folder: Path, tmp_path: Path) -> None:
    out, broken = tmp_path / "out", folder / "cell1.ome.tif"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    done = predict_many([folder], out, model=make_model())
    assert done.failures_path == out / "failures.csv"
    assert done.failures_path.read_text().startswith(f"source,kind,error\n{broken},DataError,")
    broken.write_bytes(whole)
    assert predict_many([folder], out, model=make_model(), resume=True).failures_path is None
    assert not (out / "failures.csv").exists()
