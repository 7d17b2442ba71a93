"""Time points: what was taken at different times is one only where the reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from image2reg.errors import DataError
from image2reg.screen.plates import CONTROL, NEGATIVE, PLATE, WELL, n_mixed_groups
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["note_times", "refuse_times_without_controls"]

TIME = "Metadata_Time"
_APART = (
    f"screen each for itself to tell them apart: the folder of one, or a table with the rows of one {TIME}"
)


def refuse_times_without_controls(fields: pd.DataFrame, controls: pd.DataFrame) -> None:
    """Refuse wells that would be compared with controls of other time points only."""
    if TIME not in fields:
        return
    of_controls = controls.groupby(PLATE)[TIME].unique()
    for plate, times in fields.groupby(PLATE, sort=False)[TIME].unique().items():
        bare = [time for time in times if time not in of_controls[plate]]
        if bare:
            raise DataError(
                f"plate {plate}: no negative control at {counted(len(bare), 'time point')} of {len(times)} "
                f"({bare[:5]}; controls are at {of_controls[plate].tolist()[:5]}). Time points of a plate are judged "
                f"together, and its controls need the same ones: {_APART}."
            )


def note_times(rows: pd.DataFrame, wells: pd.DataFrame, group_by: Sequence[str]) -> list[str]:
    """Say where different times are judged together: those of a plate, or of plates that hold replicates.

    Parameters
    ----------
    rows : DataFrame
        Fields, nuclei or wells, which `wells` were made of.
    wells : DataFrame
        With ``Metadata_Group`` (`image2reg.screen.hits.called_wells`).
    group_by : sequence of str
        What makes wells replicates.
    """
    if TIME not in rows:
        return []
    n_times = rows.groupby(PLATE)[TIME].nunique()
    notes = _of_plates(rows, n_times) if n_times.max() > 1 else []
    if TIME in wells:
        # Of plates of several times it is said already; there, groups of their own would share the controls.
        counts = wells[CONTROL].ne(NEGATIVE) & wells[TIME].ne("") & wells[PLATE].map(n_times).eq(1)
        if several := n_mixed_groups(wells[counts], TIME):
            apart = " ".join(f"--group {name}" for name in (*group_by, TIME))
            notes.append(
                f"wells of {counted(several, 'perturbation')} were taken at different times ({TIME}) and "
                f"are judged as replicates; {apart} judges each time by itself"
            )
    return notes


def _of_plates(rows: pd.DataFrame, n_times: pd.Series) -> list[str]:
    of_wells = rows.groupby([PLATE, WELL], sort=False)[TIME].nunique()
    if (most := of_wells.max()) < 2:
        return [
            f"wells of up to {n_times.max()} time points share the controls of their plate and may differ from them by "
            f"time alone; {_APART}"
        ]
    fewer = of_wells[of_wells < n_times.reindex(of_wells.index, level=PLATE)]
    note = f"up to {most} time points of a well are taken together, as its fields are"
    if len(fewer):
        note += (
            f", and {counted(len(fewer), 'well')} of fewer time points than others of the plate, such as "
            f"{'/'.join(fewer.index[0])}, may differ from its controls by time alone"
        )
    return [f"{note}; {_APART}"]
