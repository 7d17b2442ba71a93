"""Pages about mechanisms: one for the table, one per compound."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.report.curves import abstention_drawing, reliability_drawing
from image2reg.report.figures import Cut, contrast_limits, draw_grey
from image2reg.report.page import Html, Page, definition_list, embedded_png, fill, join

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.nuclei.crops import Crops
    from image2reg.retrieval.calling import Retrieval

__all__ = ["compound_page", "overview_page", "page_name", "write_pages"]

_CROPS_SHOWN = 6
_CROP_PX = 96
_ROWS_SHOWN = 8
_OF_A_ROW = ("Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Object")


def write_pages(
    found: Retrieval, folder: Path, *, title: str, command: str, crops: Crops | None = None
) -> list[Path]:
    """Write ``index.html`` and a page per compound into an existing folder.

    Parameters
    ----------
    found : Retrieval
    folder : Path
        With a column of compounds a page is about a compound, without one about a row.
    title, command : str
        What was compared, and how to remake it.
    crops : Crops, optional
        With the column of compounds; a few nuclei of the query and of its nearest compounds are shown.

    Returns
    -------
    list of Path
        The overview first.
    """
    names = (
        found.calls[found.compound].to_numpy() if found.compound else found.calls.index.astype(str).to_numpy()
    )
    groups = {name: np.flatnonzero(names == name).tolist() for name in dict.fromkeys(names)}
    pages = {name: page_name(i, str(name)) for i, name in enumerate(groups)}
    written = [overview_page(found, groups, pages, title=title, command=command).write(folder / "index.html")]
    for name, rows in groups.items():
        page = compound_page(found, str(name), rows, crops=crops)
        written.append(page.write(folder / "compounds" / pages[name]))
    return written


def page_name(number: int, compound: str) -> str:
    """File name of a compound's page: its number, and what of its name is safe in a path."""
    return f"{number:04d}-{re.sub(r'[^A-Za-z0-9]+', '-', compound).strip('-')[:40] or 'compound'}.html"


def overview_page(
    found: Retrieval, groups: dict[Any, Any], pages: dict[Any, str], *, title: str, command: str
) -> Page:
    """Scores over held-out compounds, reliability, abstention, and every compound with its call."""
    s, unit = found.summary, _unit(found)
    of = f" of {len(groups)} compounds" if found.compound else ""
    page = Page(title, f"{len(found.calls)} profiles{of}, {s['n_mechanisms']} mechanisms")
    page.section(f"Held-out {unit}s", *_scores(found))
    page.section(
        "Are the probabilities true?",
        fill("<p>{text}</p>", text=_calibration_text(s)),
        reliability_drawing(s["reliability"]),
        abstention_drawing(s["abstention"], coverage=s["coverage"]),
    )
    rows = []
    for name, places in groups.items():
        calls = found.calls.iloc[places]
        best = places[_first(calls)]
        call = found.calls.iloc[best]
        rows.append(
            [
                fill('<a href="compounds/{page}">{name}</a>', page=pages[name], name=name),
                call["known"] or "\N{EN DASH}",
                _row_title(found, best),
                call["mechanism"] if call["called"] else "no call",
                _number(call["probability"]),
                _p(call["p_value"]),
                f"{int(calls['called'].sum())} of {len(places)}",
                call["reason"],
            ]
        )
    page.section(
        f"{unit.capitalize()}s",
        fill(
            "<p>{text}</p>",
            text=f"The most confident call of each {unit}, where there is none the best guess; its page "
            "has all of its treatments.",
        ),
        _table(
            [unit, "in the table", "treatment", "call", "probability", "p", "called", "why no call"], rows
        ),
    )
    notes = [fill("<li>{note}</li>", note=note) for note in found.notes]
    page.section(
        "How this was made",
        fill("<pre><code>{command}</code></pre>", command=command),
        definition_list(_rule(found)),
        fill('<ul class="flags">{notes}</ul>', notes=join(notes)) if notes else Html(""),
    )
    return page


def compound_page(found: Retrieval, name: str, rows: Sequence[int], *, crops: Crops | None = None) -> Page:
    """Ranked mechanisms, evidence compounds, nuclei, and the features that moved, for the doses of one compound."""
    calls = found.calls.iloc[list(rows)]
    first = _first(calls)
    rest = [i for i in np.argsort(-calls["probability"].to_numpy(), kind="stable") if i != first]
    order = [first, *rest][:_ROWS_SHOWN]
    best = calls.iloc[first]
    page = Page(name, _verdict(best))
    if best["known"]:
        page.section(
            "In the table",
            fill(
                "<p>{text}</p>",
                text=f"{best['known']} (not used for this call: the {_unit(found)} was held out)",
            ),
        )
    for place in order:
        row = int(rows[int(place)])
        verdict = fill("<p>{text}</p>", text=_verdict(found.calls.iloc[row]))
        page.section(_row_title(found, row), verdict, *_row_parts(found, row))
    if crops is not None and found.compound:
        page.section("Nuclei", *_nuclei(found, name, int(rows[int(order[0])]), crops))
    page.section("The rule", definition_list(_rule(found)))
    return page


def _verdict(call: pd.Series) -> str:
    """Say whether a treatment was called, why not, and how it differs from the controls where that was tested."""
    guess = f"{call['mechanism']}, probability {call['probability']:.2f}"
    said = (
        f"Call: {guess}, p {_p(call['p_value'])}"
        if call["called"]
        else f"No call ({call['reason']}); nearest guess {guess}"
    )
    tested = math.isfinite(call["activity_p"])
    return said + (f"; p of no difference from the controls {_p(call['activity_p'])}" if tested else "")


def _first(calls: pd.DataFrame) -> int:
    """Position of the most confident call, or of the most confident guess where nothing was called."""
    return int((calls["probability"] + calls["called"]).to_numpy(float).argmax())


def _row_title(found: Retrieval, row: int) -> str:
    """Say which treatment of its compound a row is: by the columns that make one, or where it was measured."""
    call = found.calls.iloc[row]
    shown = [name for name in found.by or _OF_A_ROW if name != found.compound and name in found.calls]
    said = ", ".join(f"{name.removeprefix('Metadata_')} {call[name]}" for name in shown if call[name])
    return said or ("all rows" if found.by else f"row {row + 1}")


def _row_parts(found: Retrieval, row: int) -> list[Html]:
    ranking = found.ranking[found.ranking["row"] == row]
    evidence = found.evidence[found.evidence["row"] == row]
    moved = found.moved[found.moved["row"] == row]
    ranked = [
        [r.mechanism, _number(r.probability), _p(r.p_value), r.n_compounds] for r in ranking.itertuples()
    ]
    near = [[r.compound, r.mechanism, _number(r.similarity)] for r in evidence.itertuples()]
    most = [[r.feature, f"{r.z:+.1f}"] for r in moved.itertuples()]
    return [
        fill(
            '<div class="columns"><div><h3>Mechanisms</h3>{ranked}</div>'
            "<div><h3>Nearest {unit}s</h3>{near}</div></div>",
            ranked=_table(["mechanism", "probability", "p", f"other {_unit(found)}s"], ranked),
            near=_table([_unit(found), "mechanism", "similarity"], near),
            unit=_unit(found),
        ),
        fill(
            "<h3>Features that moved most</h3>{most}",
            most=_table(["feature", "z against controls (all rows where there are none)"], most),
        ),
    ]


def _nuclei(found: Retrieval, name: str, row: int, crops: Crops) -> list[Html]:
    near = found.evidence[found.evidence["row"] == row]["compound"].tolist()
    column = crops.column(found.compound)
    parts = []
    for who in [name, *near[:3]]:
        places = np.flatnonzero(column == who)
        if not len(places):
            parts.append(fill('<p class="note">No nuclei of {who} among the crops.</p>', who=who))
            continue
        chosen = places[np.linspace(0, len(places) - 1, min(_CROPS_SHOWN, len(places))).astype(int)]
        images = [np.asarray(crops.images[int(i) : int(i) + 1])[0, 0] for i in chosen]
        cut = Cut(None, 1, None)
        # One contrast per compound's strip, stated, so that nuclei of one strip can be compared.
        limits = contrast_limits(
            np.concatenate(images, axis=1), cut, percentiles=(0.5, 99.8), of=f"{who}'s nuclei"
        )
        pictures = [
            embedded_png(
                draw_grey(image, cut, limits, max_side=_CROP_PX, z_stretch=1.0).plane,
                f"nucleus {i} of {who}",
            )
            for i, image in zip(chosen, images, strict=True)
        ]
        parts.append(
            fill(
                "<h3>{who}<small>{n} nuclei, {channel}, contrast {origin}</small></h3><p>{pictures}</p>",
                who=who, n=len(places), channel=crops.channels[0], origin=limits.origin, pictures=join(pictures),
            )
        )  # fmt: skip
    return parts


def _scores(found: Retrieval) -> list[Html]:
    s = found.summary
    rows = [
        [
            "most probable mechanism right",
            _interval(s["accuracy"]),
            f"always the most frequent: {s['majority']:.3f}",
        ],
        [f"nearest neighbour right (not same {_unit(found)})", _interval(s["nearest"]), ""],
        ["share of profiles called", f"{s['coverage']:.3f}", ""],
        ["right among the called", _interval(s["accuracy_called"]), ""],
    ]
    if s["n_tested"]:
        untested = len(found.calls) - s["n_tested"]
        share = f"{s['n_inactive']} of {s['n_tested']}" + (f" ({untested} not tested)" if untested else "")
        rows.append(["profiles, with and without a label, that do not differ from the controls", share, ""])
    m = s["map"]
    chance = (
        f"labels permuted: {m['null_mean']:.3f}, 95th percentile {m['null_high']:.3f}, p = {m['p_value']:.3g}"
    )
    rows.append(["mean average precision", f"{m['value']:.3f}", chance])
    text = f"{s['n_possible']} of {s['n_queries']} labelled profiles "
    text += (
        f"({s['n_compounds']} compounds) have another compound of their mechanism; each was called without its own "
        "compound. Intervals resample compounds."
        if found.compound
        else "have another profile of their mechanism. No column of compounds was named: each was called from all "
        "other profiles, those of its own compound included, and a new compound is recognised less often than this."
    )
    return [fill("<p>{text}</p>", text=text), _table(["score", "value (95 %)", "chance"], rows)]


def _calibration_text(s: dict[str, Any]) -> str:
    return (
        f"Expected calibration error {s['ece']:.3f}. With {s['n_possible']} calls, perfectly calibrated probabilities "
        f"would show {s['ece_floor']:.3f} on average (95th percentile {s['ece_floor_95']:.3f}, by simulation)."
    )


def _unit(found: Retrieval) -> str:
    """Name what is held out and called from the others."""
    return "compound" if found.compound else "row"


def _rule(found: Retrieval) -> dict[str, Any]:
    s, unit = found.settings, _unit(found)
    return {
        "a call needs": "a treatment that differs from the controls, probability of at least "
        f"{s.threshold:g}, p at most {s.alpha:g}, no sign of novelty, and a table whose labels beat permuted ones "
        f"(p at most {s.alpha:g})",
        "differs from the controls": f"p at most {s.alpha:g}: the treatment's wells lie farther from the controls, "
        "in one direction, than control wells laid out alike; not tested without controls",
        "p-value": f"average precision of the mechanism's {unit}s in the ranking of all other {unit}s, against "
        f"{s.n_null:,} random rankings",
        "novelty": f"less similar to its nearest {unit} than {s.novelty:.0%} of known {unit}s are to their own "
        "mechanism",
        "methods": ", ".join(s.methods),
        "processing": "as given" if s.processing is None else str(s.processing),
    }  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Html:
    heads = join(fill('<th scope="col">{h}</th>', h=h) for h in head)
    body = join(fill("<tr>{cells}</tr>", cells=join(fill("<td>{c}</td>", c=c) for c in row)) for row in rows)
    return fill(
        '<div class="tablebox"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>',
        heads=heads,
        body=body,
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "\N{EN DASH}"


def _p(value: float) -> str:
    return f"{value:.2g}"


def _interval(value: dict[str, Any] | None) -> str:
    if value is None:
        return "\N{EN DASH} (nothing was called)"
    if value["reason"]:
        return f"{value['value']:.3f} (no interval: {value['reason']})"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
