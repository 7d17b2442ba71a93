"""L1000 data levels: which one a table is, and from expression (3) over z-scores (4) to signatures (5).

Level 2 is fluorescence (linear, thousands), level 3 log2 expression after normalisation (4 to 15), level 4 z-scores
of each well against its plate or its vehicle wells, level 5 one moderated z-score per treatment (Subramanian et al.
2017, Cell 171:1437).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError
from image2reg.tables.aggregate import aggregate
from image2reg.tables.normalise import controls_of, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from image2reg.tables.profiles import Profiles

__all__ = ["level_of", "moderated", "zscores"]

# CMap's floor under the median absolute deviation, in log2 units.
_LEAST_MAD, _MAD_TO_SD = 0.1, 1.4826
_FLUORESCENCE, _EXPRESSION = 30.0, 3.0


def level_of(values: NDArray[np.floating]) -> Literal["2", "3", "4/5"]:
    """Tell fluorescence, log2 expression and z-scores apart by their size; levels 4 and 5 look alike.

    Examples
    --------
    >>> level_of(np.array([850.0, 12000.0])), level_of(np.array([7.1, 11.3])), level_of(np.array([-0.4, 1.2]))
    ('2', '3', '4/5')
    """
    finite = values[np.isfinite(values)]
    middle = float(np.median(finite)) if finite.size else 0.0
    if middle > _FLUORESCENCE:
        return "2"
    return "3" if middle > _EXPRESSION and finite.min() >= 0 else "4/5"


def zscores(
    profiles: Profiles,
    *,
    reference: Literal["plate", "vehicle"] = "plate",
    plate: str = "Metadata_det_plate",
    vehicle: str = "Metadata_pert_type=ctl_vehicle",
) -> Profiles:
    """Level 3 to level 4: each well against the median and spread of its plate or of the plate's vehicle wells.

    Parameters
    ----------
    profiles : Profiles
        Wells by genes, log2 expression.
    reference : str
        ``plate``: all wells of the plate (robust where most treatments do little). ``vehicle``: its vehicle wells.
    plate : str
        Column that names the plate.
    vehicle : str
        ``Metadata_Column=value`` of vehicle wells.

    Returns
    -------
    Profiles
        ``(x - median) / (1.4826 max(MAD, 0.1))``, as CMap's own ``robust_zscore`` (cmapPy).

    Raises
    ------
    ConfigurationError
        Another reference, or a table that is no level 3.
    DataError
        No such column, or a plate with fewer than three reference wells.
    """
    if reference not in {"plate", "vehicle"}:
        raise ConfigurationError(f"z-scores against {reference!r}; allowed are plate and vehicle.")
    level = level_of(profiles.values)
    if level != "3":
        raise ConfigurationError(
            f"{profiles.source}: z-scores are made from level 3 (log2 expression), and this is level {level}. "
            + ("Normalise it to level 3 first." if level == "2" else "It holds z-scores already.")
        )
    wells = controls_of(profiles, vehicle) if reference == "vehicle" else np.ones(len(profiles), bool)
    centred = normalise(profiles, controls=wells, by=[plate], method="centre").profiles
    values = centred.values
    for rows in centred.frame.groupby(plate).indices.values():
        mad = pd.DataFrame(np.abs(values[rows[wells[rows]]])).median().to_numpy()  # NaN left out
        values[rows] /= _MAD_TO_SD * np.maximum(mad, _LEAST_MAD)
    return centred.with_values(values)


def moderated(
    profiles: Profiles, *, by: Sequence[str] = ("Metadata_pert_id", "Metadata_pert_idose")
) -> Profiles:
    """Level 4 to level 5: replicates that agree in the columns `by` to one moderated z-score (MODZ).

    The implementation is `image2reg.tables.aggregate`; ``Metadata_Count`` says how many replicates there were.
    """
    return aggregate(profiles, by, method="modz")
