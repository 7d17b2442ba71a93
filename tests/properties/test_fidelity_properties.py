"""Fidelity holds for any numbers: distances are zero to oneself, symmetric and blind to what must not matter."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from morphgen.agreement import ks_statistics
from morphgen.closeness import density_coverage, kernel_distance
from morphgen.follow import follow_test

SAMPLES = st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(0, 2**31))


def clouds(sizes: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(sizes[2])
    return rng.normal(size=(sizes[0], 4)), rng.normal(rng.normal(), 1 + rng.random(), (sizes[1], 4))


@given(arrays(np.float64, (20, 3), elements=st.floats(-5, 5)))
def test_ks_of_a_sample_with_itself_is_zero(sample):
    distance, p = ks_statistics(sample, sample)
    assert (distance < 1e-12).all()
    assert (p > 0.999).all()


@given(SAMPLES)
def test_ks_is_symmetric_and_blind_to_monotone_maps(sizes):
    first, second = clouds(sizes)
    distance = ks_statistics(first, second)[0]
    np.testing.assert_allclose(distance, ks_statistics(second, first)[0], atol=1e-12)
    np.testing.assert_allclose(distance, ks_statistics(np.exp(first), np.exp(second))[0], atol=1e-12)
    assert ((distance >= 0) & (distance <= 1 + 1e-12)).all()


@given(SAMPLES)
def test_kernel_distance_is_symmetric_and_blind_to_the_order_of_images(sizes):
    first, second = clouds(sizes)
    n = min(len(first), len(second))
    first, second = first[:n], second[:n]
    value = kernel_distance(first, second)
    np.testing.assert_allclose(value, kernel_distance(second, first), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(value, kernel_distance(first[::-1], second), rtol=1e-9, atol=1e-9)


@given(SAMPLES)
def test_coverage_is_a_share_and_full_for_the_real_images_themselves(sizes):
    first, second = clouds(sizes)
    assert 0 <= density_coverage(first, second)[1] <= 1
    assert density_coverage(first, first)[1] == 1


@given(SAMPLES)
def test_follow_test_is_blind_to_the_order_and_the_scale_of_features(sizes):
    signatures, means = clouds((20, 20, sizes[2]))
    value = follow_test(signatures, means, permutations=9).signature_correlation
    again = follow_test(
        signatures, means[:, ::-1] * [2.0, 0.5, 9.0, 1.0], permutations=9
    ).signature_correlation
    np.testing.assert_allclose(value, again, atol=1e-9)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_allclose(
        value, follow_test(signatures[order], means[order], permutations=9).signature_correlation, atol=1e-9
    )
