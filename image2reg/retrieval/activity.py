"""Whether a treatment differs from the controls at all: its wells against groups of control wells laid out alike."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.randomness import generator
from image2reg.tables.normalise import FLAT

if TYPE_CHECKING:
    from image2reg.retrieval.processing import FeatureProcessing
    from image2reg.tables.profiles import Profiles

__all__ = ["activity_p_values"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
_PLATE, _WELL = "Metadata_Plate", "Metadata_Well"
_DRAWS = 999


def activity_p_values(
    profiles: Profiles,
    controls: NDArray[np.bool_],
    treatment: Places,
    *,
    processing: FeatureProcessing | None,
    alpha: float,
    seed: int,
) -> Floats:
    """Test each treatment against the controls.

    Parameters
    ----------
    profiles : Profiles
        Finite features; rows of one plate and well (nuclei) are averaged first, so that a well counts once.
    controls : (n,) bool
    treatment : (n,) int
        Number of each row's treatment, from 0; -1 for controls.
    processing : FeatureProcessing or None
        Whether large values are compressed (arcsinh) first.
    alpha : float
        Where so small a p-value cannot be reached with these controls, the treatment is not tested.
    seed : int

    Returns
    -------
    (n_treatments,) float64
        NaN where not tested.

    Notes
    -----
    Statistic: the mean inner product of two wells of the treatment (of a single well, its squared length), large where
    they lie far from the controls in one direction. Features are in standard deviations of controls and group together,
    relative to the mean of those controls that are not in the group. Not sphered: a sphering fitted on the controls
    would make them look more alike than wells it has not seen. Null:

    - A treatment at one well position on several plates is compared with control positions on as many plates (on fewer,
      where there are too few such groups): what a position does to a well is part of the null.
    - Any other is compared with its own wells and the controls permuted within each plate (exact where wells of a plate
      are exchangeable), and where that gives fewer than 1/alpha groups, with controls of other plates laid out alike.
    """
    wells = _wells(profiles, controls, treatment, processing)
    found = np.full(int(treatment.max()) + 1, np.nan)
    if alpha <= 0:
        return found
    rng = generator(seed, "activity")
    order = np.argsort(wells.treatment, kind="stable")
    starts = np.searchsorted(wells.treatment[order], np.arange(len(found) + 1))
    members = [order[a:b] for a, b in pairwise(starts)]
    null = _Null(wells, members, alpha, rng)
    for number, own in enumerate(members):
        if len(own) >= len(wells.controls):
            continue
        value = wells.statistic(own[None])[0]
        others = null.of(own)
        # Equal up to rounding where a permutation is the treatment itself.
        if null.suffices(others):
            found[number] = (1 + np.count_nonzero(others >= value - 1e-9 * abs(value))) / (1 + len(others))
    return found


@dataclass(frozen=True)
class _Wells:
    """One row per well: values in deviations of the controls, treatment (-1: control), plate and position."""

    values: Floats
    treatment: Places
    plate: NDArray[Any]
    position: NDArray[Any]

    @property
    def controls(self) -> Places:
        return np.flatnonzero(self.treatment < 0)

    @cached_property
    def _squares(self) -> Floats:
        return self.values**2

    @cached_property
    def _of_controls(self) -> tuple[Floats, Floats, Floats]:
        """(1, n) mark, and the sums (d,) of values and squares."""
        control = (self.treatment < 0).astype(float)
        return control[None], control @ self.values, control @ self._squares

    def statistic(self, groups: Places) -> Floats:
        """Mean inner product of two wells of each group (g, m); the squared length where m is 1."""
        from scipy.sparse import csr_matrix

        g, m = groups.shape
        taken = csr_matrix(
            (np.ones(g * m), groups.ravel(), np.arange(0, g * m + 1, m)), shape=(g, len(self.values))
        )
        control, whole_sum, whole_squares = self._of_controls
        total, squares = taken @ self.values, taken @ self._squares
        # The treatment's own wells in a group, which are not among the controls.
        other = taken.multiply(1 - control).tocsr()
        added, own = other @ self.values, other.sum(axis=1)
        n = control.sum() + np.asarray(own)
        first = whole_sum + added
        centre = (first - total) / (n - m)
        # Over the controls and the group together: without the group, new wells would look wilder than controls.
        spread = (whole_squares + other @ self._squares - first**2 / n) / (n - 1)
        scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)
        whole = ((total - m * centre) ** 2 * scale).sum(axis=1)
        if m == 1:
            return np.asarray(whole)
        each = ((squares - 2 * total * centre + m * centre**2) * scale).sum(axis=1)
        return np.asarray((whole - each) / (m * (m - 1)))


def _wells(
    profiles: Profiles, controls: NDArray[np.bool_], treatment: Places, processing: FeatureProcessing | None
) -> _Wells:
    import pandas as pd

    n = len(profiles)
    plate, position = (
        profiles.column(name) if name in profiles.frame else np.full(n, "", dtype=object)
        for name in (_PLATE, _WELL)
    )
    codes = np.where(controls, -1, treatment)
    # A row that does not say its plate and well is a well of its own.
    single = np.where((plate != "") & (position != ""), -1, np.arange(n))
    keys = pd.DataFrame({"code": codes, "plate": plate, "position": position, "single": single})
    groups = keys.groupby(list(keys), sort=True)
    values = np.arcsinh(profiles.values) if processing and processing.arcsinh else profiles.values
    merged = pd.DataFrame(values).groupby(groups.ngroup().to_numpy(), sort=True).mean().to_numpy()
    heads = groups.size().index.to_frame(index=False)
    known = merged[heads["code"].to_numpy() < 0]
    level, spread = known.mean(axis=0), known.std(axis=0)
    # Without spread among the controls a feature has no unit.
    merged = np.where(spread > FLAT * np.abs(level), (merged - level) / np.where(spread > 0, spread, 1), 0)
    return _Wells(
        merged,
        heads["code"].to_numpy(np.intp),
        heads["plate"].to_numpy(object),
        heads["position"].to_numpy(object),
    )


@dataclass(frozen=True)
class _Null:
    """Statistics of groups that are laid out as a treatment is and have no effect."""

    wells: _Wells
    members: list[Places]
    alpha: float
    rng: np.random.Generator
    _known: dict[tuple[tuple[int, ...], bool], Floats] = field(default_factory=dict)

    def suffices(self, statistics: Floats) -> bool:
        """Whether so few groups can give a p-value of alpha."""
        return (1 + len(statistics)) * self.alpha >= 1

    def of(self, own: Places) -> Floats:
        position, plate = self.wells.position[own], self.wells.plate[own]
        if len(own) > 1 and (position == position[0]).all() and position[0] and (plate != "").all():
            # Fewer plates leave more groups, whose statistic spreads more: a test with less power, not a false one.
            for size in range(len(own), 1, -1):
                if self.suffices(found := self._of_controls((1,) * size, together=True)):
                    return found
        drawn = self._within_plates(own)
        if drawn is not None:
            return self.wells.statistic(drawn)
        return self._of_controls(tuple(sorted(Counter(plate).values())), together=False)

    def _within_plates(self, own: Places) -> Places | None:
        """(999, m) wells drawn from the treatment's own and its plates' controls; None where those are few."""
        plate, controls = self.wells.plate, self.wells.controls
        pools = [
            (np.r_[own[plate[own] == name], controls[plate[controls] == name]], count)
            for name, count in sorted(Counter(plate[own]).items())
        ]
        if math.prod(math.comb(len(pool), count) for pool, count in pools) * self.alpha < 1:
            return None
        drawn = [
            pool[np.argsort(self.rng.random((_DRAWS, len(pool))), axis=1, kind="stable")[:, :count]]
            for pool, count in pools
        ]
        return np.concatenate(drawn, axis=1)

    def _of_controls(self, counts: tuple[int, ...], *, together: bool) -> Floats:
        """Different groups of controls, `counts` of them per plate; `together`: at one well position.

        Their plates have a treatment in common, as those of a batch do.
        """
        if (counts, together) not in self._known:
            by_plate: dict[str, dict[str, list[int]]] = {}
            for i in self.wells.controls:
                at = by_plate.setdefault(self.wells.plate[i], {})
                at.setdefault(self.wells.position[i], []).append(int(i))
            shared = {frozenset(self.wells.plate[own]).intersection(by_plate) for own in self.members}
            shared |= {frozenset([plate]) for plate in by_plate}
            layouts = sorted(sorted(plates) for plates in shared if len(plates) >= len(counts))
            groups = set()
            for _ in range(4 * _DRAWS if layouts else 0):
                layout = layouts[self.rng.integers(len(layouts))]
                chosen = self.rng.choice(len(layout), len(counts), replace=False)
                group = self._group([by_plate[layout[i]] for i in chosen], counts, together=together)
                if group:
                    groups.add(tuple(sorted(group)))
            places = np.array(sorted(groups)[:_DRAWS], np.intp).reshape(-1, sum(counts))
            self._known[counts, together] = self.wells.statistic(places)
        return self._known[counts, together]

    def _group(
        self, plates: list[dict[str, list[int]]], counts: tuple[int, ...], *, together: bool
    ) -> list[int]:
        pools = [[well for wells in plate.values() for well in wells] for plate in plates]
        if together:
            alike = sorted(set.intersection(*(set(plate) for plate in plates)))
            if not alike:
                return []
            position = alike[self.rng.integers(len(alike))]
            pools = [plate[position] for plate in plates]
        if any(len(pool) < count for pool, count in zip(pools, counts, strict=True)):
            return []
        drawn = [self.rng.choice(pool, n, replace=False) for pool, n in zip(pools, counts, strict=True)]
        return [int(well) for part in drawn for well in part]
