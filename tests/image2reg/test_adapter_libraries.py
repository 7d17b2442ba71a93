"""The adapter with the real libraries, whichever is installed, on files made here; no other data are needed.

bioio and aicsimageio exclude each other, so each is tested in an environment of its own (`.ci/run aics bioio`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from image2reg import DataError, Image, read, write
from image2reg.images import adapter

if TYPE_CHECKING:
    from pathlib import Path

# The libraries and what they import warn about their own age.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["bioio", "aicsimageio"])
def library(request: pytest.FixtureRequest) -> str:
    extra = {"bioio": "bioio", "aicsimageio": "aics"}[request.param]
    pytest.importorskip(
        request.param, reason=f"{request.param} is not installed (pip install 'virtualstain[{extra}]')"
    )
    return str(request.param)


@pytest.fixture
def stack(tmp_path: Path) -> Image:
    voxels = np.random.default_rng(0).integers(0, 60000, (2, 5, 33, 47), dtype=np.uint16)
    path = tmp_path / "cells.ome.tif"
    write(Image(voxels, "CZYX", (0.5, 0.25, 0.25), ("Phase", "Hoechst")), path)
    return Image(voxels, "CZYX", (0.5, 0.25, 0.25), ("Phase", "Hoechst"), str(path))


def test_an_ome_tiff_of_ours_is_the_same_image_to_the_library(
    library: str, stack: Image, tmp_path: Path
) -> None:
    theirs = adapter.read_foreign(tmp_path / "cells.ome.tif")
    assert (theirs.axes, theirs.shape, theirs.dtype) == ("CZYX", stack.shape, np.uint16)
    assert theirs.channels == stack.channels
    assert theirs.voxel_um == pytest.approx(stack.voxel_um)
    np.testing.assert_array_equal(theirs.load().data, stack.data)


def test_a_part_of_a_lazy_image_is_the_part(library: str, stack: Image, tmp_path: Path) -> None:
    theirs = adapter.read_foreign(tmp_path / "cells.ome.tif")
    assert not isinstance(theirs.data, np.ndarray)
    np.testing.assert_array_equal(theirs.data[1, 2:4, 5:9, 40:], stack.data[1, 2:4, 5:9, 40:])
    chosen = theirs.select(channel="Hoechst").load()
    np.testing.assert_array_equal(chosen.data, stack.data[1:])


def test_a_file_no_library_reads_is_refused_with_its_reason(library: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.czi"
    path.write_bytes(b"no microscope wrote this")
    with pytest.raises(
        DataError, match=rf"cells\.czi: no installed library could read it \({library}: .*OME-TIFF"
    ):
        read(path)
