"""Clumps fall into pieces, pieces are joined as a judge says, and the rule learns to be that judge."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import ConvexHull
from small_nuclei import discs

from image2reg.errors import BundleError
from image2reg.models.bundle import load_bundle, save_bundle
from image2reg.models.rounding import restored, rounded
from image2reg.nuclei.segmenters.catalogue import find_segmenter_bundle
from image2reg.nuclei.segmenters.clumps import MEASURES, Clumps, find_pieces, joined
from image2reg.nuclei.segmenters.joining import JoiningRule, taught_pairs
from image2reg.nuclei.segmenters.network import load_network

AREA = np.pi / 4 * 28**2


def hills(rng: np.random.Generator, size: int = 72) -> Clumps:
    """Planted: smooth random depth, its brighter half for foreground."""
    depth = ndimage.gaussian_filter(rng.standard_normal((size, size)), 4)
    depth = (depth / np.abs(depth).max()).astype(np.float32)
    probability = rng.random((2, size, size)).astype(np.float32)
    return find_pieces(depth, probability[0], probability[1], depth > 0)


def column(name: str, measures: np.ndarray) -> np.ndarray:
    return measures[:, MEASURES.index(name)]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_joining_everything_gives_the_connected_parts_and_joining_nothing_the_pieces(seed) -> None:
    clumps = hills(np.random.default_rng(seed))
    parts, n_parts = ndimage.label(clumps.labels > 0)
    all_joined = joined(clumps, AREA, lambda measures, _: np.zeros(len(measures)))
    assert len(np.unique(all_joined[all_joined > 0])) == n_parts
    assert len(np.unique(np.stack([parts, all_joined])[:, parts > 0], axis=1).T) == n_parts
    none_joined = joined(clumps, AREA, lambda measures, _: np.ones(len(measures)))
    np.testing.assert_array_equal(none_joined, clumps.labels)


def area_within_tangents(points: np.ndarray, n: int = 64) -> float:
    """Where neighbouring tangents meet are the corners of a polygon; its area by the shoelace formula."""
    angle = 2 * np.pi * np.arange(n) / n
    normals = np.stack([np.sin(angle), np.cos(angle)], 1)
    reach = (points @ normals.T).max(0)
    y, x = np.array([np.linalg.solve(normals[[i - 1, i]], reach[[i - 1, i]]) - points[0] for i in range(n)]).T
    return abs(y @ np.roll(x, 1) - x @ np.roll(y, 1)) / 2


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_what_is_measured_of_joined_pieces_is_what_their_pixels_say(seed) -> None:
    """Sums and hulls are carried along; the last questions must be answered as if nothing had been joined before."""
    rng = np.random.default_rng(seed)
    clumps = hills(rng)
    of = np.arange(clumps.peaks.size)

    def judge(measures, pairs):
        for row, (a, b) in zip(measures, pairs, strict=True):
            # Parts join under the number of the first; the second's number is then asked about no more.
            first, second = (np.isin(clumps.labels, np.flatnonzero(of == n)) for n in (a, b))
            if not (first.any() and second.any()):
                continue
            both = first | second
            small, large = sorted([first.sum(), second.sum()])
            assert column("smaller", row[None])[0] == pytest.approx(np.log(small / AREA))
            assert column("larger", row[None])[0] == pytest.approx(np.log(large / AREA))
            y, x = np.nonzero(both)
            corners = np.concatenate([np.stack([y + i, x + j], 1) for i in (0, 1) for j in (0, 1)])
            solidity = column("solidity", row[None])[0]
            assert solidity == pytest.approx(both.sum() / area_within_tangents(corners))
            # Tangents lie around the hull, and no further than triangles on its whole outline reach.
            hull, within = ConvexHull(corners), both.sum() / solidity
            assert hull.volume < 1.000001 * within
            assert within < hull.volume + hull.area**2 / 4 * np.tan(np.pi / 64)
        if len(of) == len(set(of)):  # the first question: join one pair, then look at what is asked
            of[pairs[0][1]] = pairs[0][0]
            return np.r_[0.0, np.ones(len(pairs) - 1)]
        return np.ones(len(measures))

    joined(clumps, AREA, judge)


def test_the_surest_pairs_join_first_and_what_they_made_is_asked_about_anew() -> None:
    depth = np.tile(np.cos(np.arange(101) * np.pi / 10) + 1, (8, 1)).astype(np.float32) / 2
    clumps = find_pieces(depth, depth, depth, depth > -1)
    order = clumps.labels[4, ::20].tolist()  # six pieces in a row
    assert len(set(order)) == 6
    # Outer pairs are the surest; those beside them, surer than the middle one, are asked again and parted.
    chances = dict(zip(map(frozenset, pairwise(order)), (0.1, 0.2, 0.45, 0.2, 0.1), strict=True))
    asked = []

    def judge(_, pairs):
        asked.append(len(pairs))
        if len(asked) > 1:
            return np.full(len(pairs), 0.9)
        return np.array([chances[frozenset(pair)] for pair in pairs.tolist()])

    found = joined(clumps, AREA, judge)[4, ::20].tolist()
    assert [a == b for a, b in pairwise(found)] == [True, False, True, False, True]
    assert asked == [5, 2, 2]


def test_a_field_without_a_gap_asks_as_many_questions_per_piece_when_it_is_larger() -> None:
    def asked_per_piece(size: int) -> float:
        depth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((size, size)), 2)
        depth = (0.5 + 0.2 * depth / depth.std()).astype(np.float32)
        everywhere = np.ones(depth.shape, dtype=bool)
        clumps = find_pieces(depth, depth, depth, everywhere)
        n_asked = 0

        def judge(measures, _):
            nonlocal n_asked
            n_asked += len(measures)
            return np.zeros(len(measures))

        joined(clumps, 50.0, judge)
        return n_asked / clumps.peaks.size

    assert asked_per_piece(192) < 1.5 * asked_per_piece(96)


def test_a_field_without_pieces_or_with_lone_ones_has_nothing_to_ask() -> None:
    def judge(*_):
        raise AssertionError("asked")

    dark = np.zeros((16, 16), np.float32)
    nothing = find_pieces(dark, dark, dark, dark > 0)
    assert joined(nothing, AREA, judge).max() == 0
    lone = np.pad(np.full((4, 4), 0.9, np.float32), 6)
    assert joined(find_pieces(lone, lone, lone, lone > 0), AREA, judge).max() == 1


def test_the_unfitted_rule_parts_two_middles_and_keeps_a_lobe() -> None:
    rule = JoiningRule(0.4)
    measures = np.zeros((3, len(MEASURES)))
    column("peak", measures)[:] = 0.9, 0.9, 0.3  # two middles, two middles, a lobe without one
    column("saddle", measures)[:] = 0.2, 0.6, 0.1
    np.testing.assert_array_equal(rule.judge(measures, np.zeros((3, 2))) > 0.5, [True, False, False])


def planted_pairs(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are two nuclei where they touch more than they are deep between: no one measure tells."""
    measures = rng.random((n, len(MEASURES)))
    return measures, column("touching", measures) > column("saddle", measures)


def test_the_rule_learns_survives_rounding_and_is_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    rule, again = JoiningRule(0.4), JoiningRule(0.4)
    pairs = planted_pairs(rng, 2000)
    assert rule.fit(*pairs)
    assert again.fit(*pairs)
    stored = rounded(rule.state_dict())
    for name, value in rounded(again.state_dict()).items():
        assert torch.equal(value, stored[name])
    rule.load_state_dict(restored(stored))
    measures, two = planted_pairs(rng, 1000)
    right = (rule.judge(measures, np.zeros((1000, 2))) > 0.5) == two
    assert right.mean() > 0.9  # a coin gets 0.5; one threshold on one measure 0.75
    more = measures.copy()
    column("touching", more)[:] += 0.3
    assert (rule.judge(more, two) >= rule.judge(measures, two) - 0.05).all()


def test_too_few_pairs_give_the_unfitted_rule_whatever_was_learned_before() -> None:
    rng = np.random.default_rng(0)
    rule, unfitted = JoiningRule(0.4), JoiningRule(0.4).state_dict()
    assert rule.fit(*planted_pairs(rng, 2000))
    assert not torch.equal(rule.value, unfitted["value"])
    assert not rule.fit(*planted_pairs(rng, 100))
    for name, value in rule.state_dict().items():
        assert torch.equal(value, unfitted[name])


def test_the_truth_teaches_which_pieces_belong_together() -> None:
    _, truth = discs((64, 64), [(32, 20), (32, 46)])
    y, x = np.indices(truth.shape)
    # The first nucleus has two peaks, the second one.
    domes = [np.exp(-((y - r) ** 2 + (x - c) ** 2) / 72) for r, c in ((26, 20), (39, 20), (32, 46))]
    depth = np.where(truth == 1, np.maximum(*domes[:2]), domes[2]).astype(np.float32)
    pieces = find_pieces(depth, *np.zeros((2, 64, 64), np.float32), truth > 0)
    assert pieces.peaks.size == 1 + 3
    measures, two = taught_pairs(pieces, truth, AREA)
    asked = AREA * np.exp(measures[:, [MEASURES.index("smaller"), MEASURES.index("larger")]])
    halves = sorted(np.bincount(pieces.labels.ravel())[pieces.labels[[26, 39], 20]])
    of_one = np.isclose(asked, halves).all(axis=1)
    assert of_one.sum() == 1
    np.testing.assert_array_equal(two, ~of_one)


def test_a_bundle_without_the_rule_is_refused_by_what_is_missing(tmp_path) -> None:
    whole = find_segmenter_bundle("nuclei")
    bare = {name: value for name, value in whole.state_dict().items() if not name.startswith("rule.")}
    files = {
        name: whole.file(name) for name in whole.spec.files if name not in {"model.safetensors", "README.md"}
    }
    save_bundle(tmp_path / "bare", whole.spec, bare, files=files)
    with pytest.raises(BundleError, match=r"'rule\.feature' is missing"):
        load_network(load_bundle(tmp_path / "bare"), device="cpu")
