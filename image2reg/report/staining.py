"""Report of a virtual staining: headline, pictures, scores between their bounds, and what made them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from image2reg.atomic import refuse_existing
from image2reg.report import page as page_module
from image2reg.report.page import Html, Page, definition_list, fill, join
from image2reg.report.panels import GUIDE, field_panels
from image2reg.report.scores import ScoreRow, headline, score_rows, score_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pandas import DataFrame

    from image2reg.report.figures import FieldPanel

__all__ = ["Flag", "choose_fields", "shown_fields", "staining_report"]

_SIDES_PX = (512, 384, 256, 192, 128, 96)  # tried in turn until the page is small enough
_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Flag:
    """Something the reader must know before trusting the numbers."""

    message: str
    severity: Literal["info", "warning", "error"] = "warning"
    where: str = ""


def staining_report(
    path: Path | str,
    *,
    title: str,
    command: str,
    fields: Sequence[FieldPanel],
    scores: DataFrame | Sequence[ScoreRow] = (),
    flags: Iterable[Flag] = (),
    provenance: Mapping[str, Any] | None = None,
    subtitle: str = "",
    n_fields: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page that opens offline: input | predicted | real | error, and what stands behind it.

    Parameters
    ----------
    path : path
        Final name; appears whole or not at all. Pictures are made smaller until the page is below
        `image2reg.report.page.MAX_PAGE_BYTES`.
    title, subtitle, command : str
        `command` is printed as what remakes the page.
    fields : sequence of FieldPanel
        Of more than three, the worst, the median and the best by score are shown, and the page says so.
    scores : DataFrame or rows
        ``channel, metric, value`` and, where known, ``low, high, n, level, floor, ceiling``.
    flags : iterable of Flag
    n_fields : int, optional
        How many fields had a score, where `fields` are only those that `shown_fields` chose among them.
    provenance : mapping
        Shown as name and value; a nested mapping (versions, for instance) gets a column of its own.
    overwrite : bool

    Returns
    -------
    Path

    Raises
    ------
    DataError
        The file exists, a score column is missing, or even the smallest pictures do not fit.
    ResourceError
        The disk refused.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    rows = score_rows(scores)
    shown, how = choose_fields(fields, n_fields)
    page = Page(title, subtitle)
    for max_side in _SIDES_PX:
        page = Page(title, subtitle)
        page.section("In short", *_summary(rows, list(flags)))
        if shown:
            pictures = [field_panels(panel, role=role, max_side=max_side) for role, panel in shown]
            page.section(
                "Input, predicted, real, error",
                fill("<p>{how} {guide}</p>", how=how, guide=GUIDE),
                *pictures,
            )
        if rows:
            page.section("Scores", score_table(rows))
        page.section("How this was made", *_origin(command, provenance or {}))
        if len(page.render().encode("utf-8")) <= page_module.MAX_PAGE_BYTES:
            break
    return page.write(path, overwrite=overwrite)


def shown_fields(scores: Sequence[float]) -> list[int]:
    """Positions of the fields to show among many: the worst, the median and the best of those that have a score."""
    known = [i for i, score in enumerate(scores) if math.isfinite(score)]
    if len(known) <= 3:
        return known or list(range(len(scores)))[:3]
    order = sorted(known, key=scores.__getitem__)
    return [order[0], order[(len(order) - 1) // 2], order[-1]]


def choose_fields(
    fields: Sequence[FieldPanel], n_fields: int | None = None
) -> tuple[list[tuple[str, FieldPanel]], str]:
    """Fields to show with their role, and the sentence that says how they were chosen (from `n_fields` in all)."""
    scored = [f for f in fields if f.score is not None and math.isfinite(f.score)]
    n = n_fields or len(fields)
    if n <= 1:
        return [("", f) for f in fields], "The only field." if n else ""
    if missing := len(fields) - len(scored):
        return (
            [("", f) for f in fields[:3]],
            f"The first {min(n, 3)} of {n} fields in the order given: {missing} of them had no score.",
        )
    ranked = sorted(fields, key=lambda f: f.score)  # type: ignore[arg-type, return-value]
    name = ranked[0].score_name
    if n == 2:
        return [("worst", ranked[0]), ("best", ranked[1])], f"Both fields, by {name}."
    picked = [("worst", ranked[0]), ("median", ranked[(len(ranked) - 1) // 2]), ("best", ranked[-1])]
    return picked, f"The worst, the median and the best of {n} fields by {name}, not a selection by eye."


def _summary(rows: Sequence[ScoreRow], flags: Sequence[Flag]) -> list[Html]:
    parts = []
    if rows:
        metrics = [row.metric for row in rows]
        parts.append(headline(rows, "pearson" if "pearson" in metrics else metrics[0]))
    else:
        parts.append(fill("<p>{text}</p>", text="No scores: there was no real image to compare with."))
    known = sorted(flags, key=lambda f: _SEVERITIES.index(f.severity) if f.severity in _SEVERITIES else 0)
    items = [
        fill(
            '<li class="{css}"><b>{severity}</b>{where}{message}</li>',
            css=flag.severity if flag.severity in _SEVERITIES else "error",
            severity=str(flag.severity).capitalize(),
            where=fill("{where}: ", where=flag.where) if flag.where else Html(""),
            message=flag.message,
        )
        for flag in known
    ]
    if items:
        parts.append(fill('<ul class="flags">{items}</ul>', items=join(items)))
    else:
        parts.append(fill('<p class="note">{text}</p>', text="No flags were raised."))
    return parts


def _origin(command: str, provenance: Mapping[str, Any]) -> list[Html]:
    parts = [fill("<p>{text}</p><pre><code>{command}</code></pre>", text="Remake it with", command=command)]
    plain = {name: value for name, value in provenance.items() if not isinstance(value, Mapping)}
    groups = {name: value for name, value in provenance.items() if isinstance(value, Mapping)}
    columns = [
        fill("<div><h3>{heading}</h3>{items}</div>", heading=heading, items=definition_list(items))
        for heading, items in {"Provenance": plain, **groups}.items()
        if items
    ]
    if columns:
        parts.append(fill('<div class="columns">{columns}</div>', columns=join(columns)))
    return parts
