"""Named random streams from one seed: functions of their names, so resuming needs no stored generator."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["generator", "integer_seed"]


def _sequence(seed: int, key: tuple[int | str, ...]) -> np.random.SeedSequence:
    words = [
        int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
        if isinstance(part, str)
        else part
        for part in key
    ]
    return np.random.SeedSequence([seed, *words])


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """Give the generator called `key` of this `seed`.

    Parameters
    ----------
    seed : int
        The run's one seed, 0 or above.
    *key : int or str
        What the numbers are for, for example ``("batch", step, index)``. Integers are 0 or above.

    Returns
    -------
    numpy.random.Generator
        PCG64. The same seed and key always give the same numbers; different keys give independent ones.

    Examples
    --------
    >>> bool(generator(7, "batch", 3).integers(1000) == generator(7, "batch", 3).integers(1000))
    True
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, key)))


def integer_seed(seed: int, *key: int | str) -> int:
    """Give a 63-bit seed called `key`, for libraries that take an integer (``torch.manual_seed``)."""
    return int(_sequence(seed, key).generate_state(1, np.uint64)[0] >> np.uint64(1))
