"""Permutation p-values of perturbations: against the control wells, or from whole plates with their wells permuted.

``controls``: under the null hypothesis a treated well and the control wells of its plate are exchangeable. The wells of
a perturbation and the controls of its plates are dealt out anew within each plate; all ways are gone through where they
are few, else drawn. Right for any plate, also when most wells are active; the smallest p is one over their number.

``plates``: the sample wells of each plate change places, and the statistic of every perturbation is taken again; the
null of all with as many replicates is pooled. Right for libraries of which most members do nothing, and fine enough
for thousands of perturbations. Control wells stay out of it, as strong ones would hide every hit.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["by_code", "control_p_values", "plate_p_values"]

MAX_WAYS = 20_000
_BLOCK_ENTRIES = 20_000_000
# Equal sums differ in their last bits by the order of adding; below this share they count as equal.
_TIE = 1e-9

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def control_p_values(
    scores: Floats,
    plates: Codes,
    groups: Codes,
    n_groups: int,
    negative: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    max_ways: int = MAX_WAYS,
) -> tuple[Floats, Floats]:
    """Two-sided p of each group's mean distance from the controls of its plates, and the smallest it could have been.

    Parameters
    ----------
    scores : (wells,) float64
        Normalised within plates; finite where there is a group.
    plates : (wells,) int
    groups : (wells,) int
        0 … n - 1; -1 for wells that are left out.
    n_groups : int
    negative : (wells,) bool
        The control wells. A group made of control wells is compared with the others.
    rng : numpy Generator
    max_ways : int
        Above so many ways of dealing out, that many are drawn.

    Returns
    -------
    p_values, smallest : (groups,) float64
        NaN for a group without wells, or on a plate where no control well is left to compare with. The smallest p is
        that of the group's numbers of wells, whatever their scores.

    Notes
    -----
    The statistic is the difference of means, treated minus control, summed over plates with the plates' numbers of
    treated wells as weights. Fisher, The Design of Experiments (1935); drawn p are (1 + b) / (1 + n), Phipson & Smyth,
    Stat. Appl. Genet. Mol. Biol. 9:39 (2010).
    """
    p_values, smallest = np.full((2, n_groups), np.nan)
    for layout, found in _layouts(plates, groups, n_groups, negative).items():
        ways = math.prod(math.comb(own + controls, own) for own, controls in layout)
        exact, n_deals = ways <= max_ways, min(ways, max_ways)
        smallest[[group for group, _ in found]] = 1 / (n_deals if exact else 1 + n_deals)
        block, state = max(1, _BLOCK_ENTRIES // n_deals), rng.bit_generator.state
        for start in range(0, len(found), block):
            rng.bit_generator.state = state  # every block sees the same deals
            part = found[start : start + block]
            table = scores[np.array([wells for _, wells in part])]
            null, observed, begin = np.zeros((len(part), n_deals)), np.zeros(len(part)), 0
            # Plate by plate, so that memory is that of one plate's deals, however many there are.
            for (n_own, n_controls), weights in zip(
                layout, _deals(layout, n_deals, rng, exact=exact), strict=True
            ):
                side = table[:, begin : begin + n_own + n_controls]
                null += side @ weights.T
                observed += side @ _weights_of([np.arange(n_own)], n_own, n_controls)[0]
                begin += n_own + n_controls
            null, observed = np.abs(null, out=null), np.abs(observed)
            n_beyond = (null >= (observed - _TIE * np.maximum(observed, 1.0))[:, None]).sum(axis=1)
            p = n_beyond / n_deals if exact else (1 + n_beyond) / (1 + n_deals)
            p_values[[group for group, _ in part]] = p
    return p_values, smallest


def _layouts(
    plates: Codes, groups: Codes, n_groups: int, negative: NDArray[np.bool_]
) -> dict[tuple[tuple[int, int], ...], list[tuple[int, Codes]]]:
    """Gather groups by their numbers of wells and controls per plate; their wells so, the own before the controls."""
    usable = np.flatnonzero(negative & (groups >= 0))
    controls = [usable[own] for own in by_code(plates[usable], int(plates.max(initial=-1)) + 1)]
    layouts: dict[tuple[tuple[int, int], ...], list[tuple[int, Codes]]] = defaultdict(list)
    for group, own in enumerate(by_code(groups, n_groups)):
        sides = []
        for plate in np.unique(plates[own]):
            treated, reference = own[plates[own] == plate], controls[int(plate)]
            sides.append((treated, reference[groups[reference] != group]))
        if sides and all(len(reference) for _, reference in sides):
            layout = tuple((len(treated), len(reference)) for treated, reference in sides)
            layouts[layout].append((group, np.concatenate([w for side in sides for w in side])))
    return layouts


def by_code(codes: Codes, n: int) -> list[Codes]:
    """Positions of each code 0 … n - 1, found with one sort."""
    order = np.argsort(codes, kind="stable")
    return [
        order[start:end] for start, end in itertools.pairwise(np.searchsorted(codes[order], np.arange(n + 1)))
    ]


def _weights_of(chosen: ArrayLike, own: int, controls: int) -> Floats:
    """(deals, wells) weights of one plate: own times (mean of the chosen - mean of the others)."""
    taken = np.asarray(chosen, np.intp)
    weights = np.full((len(taken), own + controls), -own / controls)
    weights[np.arange(len(taken))[:, None], taken] = 1.0
    return weights


def _deals(
    layout: Sequence[tuple[int, int]], n_deals: int, rng: np.random.Generator, *, exact: bool
) -> Iterator[Floats]:
    """(deals, wells) weights of one plate after the other: of every deal of the layout, or of drawn ones."""
    if exact:
        ways = [math.comb(own + controls, own) for own, controls in layout]
        for (own, controls), index in zip(layout, np.indices(ways).reshape(len(ways), -1), strict=True):
            every = list(itertools.combinations(range(own + controls), own))
            yield _weights_of(every, own, controls)[index]
    else:
        for own, controls in layout:
            chosen = np.argsort(rng.random((n_deals, own + controls)), axis=1)[:, :own]
            yield _weights_of(chosen, own, controls)


def plate_p_values(
    scores: Floats,
    plates: Codes,
    groups: Codes,
    n_groups: int,
    sample: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    n_permutations: int = 200,
) -> Floats:
    """Two-sided p of each group's mean score, from plates whose sample wells were permuted.

    Parameters
    ----------
    scores : (wells,) float64
    plates, groups : (wells,) int
        Every well has a group.
    n_groups : int
    sample : (wells,) bool
        The wells that are no control. Only they are permuted.
    rng : numpy Generator
    n_permutations : int
        Of every plate; the null has this many values per group of the same number of wells.

    Returns
    -------
    (groups,) float64
        NaN for a group without wells, and for one with controls on a plate that has fewer sample wells than its own.

    Notes
    -----
    A group with control wells is compared with permuted sample wells of its plates, dealt into as many groups of its
    layout (so many wells on each plate) as they are enough for: p holds for a control that is like an idle sample.
    """
    sizes = np.bincount(groups, minlength=n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.abs(np.bincount(groups, scores, n_groups) / sizes)
    order = np.flatnonzero(sample)
    order = order[np.argsort(plates[order], kind="stable")]
    permuted, on, of = scores[order], plates[order], groups[order]
    pure = (sizes > 0) & (np.bincount(groups[~sample], minlength=n_groups) == 0)
    # Groups that share a null, and the permuted wells that each of its values is the mean of.
    nulls: list[tuple[Codes, Codes]] = []
    for size in np.unique(sizes[pure]):
        members = np.flatnonzero(pure & (sizes == size))
        wells = np.concatenate(
            [w for group, w in enumerate(by_code(of, n_groups)) if pure[group] and len(w) == size]
        )
        nulls.append((members, wells.reshape(-1, size)))
    n_samples = np.bincount(on, minlength=int(plates.max(initial=-1)) + 1)
    layouts: dict[bytes, list[int]] = defaultdict(list)
    for group, wells in enumerate(by_code(groups, n_groups)):
        if len(wells) and not pure[group]:
            layouts[np.bincount(plates[wells], minlength=len(n_samples)).tobytes()].append(group)
    for layout, found in layouts.items():
        wells = _dealt(np.frombuffer(layout, np.intp), n_samples)
        if len(wells):
            nulls.append((np.array(found), wells))
    p_values = np.full(n_groups, np.nan)
    values = [np.empty((n_permutations, len(wells))) for _, wells in nulls]
    for number in range(n_permutations):
        mixed = permuted[np.lexsort((rng.random(len(permuted)), on))]
        for (_, wells), null in zip(nulls, values, strict=True):
            null[number] = np.abs(mixed[wells].mean(axis=1))
    for (members, _), null in zip(nulls, values, strict=True):
        pooled = np.sort(null.ravel())
        bar = observed[members] - _TIE * np.maximum(observed[members], 1.0)
        n_beyond = pooled.size - np.searchsorted(pooled, bar, side="left")
        p_values[members] = (1 + n_beyond) / (1 + pooled.size)
    return p_values


def _dealt(layout: Codes, available: Codes) -> Codes:
    """Deal wells sorted by plate into as many groups of a layout as they are enough for: (groups, wells) positions."""
    on = np.flatnonzero(layout)
    n = int((available[on] // layout[on]).min())
    start = np.cumsum(available) - available
    parts = [start[p] + np.arange(n * layout[p]).reshape(n, layout[p]) for p in on]
    return np.hstack(parts)
