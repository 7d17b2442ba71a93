"""Choose what of the hits is shown: for each, its most typical well and nuclei, and those of a control well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ProjectError
from image2reg.screen.fields import read_unit
from image2reg.screen.gallery import Exhibit, crop_size, cut, typical_nuclei
from image2reg.screen.plates import CONTROL, NEGATIVE, PLATE, WELL

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.engine import Outcome
    from image2reg.screen.planned_fields import PlannedFields
    from image2reg.screen.settings import CallSettings

__all__ = ["make_exhibits"]


def make_exhibits(
    outcome: Outcome,
    planned: PlannedFields,
    hits: pd.DataFrame,
    wells: pd.DataFrame,
    settings: CallSettings,
) -> list[Exhibit]:
    """Cut crops of the strongest hits, one perturbation once, beside a control well of the same plate.

    A hit without nuclei (all cells lost), or whose image is gone meanwhile, is left out.
    """
    shown: list[Exhibit] = []
    order = hits[hits["hit"] & ~hits["is_control"]].sort_values(
        ["q", "effect"],
        key=lambda column: -column.abs() if column.name == "effect" else column,
        kind="stable",
    )
    for _, hit in order.drop_duplicates("name").iterrows():
        if len(shown) >= settings.gallery:
            break
        rows = wells[(wells["Metadata_Group"] == hit["name"]).to_numpy()]
        well = _typical(rows, hit["score"])
        control = (
            wells[(wells[CONTROL] == NEGATIVE) & (wells[PLATE] == well[PLATE])]
            if well is not None
            else rows[:0]
        )
        beside = _typical(control, hit["score"])
        if well is None or beside is None:
            continue
        readout = str(hit["score"]).partition("_")[2]
        try:
            shown.append(_exhibit(outcome, planned, settings, str(hit["name"]), readout, well, beside))
        except ProjectError:
            continue
    return shown


def _typical(rows: pd.DataFrame, score: str) -> pd.Series | None:
    """Well with nuclei whose score is nearest to the median of them."""
    rows = rows[(rows["Well_Nuclei"] > 0) & rows[score].notna()]
    if rows.empty:
        return None
    return rows.iloc[int(np.argmin(np.abs(rows[score] - rows[score].median())))]


def _exhibit(
    outcome: Outcome,
    planned: PlannedFields,
    settings: CallSettings,
    name: str,
    readout: str,
    well: pd.Series,
    control: pd.Series,
) -> Exhibit:
    size, parts = 0, []
    for row in (well, control):
        is_here = (planned.metadata[PLATE] == row[PLATE]) & (planned.metadata[WELL] == row[WELL])
        fields = [i for i in np.flatnonzero(is_here).tolist() if _counts(outcome, i, settings)]
        tables = [outcome.results.read("nuclei", [i]).assign(_unit=i) for i in fields]
        field = max(tables, key=len)
        size = size or crop_size(field)
        chosen = typical_nuclei(field, readout)
        images = {str(i): read_unit(planned.unit(i), planned.root) for i in chosen["_unit"].unique()}
        parts.append(cut(chosen, images, [str(i) for i in chosen["_unit"]], size))
    (crops, channels), (beside, _) = parts
    here, there = (f"{row[PLATE]}/{row[WELL]}" for row in (well, control))
    return Exhibit(name, here, there, readout, crops, beside, channels)


def _counts(outcome: Outcome, position: int, settings: CallSettings) -> bool:
    """Whether a field was measured and is not kept out by its flags."""
    flags = outcome.results.read("fields", [position])["Metadata_Flags"]
    return any(set(text.split(";")).isdisjoint(settings.keep_out) for text in flags)
