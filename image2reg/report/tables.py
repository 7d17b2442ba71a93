"""A table of results as markup."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from image2reg.report.page import Html, fill, join

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_table"]


def frame_table(table: pd.DataFrame, note: str) -> Html:
    """Show a table with its columns' names, numbers to three digits.

    Parameters
    ----------
    table : DataFrame
    note : str
        Its caption.
    """
    numeric = {name: table[name].dtype.kind in "fiu" for name in table}
    head = [
        fill('<th class="{k}">{t}</th>', k="number" if numeric[n] else "", t=str(n).removeprefix("Metadata_"))
        for n in table
    ]
    rows = [
        join(
            fill('<td class="{k}">{v}</td>', k="number" if numeric[n] else "", v=_cell(v))
            for n, v in row.items()
        )
        for row in table.to_dict("records")
    ]
    body = join(fill("<tr>{cells}</tr>", cells=cells) for cells in rows)
    return fill(
        '<div class="tablebox"><table><caption>{note}</caption><thead><tr>{head}</tr></thead>'
        "<tbody>{body}</tbody></table></div>",
        note=note, head=join(head), body=body,
    )  # fmt: skip


def _cell(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else ""
    if isinstance(value, float):
        return "\N{EN DASH}" if math.isnan(value) else f"{value:.3g}"
    return str(value)
