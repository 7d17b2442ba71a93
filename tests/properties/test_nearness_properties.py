"""Distances within a few pixels are those of a Euclidean distance transform, whatever the labels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from image2reg.nuclei.segmenters.nearness import edges, nearest_nucleus, squared_distance

PLANES = array_shapes(min_dims=2, max_dims=2, max_side=24).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.integers(0, 3), fill=st.just(0))
)
REACHES = st.integers(1, 7)


def true_distance(labels):
    return ndimage.distance_transform_edt(labels == 0) if labels.any() else np.full(labels.shape, np.inf)


@given(PLANES, REACHES)
def test_distances_are_exact_within_reach_and_longer_beyond(labels, reach):
    squared, true = squared_distance(labels > 0, reach), true_distance(labels)
    within = true <= reach
    np.testing.assert_allclose(squared[within], true[within] ** 2)
    assert (squared[~within] > reach**2).all()


@given(PLANES, REACHES)
def test_pixels_go_to_a_nucleus_that_is_nearest_and_to_none_beyond_reach(labels, reach):
    grown = nearest_nucleus(labels, squared_distance(labels > 0, reach), reach)
    true = true_distance(labels)
    np.testing.assert_array_equal(grown > 0, true <= reach)
    for n in np.unique(grown[grown > 0]):
        np.testing.assert_allclose(true_distance(labels == n)[grown == n], true[grown == n])
    inside = labels > 0
    np.testing.assert_array_equal(grown[inside], labels[inside])


@given(PLANES)
def test_edges_are_where_something_else_begins(labels):
    edge, touching = edges(labels)
    nucleus = labels > 0
    highest = ndimage.maximum_filter(labels, 3)
    np.testing.assert_array_equal(edge, nucleus & (ndimage.minimum_filter(labels, 3) != highest))
    lowest = ndimage.minimum_filter(np.where(nucleus, labels, 9), 3)
    np.testing.assert_array_equal(touching, nucleus & (lowest < highest))
