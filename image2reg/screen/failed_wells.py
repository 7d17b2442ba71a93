"""Wells of which every field failed: they stay in the tables, without values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from image2reg.screen.plates import PLATE, WELL

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["with_failed_wells"]


def with_failed_wells(wells: pd.DataFrame, planned: pd.DataFrame) -> pd.DataFrame:
    """Add a row for each planned well that has none, in the order of the plan.

    A plate without any row is not added: none of its control wells has a value, so nothing of it can be judged.

    Parameters
    ----------
    wells : DataFrame
        As `image2reg.screen.wells.well_table` gives it.
    planned : DataFrame, one row per field
        Metadata of the plan's fields (`image2reg.screen.planned_fields.PlannedFields`).

    Returns
    -------
    DataFrame, one row per well
        In the added rows ``Well_Fields``, ``Well_KeptOut`` and ``Well_Nuclei`` are 0, the other numbers NaN, and
        metadata are those equal within the well.
    """
    import pandas as pd

    key = [PLATE, WELL]
    planned = planned[planned[PLATE].isin(wells[PLATE])]
    order = pd.MultiIndex.from_frame(planned[key].drop_duplicates())
    lost = planned[~pd.MultiIndex.from_frame(planned[key]).isin(pd.MultiIndex.from_frame(wells[key]))]
    if lost.empty:
        return wells
    known = [name for name in lost if name in wells and name not in key]
    groups = lost.groupby(key, sort=False)[known]
    rows = groups.first().where(groups.nunique(dropna=False).le(1)).reset_index()
    counts = dict.fromkeys(("Well_Fields", "Well_KeptOut", "Well_Nuclei"), 0)
    both = pd.concat([wells, rows.assign(**counts)], ignore_index=True)
    return both.set_index(key).reindex(order).reset_index()
