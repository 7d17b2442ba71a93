"""From nuclei and fields to wells, and the normalised scores of each readout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.screen.normalise import b_score, fold_change, robust_z
from image2reg.screen.plates import CONTROL, NEGATIVE, PLATE, WELL, parse_well, well_name
from image2reg.screen.sources import looks_nuclear
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pandas as pd

__all__ = [
    "OF_A_WELL",
    "SCORES",
    "one_row_per_well",
    "pick_readouts",
    "score_wells",
    "well_table",
    "without_scale",
]

COUNT, AREA, RATIO = "Nuclei_Count", "Nuclei_AreaShape_Area", "Nuclei_RingIntensity_NucleusToRing_"
# What a well has besides features.
OF_A_WELL = ("Well_Fields", "Well_KeptOut", "Well_Nuclei", COUNT)
SCORES = {"robust-z": "RobustZ_", "b-score": "BScore_"}
# What a screen adds to its wells: of each readout, and of the well.
_SCORED, _CALLED = ("FoldChange_", *SCORES.values(), "OwnZ_"), ("Hit_",)
_OF_A_CALL = ("Hit", "Metadata_Group", "Metadata_Rule")
_OF_A_NUCLEUS = ("Metadata_Object", "Metadata_Center", "Metadata_BoundingBox", "Metadata_TouchesBorder")


def well_table(
    nuclei: pd.DataFrame, fields: pd.DataFrame, *, keep_out: Collection[str], min_nuclei: int
) -> pd.DataFrame:
    """Aggregate the fields of some plates to wells.

    Parameters
    ----------
    nuclei, fields : DataFrame
        As `image2reg.screen.fields.measure_field` gives them.
    keep_out : flags
        Fields with one of them are left out.
    min_nuclei : int
        With fewer that touch no border, features are NaN and the count alone stands.

    Returns
    -------
    DataFrame, one row per well
        Metadata that are equal within the well; ``Nuclei_Count`` (nuclei per field that is in; NaN when none is),
        medians of the features over nuclei that touch no border, ``Well_Nuclei``, ``Well_Fields``, ``Well_KeptOut``.
    """
    import pandas as pd

    flagged = np.array(
        [bool(set(flags.split(";")) & set(keep_out)) for flags in fields["Metadata_Flags"]], bool
    )
    key = [PLATE, WELL]
    groups = fields.groupby(key, sort=False)
    wells = groups.size().rename("Well_Fields").to_frame()
    kept = fields[~flagged].groupby(key, sort=False)["Field_Count"]
    wells["Well_KeptOut"] = fields.assign(out=flagged).groupby(key, sort=False)["out"].sum()
    wells["Well_Nuclei"] = kept.sum().reindex(wells.index).fillna(0).astype(int)
    wells[COUNT] = kept.mean().reindex(wells.index)
    metadata = [
        name for name in fields if name.startswith("Metadata_") and name not in (*key, "Metadata_Flags")
    ]
    if metadata:
        told = groups[metadata].first().where(groups[metadata].nunique(dropna=False).le(1))
        wells = wells.join(told.dropna(axis=1, how="all").drop(columns="Metadata_Site", errors="ignore"))
    features = [name for name in nuclei if not name.startswith("Metadata_")]
    site = [*key, *(name for name in ("Metadata_Site", "Metadata_Time") if name in fields and name in nuclei)]
    inside = nuclei[nuclei["Metadata_TouchesBorder"].to_numpy(object) != "True"]
    if flagged.any():
        left = pd.MultiIndex.from_frame(fields.loc[flagged, site].fillna(""))
        inside = inside[~pd.MultiIndex.from_frame(inside[site].fillna("")).isin(left)]
    own = inside.groupby(key, sort=False)
    medians = own[features].median().astype(np.float64).reindex(wells.index)
    medians[(own.size().reindex(wells.index).fillna(0) < min_nuclei).to_numpy()] = np.nan
    return pd.concat([wells, medians], axis=1).reset_index()


def one_row_per_well(frame: pd.DataFrame, *, source: str) -> pd.DataFrame:
    """Take a table of profiles as wells; one of nuclei (``Metadata_Object``) is aggregated.

    The ``wells.csv`` of a screen is one, too: what that screen added to its readouts is left out.

    Raises
    ------
    DataError
        A column is missing, a well name is none, or a well occurs twice.
    """
    missing = [name for name in (PLATE, WELL) if name not in frame or frame[name].eq("").any()]
    if missing:
        raise DataError(
            f"{source}: column {missing[0]} is missing or empty in some row. Every row needs a plate and a well."
        )
    frame = frame.assign(**{WELL: [well_name(*parse_well(well)) for well in frame[WELL]]})
    if "Metadata_Object" in frame:
        counts = frame.groupby([PLATE, WELL], sort=False).size().rename("Field_Count").reset_index()
        constant = [n for n in frame if n.startswith("Metadata_") and not n.startswith(_OF_A_NUCLEUS)]
        fields = frame[constant].drop_duplicates([PLATE, WELL]).merge(counts, on=[PLATE, WELL])
        border = frame.get("Metadata_TouchesBorder", "False")
        nuclei = frame.drop(columns=["Metadata_Site"], errors="ignore").assign(Metadata_TouchesBorder=border)
        return well_table(nuclei, fields.assign(Metadata_Flags=""), keep_out=(), min_nuclei=1)
    doubled = frame[frame.duplicated([PLATE, WELL])]
    if len(doubled):
        named = [f"{plate}/{well}" for plate, well in zip(doubled[PLATE], doubled[WELL], strict=True)]
        raise DataError(
            f"{source}: more than one row each for {counted(len(doubled), 'well')}, such as {named[:3]}. A table has "
            "one row per well; "
            "give repeated plates names of their own, or aggregate the fields first."
        )
    scored = [kind + str(name) for name in frame for kind in (*_SCORED, *_CALLED)]
    return frame.drop(columns=[*scored, *_OF_A_CALL], errors="ignore")


def pick_readouts(wells: pd.DataFrame, asked: Sequence[str], nuclei_channel: str) -> list[str]:
    """Readouts to judge: those asked for, else count, area and nucleus to ring of the other channels.

    Raises
    ------
    DataError
        One that the table does not have; near ones are named.
    """
    if asked:
        numeric = [str(name) for name in wells if not str(name).startswith("Metadata_")]
        missing = [name for name in asked if name not in numeric]
        if missing:
            import difflib

            near = [name for name in numeric if missing[0].lower() in name.lower()][:3]
            near = near or difflib.get_close_matches(missing[0], numeric, n=3, cutoff=0.3)
            raise DataError(
                f"readout {missing[0]!r} is not measured; near are {near}, of {len(numeric)} in all."
            )
        return list(asked)
    usual = [name for name in (COUNT, AREA) if name in wells]
    channels = [str(name).removeprefix(RATIO) for name in wells if str(name).startswith(RATIO)]
    others = [c for c in channels if c != nuclei_channel and (nuclei_channel or not looks_nuclear(c))]
    ratios = [RATIO + channel for channel in others]
    found = usual + ratios or [str(n) for n in wells if not str(n).startswith(("Metadata_", "Well_"))][:1]
    if not found:
        raise DataError("no readout: the table has no feature.")
    return found


def score_wells(wells: pd.DataFrame, readouts: Sequence[str]) -> pd.DataFrame:
    """Add ``FoldChange_``, ``RobustZ_``, ``BScore_`` and ``OwnZ_`` of every readout, plate by plate.

    ``OwnZ_`` is the robust z in which a control well is compared with the other controls. A B-score that a plate does
    not support (no sample wells) is NaN, and so is every score of a plate none of whose control wells has a value
    (`without_scale` names these).

    Raises
    ------
    DataError
        No control well of any plate has a value.
    """
    import pandas as pd

    places = np.array([parse_well(well) for well in wells[WELL]])
    control = wells[CONTROL].to_numpy(object) == NEGATIVE
    sample = wells[CONTROL].to_numpy(object) == ""
    added: dict[str, NDArray[np.float64]] = {
        f"{kind}{readout}": np.full(len(wells), np.nan) for readout in readouts for kind in _SCORED
    }
    for readout in readouts:
        if not np.isfinite(wells[readout].to_numpy(np.float64)[control]).any():
            raise DataError(
                f"readout {readout}: no control well has a value ({int(control.sum())} control wells, {len(wells)} "
                "wells). Look at their fields, which may all be flagged, or judge other readouts (--readout)."
            )
    for rows in wells.groupby(PLATE, sort=False).indices.values():
        for readout in readouts:
            values = wells[readout].to_numpy(np.float64)[rows]
            own = control[rows]
            if not np.isfinite(values[own]).any():
                continue
            added[f"FoldChange_{readout}"][rows] = fold_change(values, own)
            added[f"RobustZ_{readout}"][rows] = robust_z(values, own)
            added[f"OwnZ_{readout}"][rows] = robust_z(values, own, leave_one_out=True)
            if np.isfinite(values[sample[rows]]).any():
                added[f"BScore_{readout}"][rows] = b_score(
                    values, places[rows, 0], places[rows, 1], ~sample[rows]
                )
    return pd.concat([wells.reset_index(drop=True), pd.DataFrame(added)], axis=1)


def without_scale(wells: pd.DataFrame, readouts: Sequence[str]) -> list[str]:
    """Say of each readout on which plates its controls have no value or no spread, and what the scores there are."""
    control = wells[CONTROL].to_numpy(object) == NEGATIVE
    plates = list(wells.groupby(PLATE, sort=False).indices.items())
    notes = []
    for readout in readouts:
        values = wells[readout].to_numpy(np.float64)
        found: dict[str, list[str]] = {why: [] for why in _WITHOUT_SCALE}
        for plate, rows in plates:
            if why := _no_scale(values[rows], control[rows]):
                found[why].append(str(plate))
        notes += [
            f"{counted(len(named), 'plate')} {_WITHOUT_SCALE[why].format(readout)}: {', '.join(named[:5])}"
            for why, named in found.items()
            if named
        ]
    return notes


# What is the matter with the controls of a plate: its scores in a readout.
_WITHOUT_SCALE = {
    "none": "without scores in {}, as no control well there has a value",
    "constant": "without scores in {}, as it is the same in all wells there",
    "equal": "whose control wells are all equal in {} (or a single one), where robust z is in units of the "
    "spread of all wells",
}


def _no_scale(values: NDArray[np.float64], control: NDArray[np.bool_]) -> str:
    present = np.isfinite(values)
    if not (control & present).any():
        return "none"
    if np.ptp(values[control & present]) > 0:
        return ""
    return "equal" if np.ptp(values[present]) > 0 else "constant"
