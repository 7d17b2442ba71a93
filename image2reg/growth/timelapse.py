"""Time series of images to growth curves and rates: each frame is segmented, kept, and never done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.engine import make_plan, run_plan
from image2reg.engine.plan import SEEN
from image2reg.errors import DataError, ProjectError
from image2reg.growth.rates import growth_rates
from image2reg.growth.series import Frame, list_frames
from image2reg.images.readers import read
from image2reg.nuclei.segmenters.catalogue import load_segmenter, segmenter_sha256
from image2reg.nuclei.segmenters.interface import Measuring
from image2reg.nuclei.segmenters.one_image import one_channel, segment_image
from image2reg.screen.planned_fields import seen_images
from image2reg.tables.cells import write_csv

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.images.image import Image
    from image2reg.nuclei.segmenters.interface import Segmenter

__all__ = ["Growth", "measure_frame", "run_growth"]

_MEASURED_ON = 9


@dataclass(frozen=True)
class Growth:
    """Curves and rates of all series.

    Attributes
    ----------
    frames : DataFrame
        ``series``, ``hours``, ``source``, ``time``, ``n_objects`` (of a segmenter of stained nuclei), ``confluence``
        (share of the field that objects cover), ``flags``.
    rates : DataFrame
        A row per series and measure: ``rate_per_h`` of exponential growth and ``doubling_h``, ``change_per_h`` of a
        straight line, each with ``_low`` and ``_high`` of its 95 % interval; frames used; a note.
    failures : list of (frame, error)
    diameter_px : float or None
        That was measured for all frames, where none is known.
    """

    frames: pd.DataFrame
    rates: pd.DataFrame
    failures: list[tuple[str, str]]
    diameter_px: float | None = None


def run_growth(
    inputs: Sequence[Path],
    out: Path,
    *,
    minutes: float | None = None,
    model: str = "nuclei",
    channel: str | int | None = None,
    diameter_px: float | None = None,
    diameter_um: float | None = None,
    voxel_um: float | None = None,
    device: str = "auto",
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Growth:
    """Measure every frame of every series and fit how fast each grows.

    A call that was stopped goes on where it was.

    Parameters
    ----------
    inputs, minutes, channel
        As `image2reg.growth.series.list_frames`.
    out : Path
        Folder: ``growth.csv``, ``rates.csv``, ``failures.csv`` where frames failed, and what was measured so far.
    model : str
        Segmenter: ``nuclei`` counts stained nuclei, recorded or predicted; ``texture`` sees cells without a stain.
    diameter_px, diameter_um, voxel_um : float, optional
        As `image2reg.nuclei.segmenters.interface.Segmenter`; measured once, on nine frames, where none is known.
    overwrite : bool
        Replace what lies in `out` from other images or settings.

    Raises
    ------
    ConfigurationError, DataError
        As `list_frames`; all frames failed; another job's results lie in `out`.
    """
    root, listed = list_frames(inputs, minutes=minutes, channel=channel)
    segmenter = _segmenter(model, device)
    voxels = None if voxel_um is None else (None, voxel_um, voxel_um)
    settings = {
        "model": segmenter_sha256(model), "channel": channel, "diameter_px": diameter_px, "diameter_um": diameter_um,
        "voxel_um": voxels,
    }  # fmt: skip
    measured = _usual_diameter(segmenter, root, listed, settings)
    sized = {**settings, "diameter_px": measured or diameter_px}
    work = partial(measure_frame, root=root, model=model, device=device, settings=sized)
    units = (_unit(frame, root) for frame in listed)
    plan = make_plan("image2reg growth: frames", units, {**settings, "usual_px": measured})
    outcome = run_plan(plan, work, out, n_workers=workers, overwrite=overwrite, progress=progress)
    failed = outcome.results.failed
    failures = [(failed[n].unit, failed[n].error) for n in sorted(failed)]
    done = [n for n in range(len(listed)) if n not in failed]
    if not done:
        raise DataError(f"{out}: all {len(listed)} frames failed; the first: {failures[0][1]}")
    frames = outcome.results.read("frames", done)
    rates = growth_rates(frames)
    write_csv(frames, out / "growth.csv", overwrite=True)
    write_csv(rates, out / "rates.csv", overwrite=True)
    return Growth(frames, rates, failures, measured)


def _unit(frame: Frame, root: Path) -> dict[str, Any]:
    unit = {
        "name": frame.name, "series": frame.series, "hours": frame.hours, "time": frame.time, "path": frame.path,
        "is_named": frame.is_named,
    }  # fmt: skip
    return {**unit, SEEN: seen_images({"images": {"": {"path": frame.path, "sha256": ""}}}, root)}


@lru_cache(maxsize=1)
def _segmenter(model: str, device: str) -> Segmenter:
    return load_segmenter(model, device=device)


def measure_frame(
    unit: Mapping[str, Any], *, root: Path, model: str, device: str, settings: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """Segment one frame of a plan and say what is in it."""
    import pandas as pd

    segmenter = _segmenter(model, device)
    image = _opened(unit, root, settings)
    size = {k: settings[k] for k in ("diameter_px", "diameter_um")}
    _, facts = segment_image(segmenter, image, **size)
    row = {"series": unit["series"], "hours": unit["hours"], "source": unit["path"], "time": unit["time"]}
    if not getattr(segmenter, "label_free", False):
        row["n_objects"] = facts["n_objects"]
    row |= {"confluence": facts["confluence"], "flags": ";".join(facts.get("flags", ()))}
    return {"frames": pd.DataFrame([row])}


def _usual_diameter(
    segmenter: Segmenter, root: Path, frames: Sequence[Frame], settings: Mapping[str, Any]
) -> float | None:
    """Measure nuclei on a few frames, so that all are seen alike; None where their size is known."""
    if not isinstance(segmenter, Measuring) or settings["diameter_px"] or settings["diameter_um"]:
        return None
    found: list[float] = []
    for n in np.unique(np.linspace(0, len(frames) - 1, _MEASURED_ON).round().astype(int)):
        with suppress(ProjectError):  # told when the frame's turn comes
            image = _opened(_unit(frames[n], root), root, settings)
            if image.voxel_um[-1] is not None:
                return None
            stack = image.to_axes("ZYX").data
            found.append(segmenter.measure_diameter(np.asarray(stack[len(stack) // 2])))
    return round(float(np.nanmedian(found)), 2) if np.isfinite(found).any() else None


def _opened(unit: Mapping[str, Any], root: Path, settings: Mapping[str, Any]) -> Image:
    """Open a frame and choose its channel; a file of one channel that its name tells is taken as it is."""
    image = read(root / unit["path"], voxel_um=settings["voxel_um"])
    image = image.select(time=unit["time"]) if "T" in image.axes else image
    chosen = len(image.channels) == 1 and unit["is_named"]
    return one_channel(image, None if chosen else settings["channel"])
