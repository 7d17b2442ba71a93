"""How large nuclei usually are in a screen: measured once, on control fields, so that every field is seen alike."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.atomic import atomic_file
from image2reg.errors import ProjectError
from image2reg.nuclei.segmenters.interface import Measuring
from image2reg.nuclei.size import typical_diameter
from image2reg.screen.fields import field_labels, field_segmenter, read_unit
from image2reg.screen.queries import select_rows

if TYPE_CHECKING:
    from image2reg.screen.planned_fields import PlannedFields

__all__ = ["USUAL", "measured_on_others", "usual_diameter"]

USUAL = "usual_diameter.json"
_FIELDS = 9


def usual_diameter(
    fields: PlannedFields,
    out: Path,
    settings: Mapping[str, Any],
    control: str,
    *,
    device: str = "cpu",
) -> float | None:
    """Measure the diameter of nuclei on a few fields of control wells, or read what an earlier call measured.

    Call it within `image2reg.engine.planning`: shards of a cluster start together.

    Parameters
    ----------
    fields : PlannedFields
    out : Path
        Folder of the screen, where the result is kept.
    settings : mapping
        As for `image2reg.screen.fields.measure_field`, JSON values.
    control : str
        Query for the negative control wells.
    device : str

    Returns
    -------
    float or None
        Median over the fields, pixels. None where a diameter is given, images know their pixel size, the segmenter
        measures no nuclei, or none were found.

    Raises
    ------
    ResourceError
        `out` cannot be written.
    """
    if settings["diameter_px"] is not None or settings["diameter_um"] is not None:
        return None
    path, asked = out / USUAL, json.loads(json.dumps(settings))
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["settings"] == asked:
            known: float | None = kept["diameter_px"]
            return known
    controls = np.flatnonzero(select_rows(fields.metadata, control))
    chosen = controls[np.unique(np.linspace(0, len(controls) - 1, _FIELDS).round().astype(int))]
    found = _measured([fields.unit(i) for i in chosen], fields.root, settings, device)
    record = {"diameter_px": found, "fields": fields.names[chosen].tolist(), "settings": asked}
    with atomic_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return found


def measured_on_others(fields: PlannedFields, out: Path, control: str) -> str:
    """Say it where the diameter that an earlier call measured is of fields that are no negative controls now; else "".

    It is kept all the same: with another one every field would be measured again, and fields whose nuclei differ much
    from it are measured by themselves.
    """
    kept: list[str] = []
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads((out / USUAL).read_text(encoding="utf-8"))["fields"]
    samples = set(fields.names[~select_rows(fields.metadata, control)])
    others = [name for name in kept if name in samples]
    if not others:
        return ""
    return (
        f"the usual diameter of nuclei was measured on {len(kept)} control fields ({USUAL}); {len(others)} of them, "
        f"such as {others[0]}, not of negative controls now. It is kept, as the fields were measured with it: where "
        "nuclei there are of another size, choose another --out"
    )


def _measured(
    units: list[dict[str, Any]], root: Path, settings: Mapping[str, Any], device: str
) -> float | None:
    if not isinstance(field_segmenter(settings, device), Measuring):
        return None
    diameters = []
    for unit in units:
        try:
            image = read_unit(unit, root)
        except ProjectError:
            continue  # it is listed among the failures when its turn comes
        if None not in image.voxel_um[1:]:
            return None
        diameters.append(typical_diameter(field_labels(image, settings, device)))
    known = [diameter for diameter in diameters if np.isfinite(diameter)]
    return round(float(np.median(known)), 2) if known else None
