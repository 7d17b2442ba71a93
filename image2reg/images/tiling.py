"""Where tiles and blocks lie, how much each tile counts, and how a tile that leaves the image is filled.

Everything here is arithmetic on boxes (tuples of slices). The walk that calls a model and blends what it
returns is in `image2reg.images.blending`.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Box", "block_boxes", "block_shape", "read_box", "tile_starts", "tile_weight"]

Box = tuple[slice, ...]


def tile_starts(n: int, tile: int, stride: int) -> list[int]:
    """First index of every tile along one axis: ``{0, s, 2s, ...}`` and one flush with the end.

    Parameters
    ----------
    n, tile, stride : int
        Length of the axis, of the tile, and distance between tiles (1 <= stride <= tile), in voxels.

    Raises
    ------
    ConfigurationError
        A length below 1, or a stride outside 1..tile, which would leave voxels uncovered.

    Examples
    --------
    >>> tile_starts(20, 5, 4)
    [0, 4, 8, 12, 15]
    >>> tile_starts(3, 5, 4)
    [0]
    """
    if n < 1 or tile < 1:
        raise ConfigurationError(f"tiling: axis length {n} and tile length {tile} must both be at least 1.")
    if not 1 <= stride <= tile:
        raise ConfigurationError(
            f"tiling: stride {stride} is outside 1..{tile} (the tile length); voxels would be uncovered. "
            f"Choose a stride in that range; {max(1, tile * 3 // 4)} overlaps tiles by a quarter."
        )
    if n <= tile:
        return [0]
    starts = list(range(0, n - tile + 1, stride))
    if starts[-1] != n - tile:
        starts.append(n - tile)
    return starts


def tile_weight(tile: Sequence[int]) -> NDArray[np.float32]:
    """Triangular weight of every voxel of a tile: ``t_z t_y t_x`` with ``t_i = 1 - |(2i + 1)/w - 1|``.

    Returns
    -------
    (*tile) float32, in (0, 1]
        Never zero, so a border that one tile covers alone keeps its value.
    """
    weight = np.ones((), dtype=np.float32)
    for width in tile:
        ramp = 1.0 - np.abs((2.0 * np.arange(width) + 1.0) / width - 1.0)
        weight = np.multiply.outer(weight, ramp.astype(np.float32))
    return weight


def block_shape(
    shape: Sequence[int],
    tile: Sequence[int],
    stride: Sequence[int],
    n_channels: int,
    *,
    max_bytes: int = 64_000_000,
) -> tuple[int, ...]:
    """Shape of the output blocks: the whole image where its sums fit, else strips along the last axis.

    Blocks that follow each other along the last axis share the sums of the tiles between them, so cutting
    that axis costs nothing. Cutting another axis repeats the tiles on the cut, so the cuts lie at tile starts
    and where the fewest tiles are repeated: 1.0 x the tiles for 4096 x 4096 under tiles of 256, stride 192;
    1.19 x for 64 x 2048 x 2048 under tiles of 32 x 128 x 128 with a quarter of overlap and one channel
    (1.05 x with twice the room).

    Parameters
    ----------
    shape, tile, stride : one int per spatial axis
    n_channels : int
    max_bytes : int
        Room for numerator (`n_channels` float32) and denominator (one float32) of a block and the tile after
        it. A single tile may need more; then the block is one tile across (one stride across).
    """
    voxel_bytes = 4 * (n_channels + 1)
    if math.prod(shape) * voxel_bytes <= max_bytes:
        return tuple(shape)
    reach = min(shape[-1], stride[-1])
    room = max_bytes // (voxel_bytes * min(shape[-1], reach + tile[-1]))
    axes = zip(shape[:-1], tile[:-1], stride[:-1], strict=True)
    candidates = itertools.product(*(_cuts(n, width, step) for n, width, step in axes))
    # Beyond the limit the smallest block wins, inside it the one with the fewest tiles.
    best = min(
        candidates,
        key=lambda cuts: (
            max(math.prod(size for size, _ in cuts) - room, 0),
            math.prod(n_tiles for _, n_tiles in cuts),
        ),
    )
    return (*(size for size, _ in best), reach)


def _cuts(n: int, tile: int, stride: int) -> list[tuple[int, int]]:
    """Block lengths that cut an axis at tile starts, each with the tiles predicted along it."""
    starts = tile_starts(n, tile, stride)
    sizes = sorted({min(n, stride * times) for times in range(1, len(starts) + 1)} | {n})
    return [
        (
            size,
            sum(low < start + tile and start < low + size for low in range(0, n, size) for start in starts),
        )
        for size in sizes
    ]


def block_boxes(shape: Sequence[int], block: Sequence[int]) -> list[Box]:
    """Boxes that cover `shape` without overlap, last axis fastest; the last ones are cut at the border.

    The position in this list is the ``block_index`` that `image2reg.images.blend_tiles` hands to ``skip``.

    Examples
    --------
    >>> block_boxes((3, 4), (2, 4))
    [(slice(0, 2, None), slice(0, 4, None)), (slice(2, 3, None), slice(0, 4, None))]
    """
    axes = [
        [slice(low, min(low + size, n)) for low in range(0, n, size)]
        for n, size in zip(shape, block, strict=True)
    ]
    return list(itertools.product(*axes))


def _reflected(start: int, stop: int, n: int) -> NDArray[np.intp]:
    """Index inside 0..n-1 for every index of start..stop-1: mirrored once, the far edge beyond that."""
    index = np.arange(start, stop)
    index = np.where(index < 0, -index, np.where(index > n - 1, 2 * (n - 1) - index, index))
    return np.clip(index, 0, n - 1)


def read_box(array: Any, box: Box, *, axes_before: int = 0) -> NDArray[Any]:
    """Read a box that may leave the array; what lies outside is reflected at the border.

    Parameters
    ----------
    array : (*before, *spatial) array or lazy array
        Only the part the box needs is read.
    box : one slice per spatial axis
        ``start`` may be negative and ``stop`` may pass the end. No steps.
    axes_before : int
        Number of leading axes (channels, for instance) that are taken whole.

    Returns
    -------
    (*before, *box) ndarray of the array's dtype
        Mirrored without repeating the border voxel. Where the axis is shorter than the padding, the mirrored
        image is continued with its own edge value.

    Examples
    --------
    >>> read_box(np.arange(4), (slice(-2, 7),)).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1, 0]
    """
    sizes = array.shape[axes_before:]
    if len(box) != len(sizes):
        raise ConfigurationError(
            f"read_box: {len(box)} slices for {len(sizes)} spatial axes of {tuple(array.shape)}."
        )
    reads: list[slice] = [slice(None)] * axes_before
    gathers: list[tuple[int, NDArray[np.intp]]] = []
    for axis, (part, n) in enumerate(zip(box, sizes, strict=True), start=axes_before):
        if 0 <= part.start < part.stop <= n:
            reads.append(slice(part.start, part.stop))
            continue
        index = _reflected(part.start, part.stop, n)
        reads.append(slice(int(index.min()), int(index.max()) + 1))
        gathers.append((axis, index - index.min()))
    values = np.asarray(array[tuple(reads)])
    for axis, index in gathers:
        values = np.take(values, index, axis=axis)
    return values
