"""Level 3 to level 4 against cmapPy, and against the level 4 file that it ships."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from image2reg.expression import read_signatures, zscores


@pytest.mark.parametrize("reference", ["plate", "vehicle"])
def test_zscores_are_those_of_cmappy(shared_data, reference):
    original = pytest.importorskip("cmapPy.math.robust_zscore")
    wells = read_signatures(shared_data / "reader_fixtures" / "test_l1000.gct", level="3").profiles
    expression = pd.DataFrame(wells.values.T)
    vehicle = expression.loc[:, wells.column("Metadata_pert_type") == "ctl_vehicle"]
    expected = original.robust_zscore(expression, vehicle if reference == "vehicle" else None)
    np.testing.assert_allclose(zscores(wells, reference=reference).values, expected.T, atol=5.1e-5)


def test_zscores_have_the_scale_of_the_published_level_4(shared_data):
    """The file's z-scores are all moved by one number; their scale is what is compared."""
    files = shared_data / "reader_fixtures"
    ours = zscores(read_signatures(files / "test_l1000.gct", level="3").profiles)
    published = read_signatures(files / "test_l1000_highprecision.gctx").profiles
    assert published.column("Metadata_Signature").tolist() == ours.column("Metadata_Signature").tolist()
    difference = published.values - ours.values
    assert np.ptp(difference) < 1e-3 < ours.values.std()
