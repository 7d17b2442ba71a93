"""Large images in blocks: every object counts once, wherever the cuts fall."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from image2reg.nuclei.segmenters.stitching import label_blocks


@st.composite
def scenes(draw) -> tuple[np.ndarray, int]:
    """Separate rectangles of at most 9 pixels a side somewhere in an image."""
    height, width = draw(st.integers(20, 70)), draw(st.integers(20, 70))
    mask = np.zeros((height, width), bool)
    for row in range(1, height - 10, 11):
        for column in range(1, width - 10, 11):
            if draw(st.booleans()):
                h, w = draw(st.integers(1, 9)), draw(st.integers(1, 9))
                mask[row : row + h, column : column + w] = True
    return mask, draw(st.integers(12, 40))


@given(scenes())
def test_each_object_counts_once(scene) -> None:
    mask, block = scene

    def label(box):
        return ndimage.label(mask[box])[0].astype(np.int32)

    made = label_blocks(label, mask.shape, block=block, halo=10)
    whole, n_objects = ndimage.label(mask)
    assert made.max() == n_objects
    # One new number for each old one and back: the same objects under other names.
    pairs = set(zip(whole[mask].tolist(), made[mask].tolist(), strict=True))
    assert len(pairs) == n_objects
    assert not made[~mask].any()
