"""Plates whose stain was predicted: known by the name of the plate they were predicted from, and told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ProjectError
from image2reg.images.image import PREDICTED_FROM
from image2reg.screen.planned_fields import plate_names
from image2reg.screen.plates import CONTROL, NEGATIVE, PLATE, WELL, n_mixed_groups
from image2reg.tables.listing import stem
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    import pandas as pd

    from image2reg.engine.results import Results
    from image2reg.screen.planned_fields import PlannedFields
    from image2reg.tables.manifest import Manifest

__all__ = [
    "FIELD_PREDICTED_BY",
    "ORIGIN",
    "PREDICTED_BY",
    "note_origins",
    "predictor",
    "with_origin",
    "with_source_names",
]

ORIGIN, PREDICTED_BY = "Metadata_Origin", "Metadata_PredictedBy"
FIELD_PREDICTED_BY = "Field_PredictedBy"  # as it is measured: what the data say of a field stands before it


def with_source_names(manifest: Manifest, known: Collection[str]) -> tuple[Manifest, pd.Series]:
    """Call the plates of a folder that were predicted by what they were predicted from.

    The name of a plate is that of its folder or OME-Zarr, and a prediction is written into another one: a layout of the
    plate would not fit it any more. The first readable image of each such plate and channel is opened.

    Parameters
    ----------
    manifest : Manifest
        Of a folder.
    known : collection of str
        Plates of the layout, of which none is renamed.

    Returns
    -------
    Manifest
        A renamed plate is noted; so is one that keeps its name because another plate here has that of its source.
    Series
        Of each row, the plate as the layout calls it: that of the source for those, too.
    """
    own = plate_names(manifest)
    sources: dict[str, str] = {}
    for (plate, _), paths in manifest.frame["path"].groupby([own, manifest.frame["channel"]], sort=False):
        if plate not in (*known, *sources) and plate == _holder(manifest.root, paths.iloc[0]):
            said = (_predicted_from(manifest.root / path) for path in paths)
            source = next((name for name in said if name is not None), "")
            if source not in ("", plate):
                sources[plate] = source
    if not sources:
        return manifest, own
    names = [sources.get(plate, plate) for plate in own.unique()]
    renamed = {plate: source for plate, source in sources.items() if names.count(source) == 1}
    notes = [
        f"plate {plate!r} was predicted from plate {source!r} and "
        + (
            "is called so here"
            if plate in renamed
            else "keeps its own name, as another plate here has that one; a layout's rows of it are taken"
        )
        for plate, source in sources.items()
    ]
    frame = manifest.frame.assign(**{PLATE: own.replace(renamed)})
    return manifest.replace(frame, notes=notes), own.replace(sources)


def _holder(root: Path, path: str) -> str:
    """Name of the OME-Zarr plate or the folder that an image lies in, as a plate is called after it."""
    folders = [root.resolve().name, *path.split("/")[:-1]]
    return stem(next((name for name in folders if name.lower().endswith(".zarr")), folders[-1]))


def _predicted_from(path: Path) -> str | None:
    """Say what an image was predicted from, "" for nothing; None where it cannot be read."""
    from image2reg.images import read

    try:
        return read(path).annotations.get(PREDICTED_FROM, "")
    except ProjectError:
        return None


def predictor(predicted: Mapping[str, str], channels: Iterable[str]) -> str:
    """Say which model predicted the channels of an image; "" for none.

    Parameters
    ----------
    predicted : mapping of channel to model
    channels : iterable of str
        All that the image has.

    Examples
    --------
    >>> predictor({"DNA": "m 1.0"}, ["DNA"]), predictor({"DNA": "m 1.0"}, ["DNA", "GFP"])
    ('m 1.0', 'DNA: m 1.0')
    """
    models = set(predicted.values())
    if len(models) == 1 and predicted.keys() >= set(channels):
        return models.pop()
    return "; ".join(f"{channel}: {model}" for channel, model in predicted.items())


def with_origin(planned: PlannedFields, results: Results) -> PlannedFields:
    """Say of measured fields whether their stain was predicted, and by what; nothing where none was.

    Returns
    -------
    PlannedFields
        With ``Metadata_Origin`` (predicted or real) and ``Metadata_PredictedBy``, unless the data say these; neither is
        known of a field that failed.
    """
    every = range(len(planned))
    left = results.missing(every)
    measured = results.read("fields", every) if len(left) < len(planned) else {}
    if FIELD_PREDICTED_BY not in measured or not (models := measured[FIELD_PREDICTED_BY].fillna("")).any():
        return planned
    done = np.setdiff1d(every, left)
    by, origin = np.full(len(planned), "", object), np.full(len(planned), "", object)
    by[done], origin[done] = models, np.where(models != "", "predicted", "real")
    metadata = planned.metadata
    found = {ORIGIN: origin, PREDICTED_BY: by}
    for name in (name for name in found if name in metadata):
        found[name] = np.where(metadata[name] != "", metadata[name], found[name])
    return replace(planned, metadata=metadata.assign(**found))


def note_origins(rows: pd.DataFrame, wells: pd.DataFrame) -> list[str]:
    """Say which plates were predicted, and where predicted and recorded wells are judged as replicates.

    Parameters
    ----------
    rows : DataFrame
        Fields, nuclei or wells, which `wells` were made of.
    wells : DataFrame
        With ``Metadata_Group`` (`image2reg.screen.hits.called_wells`).
    """
    if PREDICTED_BY not in rows or not rows[PREDICTED_BY].ne("").any():
        return []
    notes, n_plates = [], rows[PLATE].nunique()
    for model, plates in rows[rows[PREDICTED_BY].ne("")].groupby(PREDICTED_BY, sort=False)[PLATE]:
        named = [str(plate) for plate in plates.unique()]
        notes.append(
            f"stain predicted ({model}) on {counted(len(named), 'plate')} of {n_plates}: {', '.join(named[:5])} "
            f"({ORIGIN}, {PREDICTED_BY})"
        )
    of_wells = rows.groupby([PLATE, WELL], sort=False)[PREDICTED_BY].nunique()
    if (mixed := of_wells[of_wells > 1]).size:
        notes.append(
            f"{counted(len(mixed), 'well')} with fields of both kinds, predicted and not, such as "
            f"{'/'.join(mixed.index[0])}, taken together"
        )
    if {ORIGIN, PREDICTED_BY} <= set(wells):
        samples = wells[wells[CONTROL].ne(NEGATIVE) & wells[ORIGIN].ne("")]
        if several := n_mixed_groups(samples, PREDICTED_BY):
            notes.append(
                f"wells of {counted(several, 'perturbation')} lie on plates of both kinds, predicted and "
                f"not, each compared with the controls of its plate, and are judged as replicates; --group {ORIGIN} "
                "besides, with this screen's wells.csv as --data, tells them apart"
            )
    return notes
