"""Promises of the tiling at every size, tile, stride and layout of blocks (fault F11)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image2reg.images import blend_tiles, block_boxes, block_shape, read_box
from image2reg.images.tiling import tile_starts


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    n_axes = draw(st.integers(1, 3))
    longest = {1: 70, 2: 24, 3: 10}[n_axes]
    shape = tuple(draw(st.integers(1, longest)) for _ in range(n_axes))
    tile = tuple(draw(st.integers(1, max(1, longest // 2))) for _ in range(n_axes))
    stride = tuple(draw(st.integers(1, width)) for width in tile)
    return {"shape": shape, "tile": tile, "stride": stride}


def blended(predict, layout, *, n_channels=1, **options) -> np.ndarray:
    """The whole output; NaN where no block came, and a failure where two did."""
    out = np.full((n_channels, *layout["shape"]), np.nan, dtype=np.float32)

    def sink(box, values):
        assert values.dtype == np.float32
        assert np.isnan(out[(slice(None), *box)]).all(), "a voxel was handed over twice"
        out[(slice(None), *box)] = values

    blend_tiles(predict, n_channels=n_channels, sink=sink, **layout, **options)
    return out


def reading(image: np.ndarray):
    return lambda boxes: np.stack([read_box(image, box)[None] for box in boxes])


def ones(layout, n_channels=1):
    return lambda boxes: np.ones((len(boxes), n_channels, *layout["tile"]), dtype=np.float32)


@settings(max_examples=200)
@given(layouts(), st.data())
def test_a_model_that_returns_one_gives_exactly_one(layout, data):
    block = tuple(data.draw(st.integers(1, n)) for n in layout["shape"])
    assert (blended(ones(layout, 2), layout, n_channels=2, block=block) == 1.0).all()


@pytest.mark.parametrize("stride", range(1, 6))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_twenty_slices_under_a_window_of_five(axis, stride):
    """The case where a published z feathering returns 0.62 on alternate planes and 0 at the end."""
    shape, tile, strides = [6, 6, 6], [4, 4, 4], [3, 3, 3]
    shape[axis], tile[axis], strides[axis] = 20, 5, stride
    layout = {"shape": tuple(shape), "tile": tuple(tile), "stride": tuple(strides)}
    assert (blended(ones(layout), layout) == 1.0).all()


@given(layouts(), st.integers(0, 2**32 - 1))
def test_the_identity_model_returns_the_image(layout, seed):
    image = np.random.default_rng(seed).normal(size=layout["shape"]).astype(np.float32)
    np.testing.assert_allclose(blended(reading(image), layout)[0], image, rtol=1e-6, atol=1e-7)


@given(layouts())
def test_a_ramp_stays_a_ramp(layout):
    ramp = sum(
        weight * axis for weight, axis in zip((1.0, 10.0, 0.1), np.indices(layout["shape"]), strict=False)
    ).astype(np.float32)
    np.testing.assert_allclose(blended(reading(ramp), layout)[0], ramp, rtol=1e-5, atol=1e-6)


@given(layouts(), st.data())
def test_neither_blocks_nor_batches_change_a_bit(layout, data):
    """A model whose answer depends on where the tile lies, so that every overlap really blends."""

    def model(boxes):
        values = [np.sin(read_box(image, box) * 7 + sum(part.start for part in box)) for box in boxes]
        return np.stack(values)[:, None].astype(np.float32)

    image = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=layout["shape"])
    block = tuple(data.draw(st.integers(1, n)) for n in layout["shape"])
    whole = blended(model, layout, block=layout["shape"])
    other = blended(model, layout, block=block, batch_size=data.draw(st.integers(1, 7)))
    np.testing.assert_array_equal(other, whole)


@given(layouts(), st.data())
def test_skipped_blocks_are_left_alone_and_the_rest_is_the_same(layout, data):
    block = tuple(data.draw(st.integers(1, n)) for n in layout["shape"])
    boxes = block_boxes(layout["shape"], block)
    skipped = data.draw(st.sets(st.integers(0, len(boxes) - 1)))
    image = np.random.default_rng(1).normal(size=layout["shape"])
    whole = blended(reading(image), layout, block=block)
    rest = blended(reading(image), layout, block=block, skip=skipped.__contains__)
    for index, box in enumerate(boxes):
        if index in skipped:
            assert np.isnan(rest[(slice(None), *box)]).all()
        else:
            np.testing.assert_array_equal(rest[(slice(None), *box)], whole[(slice(None), *box)])


@given(layouts(), st.data())
def test_only_tiles_that_a_wanted_block_needs_are_predicted(layout, data):
    block = tuple(data.draw(st.integers(1, n)) for n in layout["shape"])
    boxes = block_boxes(layout["shape"], block)
    only = data.draw(st.integers(0, len(boxes) - 1))
    seen, told = [], []

    def model(tiles):
        seen.extend(tiles)
        return ones(layout)(tiles)

    blended(model, layout, block=block, skip=lambda index: index != only, progress=lambda *n: told.append(n))
    for tile in seen:
        assert all(t.start < b.stop and b.start < t.stop for t, b in zip(tile, boxes[only], strict=True))
    assert told[-1] == (len(seen), len(seen))


@given(st.integers(1, 12), st.integers(-15, 20), st.integers(1, 30))
def test_read_box_mirrors_once_then_keeps_the_edge(n, start, length):
    row = np.arange(n)
    got = read_box(row, (slice(start, start + length),))
    for index, value in zip(range(start, start + length), got.tolist(), strict=True):
        mirrored = -index if index < 0 else 2 * (n - 1) - index if index >= n else index
        assert value == min(max(mirrored, 0), n - 1)


@given(
    st.integers(1, 80), st.integers(1, 900), st.integers(1, 900), st.integers(1, 4), st.integers(10**5, 10**8)
)
def test_default_blocks_keep_their_sums_inside_the_limit(z, y, x, n_channels, max_bytes):
    tile, stride = (8, 32, 32), (6, 24, 24)
    block = block_shape((z, y, x), tile, stride, n_channels, max_bytes=max_bytes)
    assert all(1 <= size <= n for size, n in zip(block, (z, y, x), strict=True))
    width = min(x, block[-1] + tile[-1])
    smallest = all(
        size == min(n, step) for size, n, step in zip(block[:-1], (z, y), stride[:-1], strict=True)
    )
    assert smallest or 4 * (n_channels + 1) * block[0] * block[1] * width <= max_bytes


@pytest.mark.parametrize(("max_bytes", "most"), [(64_000_000, 1.2), (128_000_000, 1.06)])
def test_cutting_a_large_stack_repeats_few_tiles(max_bytes, most):
    """64 x 2048 x 2048 under tiles of 32 x 128 x 128, as the documentation of `block_shape` says."""
    layout = {"shape": (64, 2048, 2048), "tile": (32, 128, 128), "stride": (24, 96, 96)}
    block = block_shape(*layout.values(), 1, max_bytes=max_bytes)
    starts = [tile_starts(*lengths) for lengths in zip(*layout.values(), strict=True)]
    n_tiles = 0
    for z, y in block_boxes(layout["shape"][:2], block[:2]):
        touching = [
            sum(low < part.stop and part.start < low + width for low in lows)
            for part, lows, width in zip((z, y), starts, layout["tile"], strict=False)
        ]
        n_tiles += touching[0] * touching[1]
    assert n_tiles <= most * len(starts[0]) * len(starts[1])
