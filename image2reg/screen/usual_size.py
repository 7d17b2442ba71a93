"""How large nuclei usually are in a screen: measured once, on control fields, so that every field is seen alike."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from image2reg.atomic import atomic_file
from image2reg.errors import ProjectError
from image2reg.locking import run_lock
from image2reg.nuclei.segmenters.interface import Measuring
from image2reg.nuclei.size import typical_diameter
from image2reg.screen.fields import field_labels, field_segmenter, read_unit
from image2reg.screen.queries import select_rows

__all__ = ["USUAL", "usual_diameter"]

USUAL = "usual_diameter.json"
_FIELDS = 9
# Shards of a cluster start together; the first measures and the others read what it wrote.
_WAIT_S = 600.0


def usual_diameter(
    units: Sequence[Mapping[str, Any]],
    root: Path,
    out: Path,
    settings: Mapping[str, Any],
    control: str,
    *,
    device: str = "cpu",
) -> float | None:
    """Measure the diameter of nuclei on a few fields of control wells, or read what an earlier call measured.

    Parameters
    ----------
    units : sequence of mapping
        Fields of the screen, from `image2reg.screen.fields.field_unit`.
    root, out : Path
        Of the images; folder of the screen, where the result is kept.
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
    import pandas as pd

    if settings["diameter_px"] is not None or settings["diameter_um"] is not None:
        return None
    path, asked = out / USUAL, json.loads(json.dumps(settings))
    with run_lock(out, wait_s=_WAIT_S):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["settings"] == asked:
                found: float | None = kept["diameter_px"]
                return found
        frame = pd.DataFrame([unit["metadata"] for unit in units]).fillna("")
        controls = np.flatnonzero(select_rows(frame, control))
        chosen = controls[np.unique(np.linspace(0, len(controls) - 1, _FIELDS).round().astype(int))]
        found = _measured([units[i] for i in chosen], root, settings, device)
        record = {"diameter_px": found, "fields": [units[i]["name"] for i in chosen], "settings": asked}
        with atomic_file(path, overwrite=True) as partial:
            partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return found


def _measured(
    units: Sequence[Mapping[str, Any]], root: Path, settings: Mapping[str, Any], device: str
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
