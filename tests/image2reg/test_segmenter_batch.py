"""Many images at once: what one cannot do does not stop the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from small_nuclei import bright_segmenter, discs, grid

from image2reg.errors import ConfigurationError
from image2reg.nuclei.segmenters.batch import segment_many
from image2reg.nuclei.segmenters.classical import ClassicalSegmenter


@pytest.fixture
def images(tmp_path) -> Path:
    """Of values beyond float32, of True and False, and as it should be."""
    image, labels = discs((200, 200), grid(4))
    (tmp_path / "images").mkdir()
    for name, values in {"a": image.astype(float) * 1e300, "b": labels > 0, "c": image}.items():
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", values)
    return tmp_path / "images"


@pytest.mark.parametrize("segmenter", [bright_segmenter(), ClassicalSegmenter()])
def test_values_beyond_float32_fail_alone_and_true_and_false_are_values(images, tmp_path, segmenter) -> None:
    done = segment_many([images], tmp_path / "labels", segmenter=segmenter)
    assert [Path(row["source"]).name for row in done.written] == ["b.tif", "c.tif"]
    assert min(row["n_objects"] for row in done.written) >= 15
    assert [(Path(row["source"]).name, row["kind"]) for row in done.failures] == [("a.tif", "DataError")]


@pytest.mark.parametrize("n_there", [0, 1, 2])
def test_progress_counts_what_a_resumed_run_leaves_out(images, tmp_path, n_there) -> None:
    labels = tmp_path / "labels"
    segment_many([images], labels, segmenter=ClassicalSegmenter())
    for path in sorted(labels.iterdir())[n_there:]:
        path.unlink()
    seen: list[tuple[int, int]] = []
    done = segment_many(
        [images], labels, segmenter=ClassicalSegmenter(), resume=True, progress=lambda *at: seen.append(at)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(done.written) == 2 - n_there


@pytest.mark.parametrize(
    ("dna", "gfp", "asked"),
    [("A01_s1_w1", "A01_s1_w2", "w1"), ("A01_DAPI", "A01_GFP", "dapi"), ("dna/A01", "gfp/A01", "dna")],
)
def test_files_of_other_channels_are_left_out(tmp_path, dna, gfp, asked) -> None:
    image, _ = discs((200, 200), grid(4))
    for name in (dna, gfp):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", image)
    done = segment_many(
        [tmp_path / "images"], tmp_path / "labels", segmenter=ClassicalSegmenter(), channel=asked
    )
    assert [Path(row["output"]) for row in done.written] == [tmp_path / "labels" / f"{dna}.tif"]
    assert (done.n_other, done.failures) == (1, [])


def test_a_folder_that_is_called_like_the_channel_does_not_make_it_of_every_file(tmp_path) -> None:
    image, _ = discs((200, 200), grid(4))
    (tmp_path / "DAPI_day1").mkdir()
    for name in ("A01_DAPI", "A01_GFP", "A02_GFP"):
        tifffile.imwrite(tmp_path / "DAPI_day1" / f"{name}.tif", image)
    done = segment_many(
        [tmp_path / "DAPI_day1"], tmp_path / "labels", segmenter=ClassicalSegmenter(), channel="DAPI"
    )
    assert [Path(row["source"]).stem for row in done.written] == ["A01_DAPI"]
    assert done.n_other == 1
    assert [Path(row["source"]).stem for row in done.failures] == ["A02_GFP"]


def test_jpegs_of_a_folder_are_labelled(tmp_path) -> None:
    image, _ = discs((200, 200), grid(4))
    (tmp_path / "in").mkdir()
    Picture.fromarray((255 * (image / image.max())).astype(np.uint8)).save(tmp_path / "in" / "a.jpg")
    (done,) = segment_many([tmp_path / "in"], tmp_path / "out", segmenter=ClassicalSegmenter()).written
    assert (Path(done["output"]).name, done["n_objects"]) == ("a.tif", 16)


def test_a_channel_inside_an_image_is_found_beside_files_that_are_named_for_it(tmp_path) -> None:
    image, _ = discs((200, 200), grid(4))
    (tmp_path / "images").mkdir()
    both = np.stack([image, image])
    for name, planes in {"DNA_test": both, "A01": both, "0": image, "1": image}.items():
        axes = {"axes": "CYX", "Channel": {"Name": ["DNA", "GFP"]}} if planes.ndim == 3 else {"axes": "YX"}
        tifffile.imwrite(tmp_path / "images" / f"{name}.ome.tif", planes, metadata=axes)
    options = {"segmenter": ClassicalSegmenter()}
    done = segment_many([tmp_path / "images"], tmp_path / "a", channel="DNA", **options)
    assert sorted(Path(row["source"]).name for row in done.written) == ["A01.ome.tif", "DNA_test.ome.tif"]
    done = segment_many([tmp_path / "images"], tmp_path / "b", channel="0", **options)
    assert len(done.written) == 4  # a position


def test_channels_side_by_side_are_not_all_taken_for_nuclei(tmp_path) -> None:
    image, _ = discs((200, 200), grid(4))
    for name in ("A01_s1_w1", "A01_s1_w2"):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    for inputs in ([tmp_path], sorted(tmp_path.glob("*.tif"))):
        with pytest.raises(
            ConfigurationError, match=r"2 files are channels of fields .*A01_s1_w1.*--channel w1"
        ):
            segment_many(inputs, tmp_path / "labels", segmenter=ClassicalSegmenter())
    assert not (tmp_path / "labels").exists()
