"""Shape and intensity against cp_measure, CellProfiler's own measures as a library.

Tolerance 1e-6 relative. Left out: Feret diameters (CellProfiler measures between pixel centres, we as scikit-image)
and edge intensities of nuclei at the image border (which CellProfiler does not count as an edge).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from image2reg.nuclei.features import measure

bulk = pytest.importorskip("cp_measure.bulk", reason="cp_measure is not installed (pip install cp_measure)")


@pytest.mark.filterwarnings("ignore")
def test_shape_and_intensity_equal_cp_measure() -> None:
    rng = np.random.default_rng(0)
    relief = ndimage.gaussian_filter(rng.normal(size=(160, 160)), 5)
    labels = label(relief > 0.5 * relief.std())
    labels = label((np.bincount(labels.ravel()) > 20)[labels] & (labels > 0))
    image = relief - relief.min() + 0.01 * rng.random(relief.shape)
    image /= image.max()
    table = measure(image, labels)
    inner = (table.Metadata_TouchesBorder == "False").to_numpy()
    core, compared = bulk.get_core_measurements(), 0
    for kind, group, suffix in (("sizeshape", "AreaShape", ""), ("intensity", "Intensity", "_DNA")):
        for name, values in core[kind](labels, image).items():
            ours = f"Nuclei_{group}_{name.removeprefix('Intensity_')}{suffix}"
            if ours in table and name != "MaxFeretDiameter":
                mine = table[ours].to_numpy()
                np.testing.assert_allclose(
                    mine[inner], np.asarray(values)[inner], rtol=1e-6, atol=1e-7, err_msg=name
                )
                compared += 1
    assert compared >= 35
