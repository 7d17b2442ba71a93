"""Run a model over overlapping tiles and blend what it returns, block by block, in bounded memory."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ConfigurationError
from image2reg.images.tiling import Box, block_boxes, block_shape, tile_starts, tile_weight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Predict = Callable[[list[Box]], NDArray[np.float32]]
    Sink = Callable[[Box, NDArray[np.float32]], None]

__all__ = ["blend_tiles"]


def _tile_corners(
    blocks: list[tuple[Box, bool]], starts: list[list[int]], tile: tuple[int, ...]
) -> list[list[int]]:
    """Per axis, the starts of the tiles that touch a wanted block of one strip."""
    parts = [[part] for part in blocks[0][0][:-1]]
    parts.append([box[-1] for box, skipped in blocks if not skipped])
    return [
        [
            start
            for start in axis_starts
            if any(part.start < start + width and start < part.stop for part in wanted)
        ]
        for axis_starts, wanted, width in zip(starts, parts, tile, strict=True)
    ]


def _in_order(corners: list[list[int]], tile: tuple[int, ...]) -> Iterator[Box]:
    """Tiles of a strip, last axis outermost: the same order for every layout of blocks."""
    for last in corners[-1]:
        for first in itertools.product(*corners[:-1]):
            yield tuple(slice(low, low + width) for low, width in zip((*first, last), tile, strict=True))


class _Strip:
    """Running sums of the blocks along the last axis; a block leaves once no later tile can change it."""

    def __init__(self, blocks: list[tuple[Box, bool]], tile: tuple[int, ...], n_channels: int) -> None:
        self.blocks = blocks
        self.across = blocks[0][0][:-1]
        self.end = blocks[-1][0][-1].stop
        width = min(self.end, max(box[-1].stop - box[-1].start for box, _ in blocks) + tile[-1])
        shape = (*(part.stop - part.start for part in self.across), width)
        self.numerator = np.zeros((n_channels, *shape), dtype=np.float32)
        self.denominator = np.zeros(shape, dtype=np.float32)
        self.origin = 0
        self.n_left = 0

    def leave(self, settled: int, sink: Sink) -> None:
        """Hand over every block that ends at or before `settled`: no later tile starts before it."""
        while self.n_left < len(self.blocks) and self.blocks[self.n_left][0][-1].stop <= settled:
            box, skipped = self.blocks[self.n_left]
            n = box[-1].stop - box[-1].start
            if not skipped:
                sink(box, np.divide(self.numerator[..., :n], self.denominator[..., :n], dtype=np.float32))
            for sums in (self.numerator, self.denominator):
                sums[..., : sums.shape[-1] - n] = sums[..., n:]
                sums[..., sums.shape[-1] - n :] = 0.0
            self.origin += n
            self.n_left += 1

    def add(self, box: Box, values: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
        """Add one tile's output, cut to the strip and to what has not left it yet."""
        inside, window = [], []
        for part, limit in zip(box, (*self.across, slice(self.origin, self.end)), strict=True):
            low, high = max(part.start, limit.start), min(part.stop, limit.stop)
            inside.append(slice(low - part.start, high - part.start))
            window.append(slice(low - limit.start, high - limit.start))
        cut = weight[tuple(inside)]
        self.numerator[(slice(None), *window)] += cut * values[(slice(None), *inside)]
        self.denominator[tuple(window)] += cut


def _check(lengths: dict[str, tuple[int, ...]], n_channels: int, batch_size: int) -> None:
    if len({len(values) for values in lengths.values()}) != 1 or not lengths["shape"]:
        found = ", ".join(f"{name} {values}" for name, values in lengths.items())
        raise ConfigurationError(f"tiling: {found} must each have one number per axis.")
    if min(lengths["block"]) < 1 or n_channels < 1 or batch_size < 1:
        raise ConfigurationError(
            f"tiling: block {lengths['block']}, n_channels {n_channels} and batch_size {batch_size} "
            "must be at least 1."
        )


def blend_tiles(
    predict: Predict,
    *,
    shape: Sequence[int],
    tile: Sequence[int],
    stride: Sequence[int],
    n_channels: int,
    sink: Sink,
    block: Sequence[int] | None = None,
    batch_size: int = 1,
    skip: Callable[[int], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Predict an image tile by tile and blend the overlaps; hand each finished block to `sink` once.

    Every voxel is ``sum_k W_k f(x_k) / sum_k W_k`` over the tiles k that hold it, with triangular weights W.
    Both sums are accumulated in float32 in the same order, which no layout of blocks changes: a model that
    returns one gives exactly one at every stride and size, and the result is bitwise the same for every
    `block` (as far as `predict` returns the same bits for a tile whatever batch it is in).

    Parameters
    ----------
    predict : callable
        ``predict(boxes) -> (len(boxes), n_channels, *tile) float32``. A box is a tuple of slices, one per
        axis of `shape`; it runs past the image only where an axis is shorter than the tile (`read_box`).
    shape, tile, stride : one int per spatial axis of the output
        ``(Y, X)`` or ``(Z, Y, X)``; any size >= 1, any stride in 1..tile.
    n_channels : int
        Channels the model returns.
    sink : callable
        ``sink(box, values)``, values ``(n_channels, *box)`` float32. Boxes cover the image, none overlap.
    block : one int per axis, optional
        Shape of the blocks, `image2reg.images.block_shape` when None. Memory is bounded by
        ``prod(block[:-1]) * (block[-1] + tile[-1]) * 4 * (n_channels + 1)`` bytes and does not grow with the
        image. Tiles on a cut through any axis but the last are predicted once for each side of it.
    batch_size : int
        Largest number of boxes per call of `predict`.
    skip : callable, optional
        ``skip(block_index)`` True means that block is done already (resuming): it is neither computed nor
        handed over. The index counts `image2reg.images.block_boxes`.
    progress : callable, optional
        ``progress(n_tiles_done, n_tiles)`` after each batch.

    Raises
    ------
    ConfigurationError
        A stride outside 1..tile, lengths that do not match, or a `predict` that returns another shape.
    """
    shape, tile, stride = tuple(shape), tuple(tile), tuple(stride)
    lengths = {"shape": shape, "tile": tile, "stride": stride}
    _check(lengths | {"block": shape if block is None else tuple(block)}, n_channels, batch_size)
    starts = [tile_starts(n, width, step) for n, width, step in zip(shape, tile, stride, strict=True)]
    block = block_shape(shape, tile, stride, n_channels) if block is None else tuple(block)
    weight = tile_weight(tile)

    wanted = [
        (box, skip is not None and bool(skip(index))) for index, box in enumerate(block_boxes(shape, block))
    ]
    n_along = math.ceil(shape[-1] / block[-1])
    strips = [wanted[first : first + n_along] for first in range(0, len(wanted), n_along)]
    corners = [_tile_corners(strip, starts, tile) for strip in strips]
    n_tiles, n_done = sum(math.prod(map(len, lists)) for lists in corners), 0
    for blocks, lists in zip(strips, corners, strict=True):
        if not lists[-1]:
            continue  # every block of this strip is done already
        strip, tiles = _Strip(blocks, tile, n_channels), _in_order(lists, tile)
        while batch := list(itertools.islice(tiles, batch_size)):
            predicted = np.asarray(predict(batch), dtype=np.float32)
            if predicted.shape != (len(batch), n_channels, *tile):
                raise ConfigurationError(
                    f"tiling: the model returned {predicted.shape} for {len(batch)} tiles; "
                    f"expected {(len(batch), n_channels, *tile)}."
                )
            for box, values in zip(batch, predicted, strict=True):
                strip.leave(box[-1].start, sink)
                strip.add(box, values, weight)
            n_done += len(batch)
            if progress is not None:
                progress(n_done, n_tiles)
        strip.leave(shape[-1], sink)
        del strip  # before the next one is made: two at a time would double the memory
