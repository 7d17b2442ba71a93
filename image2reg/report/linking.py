"""Report of a link: what it scored beside every baseline, the curves, and the genes it found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image2reg.report.page import Html, Page, definition_list, fill, join

if TYPE_CHECKING:
    from pandas import DataFrame

    from image2reg.linking.ranking import LinkResult

__all__ = ["linking_report"]

_COLOURS = ("#0b6e8a", "#d1651a", "#6a51a3", "#8a8f94", "#2f7d32", "#a3161f")
_COLUMNS = {
    "origin": "Origin", "method": "Method", "auc": "AUC", "interval": "95 % interval", "p": "p", "permuted": "Permuted",
    "hit@1": "@1", "hit@10": "@10", "hit@50": "@50", "median_rank": "Median rank", "n": "Genes",
}  # fmt: skip
_MAX_GENES, _MAX_QUERIES, _QUERY_GENES = 400, 50, 10


def linking_report(
    path: Path | str,
    result: LinkResult,
    *,
    title: str,
    command: str,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page that opens offline.

    Parameters
    ----------
    path : path
        Final name; appears whole or not at all.
    result : LinkResult
    title, command : str
        `command` is printed as what remakes the page.
    provenance : mapping
    overwrite : bool

    Returns
    -------
    Path
    """
    page = Page(title, "Genes ranked by how near their network embedding is to what the profile predicts.")
    page.section("In short", *_summary(result))
    page.section("Beside every baseline", _methods(result.table))
    for origin, curves in result.curves.groupby("origin", sort=False):
        page.section(f"Share of genes found among the first k ({origin})", _plot(curves))
    if len(result.queries):
        page.section("Ranked genes of the queries", _queries(result.queries))
    page.section("Every gene, held out", _rankings(result.rankings))
    origin_part = fill(
        "<p>{text}</p><pre><code>{command}</code></pre>", text="Remake it with", command=command
    )
    page.section("How this was made", origin_part, definition_list(provenance or {}))
    return page.write(path, overwrite=overwrite)


def _number(value: Any, digits: int = 3) -> str:
    known = value is not None and math.isfinite(value)
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") if known else "\N{EN DASH}"


def _summary(result: LinkResult) -> list[Html]:
    cards = []
    for origin, rows in result.table.groupby("origin", sort=False):
        row = rows.iloc[0]
        cards.append(
            fill(
                '<div class="card"><h3>{origin}</h3><div class="what">AUC, genes held out one by one</div>'
                '<div class="value">{value}<span class="interval">{low}\N{EN DASH}{high}</span></div>'
                "<p>chance 0.5 · permuted {permuted} · p {p} · {n} genes</p><p>{method}</p></div>",
                origin=origin,
                value=_number(row["auc"]),
                low=_number(row["low"]),
                high=_number(row["high"]),
                permuted=_number(row.get("permuted")),
                p=_number(row.get("p")),
                n=row["n"],
                method=row["method"],
            )
        )
    notes = [fill('<li class="warning"><b>Note</b>{text}</li>', text=text) for text in result.notes]
    return [
        fill('<div class="cards">{cards}</div>', cards=join(cards)),
        fill('<ul class="flags">{notes}</ul>', notes=join(notes)),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Html:
    top = join([fill('<th scope="col">{name}</th>', name=name) for name in head])
    body = join([
        fill("<tr>{cells}</tr>", cells=join([fill("<td>{cell}</td>", cell=cell) for cell in row])) for row in rows
    ])  # fmt: skip
    return fill(
        '<div class="tablebox"><table><caption>{caption}</caption><thead><tr>{top}</tr></thead>'
        "<tbody>{body}</tbody></table></div>",
        caption=caption, top=top, body=body,
    )  # fmt: skip


def _methods(table: DataFrame) -> Html:
    def cell(row: Any, name: str) -> str:
        if name == "interval":
            return f"{_number(row['low'])}\N{EN DASH}{_number(row['high'])}"
        value = row.get(name)
        if name in {"origin", "method", "n"}:
            return str(value)
        return _number(value, 1 if name == "median_rank" else 3)

    rows = [[cell(row, name) for name in _COLUMNS] for _, row in table.iterrows()]
    caption = (
        "Intervals resample genes. p and the permuted AUC come from the same pipeline with shuffled gene labels. The "
        "train mean falls below 0.5: it is taken without the gene held out, so that the other genes lie nearer to it."
    )
    return _table(list(_COLUMNS.values()), rows, caption)


def _plot(curves: DataFrame) -> Html:
    """Draw hit@k of every method, the first one with its interval."""
    width, height, left, bottom = 720, 300, 44, 34
    top_k = int(curves["k"].max())

    def at(k: float, hit: float) -> str:
        return (
            f"{left + (width - left - 8) * k / top_k:.1f},{height - bottom - (height - bottom - 8) * hit:.1f}"
        )

    marks, keys = [], []
    for step in range(5):
        x, y = at(0, step / 4).split(",")
        marks.append(f'<line x1="{x}" y1="{y}" x2="{width - 8}" y2="{y}" stroke="#e3e8ea"/>')
        marks.append(f'<text x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{step / 4:g}</text>')
        x, y = at(top_k * step / 4, 0).split(",")
        marks.append(
            f'<text x="{x}" y="{float(y) + 18:.1f}" text-anchor="{"end" if step == 4 else "middle"}">'
            f"{round(top_k * step / 4)}</text>"
        )
    marks.append(
        f'<path d="M{at(0, 0)} L{at(top_k, 1)}" stroke="#aab4ba" stroke-dasharray="4 4" fill="none"/>'
    )
    for number, (name, rows) in enumerate(curves.groupby("method", sort=False)):
        colour = _COLOURS[number % len(_COLOURS)]
        k = rows["k"].to_numpy()
        if number == 0:
            edge = [at(a, b) for a, b in zip(k, rows["hit_high"], strict=True)]
            edge += [at(a, b) for a, b in zip(k[::-1], rows["hit_low"].to_numpy()[::-1], strict=True)]
            marks.append(f'<polygon points="{" ".join(edge)}" fill="{colour}" fill-opacity="0.15"/>')
        points = " ".join(at(a, b) for a, b in zip(k, rows["hit"], strict=True))
        marks.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        keys.append(
            fill('<span style="color:{colour}">\N{EM DASH} {name}</span> ', colour=Html(colour), name=name)
        )
    return fill(
        '<svg viewBox="0 0 {width} {height}" '
        'style="max-width:{width}px;width:100%;height:auto;font-size:12px" role="img" '
        'aria-label="Share of genes whose own embedding is among the first k candidates">{marks}</svg>'
        '<p class="note">{keys}</p><p class="note">Dashed: chance. Band: 95 % interval of the first, over genes.</p>',
        width=Html(str(width)), height=Html(str(height)), marks=Html("".join(marks)), keys=join(keys),
    )  # fmt: skip


def _rankings(rankings: DataFrame) -> Html:
    shown = rankings.sort_values(["origin", "rank", "gene"]).head(_MAX_GENES)
    rows = [
        [r.origin, r.gene, str(r.rank), str(r.n_candidates), r.best] for r in shown.itertuples(index=False)
    ]
    caption = f"{len(shown)} of {len(rankings)} genes, best first; rank 1 is a hit. Right: the ten nearest candidates."
    return _table(["Origin", "Gene", "Rank", "Of", "Nearest candidates"], rows, caption)


def _queries(queries: DataFrame) -> Html:
    named = [c for c in queries.columns if c.startswith("Metadata_")]
    near = queries[queries["rank"] <= _QUERY_GENES]
    rows = []
    for _, group in near.groupby((near["rank"] == 1).cumsum(), sort=False):
        label = ", ".join(str(group[c].iloc[0]) for c in named if group[c].iloc[0])
        rows.append([str(group["origin"].iloc[0]), label, " ".join(group["candidate"])])
    caption = f"{min(len(rows), _MAX_QUERIES)} of {len(rows)} queries; the whole list is in queries.parquet."
    return _table(["Origin", "Profile", "Nearest candidates"], rows[:_MAX_QUERIES], caption)
