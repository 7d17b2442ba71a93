"""The page of growth over time: rates in a table, and each series with the lines that were fitted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from image2reg.growth.rates import MEASURES, in_words
from image2reg.report.page import Html, Page, fill, join
from image2reg.report.plots import Axes, dots, round_step
from image2reg.report.tables import frame_table

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.growth.timelapse import Growth

__all__ = ["growth_report"]

_WORDS = {"n_objects": "objects", "confluence": "confluence"}
_LINE, _DOT = "#0b6e8a", "#6b7780"
_MAX_SERIES, _MAX_ROWS, _TICKS = 24, 200, 5
_IN_FILE_ONLY = ("rate_per_h", "rate_per_h_low", "rate_per_h_high", "exponential_at_0", "line_at_0")


def growth_report(path: Path | str, found: Growth, *, command: str) -> Path:
    """Write one HTML page that opens offline, over an earlier one.

    Parameters
    ----------
    path : Path
    found : Growth
    command : str
        Printed as what remakes the page.
    """
    frames, rates = found.frames, found.rates
    names = rates["series"].drop_duplicates().tolist()
    page = Page("Growth", f"{len(frames)} frames, {len(names)} series, up to {frames['hours'].max():g} h")
    shown = rates.head(_MAX_ROWS)[[name for name in rates if name not in _IN_FILE_ONLY]]
    caption = f"The first {len(shown)} of {len(rates)} rows, with 95 % intervals; all are in rates.csv."
    about = (
        "doubling_h: hours in which exponential growth doubles; change_per_h: slope of a straight line. Neighbouring "
        "frames resemble each other: intervals are those of as many independent frames as the series is worth."
    )
    page.section("Rates", fill('<p class="note">{t}</p>', t=about), frame_table(shown, caption))
    for measure in (name for name in MEASURES if name in frames):
        plots = [
            _plot(frames[frames["series"] == name], measure, rates, name) for name in names[:_MAX_SERIES]
        ]
        more = len(names) - len(plots)
        left = fill('<p class="note">{n} more series are in growth.csv.</p>', n=more) if more else Html("")
        page.section(_WORDS[measure].capitalize(), fill('<div class="plots">{p}</div>', p=join(plots)), left)
    page.section("How this was made", fill("<pre>{command}</pre>", command=command))
    return page.write(path, overwrite=True)


def _plot(own: pd.DataFrame, measure: str, rates: pd.DataFrame, series: str) -> Html:
    """Draw a series and the exponential that was fitted to it, where one was; else the line."""
    own = own.sort_values("hours")
    hours, values = own["hours"].to_numpy(np.float64), own[measure].to_numpy(np.float64)
    (row,) = rates[(rates["series"] == series) & (rates["measure"] == measure)].to_dict("records")
    top = max(float(np.nanmax(values)), 1e-9)
    axes = Axes((0.0, float(hours.max()) or 1.0), (0.0, top))
    grid = np.linspace(*axes.x, 60)
    grows = math.isfinite(row["doubling_h"])
    fitted = (
        row["exponential_at_0"] * np.exp(row["rate_per_h"] * grid)
        if grows
        else row["line_at_0"] + row["change_per_h"] * grid
    )
    seen = (fitted >= 0) & (fitted <= top * 1.05)
    points = " ".join(f"{axes.px(x)},{axes.py(y)}" for x, y in zip(grid[seen], fitted[seen], strict=True))
    line = fill('<polyline points="{p}" fill="none" stroke="{c}" stroke-width="2"/>', p=points, c=_LINE)
    step = round_step(axes.x[1] / _TICKS)
    ticks = {float(v): f"{v:g}" for v in np.arange(0, axes.x[1] * 1.001, step)}
    marks = join([line, dots(axes, hours.tolist(), values.tolist(), _DOT)])
    return axes.draw(f"{series}: {in_words(row)}", ticks, "hours", marks)
