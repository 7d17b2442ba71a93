"""Work on rows in blocks, several at once: memory grows with the number of rows, not with its square."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_blocks"]

T = TypeVar("T")
CELLS = 8_000_000


def in_blocks(
    work: Callable[[slice], T], n_rows: int, n_columns: int, *, n_threads: int | None = None
) -> list[T]:
    """Run `work` on slices of rows, in order.

    Parameters
    ----------
    work : callable
        Takes a slice of rows; its temporary arrays are a few times (rows of the slice, `n_columns`).
    n_rows, n_columns : int
        A block has at most 8 million cells.
    n_threads : int, optional
        Blocks at work at once (default: the cores this process may use); each calls BLAS with one thread.
    """
    from threadpoolctl import threadpool_limits

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = n_threads or cores
    step = max(1, min(CELLS // n_columns, -(-n_rows // threads)))
    slices = [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, slices))
