"""Manifests: reading and writing, fields of view, and folders of three layouts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as Picture

import image2reg.images
from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image, write, write_plate
from image2reg.tables import Manifest, from_folder
from image2reg.tables.names import parse_metadata
from image2reg.tables.tokens import has_token, without_token


def picture(path: Path, channels: int = 1, value: int = 0, names: list[str] | None = None) -> Path:
    """A small image; channel c holds `value` + c."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.stack([np.full((8, 9), value + c, np.uint16) for c in range(channels)])
    metadata = {"axes": "CYX"} | ({"Channel": {"Name": names}} if names else {})
    tifffile.imwrite(path, data if channels > 1 else data[0], metadata=metadata if channels > 1 else None,
                     photometric="minisblack", ome=names is not None)  # fmt: skip
    return path


def rows(**changes: list[object]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "path": ["a_bf.tif", "a_h.tif", "b_bf.tif"],
            "role": ["input", "target", "input"],
            "channel": ["brightfield", "hoechst", "brightfield"],
            "Metadata_Well": ["A01", "A01", "A02"],
        }
    )
    return frame.assign(**changes)


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    frame = rows(
        Metadata_Perturbation=["=SUM(A1)", "-", "'@x"], voxel_y_um=[0.5, "", None], Metadata_Dose_uM=[1, -2.5, None],
        note=["é, \"quoted\"", "NA", "nan"], score=[1, 2, 3],
    )  # fmt: skip
    manifest = Manifest(frame, tmp_path)
    manifest.write(tmp_path / name)
    again = Manifest.read(tmp_path / name)
    texts = [c for c in manifest.frame if c != "score"]
    pd.testing.assert_frame_equal(again.frame[texts], manifest.frame[texts])
    assert again.frame["score"].astype(int).tolist() == [1, 2, 3]
    assert again.frame["Metadata_Dose_uM"].tolist() == ["1", "-2.5", ""]
    assert again.frame["note"].tolist() == ['é, "quoted"', "NA", "nan"]
    assert again.root == tmp_path
    with pytest.raises(DataError, match="already exists"):
        manifest.write(tmp_path / name)
    manifest.write(tmp_path / name, overwrite=True)


def test_a_manifest_above_its_images_names_their_folder(tmp_path: Path) -> None:
    (tmp_path / "data" / "plate").mkdir(parents=True)
    manifest = Manifest(rows(), tmp_path / "data" / "plate")
    manifest.write(tmp_path / "all.csv")
    assert Manifest.read(tmp_path / "all.csv").frame["path"].tolist()[0] == "data/plate/a_bf.tif"
    with pytest.raises(DataError, match="lies in the folder of its images"):
        manifest.write(tmp_path / "elsewhere" / "all.csv")


def test_byte_order_mark_windows_line_ends_and_short_rows(tmp_path: Path) -> None:
    text = (
        "\ufeffpath,role,channel,Metadata_Well,voxel_x_um\r\na.tif,input,bf,NA,0.3\r\nb.tif,input,bf,A02\r\n"
    )
    (tmp_path / "m.csv").write_bytes(text.encode())
    frame = Manifest.read(tmp_path / "m.csv").frame
    assert frame["path"].tolist() == ["a.tif", "b.tif"]
    assert frame["Metadata_Well"].tolist() == ["NA", "A02"]
    assert frame["voxel_x_um"].tolist()[0] == 0.3
    assert np.isnan(frame["voxel_x_um"][1])


def test_whole_numbers_that_became_floats_are_whole_again(tmp_path: Path) -> None:
    frame = Manifest(rows(Metadata_Site=[1.0, 1.0, np.nan]), tmp_path).frame
    assert frame["Metadata_Site"].tolist() == ["1", "1", ""]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "the table is empty"),
        ("path;role;channel\na;input;b\n", "cells are separated by semicolons"),
        ("path,role,channel\n", "the manifest has no row"),
        ("path,role\na.tif,input\n", r"columns \['channel'\] are missing; found \['path', 'role'\]"),
        ("path,role,role,channel\na,input,input,b\n", r"columns \['role'\] appear more than once"),
        ("path,role,channel\na.tif,inptu,bf\n", "another role than .* first row 1 with 'inptu'"),
        (
            "path,role,channel,voxel_y_um\na,input,b,0.3\nb,input,b,0 3\n",
            "'voxel_y_um' are no size, first row 2",
        ),
        ("path,role,channel,voxel_y_um\na,input,b,-1\n", "no size, first row 1 with '-1'"),
        ("path,role,channel\na.tif,input,bf,x,y\nb.tif,input,bf,x,y\n", "more cells than the 3 columns"),
        ('path,role,channel\na.tif,input,"b\tf"\n', "column 'channel' holds a control character"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(DataError, match=text):
        Manifest.read(tmp_path / "m.csv")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("path,role,channel\n\xe9.tif,input,bf\n".encode("latin-1"))
    (tmp_path / "m.parquet").write_bytes(b"PAR1 not really")
    for name, text in (("m.csv", "not UTF-8"), ("m.parquet", "as Parquet"), ("m.txt", ".csv or .parquet"),
                       ("none.csv", "no such file")):  # fmt: skip
        with pytest.raises(DataError, match=text):
            Manifest.read(tmp_path / name)


def test_rows_become_fields_with_roles(tmp_path: Path) -> None:
    picture(tmp_path / "stack.tif", channels=3, value=10)
    frame = pd.DataFrame(
        {
            "path": ["stack.tif"] * 3, "role": ["input", "target", "mask"], "channel": ["bf", "dna", "nuclei"],
            "source_channel": ["0", "2", "1"], "Metadata_Plate": "P1", "Metadata_Site": "4", "split": "test",
            "voxel_y_um": 0.5, "voxel_x_um": 0.5,
        }
    )  # fmt: skip
    (field,) = Manifest(frame, tmp_path).fields()
    assert (field.name, field.split, field.metadata["Metadata_Plate"]) == ("P1/4", "test", "P1")
    assert [list(group) for group in (field.inputs, field.targets, field.masks)] == [
        ["bf"],
        ["dna"],
        ["nuclei"],
    ]
    image = field.targets["dna"].open()
    assert image.channels == ("dna",)
    assert image.voxel_um == (None, 0.5, 0.5)
    assert (np.asarray(image.load().data) == 12).all()


def test_a_channel_may_be_named_by_its_wavelength(tmp_path: Path) -> None:
    planes = np.array([1, 2], np.uint8)[:, None, None].repeat(4, axis=1).repeat(4, axis=2)
    write(Image(planes, "CYX", channels=("1", "488")), tmp_path / "a.ome.tif")
    frame = pd.DataFrame(
        {"path": "a.ome.tif", "role": "input", "channel": ["x", "y", "z"], "Metadata_Site": "1"}
    )
    (field,) = Manifest(frame.assign(source_channel=["488", "1", "640"]), tmp_path).fields()
    found = [field.inputs[name].open().load().data.max() for name in "xy"]
    assert found == [2, 2], "a number that is a position is one"
    with pytest.raises(DataError, match=r"channel 640 is missing: .* found \['1', '488'\]"):
        field.inputs["z"].open()


def test_a_file_with_channels_needs_to_be_told_which(tmp_path: Path) -> None:
    picture(tmp_path / "a_bf.tif", channels=2)
    with pytest.raises(DataError, match=r"has 2 channels .* does not say which is 'brightfield'"):
        Manifest(rows().iloc[:1], tmp_path).fields()[0].inputs["brightfield"].open()


def test_where_keeps_rows_and_names_what_there_is(tmp_path: Path) -> None:
    manifest = Manifest(rows(split=["train", "train", "test"]), tmp_path)
    assert len(manifest.where(split="train")) == 2
    with pytest.raises(DataError, match=r"no row has split='val'; found \['test', 'train'\]"):
        manifest.where(split="val")
    with pytest.raises(DataError, match="no column 'plate'"):
        manifest.where(plate="x")
    assert "3 rows, 2 fields, {'input': ['brightfield']" in repr(manifest)


def folder_a(root: Path) -> dict[str, object]:
    for well in ("A01", "A02"):
        picture(root / f"{well}_s1.ome.tif", channels=2, names=["BF", "DAPI"])
    return {"inputs": "brightfield=BF", "targets": {"hoechst": "DAPI"}}


def folder_a_by_position(root: Path) -> dict[str, object]:
    for well in ("A01", "A02"):
        picture(root / f"{well}_s1.tif", channels=2)
    return {"inputs": "brightfield=0", "targets": {"hoechst": 1}}


def folder_a_named_by_user(root: Path) -> dict[str, object]:
    folder_a_by_position(root)
    return {"inputs": "brightfield", "targets": "hoechst", "channels": ["brightfield", "hoechst"]}


def folder_a_of_pages(root: Path) -> dict[str, object]:
    for well in ("A01", "A02"):
        tifffile.imwrite(root / f"{well}_s1.tif", np.stack([np.full((8, 9), c, np.uint8) for c in (0, 1)]),
                         photometric="minisblack", metadata=None)  # fmt: skip
    return {"inputs": "brightfield=0", "targets": "hoechst=1"}


def folder_b(root: Path) -> dict[str, object]:
    for well in ("A01", "A02"):
        picture(root / f"{well}_s1_BF.tif")
        picture(root / f"{well}_s1_Hoechst.tif", value=1)
    return {"inputs": "brightfield=bf", "targets": "hoechst"}


def folder_c(root: Path) -> dict[str, object]:
    for well in ("A01", "A02"):
        picture(root / "brightfield" / f"{well}_s1.tif")
        picture(root / "Hoechst" / f"{well}_s1.tif", value=1)
    return {"inputs": "brightfield", "targets": "hoechst"}


LAYOUTS = (folder_a, folder_a_by_position, folder_a_named_by_user, folder_a_of_pages, folder_b, folder_c)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_fields(tmp_path: Path, layout) -> None:
    manifest = from_folder(tmp_path, **layout(tmp_path))
    assert manifest.problems().empty
    manifest.write(tmp_path / "m.csv")
    fields = Manifest.read(tmp_path / "m.csv").fields()
    assert [field.name for field in fields] == ["A01/1", "A02/1"]
    for field in fields:
        assert (list(field.inputs), list(field.targets)) == (["brightfield"], ["hoechst"])
        bright, stain = field.inputs["brightfield"].open(), field.targets["hoechst"].open()
        assert bright.channels == ("brightfield",)
        assert (np.asarray(bright.load().data).max(), np.asarray(stain.load().data).max()) == (0, 1)
        assert stain.to_axes("YX").shape == (8, 9)


@pytest.mark.parametrize("inside", [False, True])
def test_the_fields_of_an_ome_zarr_plate_become_rows(tmp_path: Path, inside: bool) -> None:

    pixels = np.stack([np.full((8, 9), c, np.uint16) for c in (3, 4)])
    image = Image(pixels, "CYX", voxel_um=(None, 0.5, 0.5), channels=("BF", "DAPI"))
    images = {("B/03", "0"): image, ("B/03", "1"): image, ("C/12", "0"): image}
    write_plate(tmp_path / "exp.ome.zarr", images)
    folder = tmp_path / "exp.ome.zarr" if inside else tmp_path
    manifest = from_folder(folder, inputs="brightfield=BF", targets="hoechst=DAPI")
    assert manifest.problems().empty
    fields = manifest.fields()
    names = ["B03/0", "B03/1", "C12/0"]
    assert [field.name for field in fields] == (names if inside else [f"exp/{name}" for name in names])
    stain = fields[2].targets["hoechst"].open()
    assert stain.voxel_um == (None, 0.5, 0.5)
    assert (np.asarray(stain.load().data) == 4).all()


@pytest.mark.parametrize("form", ["{}.ome.zarr", "{}"])
def test_a_plate_called_like_a_channel_does_not_hide_that_channel_in_others(
    tmp_path: Path, form: str
) -> None:
    field = Image(np.zeros((1, 8, 9), np.uint16), "CYX", channels=("Hoechst",))
    for name in ("plate1", "hoechst-plate2"):
        if form == "{}":
            field.write(tmp_path / name / "A01_s1.ome.tif")
        else:
            write_plate(tmp_path / form.format(name), {("A/1", "0"): field})
    manifest = from_folder(tmp_path, inputs="Hoechst")
    assert (len(manifest.fields()), manifest.notes) == (2, ())
    picture(tmp_path / "plate1" / "Hoechst" / "x.tif")
    picture(tmp_path / "plate1" / "x.tif", channels=2, names=["Hoechst", "GFP"])
    (tmp_path / "plate1" / "broken.tif").write_bytes(b"II*")
    again = from_folder(tmp_path / "plate1", inputs="Hoechst")
    assert "Hoechst/x.tif" in set(again.frame["path"])  # the folder of a channel stays one
    assert "x.tif" not in set(again.frame["path"])


def test_targets_may_be_missing_and_inputs_may_not(tmp_path: Path) -> None:
    options = folder_b(tmp_path)
    (tmp_path / "A02_s1_Hoechst.tif").unlink()
    fields = from_folder(tmp_path, **options).fields()
    assert [list(field.targets) for field in fields] == [["hoechst"], []]
    (tmp_path / "A01_s1_BF.tif").unlink()
    with pytest.raises(DataError, match=r"1 of 2 fields have no input 'brightfield', e.g. \['A01_s1'\]"):
        from_folder(tmp_path, **options)


def test_a_broken_image_or_a_missing_input_is_left_to_its_field_unless_strict(tmp_path: Path) -> None:
    options = folder_b(tmp_path) | {"inputs": ["brightfield=bf", "dna=hoechst"], "targets": ()}
    (tmp_path / "A01_s1_BF.tif").write_bytes(b"no picture")
    (tmp_path / "A02_s1_Hoechst.tif").unlink()
    with pytest.raises(DataError, match=r"A01_s1_BF\.tif"):
        from_folder(tmp_path, **options)
    manifest = from_folder(tmp_path, **options, strict=False)
    assert [list(field.inputs) for field in manifest.fields()] == [["brightfield", "dna"], ["brightfield"]]
    assert manifest.notes == ("1 field without input 'dna', e.g. ['A02_s1']",)


def test_files_whose_names_tell_the_channel_are_not_opened_unless_strict(tmp_path: Path, monkeypatch) -> None:
    for number in range(5):
        picture(tmp_path / f"A01_s{number}_BF.tif")
    opened = []

    def counting(path, **said):
        opened.append(path.name)
        return image2reg.images.readers.read(path, **said)

    monkeypatch.setattr(image2reg.images, "read", counting, raising=False)
    assert (
        len(from_folder(tmp_path, inputs="BF", strict=False)) == len(from_folder(tmp_path, inputs="BF")) == 5
    )
    assert opened == ["A01_s0_BF.tif"] + [f"A01_s{number}_BF.tif" for number in range(5)]


def test_jpegs_are_images_where_nothing_else_is_and_previews_beside_others(tmp_path: Path) -> None:
    for name in ("A01_s1_BF.jpg", "A02_s1_BF.JPEG", "B01_s1_BF.bmp"):
        Picture.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / name)
    assert from_folder(tmp_path, inputs="BF").frame["Metadata_Well"].tolist() == ["A01", "A02", "B01"]
    tifffile.imwrite(tmp_path / "A01_s1_BF.tif", np.zeros((8, 8), np.uint16))
    assert from_folder(tmp_path, inputs="BF").frame["path"].tolist() == ["A01_s1_BF.tif"]


def test_files_of_one_channel_that_is_named_inside_them_are_one_field(tmp_path: Path) -> None:
    """As MetaXpress writes them: the name of the file has the number of the channel only, and a GUID."""
    guid = "0C3A2C94-1A5B-4C68-8F29-4AA3F8F2DE01"
    for well in ("A01", "A02"):
        for number, name in ((1, "Brightfield"), (2, "DAPI")):
            image = Image(np.ones((4, 4), np.uint8), "YX", channels=(name,))
            write(image, tmp_path / f"x_{well}_s1_w{number}{guid}.ome.tif")
    fields = from_folder(tmp_path, inputs="Brightfield", targets="DAPI").fields()
    assert [(field.name, list(field.inputs), list(field.targets)) for field in fields] == [
        ("A01/1", ["Brightfield"], ["DAPI"]), ("A02/1", ["Brightfield"], ["DAPI"])
    ]  # fmt: skip


def test_a_channel_that_may_be_in_what_cannot_be_read_is_named_first(tmp_path: Path) -> None:
    """The sentence was about the damaged file alone, whatever channel was misspelt."""
    for name in ("A01_s1_BF.tif", "A01_s1_DAPI.tif"):
        Image(np.ones((4, 4), np.uint8), "YX").write(tmp_path / name)
    (tmp_path / "A01_s2_DAPI.tif").write_bytes(b"II*")
    with pytest.raises(
        DataError, match=r"target channel 'Actin' found nowhere.*cannot be read \(1 image, the first"
    ):
        from_folder(tmp_path, inputs="BF", targets="Actin", strict=False)


def test_an_unreadable_file_of_several_channels_passes_for_one_like_the_others(tmp_path: Path) -> None:
    options = folder_a_by_position(tmp_path)
    (tmp_path / "A01_s1.tif").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        from_folder(tmp_path, **options)
    fields = from_folder(tmp_path, **options, strict=False).fields()
    assert [(field.name, list(field.inputs), list(field.targets)) for field in fields] == [
        ("A01/1", ["brightfield"], ["hoechst"]), ("A02/1", ["brightfield"], ["hoechst"])
    ]  # fmt: skip
    (tmp_path / "A02_s1.tif").write_bytes(b"")
    with pytest.raises(DataError, match=r"A01_s1\.tif: the file is empty"):
        from_folder(tmp_path, **options, strict=False)


def test_voxel_sizes_are_left_to_the_files_unless_strict(tmp_path: Path) -> None:
    for name, pixel in (("A01_BF", 0.5), ("A02_BF", 0.8)):
        image = Image(np.zeros((8, 9), np.uint16), "YX", voxel_um=(None, pixel, pixel), channels=("BF",))
        write(image, tmp_path / f"{name}.ome.tif")
    fields = from_folder(tmp_path, inputs="BF", voxel_um=(None, 0.3, 0.3), strict=False).fields()
    assert [field.inputs["BF"].open().voxel_um[2] for field in fields] == [0.5, 0.8]


def test_a_number_is_looked_for_in_the_names_first(tmp_path: Path) -> None:
    for well in ("A01", "A02"):
        for wave in ("405", "488"):
            picture(tmp_path / f"{well}_s1_{wave}.tif")
    manifest = from_folder(tmp_path, inputs=["DNA=405", "GFP=488"])
    assert manifest.frame["path"].tolist()[:2] == ["A01_s1_405.tif", "A01_s1_488.tif"]
    assert manifest.n_fields == 2


def test_a_number_that_is_a_position_in_the_files_stays_one(tmp_path: Path) -> None:
    for name in ("img_0", "img_1"):
        picture(tmp_path / f"{name}.tif", channels=2)
    frame = from_folder(tmp_path, inputs="bf=0", targets="dna=1").frame
    assert frame["source_channel"].tolist() == ["0", "1", "0", "1"]


def test_layouts_mix_and_neutral_folders_name_no_plate(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "x.tif", channels=2)
    picture(tmp_path / "labels" / "x.tif")
    manifest = from_folder(tmp_path, inputs="bf=0", targets="dna=1", masks="nuclei=labels")
    (field,) = manifest.fields()
    assert field.name == "x"
    assert field.masks["nuclei"].path == tmp_path / "labels" / "x.tif"
    assert manifest.frame["role"].tolist() == ["input", "target", "mask"]


def test_plates_are_folders_and_wells_are_padded(tmp_path: Path) -> None:
    for plate in ("P1", "P2"):
        for well in ("b3", "B04", "P24"):
            picture(tmp_path / plate / f"{well}_t002_site03_BF.tif")
    frame = from_folder(tmp_path, inputs="BF").frame
    assert sorted(frame["Metadata_Plate"].unique()) == ["P1", "P2"]
    assert sorted(frame["Metadata_Well"].unique()) == ["B03", "B04", "P24"]
    assert set(frame["Metadata_Site"]) == {"3"}
    assert set(frame["Metadata_Time"]) == {"2"}


def test_names_that_do_not_tell_fields_apart_become_the_site(tmp_path: Path) -> None:
    for name in ("donor1_A01_BF", "donor2_A01_BF"):
        picture(tmp_path / f"{name}.tif")
    manifest = from_folder(tmp_path, inputs="BF")
    assert manifest.frame["Metadata_Site"].tolist() == ["donor1_A01", "donor2_A01"]
    assert manifest.frame["Metadata_Well"].tolist() == ["A01", "A01"]
    (note,) = manifest.notes
    assert "fields apart, such as 'donor1_A01' and 'donor2_A01': the whole name is the site" in note
    named = from_folder(tmp_path, inputs="BF", pattern=r"(?P<Batch>donor\d)_(?P<Well>\w+)")
    assert named.frame["Metadata_Batch"].tolist() == ["donor1", "donor2"]


def test_what_is_left_out_is_noted(tmp_path: Path) -> None:
    options = folder_b(tmp_path)
    picture(tmp_path / "overview.tif")
    picture(tmp_path / ".hidden_BF.tif")
    (tmp_path / "notes.txt").write_text("BF")
    manifest = from_folder(tmp_path, **options)
    assert len(manifest) == 4
    assert manifest.notes == ("overview.tif: left out, no channel asked for is in its name",)


def test_many_images_that_are_left_out_are_one_note(tmp_path: Path) -> None:
    options = folder_b(tmp_path)
    for number in range(4):
        picture(tmp_path / f"thumb{number}.tif")
    (note,) = from_folder(tmp_path, **options).notes
    assert note == (
        "4 images: left out, no channel asked for is in their names, e.g. ['thumb0.tif', 'thumb1.tif', 'thumb2.tif']"
    )


def test_voxel_sizes_fill_what_the_files_do_not_say(tmp_path: Path) -> None:
    folder_b(tmp_path)
    manifest = from_folder(tmp_path, inputs="BF", voxel_um=(None, 0.3, 0.3))
    assert manifest.frame["voxel_x_um"].tolist() == [0.3, 0.3]
    assert manifest.fields()[0].inputs["BF"].open().voxel_um == (None, 0.3, 0.3)


GUID = "53DE191F-6B1C-4B34-A012-0C8A1D3B5E77"
NAMES = (  # key of a field: plate, well, site, time
    ("A01_s1", ("", "A01", "1", "")),
    ("b3_s02", ("", "B03", "2", "")),
    ("P24", ("", "P24", "", "")),
    ("F02", ("", "F02", "", "")),
    ("A01_f02", ("", "A01", "2", "")),
    ("A01_F02", ("", "A01", "2", "")),
    ("A01_F025_t003", ("", "A01", "25", "3")),
    ("A01/f02", ("A01", "A01", "2", "")),
    ("A01/s01", ("A01", "A01", "1", "")),
    ("D3/F05_w1", ("D3", "F05", "", "")),
    ("A01_s1_h24", ("", "A01", "1", "")),
    ("A01_s1_p3", ("", "A01", "1", "")),
    ("P12_s1_h24", ("", "P12", "1", "")),
    ("P1_A01_s1", ("P1", "A01", "1", "")),
    ("P12_A01_s1", ("P12", "A01", "1", "")),
    ("P1_a1_s1", ("", "A01", "1", "")),
    ("P1_F02_s1", ("P1", "F02", "1", "")),
    ("P1_F02", ("P1", "F02", "", "")),
    ("E1_P12_s1", ("", "P12", "1", "")),
    ("B2_C03_s1", ("", "C03", "1", "")),
    ("Plate1_F02_s1", ("1", "F02", "1", "")),
    ("run1/F02_s3", ("run1", "F02", "3", "")),
    ("donor1_A01", ("", "A01", "", "")),
    ("Aligned_1", ("", "", "", "")),
    ("20230101-screen_F11_s2", ("", "F11", "2", "")),
    (f"IXMtest_A02_s1_w1{GUID}", ("", "A02", "1", "")),
    (f"IXMtest_F02_s9_w10{GUID}", ("", "F02", "9", "")),
    ("r01c02f03p01", ("", "A02", "3", "")),
    ("r16c24f03p01-sk2fk1fl1", ("", "P24", "3", "2")),
    ("AssayPlate_Corning_3712_F02_T0001F003L01A01Z01C02", ("", "F02", "3", "1")),
    ("AssayPlate_F02_T0001F003L01Z01", ("", "F02", "3", "1")),
    ("r27c48f01p01-sk1fk1fl1", ("", "AA48", "1", "1")),
    ("r32c01f01p01-sk1fk1fl1", ("", "AF01", "1", "1")),
    ("A - 01(fld 1 wv -)", ("", "A01", "1", "")),
    ("01-A-01", ("", "A01", "", "")),  # BBBC013: Channel1-01-A-01
    ("F - 2(fld 03 wv -)", ("", "F02", "3", "")),
    ("MFGTMP_140507_F02f00", ("", "F02", "0", "")),
    ("MFGTMP_140507_A01f07d0", ("", "A01", "7", "")),
    ("MFGTMPcx7_140507_AB48f07d0", ("", "AB48", "7", "")),
    ("AssayPlate_AF48_T0002F003L01A01Z01C02", ("", "AF48", "3", "2")),
    (
        "A1_02_1_3_DAPI_004",
        ("", "A01", "3", "4"),
    ),  # Cytation: well, read, channel, tile, channel's name, time
    ("B12_-1_2_1_Stitched[GFP 469,525]_001", ("", "B12", "1", "1")),
    (
        "exp/2/B3_1_0_Fluorescence_405_nm_Ex",
        ("exp", "B03", "1", "2"),
    ),  # Squid: time, well, field, plane, channel
    ("0/P12_3_0_BF_LED_matrix_full", ("", "P12", "3", "0")),
    ("D16_2_2_Fluorescence_638_nm_Ex", ("", "D16", "", "")),  # of an older one: column and row
    ("VID100_A1_2_00d04h00m", ("", "A01", "2", "00d04h00m")),
    ("exp_B12_3_2024y05m07d_16h30m", ("", "B12", "3", "2024y05m07d_16h30m")),
    ("image--L0000--S00--U02--V01--J08--E00--O00--X01--Y03--T0004--Z00", ("", "B03", "X01--Y03", "4")),
    ("exp_WellB02_xy3", ("", "B02", "3", "")),
    ("A - 1(fld 1 wv - z 1 t 2)", ("", "A01", "1", "2")),
    ("TimePoint_2/x_A01_s1", ("", "A01", "1", "2")),
    ("A01_s1_24h", ("", "A01", "1", "24")),
    ("A01_s1_24h_t003", ("", "A01", "1", "3")),
    ("A01_s1_Timepoint_003", ("", "A01", "1", "3")),
    ("plate5/TimePoint_2/ZStep_1/x_A01_s1", ("plate5", "A01", "1", "2")),
    ("plate5/site3/A01", ("plate5", "A01", "3", "")),
    ("p1/001001-1-001001001", ("p1", "", "", "")),
    ("plate5/P1/s1", ("plate5", "P01", "1", "")),
    ("001001-1-001001001", ("", "", "", "")),  # Columbus and Opera: numbers alone, which need a pattern
    ("001001000", ("", "", "", "")),
)


@pytest.mark.parametrize(("key", "expected"), NAMES, ids=[key for key, _ in NAMES])
def test_names_of_many_microscopes(key: str, expected: tuple[str, ...]) -> None:
    found = parse_metadata(key)
    assert tuple(found.get(f"Metadata_{name}", "") for name in ("Plate", "Well", "Site", "Time")) == expected


@pytest.mark.parametrize(
    ("name", "channel", "rest"),
    [
        ("A01_DNA", "DNA", "A01"),
        ("A01_s1_w1", "w1", "A01_s1"),
        (f"IXMtest_A02_s1_w1{GUID}", "w1", "IXMtest_A02_s1"),
        (f"IXMtest_A02_s1_w10{GUID}", "w10", "IXMtest_A02_s1"),
        (f"IXMtest_A02_s1_w10{GUID}", "w1", None),
        (f"{GUID}/A02_s1_w1", "w1", f"{GUID}/A02_s1"),
        ("r01c01f01p01-ch1sk1fk1fl1", "ch1", "r01c01f01p01-sk1fk1fl1"),
        ("r01c01f01p01-ch2sk1fk1fl1", "ch1", None),
        ("A - 01(fld 1 wv DAPI - DAPI)", "DAPI", "A - 01(fld 1 wv -)"),
        ("MFGTMP_140507_A01f00d0", "d0", "MFGTMP_140507_A01f00"),
        ("A - 01(fld 01 wv UV - DAPI)", "UV - DAPI", "A - 01(fld 01 wv)"),
        ("p_B02_T0001F001L01A01Z01C01", "C01", "p_B02_T0001F001L01Z01"),
        ("p_B02_T0001F001L01A02Z01C02", "C02", "p_B02_T0001F001L01Z01"),
        ("W0013F0002T0001Z01C2", "C2", "W0013F0002T0001Z01"),
        ("W0013F0002T0001Z001C2", "C2", "W0013F0002T0001Z001"),
        ("AA13f02d1", "d1", "AA13f02"),
        ("A1_02_1_3_DAPI_004", "DAPI", "A1_s3_t004"),
        ("A1_-2_1_1_Tsf[Stitched[DAPI 377,447]]_001", "DAPI", "A1_s1_t001"),
        ("p/A1_03_2_3Z1_Texas Red_004", "Texas Red", "p/A1_s3_z1_t004"),
        ("x/0/B3_1_0_Fluorescence_405_nm_Ex", "Fluorescence 405 nm Ex", "x/B3_s1_z0_t0"),
        ("0/B3_1_0_Fluorescence_488_nm_Ex", "488", "B3_s1_z0_Fluorescence_nm_Ex_t0"),
        ("exp-A1_s1c2_ORG", "c2", "exp-A1_s1_ORG"),
        ("exp_t01xy02z1c1", "c1", "exp_t01-xy02-z1"),
    ],
)  # fmt: skip
def test_channels_in_the_names_of_many_microscopes(name: str, channel: str, rest: str | None) -> None:
    assert has_token(name, channel) == (rest is not None)
    assert without_token(name, channel) == (rest or without_token(name, "nothing"))


def test_the_names_of_metaxpress_give_fields_by_their_channel(tmp_path: Path) -> None:
    for number in (1, 2):
        picture(tmp_path / f"IXMtest_F02_s1_w{number}{GUID.replace('5', str(number))}.tif")
    (field,) = from_folder(tmp_path, inputs=["DNA=w1", "GFP=w2"]).fields()
    assert (field.name, list(field.inputs)) == ("F02/1", ["DNA", "GFP"])


def places(root: Path, names: Iterable[str], inputs: str = "DNA", **options) -> dict[str, str]:
    for name in names:
        picture(root / f"{name}_{inputs}.tif")
    manifest = from_folder(root, inputs=inputs, **options)
    assert len(manifest) == len(manifest.fields())
    return {row.path.removesuffix(f"_{inputs}.tif"): "/".join(
        (row.Metadata_Plate, row.Metadata_Well, row.Metadata_Site, row.Metadata_Time)
    ) for row in manifest.frame.itertuples()}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "wells"),
    [
        (("AA01_s1", "AF48_s1"), ("AA01", "AF48")),
        (("x_A01_F02", "x_B48_F02", "x_AB12_F02"), ("A01", "B48", "AB12")),
        (("P24_S01_T02", "T07_S01_T02", "AA07_S01_T02"), ("P24", "T07", "AA07")),
        (("AB12_A01", "AB12_B02"), ("A01", "B02")),
        (("A01_s1", "AB12_s1"), ("A01", "")),
        (("AA01_AB02_s1", "AA02_AB02_s1"), ("", "")),
        (("DAPI01", "DAPI02"), ("", "")),
        (("S01_1", "Z01_1"), ("", "")),
    ],
)
def test_rows_AA_to_AF_are_wells_where_that_is_sure(tmp_path: Path, names, wells) -> None:
    found = places(tmp_path, names)
    assert tuple(found[name].split("/")[1] for name in names) == wells


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("run/plate1/A01_s1", "run/plate2/A01_s1"), ("plate1/A01/1/", "plate2/A01/1/")),
        (("run1/p1/A01", "run1/p2/A01", "run2/p1/A01"), ("run1/p1/A01//", "run1/p2/A01//", "run2/p1/A01//")),
        (("run/p1/A01_s1", "run/p2/B01_s1"), ("run/A01/1/", "run/B01/1/")),
        (("p1/B03/s1", "p1/B04/s1"), ("p1/B03/1/", "p1/B04/1/")),
        (("B3-Site_0/img", "B4-Site_0/img"), ("/B03/0/", "/B04/0/")),
        (("run/donor1/img", "run/donor2/img"), ("run//donor1/img/", "run//donor2/img/")),
        (("A1/A01_s1", "A1/A02_s1"), ("A1/A01/1/", "A1/A02/1/")),
        (("plate1/B03/1/img", "plate1/B03/2/img"), ("plate1/B03/B03/1/img/", "plate1/B03/B03/2/img/")),
    ],
)
def test_folders_are_plates_as_far_as_wells_need_them(tmp_path: Path, names, found) -> None:
    assert tuple(places(tmp_path, names).values()) == found


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("t1/A01_s1", "t2/A01_s1"), ("/A01/1/1", "/A01/1/2")),
        (("p7/day01/B03", "p7/day3/B03", "p8/day1/B03"), ("p7/B03//1", "p7/B03//3", "p8/B03//1")),
        (("24h/p7/A01_s1", "48h/p7/A01_s1"), ("p7/A01/1/24", "p7/A01/1/48")),
        (("T01/A01", "T02/A01", "T02/A02", "T03/A02"), ("/A01//1", "/A01//2", "/A02//2", "/A02//3")),
    ],
)
def test_folders_of_the_same_wells_are_time_points_where_they_are_called_so(
    tmp_path: Path, names, found
) -> None:
    assert tuple(places(tmp_path, names).values()) == found
    (note,) = from_folder(tmp_path, inputs="DNA").notes
    assert "hold the same wells and are taken for" in note


@pytest.mark.parametrize(
    ("names", "plates"),
    [
        (("t1/A01_s1", "t2/A02_s1"), ["t1", "t2"]),  # other wells
        (("t1/A01_s1", "p2/A01_s1"), ["t1", "p2"]),
        (("t1/A01_s1", "day2/A01_s1"), ["t1", "day2"]),
        (("t1/A01_t3", "t2/A01_t3"), ["t1", "t2"]),  # the time is said already
        (("P1/A01_s1", "P2/A01_s1"), ["P1", "P2"]),
        (("t1/A01_s1", "t1/A02_s1"), ["t1"]),
    ],
)
def test_folders_that_may_be_plates_stay_plates(tmp_path: Path, names, plates) -> None:
    assert {place.split("/")[0] for place in places(tmp_path, names).values()} == set(plates)


def test_time_folders_are_plates_where_a_pattern_says_so(tmp_path: Path) -> None:
    names = ("t1/A01_s1", "t2/A01_s1")
    places(tmp_path, names)
    (note,) = from_folder(tmp_path, inputs="DNA").notes
    pattern = note.partition("--pattern '")[2].partition("'")[0]
    assert set(places(tmp_path, names, pattern=pattern).values()) == {"t1/A01//", "t2/A01//"}


@pytest.mark.parametrize(
    "name",
    ["A01_s1_z{}", "A01_Z0{}", "r01c01f01p0{}-sk1fk1fl1", "x_A01_T0001F001L01Z0{}", "ZStep_{}/A01_s1",
     "A - 1(fld 1 wv - z {})", "B2-Site_0/img_000000000_00{}", "plate/A01/plane {}", "A1_1Z{}_1_001_"],
)  # fmt: skip
def test_planes_of_a_stack_are_not_fields(tmp_path: Path, name: str) -> None:
    places(tmp_path / "one", [name.format(1)])
    with pytest.raises(
        DataError, match=r"1 of 1 fields are stacks with a file for each plane.*Project each stack"
    ):
        places(tmp_path / "two", [name.format(1), name.format(2)])


def test_slices_of_tissue_are_fields(tmp_path: Path) -> None:
    assert len(places(tmp_path, ["mouse1_slice1", "mouse1_slice2"])) == 2


def test_a_pattern_may_call_a_plane_a_site(tmp_path: Path) -> None:
    pattern = r"(?P<Well>[A-P]\d\d)_z(?P<Site>\d)"
    assert len(places(tmp_path, ["A01_z1", "A01_z2"], pattern=pattern)) == 2


def test_channels_of_a_cytation_field_are_one_field(tmp_path: Path) -> None:
    for well in ("A1", "B12"):
        for step, number, channel in ((1, 1, "DAPI"), (2, 1, "GFP"), (2, 2, "Texas Red")):
            picture(tmp_path / f"{well}_0{step}_{number}_1_{channel}_001.tif")
    fields = from_folder(tmp_path, inputs=["DAPI", "GFP", "red=Texas Red"]).fields()
    assert [(field.name, list(field.inputs)) for field in fields] == [
        ("A01/1/1", ["DAPI", "GFP", "red"]), ("B12/1/1", ["DAPI", "GFP", "red"])
    ]  # fmt: skip
    picture(tmp_path / "A1_-1_1_1_Tsf[DAPI 377,447]_001.tif")
    with pytest.raises(DataError, match="1 fields have several files for input 'DAPI'"):
        from_folder(tmp_path, inputs=["DAPI", "GFP", "red=Texas Red"])


def test_fields_and_times_of_squid(tmp_path: Path) -> None:
    for time in (0, 1):
        for well, number in (("B3", 0), ("B3", 1), ("B4", 0)):
            for nm in (405, 488):
                picture(tmp_path / str(time) / f"{well}_{number}_0_Fluorescence_{nm}_nm_Ex.tiff")
    for channels in (["DNA=405", "GFP=488"], ["DNA=Fluorescence_405_nm_Ex", "GFP=Fluorescence 488 nm Ex"]):
        manifest = from_folder(tmp_path, inputs=channels)
        names = [f"{place}/{time}" for place in ("B03/0", "B03/1", "B04/0") for time in (0, 1)]
        assert [field.name for field in manifest.fields()] == names
        assert (set(manifest.frame["Metadata_Plate"]), manifest.notes) == ({""}, ())
    picture(tmp_path / "1" / "B4_0_1_Fluorescence_405_nm_Ex.tiff")
    with pytest.raises(DataError, match="stacks with a file for each plane"):
        from_folder(tmp_path, inputs=["DNA=405", "GFP=488"], strict=False)


def test_the_thumbnails_of_metaxpress_are_no_fields(tmp_path: Path) -> None:
    for number in (1, 2):
        picture(tmp_path / f"IXMtest_A01_s1_w{number}{GUID}.tif")
        picture(tmp_path / f"IXMtest_A01_s1_w{number}_thumb{GUID.replace('5', '6')}.tif")
    manifest = from_folder(tmp_path, inputs=["DNA=w1", "GFP=w2"])
    assert [(field.name, manifest.notes) for field in manifest.fields()] == [("A01/1", ())]


def test_plates_that_are_links_are_listed_once_each(tmp_path: Path) -> None:
    data, archive = tmp_path / "data", tmp_path / "archive"
    for folder in (data / "plate1", archive / "plate2", archive / "plate3"):
        picture(folder / "A01_BF.tif")
    (data / "plate2").symlink_to(archive / "plate2")
    (data / "latest").symlink_to(data / "plate1")
    (data / "twice").symlink_to(archive / "plate2")
    (archive / "plate2" / "more").symlink_to(archive / "plate2")
    manifest = from_folder(data, inputs="BF")
    assert manifest.frame["path"].tolist() == ["plate1/A01_BF.tif", "plate2/A01_BF.tif"]
    assert manifest.problems(hashes=True).empty
    assert [field.inputs["BF"].open().shape for field in manifest.fields()] == [(8, 9)] * 2
    with pytest.raises(DataError, match="1 of 2 rows name links out of"):
        manifest.write(data / "m.csv")
    (data / "whole").symlink_to(archive)
    with pytest.raises(
        DataError, match=r"whole: this link leads to .*archive, which holds .*plate2, listed already"
    ):
        from_folder(data, inputs="BF")


def one_field_in_two_spellings(root: Path) -> None:
    for name in ("A01_s1", "A1_s01", "A02_s1"):
        picture(root / f"{name}_BF.tif")


def two_for_one(root: Path) -> None:
    picture(root / "A01_s1_BF.tif")
    picture(root / "A01_s1-BF.png".replace(".png", ".tiff"))


@pytest.mark.parametrize(
    ("make", "options", "error", "text"),
    [
        (lambda root: None, {"inputs": "BF"}, DataError, r"no image found. Looked for .* seen was an empty folder"),
        (lambda root: (root / "a.txt").write_text("x"), {"inputs": "BF"}, DataError, r"1 other files, e.g. \['a.txt'"),
        (folder_b, {"inputs": "phase"}, DataError, r"'phase' found nowhere. Looked for 'phase' in the names of 4"),
        (folder_a_by_position, {"inputs": "x=5"}, DataError, "Looked for position 5 or .5. in the names of 2 images"),
        (folder_b, {"inputs": "BF", "targets": "DAPI"}, DataError, "target channel 'DAPI' found nowhere"),
        (two_for_one, {"inputs": "BF"}, DataError, "1 fields have several files for input 'BF'"),
        (lambda root: picture(root / "BF_Hoechst.tif"), {"inputs": "BF", "targets": "Hoechst"}, DataError,
         r"several of the channels, \['BF', 'Hoechst'\]"),
        (lambda root: picture(root / "BF1_BF.tif", channels=2), {"inputs": "BF"}, DataError, "file has 2 channels"),
        (one_field_in_two_spellings, {"inputs": "BF"}, DataError,
         r"'A01_s1' and 'A1_s01' are the same field twice \(well A01\)"),
        (folder_b, {"inputs": []}, ConfigurationError, "no input channel given"),
        (folder_b, {"inputs": "BF", "targets": "BF"}, ConfigurationError, r"\['BF'\] is empty or given twice"),
        (folder_b, {"inputs": "BF", "pattern": "("}, ConfigurationError, "no regular expression"),
        (folder_b, {"inputs": "BF", "pattern": "A"}, ConfigurationError, "no named group"),
        (folder_b, {"inputs": "BF", "pattern": "(?P<Well>Z)"}, DataError, "does not fit 2 of 2 fields"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_used_say_why(tmp_path: Path, make, options, error, text) -> None:
    make(tmp_path)
    with pytest.raises(error, match=text):
        from_folder(tmp_path, **options)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no such folder"):
        from_folder(tmp_path / "none", inputs="BF")


def test_the_real_brightfield_set_becomes_a_manifest(shared_data: Path) -> None:
    folder = shared_data / "celldetective_mcf7_bf_hoechst"
    manifest = from_folder(folder, inputs="brightfield=0", targets="hoechst=1", masks="nuclei=labels")
    assert (len(manifest), manifest.n_fields) == (165, 55)
    assert manifest.problems().empty
