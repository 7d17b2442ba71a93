"""Many images at once: what one cannot do does not stop the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import tifffile
from small_nuclei import bright_segmenter, discs, grid

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
