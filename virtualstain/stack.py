"""Channels that may lie apart, in a file or in several, read as one (C, Z, Y, X) stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChannelStack"]


class ChannelStack:
    """Lazy concatenation along C of arrays of one channel each.

    Parameters
    ----------
    parts : sequence of (1, Z, Y, X) arrays or lazy arrays
        Of one shape; only what is indexed is read.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts
        self.shape = (len(parts), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    @property
    def nbytes(self) -> int:
        """Bytes the whole stack takes in memory."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read; the first index is a channel or a slice of channels."""
        key = key if isinstance(key, tuple) else (key,)
        first, rest = key[0], key[1:]
        if not isinstance(first, slice):
            return np.asarray(self.parts[int(first)][(0, *rest)])
        return np.concatenate([np.asarray(part[(slice(0, 1), *rest)]) for part in self.parts[first]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001  numpy calls it so
        """Read everything."""
        del copy  # always a fresh array
        whole = self[:, :]
        return whole if dtype is None else whole.astype(dtype)
