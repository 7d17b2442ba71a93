"""Mechanism retrieval from generated nuclei, beside everything that might do as well without a generator.

The arms are tables of one row per perturbation; `image2reg.retrieval.compare_arms` scores them on the same queries.
What a generator makes of a signature it makes of the signature alone: its arm can tell perturbations apart only by
what the raw signature holds, and a gain over that arm is a better distance, never new evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.retrieval import compare_arms
from image2reg.tables.profiles import Profiles
from morphgen.agreement import population_means
from morphgen.fidelity import Cells, floors

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GENERATED", "RAW", "retrieval_arms", "retrieve_generated"]

RAW, GENERATED, REAL = "raw signature", "generated", "real morphology"


def _morphology(cells: Cells, names: Sequence[str], training: Cells) -> NDArray[np.float64]:
    """(S, F) mean features in standard deviations of the training nuclei; features without spread left out."""
    table = training.features
    kept = [c for c in table if table[c].notna().mean() > 0.98 and table[c].std() > 0]
    means = population_means(cells.features[kept], cells.groups, names)
    return np.nan_to_num((means - table[kept].mean().to_numpy()) / table[kept].std().to_numpy())


def retrieval_arms(
    signatures: Profiles,
    generated: Cells,
    training: Cells,
    training_images: NDArray[np.floating],
    training_signatures: Profiles,
    *,
    key: str = "Metadata_Perturbation",
    real: Cells | None = None,
    seed: int = 0,
) -> dict[str, Profiles]:
    """Make the arms of mechanism retrieval.

    Parameters
    ----------
    signatures, training_signatures : Profiles
        One row per perturbation, named by column `key`, the same genes.
    generated : Cells
        Nuclei drawn under each row of `signatures`.
    training, training_images : Cells, (N, C, Y, X)
        What the generator was trained on.
    real : Cells, optional
        Real nuclei under the same perturbations: the ceiling, where there are any.
    seed : int

    Returns
    -------
    dict of name to Profiles
        ``raw signature``, ``generated``, ``mean image``, ``any training nuclei``, ``nearest training signature``,
        ``shuffled signatures`` and, where it is known, ``real morphology``; each with the metadata of `signatures`.

    Raises
    ------
    DataError
        Perturbations repeat, or some have no generated (or real, where there are any) nuclei (named).
    """
    names = signatures.column(key).astype(str).tolist()
    for what, drawn in (("generated", generated), ("real", real)):
        absent = sorted(set(names) - set(names if drawn is None else drawn.groups.astype(str).tolist()))
        if absent or len(set(names)) < len(names):
            raise DataError(
                f"{signatures.source}: {len(names) - len(set(names))} perturbations repeat and {len(absent)} have no "
                f"{what} nuclei {absent[:3]}. Retrieval needs one row, and nuclei, for each."
            )

    def vectors(table: Profiles) -> pd.DataFrame:
        return pd.DataFrame(table.values, index=table.column(key).astype(str)).groupby(level=0).mean()

    cells = {GENERATED: generated} | floors(
        generated,
        generated,
        training,
        training_images,
        signatures=vectors(signatures),
        training_signatures=vectors(training_signatures).loc[sorted(set(training.groups.astype(str)))],
        seed=seed,
    )
    if real is not None:
        cells[REAL] = real
    arms = {RAW: signatures}
    for name, arm in cells.items():
        values = _morphology(arm, names, training)
        arms[name] = signatures.with_values(values, [f"Nuclei_{i:03d}" for i in range(values.shape[1])])
    return arms


def retrieve_generated(
    arms: dict[str, Profiles],
    *,
    label: str,
    key: str = "Metadata_Perturbation",
    different: str = "",
    n_null: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Score the arms, and the raw signature together with the generated nuclei, by average precision.

    Returns
    -------
    DataFrame
        As `image2reg.retrieval.compare_arms`, every arm's difference taken against the raw signature.
    """
    fused = [(RAW, GENERATED)] + ([(RAW, REAL)] if REAL in arms else [])
    return compare_arms(
        arms, label=label, key=[key], different=different, fused=fused, against=RAW, n_null=n_null, seed=seed
    )
