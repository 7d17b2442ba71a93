"""The page that says what in the chromatin told control from treated nuclei, each picture beside its checks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.report.page import Html, Page, definition_list, fill, join
from image2reg.report.plots import crop_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from image2reg.embedding.enrichment import Enrichment
    from image2reg.embedding.score_cam import Attribution

__all__ = ["explanation_page", "verdict"]

_SHOWN = 12
_WORDS = {
    "deletion_auc": "deletion auc: area under the curve, the map's pixels taken away first (low is good)",
    "random_deletion_auc": "random deletion auc: the same in random order",
    "insertion_auc": "insertion auc: area under the curve, the map's pixels shown first (high is good)",
    "random_insertion_auc": "random insertion auc: the same in random order",
    "empty_probability": "empty probability: of the class with nothing shown (low is good)",
    "random_weights_correlation": "random weights correlation: with the map of an untrained network (low is good)",
}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 300, 200, 40, 30


def explanation_page(
    title: str,
    attributions: Mapping[str, Attribution],
    channels: Sequence[str],
    contrasts: pd.DataFrame,
    *,
    variant: str,
    unit: str,
    command: str,
    provenance: Mapping[str, Any] | None = None,
    enriched: Enrichment | None = None,
) -> Page:
    """Make the page.

    Parameters
    ----------
    title : str
    attributions : mapping of class to Attribution
        May be empty.
    channels : sequence of str
        Of the attributions' inputs.
    contrasts : DataFrame
        From `image2reg.embedding.contrasts.contrast`.
    variant : str
        Which Score-CAM.
    unit : str
        What the intervals resample.
    command : str
        Printed as what remakes the page.
    provenance : mapping, optional
    enriched : Enrichment, optional
    """
    shown = "Radial profile from the lamina inwards, condensation spots"
    page = Page(title, f"Score-CAM with its checks. {shown}" if attributions else shown)
    for name, found in attributions.items():
        checks = {_WORDS[k]: f"{v:.3f}" for k, v in found.summary().items()}
        crops = {"crops": found.inputs[:_SHOWN]}
        page.section(
            f"What speaks for {name}",
            fill("<p><b>{verdict}</b></p>", verdict=verdict(found)),
            crop_rows(crops, list(channels), f"crops of class {name}"),
            crop_rows({"Score-CAM": found.maps[:_SHOWN, None]}, ["map"], f"Score-CAM of class {name}"),
            _curves(found),
            definition_list(checks),
            fill(
                '<p class="note">{variant}. A map is worth looking at only where the correlation with random '
                "weights is far from 1, deletion lies below its random order and insertion above; and these two say "
                "something only where the empty input is not taken for the class already.</p>",
                variant=variant,
            ),
        )
    radial = contrasts[contrasts.feature.str.contains("RadialDistribution")]
    other = contrasts[~contrasts.feature.str.contains("RadialDistribution")]
    note = (
        f"Control against treated, mean of units ({unit}). low, high: 95 % interval of the difference over units, none "
        "where a side has one unit. effect: the difference over the standard deviation of control units."
    )
    page.section("Brightness from the lamina inwards", _table(radial, note))
    page.section("Condensation spots, brightness, area", _table(other, note))
    if enriched is not None:
        page.section(
            "Changed bins in the given intervals",
            definition_list({k: _cell(v) for k, v in enriched.as_dict().items()}),
            fill(
                '<p class="note">{text}</p>',
                text="Null: all circular shifts of the changed bins along the genome.",
            ),
        )
    page.section(
        "How this was made",
        fill("<p>Remake it with</p><pre><code>{command}</code></pre>", command=command),
        definition_list(provenance or {}),
    )
    return page


def verdict(found: Attribution) -> str:
    """Say whether the maps may be looked at, and if not, why."""
    failed = found.failures()
    if not failed:
        return "The maps pass their checks."
    return f"Do not read these maps: {'; '.join(failed)}."


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.3g}" if math.isfinite(value) else "\N{EN DASH}"
    return str(value)


def _table(table: pd.DataFrame, note: str) -> Html:
    head = join(fill('<th scope="col">{n}</th>', n=name) for name in table)
    rows = join(
        fill("<tr>{cells}</tr>", cells=join(fill("<td>{v}</td>", v=_cell(v)) for v in row))
        for row in table.itertuples(index=False)
    )
    return fill(
        '<div class="tablebox"><table><caption>{note}</caption><thead><tr>{head}</tr></thead>'
        "<tbody>{rows}</tbody></table></div>",
        note=note,
        head=head,
        rows=rows,
    )


def _curves(found: Attribution) -> Html:
    return join(
        _plot(
            f"{kind}: share of pixels against probability",
            getattr(found, kind),
            getattr(found, f"random_{kind}"),
        )
        for kind in ("deletion", "insertion")
    )


def _plot(title: str, map_order: NDArray[np.float64], random_order: NDArray[np.float64]) -> Html:
    def path(curve: NDArray[np.float64], colour: str, dash: str) -> Html:
        x = np.linspace(_LEFT, _WIDTH - 8, len(curve))
        y = _HEIGHT - _BOTTOM - np.clip(curve, 0, 1) * (_HEIGHT - _BOTTOM - 8)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        return fill(
            '<polyline points="{p}" fill="none" stroke="{c}" stroke-width="2" stroke-dasharray="{d}"/>',
            p=points, c=colour, d=dash,
        )  # fmt: skip

    return fill(
        '<figure><svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{t}">'
        '<path d="M{l} 8V{b}H{r}" fill="none" stroke="#9aa6ad"/>'
        '<text x="4" y="14" font-size="11">1</text><text x="4" y="{b}" font-size="11">0</text>{a}{z}</svg>'
        "<figcaption>{t}; solid: the map's order, dashed: random order</figcaption></figure>",
        w=_WIDTH, h=_HEIGHT, l=_LEFT, b=_HEIGHT - _BOTTOM, r=_WIDTH - 8, t=title,
        a=path(map_order.mean(axis=0), "#1f5f8b", ""), z=path(random_order.mean(axis=0), "#8a8f94", "4 4"),
    )  # fmt: skip
