"""Go through an array of any size in pieces of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from image2reg.images.limits import n_bytes
from image2reg.images.tiling import Box, block_boxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

__all__ = ["chunks_of", "pieces"]

# A piece and the float64 and integer copies that are made of it stay below 100 MB.
_PIECE_BYTES = 8 * 2**20


def chunks_of(data: Any) -> tuple[int, ...]:
    """Lengths of the unit an array reads at once; one row where it does not tell."""
    shape, chunks = tuple(data.shape), getattr(data, "chunks", None)
    # dask's chunks are one tuple per axis: irregular, and nothing is gained by following them.
    if isinstance(chunks, tuple) and len(chunks) == len(shape) and all(isinstance(n, int) for n in chunks):
        return chunks
    return (1,) * (len(shape) - 1) + shape[-1:]


def pieces(
    shape: Sequence[int], dtype: DTypeLike, chunks: Sequence[int], *, max_bytes: int | None = None
) -> list[Box]:
    """Boxes that cover an array once, each of whole chunks and of at most `max_bytes` (or one chunk).

    Parameters
    ----------
    shape, dtype : of the array
    chunks : lengths of the smallest unit that is read or written at once
    max_bytes : int, optional
        8 MiB when None.
    """
    limit = _PIECE_BYTES if max_bytes is None else max_bytes
    piece = [min(size, n) for size, n in zip(chunks, shape, strict=True)]
    for axis in reversed(range(len(piece))):
        room = max(1, limit // n_bytes(piece, dtype))
        piece[axis] = min(shape[axis], piece[axis] * room)
    return block_boxes(shape, piece)
