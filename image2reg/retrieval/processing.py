"""How profiles are prepared before they are compared, and how to settle that without a single mechanism label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.retrieval.precision import average_precision
from image2reg.tables.aggregate import aggregate
from image2reg.tables.normalise import fit_sphering

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.tables.profiles import Profiles

__all__ = ["CANDIDATES", "FeatureProcessing", "choose_processing"]


@dataclass(frozen=True)
class FeatureProcessing:
    """Steps from replicate profiles to comparable ones.

    Attributes
    ----------
    arcsinh : bool
        Compress large values (asinh, odd and monotone) before anything else.
    sphering : float
        Regularisation of a sphering fitted on controls, as a share of their mean variance; 0 leaves it out.
    merge : {"mean", "median", "modz"}
        How replicates become one profile.
    neighbours : int
        Neighbours of the local scaling against hubs; 0 leaves it out.
    """

    arcsinh: bool = True
    sphering: float = 0.3
    merge: str = "mean"
    neighbours: int = 10

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.sphering < 0 or self.neighbours < 0:
            raise ConfigurationError(
                f"processing: sphering {self.sphering}, neighbours {self.neighbours}; both are 0 (off) or more."
            )

    def transform(self, profiles: Profiles, controls: NDArray[np.bool_] | None) -> Profiles:
        """Transform each row; the sphering is fitted on the controls of this table.

        Raises
        ------
        DataError
            Sphering is on and there are no controls.
        """
        values = profiles.values
        if self.arcsinh:
            values = np.arcsinh(values)
        if self.sphering:
            if controls is None or not controls.any():
                raise DataError(
                    f"{profiles.source}: sphering is fitted on controls and there are none. Name them (--controls "
                    "Metadata_Column=value), or switch it off (FeatureProcessing(sphering=0))."
                )
            fitted = fit_sphering(values[controls], regularisation=self.sphering, where=profiles.source)
            values = fitted.apply(values)
        return profiles.with_values(values)

    def apply(self, profiles: Profiles, controls: NDArray[np.bool_] | None, by: Sequence[str]) -> Profiles:
        """Transform, leave the controls out and merge the rows that agree in `by`; no `by` keeps each row."""
        ready = self.transform(profiles, controls)
        if controls is not None:
            ready = ready.rows(~controls)
        return aggregate(ready, by, method=self.merge) if by else ready


# Regularisations half a decade apart; arcsinh or not: few enough to try them all on any table.
CANDIDATES = tuple(
    FeatureProcessing(arcsinh=arcsinh, sphering=sphering)
    for arcsinh in (False, True)
    for sphering in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
)


def choose_processing(
    profiles: Profiles,
    *,
    controls: NDArray[np.bool_],
    by: Sequence[str],
    compound: str,
    batch: str = "",
    candidates: Sequence[FeatureProcessing] = CANDIDATES,
) -> tuple[FeatureProcessing, pd.DataFrame]:
    """Take the processing under which a compound finds itself at other doses best; no mechanism is looked at.

    Parameters
    ----------
    profiles : Profiles
        Replicates (wells) with their controls.
    controls : (n,) bool
    by : column names
        What makes one treatment: compound and dose.
    compound : str
        Positives are treatments of the same value, negatives of others.
    batch : str
        Negatives come from the same batch only, so that a batch effect earns nothing; several batches of one
        treatment are compared as written. Empty: all others.
    candidates : sequence of FeatureProcessing

    Returns
    -------
    chosen : FeatureProcessing
        The largest mean average precision without local scaling; ties go to the first.
    table : DataFrame
        ``arcsinh``, ``sphering``, ``criterion``.

    Raises
    ------
    DataError
        No compound has two treatments.
    """
    import pandas as pd

    table = []
    for candidate in candidates:
        merged = candidate.apply(profiles, controls, by)
        scores = average_precision(
            merged, same=[compound], negative_same=[batch] if batch else [], negative_different=[compound]
        )
        table.append(
            {"arcsinh": candidate.arcsinh, "sphering": candidate.sphering, "merge": candidate.merge,
             "criterion": float(scores["average_precision"].mean())}
        )  # fmt: skip
    found = pd.DataFrame(table)
    best = int(found["criterion"].to_numpy().argmax())
    return candidates[best], found
