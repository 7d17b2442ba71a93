"""The adapter with the real aicsimageio on a real CZI, in the environment that has it (the aics extra)."""

from __future__ import annotations

import numpy as np
import pytest

from image2reg.images import read
from image2reg.images.adapter import read_foreign

pytest.importorskip("aicsimageio", reason="aicsimageio is not installed (pip install 'virtualstain[aics]')")
# The library and what it imports warn about their own age.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def pair(shared_data):
    folder = shared_data / "reader_fixtures"
    return folder / "s_1_t_1_c_1_z_1.czi", folder / "s_1_t_1_c_1_z_1.ome.tiff"


def test_a_real_czi_equals_the_ome_tiff_made_from_it(pair):
    pytest.importorskip(
        "aicspylibczi", reason="aicsimageio reads CZI with aicspylibczi, which is not installed"
    )
    czi, tiff = (read(path) for path in pair)
    assert (
        (czi.axes, czi.shape, czi.dtype)
        == (tiff.axes, tiff.shape, tiff.dtype)
        == ("YX", (325, 475), np.uint16)
    )
    np.testing.assert_array_equal(czi.load().data, tiff.load().data)
    assert czi.voxel_um[1:] == pytest.approx(tiff.voxel_um[1:], rel=1e-6)
    assert czi.channels == tiff.channels


def test_its_own_ome_tiff_reader_agrees_with_ours(pair):
    theirs, ours = read_foreign(pair[1]), read(pair[1])
    assert (theirs.axes, theirs.shape, theirs.channels) == (ours.axes, ours.shape, ours.channels)
    np.testing.assert_array_equal(theirs.load().data, ours.load().data)
    assert theirs.voxel_um[1:] == pytest.approx(ours.voxel_um[1:], rel=1e-6)
