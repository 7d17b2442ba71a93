"""What a reader sees of generated nuclei: the table of arms, and nuclei side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from image2reg.report.page import Html, Page, embedded_png, fill, join
from morphgen.fidelity import Arm

__all__ = ["arm_lines", "arm_rows", "mosaic", "write_report"]

COLUMNS = {
    "ks_share": "KS share",
    "r2_means": "R² of means",
    "frechet": "Fréchet",
    "kernel": "KID",
    "coverage": "coverage",
    "nearest_training_ratio": "nearest training",
    "follow_signature": "follow r",
    "follow_signature_p": "p",
}
_EXPLAINED = {
    "ks_share": "KS share: features whose distribution cannot be told from the real one's (Kolmogorov-Smirnov, FDR "
    "5 %), over perturbations; grows as cells get fewer.",
    "r2_means": "R² of means: of feature means over perturbations.",
    "frechet": "Fréchet, KID: distance in feature space, 0 is best.",
    "coverage": "Coverage: share of real nuclei with one of the arm's in their neighbourhood.",
    "nearest_training_ratio": "Nearest training: distance to the closest training image over that of real nuclei; far "
    "below 1 would be memorised.",
    "follow_signature": "Follow: distance correlation of signatures and feature means with a permutation p.",
}


def _shown(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {k: v for k, v in COLUMNS.items() if any(np.isfinite(row.get(k, np.nan)) for row in rows)}


def arm_rows(arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """One row of scores for each arm."""
    return [{"arm": name, **arm.scores()} for name, arm in arms.items()]


def arm_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Print the table of arms for a terminal."""
    shown = _shown(rows)
    width = max(len(str(row["arm"])) for row in rows)
    lines = ["  ".join([" " * width, *(f"{head:>16}" for head in shown.values())])]
    for row in rows:
        cells = [_number(row.get(key, np.nan)) for key in shown]
        lines.append("  ".join([f"{row['arm']:<{width}}", *(f"{cell:>16}" for cell in cells)]))
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.3f}"


def mosaic(crops: NDArray[np.floating], *, top: float) -> bytes:
    """PNG of one row of crops (N, Y, X): 0 is black, `top` white, the same for every row that is compared."""
    row = np.concatenate(list(np.pad(crops, ((0, 0), (1, 1), (1, 1)))), axis=1)
    grey = np.rint(np.clip(row / top, 0, 1) ** 0.7 * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).resize((2 * grey.shape[1], 2 * grey.shape[0])).save(buffer, "PNG")
    return buffer.getvalue()


def _table(rows: Sequence[Mapping[str, Any]]) -> Html:
    shown = _shown(rows)
    head = join(fill('<th class="number">{name}</th>', name=name) for name in shown.values())
    body = join(
        fill(
            "<tr><td>{arm}</td>{cells}</tr>",
            arm=row["arm"],
            cells=join(fill('<td class="number">{v}</td>', v=_number(row.get(k, np.nan))) for k in shown),
        )
        for row in rows
    )
    return fill(
        '<div class="tablebox"><table><thead><tr><th>arm</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="note">{explained}</p>',
        head=head, body=body, explained=" ".join(text for key, text in _EXPLAINED.items() if key in shown),
    )  # fmt: skip


def write_report(
    path: Path,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    note: str = "",
    pictures: Mapping[str, Sequence[tuple[str, bytes]]] | None = None,
) -> Path:
    """Write one self-contained page.

    Parameters
    ----------
    rows : sequence of mapping
        `arm_rows`.
    pictures : mapping
        Heading to (caption, PNG) pairs, shown below each other.
    """
    page = Page(title, note)
    for heading, strips in (pictures or {}).items():
        parts = [
            fill("<p>{caption}</p>{image}", caption=caption, image=embedded_png(png, f"{heading}: {caption}"))
            for caption, png in strips
        ]
        page.section(heading, *parts)
    page.section("Scores", _table(rows))
    return page.write(path, overwrite=True)
