"""What all features stand on, over all regions at once, against the same said of one region at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from image2reg.nuclei.depth import depth_inside
from image2reg.nuclei.regions import Regions, sort_pieces
from image2reg.nuclei.rings import rings_around


@st.composite
def touching_labels(draw: st.DrawFn, axes: tuple[int, ...] = (2, 3)) -> np.ndarray:
    """Patches of numbers that touch, in pieces, with holes, up to the border."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = [draw(st.integers(1, 14)) for _ in range(draw(st.sampled_from(axes)))]
    coarse = rng.integers(0, draw(st.integers(2, 6)), size=[-(-side // 4) for side in shape])
    labels = np.kron(coarse, np.ones((4,) * len(shape), int))[tuple(slice(side) for side in shape)]
    return np.where(rng.random(shape) < draw(st.floats(0, 0.3)), 0, labels)


@given(touching_labels(), st.tuples(*[st.sampled_from([1, 0.4, 2.3, 3])] * 3))
def test_depth_is_each_regions_own_distance_transform(labels, aspect) -> None:
    aspect = aspect[: labels.ndim]
    regions = Regions(labels, aspect=aspect)
    depth = depth_inside(regions)
    for number, label in enumerate(regions.ids):
        alone = ndimage.distance_transform_edt(np.pad(labels == label, 1), sampling=aspect)
        own = regions.region == number
        inner = alone[(slice(1, -1),) * labels.ndim].reshape(-1)
        np.testing.assert_allclose(depth[own], inner[regions.inside[own]], rtol=1e-12)


@given(
    st.lists(st.integers(0, 40), max_size=20), st.integers(0, 1000), st.sampled_from([np.uint16, np.float32])
)
def test_pieces_are_sorted_each_by_itself(lengths, seed, dtype) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, sum(lengths)).astype(dtype)
    if dtype is np.float32:
        values -= 2
        values[::7] = np.inf
    else:
        values[::7] = 65535
    ends = np.cumsum(lengths, dtype=int)
    expected = [np.sort(piece) for piece in np.split(values, ends)[: len(lengths)]]
    ordered = sort_pieces(values, np.array(lengths, np.int64))
    np.testing.assert_array_equal(ordered, np.concatenate([*expected, np.zeros(0, dtype)]))


@given(touching_labels(axes=(2,)), st.integers(0, 2), st.integers(1, 3))
def test_rings_are_what_growing_one_nucleus_after_the_other_gives(labels, gap, width) -> None:
    regions = Regions(labels)
    where, region = rings_around(regions, gap_px=gap, width_px=width)
    found = np.zeros(labels.size, int)
    found[where] = regions.ids[region]
    owner, ring = labels.copy(), np.zeros(labels.shape, int)
    fronts = {label: labels == label for label in regions.ids}
    for step in range(gap + width):
        shape = ndimage.generate_binary_structure(2, 1 + step % 2)
        reached = {k: ndimage.binary_dilation(front, shape) & (owner == 0) for k, front in fronts.items()}
        comers = np.sum([*reached.values(), np.zeros(labels.shape, bool)], axis=0)
        fronts = {k: mine & (comers == 1) for k, mine in reached.items()}
        for k, mine in fronts.items():
            owner[mine] = k
            ring[mine] = k if step >= gap else 0
        owner[comers > 1] = -1
    np.testing.assert_array_equal(found.reshape(labels.shape), ring)
    assert len(np.unique(where)) == len(where)
