"""Arrays that are read when, and only where, they are indexed."""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

__all__ = ["LazyArray", "LazyView", "box_of"]


def box_of(index: Any, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice | int, ...]]:
    """Split basic indexing into a box and what is left to do with the box's values.

    Returns
    -------
    box : one slice per axis, inside the array, without steps
    rest : one step slice or 0 (an axis that was indexed with an integer) per axis

    Raises
    ------
    IndexError
        Too many indices, an integer outside its axis, or a negative step.
    """
    parts = index if isinstance(index, tuple) else (index,)
    gaps = [position for position, part in enumerate(parts) if part is Ellipsis]
    if len(gaps) > 1 or len(parts) - len(gaps) > len(shape):
        raise IndexError(f"{len(parts)} indices for an array of {len(shape)} axes.")
    gap, after = (gaps[0], gaps[0] + 1) if gaps else (len(parts), len(parts))
    filled = [slice(None)] * (len(shape) - len(parts) + len(gaps))
    box: list[slice] = []
    rest: list[slice | int] = []
    for part, n in zip((*parts[:gap], *filled, *parts[after:]), shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(n)
            if step < 1:
                raise IndexError("a lazy array is indexed with positive steps only; load it first.")
            box.append(slice(start, max(start, stop)))
            rest.append(slice(None, None, step))
        else:
            position = int(part.__index__())
            if not -n <= position < n:
                raise IndexError(f"index {position} is outside an axis of length {n}.")
            box.append(slice(position % n, position % n + 1))
            rest.append(0)
    return tuple(box), tuple(rest)


class LazyArray(abc.ABC):
    """Shape, dtype and basic indexing (integers, slices, an ellipsis) over something on disk.

    Indexing always returns an ndarray in memory and in this machine's byte order, whatever the file's; steps must be
    positive. Subclasses implement `_read`.

    Parameters
    ----------
    shape : sequence of int
    dtype : numpy dtype
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype).newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array once decoded."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, ...]:
        """Lengths of the smallest unit that is read at once: one plane, unless known better."""
        return (1,) * (self.ndim - 2) + self.shape[-2:]

    @abc.abstractmethod
    def _read(self, box: tuple[slice, ...]) -> NDArray[Any]:
        """Values of a box: one slice per axis, inside the array, no step."""

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read the indexed voxels into memory."""
        box, rest = box_of(index, self.shape)
        if any(part.start == part.stop for part in box):
            return np.empty([part.stop - part.start for part in box], dtype=self.dtype)[rest]
        return self._read(box).astype(self.dtype, copy=False)[rest]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001
        """Read everything (numpy's protocol)."""
        values = self[...]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __len__(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Shape and type, not the voxels."""
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


class LazyView(LazyArray):
    """Axes of another array picked, reordered or added; nothing is read until it is indexed.

    Parameters
    ----------
    source : array or lazy array
    axes : sequence of int or None
        For each axis of the view, the axis of `source` it shows, or None for a new axis of length one.
    fixed : mapping of int to slice
        For axes of `source`, the part that is shown. An axis that is not in `axes` must be fixed to one
        index.
    """

    def __init__(
        self, source: Any, axes: Sequence[int | None], fixed: dict[int, slice] | None = None
    ) -> None:
        self.source, self.axes = source, tuple(axes)
        fixed = fixed or {}
        self.limits = [fixed.get(axis, slice(0, n)) for axis, n in enumerate(source.shape)]
        sizes = [limit.stop - limit.start for limit in self.limits]
        super().__init__([1 if axis is None else sizes[axis] for axis in self.axes], source.dtype)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Those of the source, along the axes that are shown."""
        source = getattr(self.source, "chunks", None)
        if not isinstance(source, tuple) or any(not isinstance(n, int) for n in source):
            return super().chunks
        return tuple(
            1 if axis is None else min(source[axis], n) for axis, n in zip(self.axes, self.shape, strict=True)
        )

    def _read(self, box: tuple[slice, ...]) -> NDArray[Any]:
        inner = list(self.limits)
        for axis, part in zip(self.axes, box, strict=True):
            if axis is not None:
                first = self.limits[axis].start
                inner[axis] = slice(first + part.start, first + part.stop)
        values = np.asarray(self.source[tuple(inner)])
        kept = [axis for axis in self.axes if axis is not None]
        dropped = tuple(axis for axis in range(values.ndim) if axis not in kept)
        values = values.transpose(*kept, *dropped)
        return values.reshape([part.stop - part.start for part in box])
