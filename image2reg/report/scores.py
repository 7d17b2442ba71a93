"""Scores of the report: headline cards, and a table that draws each value between its floor and ceiling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from image2reg.errors import DataError
from image2reg.report.page import Html, fill, join
from image2reg.wording import counted_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame

__all__ = ["METRIC_NAMES", "ScoreRow", "headline", "score_rows", "score_table"]

# name in tables: (name on the page, digits, one line for the reader)
METRIC_NAMES: dict[str, tuple[str, int, str]] = {
    "pearson": ("Pearson r", 3, "Correlation over pixels. Blind to a wrong scale or offset."),
    "spectral_pearson": (
        "Spectral Pearson r",
        3,
        "Correlation per spatial frequency, averaged: rewards detail.",
    ),
    "ssim": ("SSIM", 3, "Local similarity of structure, contrast and level, over the stain's fixed range."),
    "psnr": ("PSNR (dB)", 1, "Squared error against the stain's fixed range; sees a wrong scale."),
    "nrmse": ("NRMSE", 3, "Root mean squared error over the stain's fixed range; lower is better."),
}


@dataclass(frozen=True)
class ScoreRow:
    """One score of one channel.

    Attributes
    ----------
    channel, metric : str
        Metrics of `METRIC_NAMES` get their full name; others are shown as they are.
    value, low, high : float
        The score and its interval; NaN ends mean that there is none.
    n : int
        Number of units of `level`.
    level : str
        What was resampled: "field", "well", "block" …; never pixels.
    floor, ceiling : float
        What needs no model, and what noise allows; NaN where unknown.
    floor_name, ceiling_name : str
        What they are, in words.
    """

    channel: str
    metric: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    level: str = "field"
    floor: float = math.nan
    ceiling: float = math.nan
    floor_name: str = ""
    ceiling_name: str = ""

    @property
    def title(self) -> str:
        """Metric's name for people."""
        return METRIC_NAMES.get(self.metric, (self.metric, 3, ""))[0]

    def number(self, value: float) -> str:
        """Value with the metric's digits; a dash where there is none."""
        if not math.isfinite(value):
            return "\N{EN DASH}"
        return f"{value:.{METRIC_NAMES.get(self.metric, ('', 3, ''))[1]}f}".replace("-", "\N{MINUS SIGN}")


def score_rows(scores: DataFrame | Sequence[ScoreRow]) -> list[ScoreRow]:
    """Rows from a list or from a table with at least ``channel, metric, value``; other columns are optional.

    Raises
    ------
    DataError
        A column is missing.
    """
    if isinstance(scores, list | tuple):
        return list(scores)
    table: Any = scores
    missing = [name for name in ("channel", "metric", "value") if name not in table.columns]
    if missing:
        raise DataError(
            f"report: the score table has no column {missing[0]!r}; found {list(table.columns)}. "
            "Pass the table that the evaluation returns."
        )
    known = [name for name in ScoreRow.__dataclass_fields__ if name in table.columns]
    return [
        ScoreRow(**{name: _converted(name, record[name]) for name in known})
        for record in table.to_dict("records")
    ]


def _converted(name: str, value: Any) -> Any:
    if name in {"value", "low", "high", "floor", "ceiling"}:
        return math.nan if value is None else float(value)
    return int(value) if name == "n" else str(value)


def headline(rows: Sequence[ScoreRow], metric: str) -> Html:
    """Cards of one metric, a card per channel."""
    cards = []
    for row in rows:
        if row.metric != metric:
            continue
        span = row.ceiling - row.floor
        closed = (row.value - row.floor) / span if math.isfinite(span) and span > 0 else math.nan
        cards.append(
            fill(
                '<div class="card"><h3>{channel}</h3><div class="what">{title}</div>'
                '<div class="value">{value}<span class="interval">{interval}</span></div>'
                "<p>{bounds}</p><p>{way}</p></div>",
                channel=row.channel,
                title=row.title,
                value=row.number(row.value),
                interval=_interval(row),
                bounds=f"floor {row.number(row.floor)} · ceiling {row.number(row.ceiling)}",
                way=(f"{100 * closed:.0f} % of the way · " if math.isfinite(closed) else "") + _units(row),
            )
        )
    return fill('<div class="cards">{cards}</div>', cards=join(cards))


def _interval(row: ScoreRow) -> str:
    known = math.isfinite(row.low) and math.isfinite(row.high)
    return f"{row.number(row.low)} to {row.number(row.high)}" if known else "no interval"


def _units(row: ScoreRow) -> str:
    return counted_level(row.n, row.level) if row.n else "n not given"


def score_table(rows: Sequence[ScoreRow]) -> Html:
    """Table of all scores with a drawing of each between floor and ceiling, and what the metrics mean."""
    body = [
        fill(
            '<tr><th scope="row">{channel}</th><td>{title}</td><td class="number">{value}</td>'
            '<td class="number">{interval}</td><td>{units}</td><td class="number">{floor}</td>'
            '<td class="number">{ceiling}</td><td>{drawing}</td></tr>',
            channel=row.channel,
            title=row.title,
            value=row.number(row.value),
            interval=_interval(row),
            units=_units(row),
            floor=_bound(row, row.floor, row.floor_name),
            ceiling=_bound(row, row.ceiling, row.ceiling_name),
            drawing=_drawing(row),
        )
        for row in rows
    ]
    explained = {row.title: METRIC_NAMES[row.metric][2] for row in rows if row.metric in METRIC_NAMES}
    notes = [
        fill('<p class="note"><b>{name}.</b> {text}</p>', name=name, text=text)
        for name, text in explained.items()
    ]
    return fill(
        '<div class="tablebox"><table><caption>{caption}</caption><thead><tr><th scope="col">Channel</th>'
        '<th scope="col">Score</th><th scope="col" class="number">Value</th>'
        '<th scope="col" class="number">95 % interval</th><th scope="col">Resampled</th>'
        '<th scope="col" class="number">Floor</th><th scope="col" class="number">Ceiling</th>'
        '<th scope="col">Between them</th></tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="note">{key} bar: interval; dot: value; grey line: from floor (open end) to ceiling. '
        "The floor needs no model; the ceiling is what the noise of the real image allows.</p>"
        "{notes}",
        caption="Intervals come from resampling the units named, never pixels.",
        body=join(body),
        key=_drawing(ScoreRow("", "", 0.6, 0.5, 0.7, floor=0.2, ceiling=0.95), label="key:"),
        notes=join(notes),
    )


def _bound(row: ScoreRow, value: float, name: str) -> Html:
    text = row.number(value)
    return (
        fill('<span title="{name}">{text}</span>', name=name, text=text)
        if name
        else fill("{text}", text=text)
    )


def _drawing(row: ScoreRow, label: str = "") -> Html:
    """Inline picture of floor, interval, value and ceiling on one line; empty when there is too little."""
    if not math.isfinite(row.value):
        return Html("")
    known = [v for v in (row.value, row.low, row.high, row.floor, row.ceiling) if math.isfinite(v)]
    bounded = row.metric in {"pearson", "spectral_pearson", "ssim"} or row.metric.startswith("nuclei_")
    low, high = (min(0.0, *known), 1.0) if bounded else (min(known), max(known))
    if high <= low:
        return Html("")

    def x(value: float) -> str:
        return f"{6 + 178 * (value - low) / (high - low):.1f}"

    first, last = (x(v) if math.isfinite(v) else x(e) for v, e in ((row.floor, low), (row.ceiling, high)))
    marks = [f'<line x1="{first}" y1="9" x2="{last}" y2="9" stroke="#aab4ba" stroke-width="1.5"/>']
    if math.isfinite(row.floor):
        marks.append(f'<circle cx="{first}" cy="9" r="3" fill="#fff" stroke="#7d8990" stroke-width="1.5"/>')
    if math.isfinite(row.ceiling):
        marks.append(f'<line x1="{last}" y1="3" x2="{last}" y2="15" stroke="#7d8990" stroke-width="1.5"/>')
    if math.isfinite(row.low) and math.isfinite(row.high):
        width = f"{max(178 * (row.high - row.low) / (high - low), 1):.1f}"
        marks.append(f'<rect x="{x(row.low)}" y="6" width="{width}" height="6" fill="#8fc3d1"/>')
    marks.append(f'<circle cx="{x(row.value)}" cy="9" r="4" fill="#0b6e8a"/>')
    spoken = label or (
        f"{row.title} {row.number(row.value)}, interval {_interval(row)}, "
        f"floor {row.number(row.floor)}, ceiling {row.number(row.ceiling)}"
    )
    return fill(
        '<svg viewBox="0 0 190 18" role="img" aria-label="{spoken}">{marks}</svg>',
        spoken=spoken,
        marks=Html("".join(marks)),
    )
