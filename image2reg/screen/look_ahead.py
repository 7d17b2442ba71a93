"""What can be refused of a screen before any image is read: its queries, columns and wells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from image2reg.errors import DataError
from image2reg.screen.curves import dose_numbers, one_text_per_dose
from image2reg.screen.fields import feature_names
from image2reg.screen.plates import CONTROL, NEGATIVE, PLATE, WELL, control_columns
from image2reg.screen.queries import column_called
from image2reg.screen.times import refuse_times_without_controls
from image2reg.screen.wells import OF_A_WELL, pick_readouts
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from image2reg.screen.planned_fields import PlannedFields
    from image2reg.screen.settings import ScreenSettings

__all__ = ["groups", "look_ahead", "refuse_no_genes", "without_name"]

DOSE, PERTURBATION = "Metadata_Dose_uM", "Metadata_Perturbation"


def look_ahead(
    fields: PlannedFields, control: str, positive: str | None, settings: ScreenSettings, *, with_sets: bool
) -> PlannedFields:
    """Refuse wrong queries and readouts, plates without controls at each time point, wells of two contents.

    Returns
    -------
    PlannedFields
        The same, equal doses of a well written alike.

    Raises
    ------
    ConfigurationError
        A query cannot be read.
    DataError
        What a query, `settings` or gene sets (`with_sets`) name is not there, a well has two contents, or a plate has
        time points without a control.
    """
    import pandas as pd

    call, frame = settings.call, fields.metadata
    if call.readouts:
        named = [*OF_A_WELL, *feature_names(list(fields.channels), settings.measure)]
        pick_readouts(pd.DataFrame(columns=named), call.readouts, "")
    kinds = control_columns(frame, control, positive)
    refuse_times_without_controls(frame, frame[kinds == NEGATIVE])
    group_by, dose = groups(frame, call.group_by, call.dose)
    if dose:
        frame = frame.assign(**{dose: one_text_per_dose(frame, dose, within=(PLATE, WELL))})
        fields = replace(fields, metadata=frame)
    if with_sets:
        refuse_no_genes(frame, call.gene)
    used = dict.fromkeys([PERTURBATION, DOSE, CONTROL, *group_by, dose, call.gene])
    contents = [name for name in used if name in frame]
    wells = frame.groupby([PLATE, WELL], sort=False)[contents]
    several = wells.nunique().gt(1)
    if several.to_numpy().any():
        place, row = next((place, row) for place, row in several.iterrows() if row.any())
        seen = wells.get_group(place)[row.idxmax()].unique().tolist()
        raise DataError(
            f"well {'/'.join(map(str, place))} has fields with different {row.idxmax()}: {seen}. A well holds one "
            "thing: correct the manifest, or give the second plate a name of its own."
        )
    return fields


def refuse_no_genes(wells: pd.DataFrame, gene: str) -> None:
    """Refuse gene sets where no column of the wells holds genes."""
    if gene not in wells or not wells[gene].ne("").any():
        raise DataError(
            f"--gmt: no column {gene!r} with genes in the data; name it with --set call.gene=COLUMN."
        )


def groups(wells: pd.DataFrame, asked: Sequence[str], dose: str) -> tuple[list[str], str]:
    """Columns that make a perturbation, and the dose column ("" for none)."""
    filled = {name for name in wells if name.startswith("Metadata_") and wells[name].ne("").any()}
    dose = column_called(wells, dose) if dose else (DOSE if DOSE in filled else "")
    # A dose alone makes no perturbation: wells of several compounds have it.
    group_by = [column_called(wells, name) for name in asked] or [
        PERTURBATION,
        *([dose] if dose in filled else ()),
    ]
    missing = [name for name in (*group_by, *([dose] if dose else ())) if name not in wells]
    if missing or not (asked or PERTURBATION in filled):
        what = f"no column {missing[0]!r}" if missing else f"column {PERTURBATION!r} is empty"
        raise DataError(
            f"{what}: it is not known which wells are replicates. Fill it in the manifest, give a --layout, or name "
            f"columns with --group; there are {sorted(filled)}."
        )
    if dose:
        dose_numbers(wells, dose)  # text in it is better said now than after the hits
    return group_by, dose


def without_name(wells: pd.DataFrame, named_by: Sequence[str]) -> str:
    """Say which sample wells have nothing in the columns that name a perturbation; "" where all have something."""
    bare = wells[wells[CONTROL].ne(NEGATIVE) & wells[list(named_by)].eq("").all(axis=1)]
    if bare.empty or not named_by:
        return ""
    return (
        f"{counted(len(bare), 'well')} with nothing in {' and '.join(named_by)}, such as {bare[PLATE].iloc[0]}/"
        f"{bare[WELL].iloc[0]}, tested as if all held one thing. Fill it in; merged cells of a spreadsheet come out "
        "empty but for the first"
    )
