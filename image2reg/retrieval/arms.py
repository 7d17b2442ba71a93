"""Tables of profiles made ready to be compared: labels, batches, processing, similarities, kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.retrieval.activity import activity_p_values
from image2reg.retrieval.fusion import aligned_arms, early_fusion
from image2reg.retrieval.labels import incidence, normalised
from image2reg.retrieval.notes import (
    activity_note,
    control_note,
    label_notes,
    plate_note,
    row_notes,
    scale_note,
)
from image2reg.retrieval.scores import Gallery
from image2reg.retrieval.similarity import local_scaling, unit_rows
from image2reg.tables.disguise import refuse_disguised
from image2reg.tables.normalise import controls_of
from image2reg.tables.selection import refuse_gaps

if TYPE_CHECKING:
    from image2reg.retrieval.settings import CallSettings
    from image2reg.tables.profiles import Profiles

__all__ = ["Arm", "prepared_arms"]

Floats = NDArray[np.float64]
PLATE = "Metadata_Plate"
# Rows whose similarities and kernels (a few float64 matrices) fit in a few GB.
LARGEST = 10_000


@dataclass(frozen=True)
class Arm:
    """One kind of evidence on the rows that all arms share.

    Attributes
    ----------
    name : str
    gallery : Gallery
    units : (n, d) float64
        Processed rows of length 1.
    """

    name: str
    gallery: Gallery
    units: Floats
    _kernels: dict[str, Floats] = field(default_factory=dict)

    def kernel(self, method: str) -> Floats:
        """Kernel (n, n) of a ridge method, made once."""
        if method not in self._kernels:
            from torch import from_numpy

            from image2reg.linking.kernels import kernel_matrix

            self._kernels[method] = kernel_matrix(from_numpy(self.units), kind=method).numpy()
        return self._kernels[method]


def prepared_arms(
    given: Mapping[str, Profiles],
    *,
    label: str,
    different: str,
    batch: str,
    controls: str,
    by: Sequence[str],
    settings: CallSettings,
    seed: int,
) -> tuple[list[Arm], Profiles, Profiles, Floats, tuple[str, ...]]:
    """Process, merge and align the arms.

    Returns
    -------
    arms : list of Arm
        One, where they are fused early.
    shown : Profiles
        The compared rows of the first arm before processing (merged by median).
    reference : Profiles
        The first arm's controls, or `shown` where none were named.
    activity : (n,) float64
        p-value of differing from the controls in any arm; NaN where not tested.
    notes : tuple of str

    Raises
    ------
    ConfigurationError
        Several arms without `by` to match them.
    DataError, ResourceError
        As `image2reg.retrieval.calling.retrieve`.
    """
    if len(given) > 1 and not by:
        raise ConfigurationError(
            f"arms {list(given)}: several tables are matched by columns they share; name them (--by Metadata_Compound)."
        )
    ready: dict[str, Profiles] = {}
    plain: dict[str, Profiles] = {}
    reference, extra, tested = None, [], {}
    for name, table in given.items():
        profiles = _with_columns(table, (label, different, batch)) if ready else table
        profiles = _spelled(profiles, label) if settings.normalise_labels else profiles
        for column in filter(None, (label, different, batch, *by)):
            profiles.column(column)
        mask = _controls(profiles, controls, first=not ready)
        _refuse_repeated_rows(profiles)
        refuse_gaps(profiles)
        compared = profiles if mask is None else profiles.rows(~mask)
        for group, column in (("batch", batch), ("plate", PLATE if PLATE in compared.frame else "")):
            if column:
                refuse_disguised(
                    compared.column(label), compared.column(column), label="mechanism", group=group, paired=True,
                    where=compared.source, remedy=f"take the column {column!r} out and say so",
                )  # fmt: skip
        if not ready:
            extra += control_note(compared, label, different, controls) + row_notes(compared, different, by)
        _refuse_unclear(compared, label, different, by)
        if mask is None and settings.processing is not None and settings.processing.sphering:
            extra.append(f"{name}: no controls were named, so these profiles are not sphered.")
        untreated = profiles if mask is None else profiles.rows(mask)
        extra += scale_note(name, untreated) + plate_note(name, untreated, PLATE if mask is not None else "")
        ready[name] = _processed(profiles, mask, by, settings)
        plain[name] = _merged(compared, by)
        tested[name] = _tested(profiles, mask, plain[name], by, settings, seed)
        reference = reference or (plain[name] if mask is None else profiles.rows(mask))
    if len(ready) > 1:
        whole = plain
        ready, plain = aligned_arms(ready, key=by), aligned_arms(plain, key=by)
        extra += _left_out(whole, plain, by)
    first = next(iter(plain.values()))
    activity = _activity(tested, plain, by)
    extra += activity_note(activity, [name for name, found in tested.items() if not found], settings.alpha)
    if settings.fusion == "early" and len(ready) > 1:
        ready = {"+".join(ready): early_fusion(ready)}
    if len(first) > LARGEST:
        raise ResourceError(
            f"{first.source}: {len(first):,} profiles to call; their similarities are kept in memory, so allowed are "
            f"{LARGEST:,}. Merge replicates into treatments (--by), or score with average_precision, which works in "
            "blocks."
        )
    members, names = incidence(first.column(label))
    compounds = (
        np.unique(first.column(different).astype(str), return_inverse=True)[1]
        if different
        else np.arange(len(first))
    )
    _refuse_single(first, members > 0, names, compounds, label, different)
    notes = (*extra, *label_notes(first, label, different, compounds))
    neighbours = settings.processing.neighbours if settings.processing else 0
    arms = []
    for name, profiles in ready.items():
        units = unit_rows(profiles.values, where=f"arm {name!r} ({profiles.source})")
        found = units @ units.T
        if neighbours:
            apart = compounds[:, None] != compounds[None]
            hub = local_scaling(found, apart, neighbours=neighbours)
            found = 2 * found - hub[:, None] - hub[None]
        arms.append(Arm(name, Gallery(found, members > 0, compounds, names), units))
    return arms, first, reference or first, activity, notes


def _with_columns(profiles: Profiles, names: Sequence[str]) -> Profiles:
    """Leave empty what only the first arm is asked for: a table of signatures or fingerprints names no mechanism."""
    absent = {name: "" for name in names if name and name not in profiles.frame}
    return profiles.replace(profiles.frame.assign(**absent)) if absent else profiles


def _controls(profiles: Profiles, controls: str, *, first: bool) -> NDArray[np.bool_] | None:
    """Only the first arm must have the controls that were named; others may have none (signatures, generated)."""
    try:
        return controls_of(profiles, controls, every=first) if controls else None
    except DataError:
        if first:
            raise
        return None


def _refuse_repeated_rows(profiles: Profiles) -> None:
    """Raise where a row is there twice: it would find itself, and count as evidence."""
    repeated = profiles.frame.duplicated()
    if repeated.any():
        first = int(np.argmax(repeated.to_numpy()))
        raise DataError(
            f"{profiles.source}: {int(repeated.sum())} rows repeat an earlier one in every column, the first is "
            f"row {first} ({', '.join(map(str, profiles.metadata.iloc[first].tolist()[:4]))}). Remove the copies."
        )


def _refuse_unclear(profiles: Profiles, label: str, different: str, by: Sequence[str]) -> None:
    """Raise where a labelled row has no compound, or rows of several compounds would be merged to one."""
    if not different:
        return
    nameless = (profiles.column(label) != "") & (profiles.column(different) == "")
    if nameless.any():
        raise DataError(
            f"{profiles.source}: {int(nameless.sum())} of {len(profiles)} rows have a value in {label!r} and none in "
            f"{different!r}, first row {int(np.argmax(nameless)) + 1} of those compared. Fill it, or leave them out."
        )
    if not by:
        return
    values = profiles.metadata.groupby(list(by))[different].unique()
    mixed = values[values.map(len) > 1]
    if len(mixed):
        raise DataError(
            f"{profiles.source}: {len(mixed)} of {len(values)} treatments by {list(by)} would merge several values of "
            f"{different!r}, such as {sorted(mixed.iloc[0])[:4]} under {mixed.index[0]!r}. Name {different!r} in --by "
            "too, or whatever else tells them apart (plate, batch)."
        )


def _left_out(whole: Mapping[str, Profiles], common: Mapping[str, Profiles], by: Sequence[str]) -> list[str]:
    """Say how many treatments of each arm the others lack, and which."""
    lost = []
    for name, profiles in whole.items():
        kept = set(_keys(common[name], by))
        gone = [" ".join(key) for key in _keys(profiles, by) if key not in kept]
        if gone:
            named = f"{', '.join(gone[:4])}{', ...' if len(gone) > 4 else ''}"
            lost.append(f"{len(gone)} of {len(profiles)} of {name!r} ({named})")
    n = len(next(iter(common.values())))
    return (
        [f"{n} treatments are in all arms, matched by {list(by)}; left out are {', '.join(lost)}."]
        if lost
        else []
    )


def _spelled(profiles: Profiles, label: str) -> Profiles:
    frame = profiles.frame.copy()
    frame[label] = [normalised(cell) for cell in profiles.column(label)]
    return profiles.replace(frame)


def _processed(
    profiles: Profiles, mask: NDArray[np.bool_] | None, by: Sequence[str], settings: CallSettings
) -> Profiles:
    steps = settings.processing
    if steps is None:
        return _merged(profiles if mask is None else profiles.rows(~mask), by)
    if mask is None:
        steps = replace(steps, sphering=0.0)
    return steps.apply(profiles, mask, by)


def _merged(profiles: Profiles, by: Sequence[str]) -> Profiles:
    from image2reg.tables.aggregate import aggregate

    return aggregate(profiles, by, method="median") if by else profiles


def _keys(profiles: Profiles, by: Sequence[str]) -> list[Any]:
    return list(map(tuple, profiles.metadata[list(by)].to_numpy())) if by else list(range(len(profiles)))


def _tested(
    profiles: Profiles, mask: NDArray[np.bool_] | None, merged: Profiles, by: Sequence[str], settings: CallSettings,
    seed: int,
) -> dict[Any, float]:  # fmt: skip
    """p-value of each treatment of one arm against its controls; nothing without controls."""
    if mask is None:
        return {}
    places = {key: i for i, key in enumerate(_keys(merged, by))}
    treatment = np.full(len(profiles), -1)
    treatment[~mask] = [places[key] for key in _keys(profiles.rows(~mask), by)]
    found = activity_p_values(
        profiles, mask, treatment, processing=settings.processing, alpha=settings.alpha, seed=seed
    )
    return dict(zip(places, found.tolist(), strict=True))


def _activity(
    tested: Mapping[str, dict[Any, float]], plain: Mapping[str, Profiles], by: Sequence[str]
) -> Floats:
    """Smallest p-value over the arms, Bonferroni; not tested where an arm is not, since it may show the effect."""
    found = [
        [tested[name].get(key, np.nan) for key in _keys(profiles, by)] for name, profiles in plain.items()
    ]
    return np.minimum(len(found) * np.min(found, axis=0), 1)


def _refuse_single(
    profiles: Profiles, members: NDArray[np.bool_], names: Sequence[str], compounds: NDArray[np.intp], label: str,
    different: str,
) -> None:  # fmt: skip
    if not members.any():
        raise DataError(
            f"{profiles.source}: no row has a value in {label!r}; at least two mechanisms are needed."
        )
    counts = {name: len(np.unique(compounds[members[:, i]])) for i, name in enumerate(names)}
    if len(counts) < 2 or max(counts.values()) < 2:
        unit = f"value of {different!r}" if different else "row"
        shown = ", ".join(f"{name!r} ({count})" for name, count in list(counts.items())[:6])
        raise DataError(
            f"{profiles.source}: no pair to learn from: {len(counts)} mechanism(s), and none with two compounds beside "
            f"another ({unit} counts as one compound): {shown}. A mechanism is recognised by another compound of it; "
            "add compounds, or check --label and --different."
        )
