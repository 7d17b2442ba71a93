"""Mechanism labels: several per compound, separated by ``|``; spelling is normalised only when asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SEPARATOR", "incidence", "label_sets", "normalised", "unlike_spellings"]

SEPARATOR = "|"
_ROLES = re.compile(r"[\s_-]+(inhibitors?|antagonists?|blockers?)$")


def label_sets(cells: Sequence[str] | NDArray[Any]) -> list[frozenset[str]]:
    """Split ``"EGFR inhibitor|SRC inhibitor"`` into its labels; an empty cell has none."""
    return [frozenset(part.strip() for part in cell.split(SEPARATOR) if part.strip()) for cell in cells]


def incidence(cells: Sequence[str] | NDArray[Any]) -> tuple[NDArray[np.float32], list[str]]:
    """Rows by labels, 1 where a row has the label; and the labels, sorted.

    Returns
    -------
    (n, k) float32, list of k str
    """
    sets = label_sets(cells)
    names = sorted(frozenset().union(*sets)) if sets else []
    place = {name: i for i, name in enumerate(names)}
    found = np.zeros((len(sets), len(names)), np.float32)
    pairs = [(i, place[name]) for i, labels in enumerate(sets) for name in labels]
    if pairs:
        found[tuple(np.array(pairs).T)] = 1
    return found, names


def normalised(cell: str) -> str:
    """One spelling per label: lower case, single spaces, inhibitor, antagonist and blocker as ``inhibitor``.

    >>> normalised("MEK  Inhibitors|Dopamine receptor antagonist")
    'dopamine receptor inhibitor|mek inhibitor'
    """
    parts = (" ".join(part.lower().split()) for part in cell.split(SEPARATOR))
    return SEPARATOR.join(sorted({_ROLES.sub(" inhibitor", part) for part in parts if part}))


def unlike_spellings(cells: Sequence[str] | NDArray[Any]) -> dict[str, list[str]]:
    """Labels that become one when spelling is normalised, by their common spelling."""
    found: dict[str, set[str]] = {}
    for label in frozenset().union(*label_sets(cells)):
        found.setdefault(normalised(label), set()).add(label)
    return {name: sorted(spellings) for name, spellings in sorted(found.items()) if len(spellings) > 1}
