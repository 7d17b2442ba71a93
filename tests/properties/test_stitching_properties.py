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


@given(st.integers(0, 2), st.integers(0, 2), st.booleans())
def test_an_object_that_neighbours_see_a_pixel_apart_is_neither_lost_nor_counted_twice(
    left, right, across
) -> None:
    """Around the border at 200, windows differ in how wide they see an object."""

    def label(box):
        box = box[::-1] if across else box
        labels = np.zeros([part.stop - part.start for part in box], np.int32)
        wider = left if box[1].start == 0 else -right
        first, last = (max(0, x - box[1].start) for x in (195, 205 + wider))
        for number, top in enumerate((10, 40, 70), start=1):
            labels[top : top + 12, first:last] = number
        return labels.T if across else labels

    shape = (400, 100) if across else (100, 400)
    made = label_blocks(label, shape, block=200, halo=60)
    assert np.unique(made).tolist() == [0, 1, 2, 3]
    assert ndimage.label(made)[1] == 3
