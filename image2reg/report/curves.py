"""Small line drawings of the mechanism pages, as SVG that needs no script and no font."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from image2reg.report.page import Html, fill

__all__ = ["abstention_drawing", "reliability_drawing"]

_SIDE, _RIM = 260, 34


def _x(value: float) -> float:
    return _RIM + (_SIDE - 2 * _RIM) * value


def _y(value: float) -> float:
    return _SIDE - _RIM - (_SIDE - 2 * _RIM) * value


def _axes(across: str, up: str) -> list[str]:
    low, high = _x(0), _x(1)
    marks = [
        f'<path d="M{low} {_y(1)}V{_y(0)}H{high}" fill="none" stroke="#9aa6ad"/>',
        f'<text x="{_SIDE / 2}" y="{_SIDE - 4}" font-size="11" text-anchor="middle">{across}</text>',
        f'<text x="11" y="{_SIDE / 2}" font-size="11" text-anchor="middle" '
        f'transform="rotate(-90 11 {_SIDE / 2})">{up}</text>',
    ]
    for tick in (0.0, 0.5, 1.0):
        marks.append(
            f'<text x="{_x(tick)}" y="{_y(0) + 13}" font-size="10" text-anchor="middle">{tick:g}</text>'
        )
        marks.append(
            f'<text x="{_x(0) - 4}" y="{_y(tick) + 3}" font-size="10" text-anchor="end">{tick:g}</text>'
        )
    return marks


def _picture(marks: Sequence[str], spoken: str, caption: str) -> Html:
    return fill(
        '<figure style="display:inline-block;margin:6px 18px 6px 0"><svg viewBox="0 0 {side} {side}" width="{side}" '
        'height="{side}" role="img" aria-label="{spoken}">{marks}</svg><figcaption class="note">{caption}</figcaption>'
        "</figure>",
        side=_SIDE,
        spoken=spoken,
        marks=Html("".join(marks)),
        caption=caption,
    )


def reliability_drawing(curve: Mapping[str, Sequence[float]]) -> Html:
    """Accuracy against confidence, a dot per bin, larger with more calls; on the diagonal they agree."""
    marks = _axes("probability", "share right")
    marks.append(
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#aab4ba" stroke-dasharray="3 3"/>'
    )
    total = sum(curve["count"])
    for confidence, accuracy, count in zip(
        curve["confidence"], curve["accuracy"], curve["count"], strict=True
    ):
        radius = 2.5 + 9 * (count / total) ** 0.5
        marks.append(
            f'<circle cx="{_x(confidence):.1f}" cy="{_y(accuracy):.1f}" r="{radius:.1f}" fill="#0b6e8a" '
            'fill-opacity="0.7"/>'
        )
    spoken = "; ".join(
        f"{c:.2f}: {a:.2f} of {n}"
        for c, a, n in zip(curve["confidence"], curve["accuracy"], curve["count"], strict=True)
    )
    return _picture(marks, f"reliability, {spoken}", "Reliability: dots on the diagonal are calibrated.")


def abstention_drawing(curve: Mapping[str, Any], *, coverage: float) -> Html:
    """Accuracy of the most confident calls against the share of profiles called; the line is the rule's coverage."""
    marks = _axes("share called", "share right")
    points = " ".join(
        f"{_x(c):.1f},{_y(a):.1f}" for c, a in zip(curve["coverage"], curve["accuracy"], strict=True)
    )
    marks.append(f'<polyline points="{points}" fill="none" stroke="#0b6e8a" stroke-width="2"/>')
    marks.append(
        f'<line x1="{_x(coverage):.1f}" y1="{_y(0)}" x2="{_x(coverage):.1f}" y2="{_y(1)}" stroke="#9a5b00" '
        'stroke-dasharray="3 3"/>'
    )
    spoken = f"accuracy {curve['accuracy'][-1]:.2f} when everything is called; the rule calls {coverage:.2f}"
    return _picture(
        marks, spoken, "Abstention: accuracy of the most confident share; dashed: what the rule calls."
    )
