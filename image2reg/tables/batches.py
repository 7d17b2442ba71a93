"""Batch effects: corrected by the controls, and checked on controls that the correction has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.randomness import generator
from image2reg.tables.normalise import normalise
from image2reg.tables.selection import refuse_gaps

if TYPE_CHECKING:
    from image2reg.tables.profiles import Profiles

__all__ = ["BatchCheck", "correct_batches"]


@dataclass(frozen=True)
class BatchCheck:
    """How well the batch can be told from held-out controls by their nearest neighbour.

    Attributes
    ----------
    before, after : float
        Share of held-out controls whose nearest other held-out control is of the same batch.
    chance : float
        The same share for batches permuted among the controls (mean of 200).
    n : int
        Held-out controls.
    """

    before: float
    after: float
    chance: float
    n: int

    @property
    def helped(self) -> bool:
        """Held-out controls of different batches mix better than before."""
        return self.after < self.before


def correct_batches(
    profiles: Profiles,
    *,
    batch: str,
    controls: NDArray[np.bool_],
    method: str = "robust",
    held_out: float = 0.5,
    floor: float = 0.0,
    seed: int = 0,
) -> tuple[Profiles, BatchCheck]:
    """Bring each batch's controls to one level (and spread), and check it on held-out controls.

    Parameters
    ----------
    profiles : Profiles
        Finite features.
    batch : str
        Column of batches, each with at least 6 controls.
    controls : (n,) bool
    method : {"robust", "standard", "centre"}
        As `image2reg.tables.normalise.normalise`.
    held_out : float
        Share of each batch's controls that only the check sees; the table given back is corrected by all.
    floor, seed

    Returns
    -------
    corrected : Profiles
    check : BatchCheck

    Raises
    ------
    DataError
        One batch only, a batch with too few controls, or features that are not finite.
    """
    refuse_gaps(profiles)
    batches = profiles.column(batch)
    used = np.asarray(controls, bool)
    names = np.unique(batches[used])
    short = [
        f"{n!r} ({int((batches[used] == n).sum())})"
        for n in np.unique(batches)
        if (batches[used] == n).sum() < 6
    ]
    if len(names) < 2 or short:
        raise DataError(
            f"{profiles.source}: batch correction by {batch!r} needs at least two batches with 6 controls each (half "
            f"are held out for the check); there are {len(names)} batches with controls"
            + (f", too few in {', '.join(short[:6])}" if short else "")
            + "."
        )
    rng = generator(seed, "held-out controls")
    places = np.flatnonzero(used)
    hidden = np.zeros(len(profiles), bool)
    for name in names:
        mine = rng.permutation(places[batches[places] == name])
        hidden[mine[: max(2, round(held_out * len(mine)))]] = True
    trial = normalise(profiles, controls=used & ~hidden, by=[batch], method=method, floor=floor).profiles
    before, after = profiles.values[hidden], trial.values[hidden]
    seen = batches[hidden]
    chance = float(np.mean([_same_batch(before, rng.permutation(seen)) for _ in range(200)]))
    check = BatchCheck(_same_batch(before, seen), _same_batch(after, seen), chance, int(hidden.sum()))
    whole = normalise(profiles, controls=used, by=[batch], method=method, floor=floor).profiles
    return whole, check


def _same_batch(values: NDArray[np.float64], batches: NDArray[Any]) -> float:
    """Share of rows whose nearest other row, by Euclidean distance over standardised features, is of its batch."""
    spread = values.std(axis=0)
    scaled = values / np.where(spread > 0, spread, 1)
    square = (scaled**2).sum(axis=1)
    distance = square[:, None] + square[None] - 2 * scaled @ scaled.T
    np.fill_diagonal(distance, np.inf)
    return float((batches[distance.argmin(axis=1)] == batches).mean())
