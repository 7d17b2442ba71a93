"""How faithful generated nuclei are, beside what needs no generator (floors) and a second real sample (ceiling).

One row per arm, all measured against the same real nuclei of the same perturbations, at the same number of nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.randomness import generator
from morphgen.agreement import Agreement, compare_features, population_means
from morphgen.closeness import closeness, memorisation
from morphgen.crop_features import checked_crops, crop_features
from morphgen.follow import LEAST_PERTURBATIONS, Follow, follow_test

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Arm", "Cells", "evaluate", "floors", "measure_cells", "one_each", "shuffled"]

_MEMORY_SIDE = 16


@dataclass(frozen=True)
class Cells:
    """Measured nuclei of perturbations.

    Attributes
    ----------
    features : DataFrame
        One row per nucleus, see `morphgen.crop_features`.
    groups : (N,)
        Perturbation of each.
    thumbnails : (N, 256 C) float32
        The crop at 16 x 16 pixels, for the distance to the nearest training image.
    channels : tuple of str
    """

    features: pd.DataFrame
    groups: NDArray[Any]
    thumbnails: NDArray[np.float32]
    channels: tuple[str, ...] = ("DNA",)

    def __len__(self) -> int:
        """Count the nuclei."""
        return len(self.features)

    def take(self, rows: NDArray[np.integer], groups: NDArray[Any] | None = None) -> Cells:
        """Give the nuclei in `rows`, under other perturbations where `groups` is given."""
        names = self.groups[rows] if groups is None else groups
        return Cells(
            self.features.iloc[rows].reset_index(drop=True), names, self.thumbnails[rows], self.channels
        )


def measure_cells(
    crops: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    groups: Sequence[Any] | NDArray[Any],
    *,
    masks: NDArray[np.bool_] | None = None,
    channels: Sequence[str] = ("DNA",),
    nucleus_channel: int = 0,
) -> Cells:
    """Measure crops once, for every comparison.

    Parameters
    ----------
    crops : (N, C, Y, X) float, or N arrays (C, Y, X)
        Linear intensities in the units of the crops they are to be compared with.
    groups : (N,)
        Perturbation of each crop.
    masks, channels, nucleus_channel
        As in `morphgen.crop_features.crop_features`.

    Raises
    ------
    DataError
        Crops of mixed size or channel count, not finite, or another number of `groups`.
    """
    images = checked_crops(crops, what="fidelity")
    names = np.asarray(groups)
    if len(names) != len(images):
        raise DataError(f"fidelity: {len(images)} crops and {len(names)} perturbation labels; give one each.")
    rows, columns = (np.linspace(0, size, _MEMORY_SIDE + 1).astype(int) for size in images.shape[2:])
    small = np.add.reduceat(np.add.reduceat(images, rows[:-1], axis=2), columns[:-1], axis=3)
    small /= (np.diff(rows)[:, None] * np.diff(columns)).astype(np.float32)
    table = crop_features(images, masks=masks, channels=channels, nucleus_channel=nucleus_channel)
    return Cells(table, names, small.reshape(len(images), -1), tuple(channels))


@dataclass(frozen=True)
class Arm:
    """One arm's results.

    Attributes
    ----------
    agreement : Agreement
    closeness : dict of str to float
    memory : dict of str to float
        Empty without training nuclei.
    follow : Follow or None
        None without signatures, or with too few perturbations.
    """

    agreement: Agreement
    closeness: dict[str, float]
    memory: dict[str, float]
    follow: Follow | None

    def scores(self) -> dict[str, float]:
        """Give every number under its name, one row of a table of arms."""
        row = {**self.agreement.scores(), **self.closeness}
        row["nearest_training_ratio"] = self.memory.get("ratio", float("nan"))
        if self.follow is not None:
            row |= {
                "follow_signature": self.follow.signature_correlation,
                "follow_signature_p": self.follow.signature_p,
                "follow_real": self.follow.real_correlation,
                "follow_real_p": self.follow.real_p,
            }
        return row


def evaluate(
    real: Cells,
    arms: Mapping[str, Cells],
    *,
    signatures: pd.DataFrame | None = None,
    training: Cells | None = None,
    held_out: Cells | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> dict[str, Arm]:
    """Score each arm against real nuclei of the same perturbations.

    Parameters
    ----------
    real : Cells
        The nuclei that count as the truth.
    arms : mapping of name to Cells
        Generated nuclei, `floors`, and as the ceiling a second sample of real nuclei.
    signatures : DataFrame, optional
        Index is the perturbation, columns are genes; for the follow test and the correlation of genes and features.
    training, held_out : Cells, optional
        Nuclei the generator was trained on, and real ones it was not (by default `real`), for memorisation.
    permutations : int
        Of the follow test.
    seed : int

    Returns
    -------
    dict of name to Arm

    Raises
    ------
    DataError
        An arm without some perturbation, with other features or with too few nuclei; a perturbation without signature,
        or with several.
    """
    names = sorted(set(real.groups.tolist()))
    vectors = None
    if signatures is not None:
        vectors = one_each(signatures, names).to_numpy(np.float64)
    held_out = held_out or real
    results = {}
    for name, arm in arms.items():
        agreement = compare_features(
            real.features, arm.features, real.groups, arm.groups, signatures=vectors, channels=real.channels
        )
        shared = agreement.features["feature"].tolist()
        clouds = [cells.features[shared].dropna().to_numpy(np.float64) for cells in (real, arm)]
        follow = None
        if vectors is not None and len(names) >= LEAST_PERTURBATIONS:
            means, truth = (
                population_means(cells.features[shared], cells.groups, names) for cells in (arm, real)
            )
            follow = follow_test(vectors, means, real_means=truth, permutations=permutations, seed=seed)
        memory = (
            {} if training is None else memorisation(training.thumbnails, arm.thumbnails, held_out.thumbnails)
        )
        results[name] = Arm(agreement, closeness(*clouds, seed=seed), memory, follow)
    return results


def one_each(signatures: pd.DataFrame, names: Sequence[Any]) -> pd.DataFrame:
    """Signatures of the named perturbations, in their order; `DataError` where one has none, or several."""
    counts = signatures.index.value_counts().reindex(names, fill_value=0)
    for wrong, what in ((counts == 0, "no signature"), (counts > 1, "several signatures")):
        if wrong.any():
            raise DataError(
                f"fidelity: {int(wrong.sum())} perturbations have {what}, such as {counts.index[wrong].tolist()[:3]}. "
                "Allowed is one for each: add them, name signatures apart, or make a consensus."
            )
    return signatures.loc[names]


def floors(
    generated: Cells | None,
    real: Cells,
    training: Cells,
    training_images: NDArray[np.floating],
    *,
    signatures: pd.DataFrame | None = None,
    training_signatures: pd.DataFrame | None = None,
    seed: int = 0,
) -> dict[str, Cells]:
    """Make the arms that need no generator, or only the wrong signatures.

    Parameters
    ----------
    generated : Cells, optional
        For ``shuffled signatures``: its nuclei under the names of other perturbations, none under its own.
    real : Cells
        Their perturbations and numbers are filled.
    training, training_images : Cells, (N, C, Y, X)
        What a generator was trained on.
    signatures, training_signatures : DataFrame, optional
        Index is the perturbation; for ``nearest training signature``: real training nuclei of the training
        perturbation whose signature correlates best. Of the latter those without training nuclei do not count.

    Returns
    -------
    dict of name to Cells
        ``mean image``; ``any training nuclei``, which is what a perfect unconditional model draws; and the two above,
        the shuffled one where there are several perturbations.
    """
    rng = generator(seed, "floors")
    n = len(real)
    mean = measure_cells(training_images.mean(axis=0, keepdims=True), [0], channels=real.channels)
    arms = {
        "mean image": mean.take(np.zeros(n, np.int64), real.groups),
        "any training nuclei": training.take(rng.integers(len(training), size=n), real.groups),
    }
    names = sorted(set(real.groups.tolist()))
    if signatures is not None and training_signatures is not None:
        with_nuclei = training_signatures.index.isin(set(training.groups.tolist()))
        training_signatures = training_signatures[with_nuclei]
    if signatures is not None and training_signatures is not None and len(training_signatures):
        known = list(training_signatures.index)
        wanted, there = (_unit_rows(t) for t in (one_each(signatures, names), training_signatures))
        best = dict(zip(names, (known[i] for i in (wanted @ there.T).argmax(axis=1)), strict=True))
        rows = [rng.choice(np.flatnonzero(training.groups == best[name])) for name in real.groups.tolist()]
        arms["nearest training signature"] = training.take(np.array(rows), real.groups)
    if generated is not None and len(names) > 1:
        arms["shuffled signatures"] = shuffled(generated, seed=seed)
    return arms


def shuffled(cells: Cells, *, seed: int = 0) -> Cells:
    """Give every perturbation the nuclei of another one, at random and never its own."""
    names = np.array(sorted(set(cells.groups.tolist())))
    order = generator(seed, "shuffled").permutation(len(names))
    other = dict(zip(names[order].tolist(), names[np.roll(order, 1)].tolist(), strict=True))
    return cells.take(np.arange(len(cells)), np.array([other[name] for name in cells.groups.tolist()]))


def _unit_rows(table: pd.DataFrame) -> NDArray[np.float64]:
    values = table.to_numpy(np.float64)
    values = values - values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
