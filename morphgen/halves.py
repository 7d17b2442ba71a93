"""Which nuclei an evaluation compares: halves of the real ones, of other wells where it can be, and as many drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.expression.labels import listed
from image2reg.randomness import generator
from image2reg.tables.splits import GROUPS
from image2reg.wording import counted
from morphgen.agreement import LEAST_CELLS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Halves", "comparable", "halves"]

Rows = NDArray[np.intp]


def comparable(real: NDArray[Any], drawn: NDArray[Any]) -> tuple[list[str], list[str]]:
    """Give the perturbations with enough crops on both sides, and notes on the others."""
    counts = pd.DataFrame({"real": pd.Series(real).value_counts(), "drawn": pd.Series(drawn).value_counts()})
    counts = counts.fillna(0).astype(int)
    least = {"real": 2 * LEAST_CELLS, "drawn": LEAST_CELLS}
    enough = (counts >= pd.Series(least)).all(axis=1)
    sides = (
        (counts["real"] == 0, "generated only"),
        (counts["drawn"] == 0, "real only"),
        (
            ~enough & (counts > 0).all(axis=1),
            f"fewer than {least['real']} real or {least['drawn']} generated",
        ),
    )
    notes = [
        f"{int(rows.sum())} of {len(counts)} perturbations left out ({what}): {listed(counts.index[rows], most=3)}"
        for rows, what in sides
        if rows.any()
    ]
    if not enough.any():
        raise DataError(
            f"no perturbation has {least['real']} real crops and {least['drawn']} generated ones: {'; '.join(notes)}. "
            "Name perturbations alike on both sides (--match), or give more crops (morphgen generate --n)."
        )
    return sorted(counts.index[enough]), notes


@dataclass(frozen=True)
class Halves:
    """Rows of the real and of the drawn nuclei, ascending; of each perturbation as many in all three.

    Attributes
    ----------
    first, second : (n,) int
        Real nuclei to compare with, and those of the ceiling.
    drawn : (n,) int
    notes : tuple of str
        How many there are, and which wells the halves share.
    """

    first: Rows
    second: Rows
    drawn: Rows
    notes: tuple[str, ...]


def halves(metadata: pd.DataFrame, real: NDArray[Any], drawn: NDArray[Any], names: Sequence[str]) -> Halves:
    """Choose, at random, as many nuclei of each perturbation for every arm.

    Fewer nuclei tell less apart: an arm of few would look better than the ceiling of many. And nuclei of one well are
    alike for more than their perturbation, which a generator cannot know of the wells it is compared with: where a
    perturbation has several wells, the halves of its real nuclei share none.

    Parameters
    ----------
    metadata : DataFrame
        Of the real nuclei; ``Metadata_Well`` and ``Metadata_Plate`` are read where they are there.
    real, drawn : (N,), (M,)
        Perturbation of each nucleus.
    names : sequence
        Perturbations to choose of.
    """
    rng = generator(0, "as many")
    places = metadata.reindex(columns=list(GROUPS["well"]), fill_value="").astype(str)
    wells = places.agg("\t".join, axis=1).to_numpy(object)
    known = (places["Metadata_Well"] != "").to_numpy()
    chosen: tuple[list[Rows], list[Rows], list[Rows]] = ([], [], [])
    shared = []
    for name in names:
        own, made = (rng.permutation(np.flatnonzero(groups == name)) for groups in (real, drawn))
        first = _half_of_wells(wells[own]) if known[own].all() else None
        if first is None:
            shared.append(name)
            first = np.arange(len(own)) % 2 == 0
        n = min(first.sum(), (~first).sum(), len(made))
        for part, rows in zip(chosen, (own[first], own[~first], made), strict=True):
            part.append(rows[:n])
    parts = [np.sort(np.concatenate(rows)) for rows in chosen]
    median = int(np.median([len(rows) for rows in chosen[0]]))
    notes = [
        f"both halves of the real nuclei are of the same wells for {len(shared)} of "
        f"{counted(len(names), 'perturbation')} ({listed(shared, most=3)}): no Metadata_Well tells wells apart, or "
        f"halves by well would have fewer than {LEAST_CELLS}. Their ceiling is higher than other wells would reach"
    ] * bool(shared)
    notes.append(
        f"{median} nuclei of each perturbation in every arm (median): half of the real ones, or as many as were "
        "generated where those are fewer"
    )
    return Halves(parts[0], parts[1], parts[2], tuple(notes))


def _half_of_wells(wells: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Whether each nucleus is in the first of two even halves of its wells; None where one would have too few."""
    names, codes, counts = np.unique(wells, return_inverse=True, return_counts=True)
    sizes, first = [0, 0], np.zeros(len(names), bool)
    for well in np.argsort(-counts, kind="stable"):
        smaller = int(sizes[1] < sizes[0])
        first[well] = smaller == 0
        sizes[smaller] += int(counts[well])
    return first[codes] if min(sizes) >= LEAST_CELLS else None
