"""What a reader should know about the table that mechanisms were called from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.retrieval.labels import incidence, unlike_spellings

if TYPE_CHECKING:
    from image2reg.tables.profiles import Profiles

__all__ = [
    "COMPOUND",
    "activity_note",
    "compound_column",
    "control_note",
    "label_notes",
    "place_notes",
    "plate_note",
    "row_notes",
    "scale_note",
]

COMPOUND = "Metadata_Compound"
# What laboratories call wells without a treatment; a positive control is a compound.
_CONTROL = re.compile(
    r"(neg(ative)?|vehicle|solvent|untreated|mock|dmso|no|non[ _-]?targeting)?[ _-]*(control|ctrl|ctl)s?|negcons?|dmso"
    r"|vehicles?|solvent|untreated|mock|pbs|water|h2o|medium|media|empty|blank"
)
# Standard deviations of normalised features differ by a few times, of measured ones by powers of ten.
_ONE_SCALE = 100.0
# Levels of the controls on two plates, in units of their spread on one: normalised controls differ by less.
_ONE_LEVEL = 1.0
_NORMALISE = (
    "Normalise them to the controls of each plate first (image2reg.tables.normalise.normalise with "
    "by=['Metadata_Plate'], as README shows; or pycytominer)."
)
_LEAST_CONTROLS = 3
_SEPARATORS = re.compile(r"[\s_-]+")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def compound_column(given: Mapping[str, Profiles], different: str | None) -> tuple[str, list[str]]:
    """Column of compounds: the one named, else Metadata_Compound where every table has it; and what to say of it."""
    if different is not None:
        return different, []
    if all(COMPOUND in profiles.frame for profiles in given.values()):
        return COMPOUND, [f"{COMPOUND!r} was taken as the column of compounds (--different names another)."]
    return "", []


def control_note(compared: Profiles, label: str, different: str, controls: str = "") -> list[str]:
    """Say which of the rows to be called look like controls that nobody named beside `controls`."""
    taken, _, named = controls.partition("=")
    for column in filter(None, (different, label)):
        cells = compared.column(column)
        names = sorted({cell for cell in set(cells) if _CONTROL.fullmatch(cell.strip().lower())})
        if names:
            known = named.split(",") if taken.strip() == column else []
            query = f"{column}={','.join(dict.fromkeys(name.strip() for name in [*known, *names[:5]]))}"
            return [
                f"{int(np.isin(cells, names).sum())} of {len(cells)} rows look like controls ({column} is "
                f"{', '.join(map(repr, names[:5]))}) and were called like compounds. If they are controls, name them: "
                f"--controls {shlex.quote(query)}."
            ]
    return []


def place_notes(given: Mapping[str, Profiles]) -> list[str]:
    """Say which columns of each arm were taken for places and not for features."""
    return [
        f"{name}: {len(aside)} columns say where a row was measured or number it, and are no features: "
        f"{', '.join(map(repr, aside[:6]))}{', ...' if len(aside) > 6 else ''}."
        for name, profiles in given.items()
        if (aside := profiles.set_aside)
    ]


def scale_note(name: str, unchanged: Profiles) -> list[str]:
    """Say that an arm's features are as they were measured, by the spread of rows without a treatment, or of all."""
    spread = unchanged.values.std(axis=0)
    spread = spread[spread > 0]
    low, high = np.percentile(spread, [5, 95]) if len(spread) else (1.0, 1.0)
    if high <= _ONE_SCALE * low:
        return []
    return [
        f"{name}: the features are not on one scale, their standard deviations go from {low:.2g} to {high:.2g} (5th to "
        f"95th percentile of {len(spread)}): those of large numbers decide what is alike. {_NORMALISE}"
    ]


def plate_note(name: str, controls: Profiles, plate: str) -> list[str]:
    """Say that an arm's controls differ between plates more than on one: what is alike is then the plate."""
    from image2reg.tables.normalise import FLAT

    if plate not in controls.frame:
        return []
    _, codes, counts = np.unique(controls.column(plate).astype(str), return_inverse=True, return_counts=True)
    several = np.flatnonzero(counts >= _LEAST_CONTROLS)
    if len(several) < 2:
        return []
    values = [controls.values[codes == plate] for plate in several]
    level = np.array([rows.mean(axis=0) for rows in values])
    within = np.array([rows.var(axis=0, ddof=1) for rows in values])
    # Means of few wells differ by chance, too: that much is no difference of the plates.
    between = level.var(axis=0, ddof=1) - (within / counts[several, None]).mean(axis=0)
    spread = within.mean(axis=0)
    varying = spread > (FLAT * np.abs(level).max(axis=0)) ** 2
    apart = np.sqrt(np.maximum(between, 0.0)[varying] / spread[varying])
    if not len(apart) or (typical := float(np.median(apart))) <= _ONE_LEVEL:
        return []
    return [
        f"{name}: controls of the {len(several)} plates lie apart by {typical:.2g} times their spread on one plate "
        f"(median of {len(apart)} features): profiles of one plate look alike whatever was done to them. {_NORMALISE}"
    ]


def activity_note(p_values: NDArray[np.float64], without: Sequence[str], alpha: float) -> list[str]:
    """Say how many profiles were not tested for differing from the controls (arms `without` them), and why."""
    n = int(np.isnan(p_values).sum())
    if not n:
        return []
    why = (
        f"no controls are known for {', '.join(without)}"
        if without
        else f"too few control wells lie on their plates for a p-value of {alpha:g}"
    )
    return [
        f"{n} of {len(p_values)} profiles were not tested for differing from the controls, because {why}: one without "
        "any effect may be called."
    ]


def row_notes(compared: Profiles, different: str, by: Sequence[str]) -> list[str]:
    """Say which rows may not be what they are taken for: no compound, doses in words, a well that is there twice."""
    notes = []
    if different and (nameless := int((compared.column(different) == "").sum())):
        notes.append(
            f"{nameless} of {len(compared)} rows have no {different!r}: they are called as one compound apart from all "
            "others, and the nearest compound may be their own."
        )
    for column in by:
        cells = {cell for cell in compared.column(column) if cell}
        words = sorted(cell for cell in cells if not _NUMBER.fullmatch(cell))
        measured = [cell for cell in words if _NUMBER.match(cell)]
        if measured and len(words) < len(cells):
            notes.append(
                f"{column!r} has numbers and text such as {measured[:3]}: 0.3 and '0.30 uM' count as different "
                "treatments. Write one kind."
            )
    places = [name for name in ("Metadata_Plate", "Metadata_Well") if name in compared.frame]
    if len(places) == 2 and (compared.metadata[places] != "").all(axis=None):
        rows = compared.metadata.groupby(places).size()
        if (
            twice := int((rows > 1).sum())
        ) and rows.median() == 1:  # of nuclei or fields most wells have several
            notes.append(
                f"{twice} of {len(rows)} wells are in several rows, such as {' '.join(rows.index[rows > 1][0])}: a "
                "well that was exported twice counts twice."
            )
    return notes


def label_notes(profiles: Profiles, label: str, different: str, compounds: NDArray[Any]) -> list[str]:
    """Say what is odd about the labels of the compared rows: spellings, several per compound, single compounds."""
    notes = []
    alike = unlike_spellings(profiles.column(label)) if (profiles.column(label) != "").any() else {}
    if alike:
        notes.append(f"{_spelled(list(alike.values()), 'mechanisms')} --normalise-labels makes them one.")
    if different:
        notes += _compound_spellings(profiles.column(different))
        table = profiles.metadata.groupby(different)[label].nunique()
        several = list(table.index[table > 1])
        if several:
            notes.append(
                f"{len(several)} compounds have rows with different labels, such as {several[:5]}; each row counts by "
                "its own."
            )
    else:
        notes.append(
            "No column of compounds was named (--different): every row counts as its own compound, so that doses and "
            "replicates of one recognise each other, and no score says how well an unknown compound is called."
        )
    members, names = incidence(profiles.column(label))
    single = [i for i in range(len(names)) if len(np.unique(compounds[members[:, i] > 0])) == 1]
    if single:
        shared = np.delete(members, single, axis=1) > 0
        rows = int(((members > 0).any(axis=1) & ~shared.any(axis=1)).sum())
        notes.append(
            f"{len(single)} of {len(names)} mechanisms have a single compound, such as "
            f"{[names[i] for i in single[:5]]}: {rows} profiles have no other mechanism and cannot be called right, "
            "because no other compound shows it."
        )
    return notes


def _compound_spellings(cells: NDArray[Any]) -> list[str]:
    """Say which compounds differ in capitals or separators alone: one of them would be held out and the other not."""
    found: dict[str, list[str]] = {}
    for name in sorted(set(cells) - {""}):
        found.setdefault(_SEPARATORS.sub(" ", name.casefold()), []).append(name)
    alike = [names for names in found.values() if len(names) > 1]
    if not alike:
        return []
    return [
        f"{_spelled(alike, 'compounds')} If they are one, it is called from itself, and the scores over held-out "
        "compounds are too good. Write one spelling."
    ]


def _spelled(alike: Sequence[Sequence[str]], what: str) -> str:
    shown = "; ".join(" = ".join(map(repr, names)) for names in alike[:5])
    return f"{len(alike)} {what} are spelled in several ways and count as different: {shown}."
