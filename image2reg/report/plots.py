"""Drawings of a screen as inline SVG: plate heat maps, control strips, dose-response curves, rows of crops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from image2reg.report.figures import ERROR_COLOURS, Cut, Limits, draw_grey
from image2reg.report.page import Html, embedded_png, fill, join
from image2reg.screen.plates import well_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Axes", "colour_key", "control_strip", "crop_rows", "dose_plot", "dots", "plate_map", "round_step"]

_CELL, _LABEL = 20, 18
_KINDS = {"negative": "#2166ac", "positive": "#b2182b", "": "#6b7780"}
_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 12, 34


def _colour(share: float) -> str:
    """Colour at -1 … 1 of the diverging scale."""
    stops = np.linspace(-1, 1, len(ERROR_COLOURS))
    channels = zip(*ERROR_COLOURS, strict=True)
    return "#" + "".join(f"{round(float(np.interp(share, stops, channel))):02x}" for channel in channels)


def plate_map(grid: NDArray[np.float64], kinds: NDArray[np.object_], full: float, title: str) -> Html:
    """Draw a plate: blue below the controls, red above, controls framed, hatched grey where there is no value.

    Parameters
    ----------
    grid : (rows, columns) float
    kinds : (rows, columns) str
        ``negative``, ``positive``, "" or None for no well.
    full : float
        Score of full colour.
    title : str
    """
    n_rows, n_columns = grid.shape
    cells = []
    for row in range(n_rows):
        for column in range(n_columns):
            kind, value = kinds[row, column], grid[row, column]
            if kind is None:
                continue
            shown = "#d0d4d7" if math.isnan(value) else _colour(float(np.clip(value / full, -1, 1)))
            frame = _KINDS[kind] if kind else "#ffffff"
            label = "no value" if math.isnan(value) else f"{value:.2f}"
            cells.append(
                fill(
                    '<rect x="{x}" y="{y}" width="{s}" height="{s}" rx="3" fill="{c}" stroke="{f}" stroke-width="{w}">'
                    "<title>{t}</title></rect>",
                    x=_LABEL + column * _CELL + 1.5, y=_LABEL + row * _CELL + 1.5, s=_CELL - 3, c=shown, f=frame,
                    w=2 if kind else 0.5, t=f"{well_name(row, column)}: {label}",
                )
            )  # fmt: skip
    step = 1 if n_columns <= 12 else 2
    labels = [
        fill('<text x="{x}" y="12">{t}</text>', x=_LABEL + (c + 0.5) * _CELL, t=c + 1)
        for c in range(0, n_columns, step)
    ] + [
        fill(
            '<text x="8" y="{y}">{t}</text>', y=_LABEL + (r + 0.5) * _CELL + 4,
            t=well_name(r, 0)[:-2],
        )
        for r in range(n_rows)
    ]  # fmt: skip
    width, height = _LABEL + n_columns * _CELL + 2, _LABEL + n_rows * _CELL + 2
    return fill(
        '<figure class="plot"{wide}><figcaption>{title}</figcaption><svg viewBox="0 0 {w} {h}" role="img" '
        'aria-label="{title}" style="max-width:{w}px"><g text-anchor="middle" font-size="10" fill="#5c676f">'
        "{labels}</g>{cells}</svg></figure>",
        wide=Html(' style="flex:1 0 100%"' if n_columns > 24 else ""),  # 1536 wells need the width of the page
        title=title, w=width, h=height, labels=join(labels), cells=join(cells),
    )  # fmt: skip


def colour_key(full: float, meaning: str) -> Html:
    """Explain the colours of `plate_map`; `meaning` says of what score, and what its 0 is."""
    scale = f"linear-gradient(90deg,{','.join(_colour(v) for v in (-1, -0.5, 0, 0.5, 1))})"
    return fill(
        '<div class="key" style="max-width:420px"><span>{low}</span><i style="background:{scale}"></i>'
        "<span>{high}</span></div>"
        '<p class="note">{meaning}. Framed blue: negative controls; framed red: positive controls; grey: no value.</p>',
        meaning=meaning, low=f"-{full:g}", high=f"+{full:g}", scale=scale,
    )  # fmt: skip


def round_step(least: float) -> float:
    """Give the next 1, 2 or 5 times a power of ten: a distance between ticks.

    >>> round_step(0.3)
    0.5
    """
    power = 10.0 ** math.floor(math.log10(least))
    return next(s * power for s in (1, 2, 5, 10) if s * power >= least)


class Axes:
    """Scales, frame and ticks of a small plot.

    Parameters
    ----------
    x, y : (low, high)
        What is shown.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        pad = 0.06 * ((y[1] - y[0]) or 1.0)
        self.x, self.y = x, (y[0] - pad, y[1] + pad)

    def px(self, x: float) -> float:
        """Place a value across."""
        span = (self.x[1] - self.x[0]) or 1.0
        return round(_LEFT + (x - self.x[0]) / span * (_WIDTH - _LEFT - _RIGHT), 2)

    def py(self, y: float) -> float:
        """Place a value upwards."""
        span = self.y[1] - self.y[0]
        return round(_HEIGHT - _BOTTOM - (y - self.y[0]) / span * (_HEIGHT - _TOP - _BOTTOM), 2)

    def draw(self, title: str, ticks: Mapping[float, str], x_label: str, content: Html) -> Html:
        """Put content into the frame, with ticks by their place and what they say."""
        step = round_step((self.y[1] - self.y[0]) / 4)
        marks = np.arange(math.ceil(self.y[0] / step), math.floor(self.y[1] / step) + 1)
        lines = [
            fill(
                '<line x1="{l}" x2="{r}" y1="{y}" y2="{y}" stroke="#e6eaec"/>'
                '<text x="{t}" y="{b}" text-anchor="end">{v}</text>',
                l=_LEFT, r=_WIDTH - _RIGHT, y=self.py(v), t=_LEFT - 6, b=self.py(v) + 4, v=f"{v:g}",
            )
            for v in np.round(marks * step, 10).tolist()
        ]  # fmt: skip
        lines += [
            fill(
                '<text x="{x}" y="{y}" text-anchor="middle">{t}</text>',
                x=self.px(x),
                y=_HEIGHT - _BOTTOM + 15,
                t=t,
            )
            for x, t in ticks.items()
        ]
        lines.append(
            fill(
                '<text x="{x}" y="{y}" text-anchor="middle">{t}</text>',
                x=(_LEFT + _WIDTH) / 2, y=_HEIGHT - 4, t=x_label,
            )
        )  # fmt: skip
        return fill(
            '<figure class="plot"><figcaption>{title}</figcaption><svg viewBox="0 0 {w} {h}" role="img" '
            'aria-label="{title}" style="max-width:{w}px"><g font-size="11" fill="#5c676f">{lines}</g>{content}</svg>'
            "</figure>",
            title=title, w=_WIDTH, h=_HEIGHT, lines=join(lines), content=content,
        )  # fmt: skip


def dots(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> Html:
    """Draw points; those without a value are left out."""
    return join(
        fill(
            '<circle cx="{x}" cy="{y}" r="3" fill="{c}" fill-opacity="0.65"/>',
            x=axes.px(a),
            y=axes.py(b),
            c=colour,
        )
        for a, b in zip(x, y, strict=True)
        if math.isfinite(b)
    )


def control_strip(values: Mapping[str, NDArray[np.float64]], title: str) -> Html:
    """Draw the wells of each kind beside each other: negative controls, samples, positive controls.

    Parameters
    ----------
    values : mapping of kind (``negative``, "" for samples, ``positive``) to (wells,) float
    title : str
    """
    kinds = [
        kind for kind in ("negative", "", "positive") if np.isfinite(values.get(kind, np.zeros(0))).any()
    ]
    finite = np.concatenate([values[kind][np.isfinite(values[kind])] for kind in kinds])
    axes = Axes((-0.5, len(kinds) - 0.5), (float(finite.min()), float(finite.max())))
    spread = np.random.default_rng(0)  # sideways only, so that equal wells are seen
    content = [
        dots(
            axes,
            (at + spread.uniform(-0.25, 0.25, len(values[kind]))).tolist(),
            values[kind].tolist(),
            _KINDS[kind],
        )
        for at, kind in enumerate(kinds)
    ]
    ticks = {float(at): f"{kind or 'samples'} ({len(values[kind])})" for at, kind in enumerate(kinds)}
    return axes.draw(title, ticks, "", join(content))


def dose_plot(
    doses: NDArray[np.float64],
    responses: NDArray[np.float64],
    curve: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    ec50: tuple[float, float, float],
    title: str,
    x_label: str,
) -> Html:
    """Draw wells over the logarithm of dose, dose 0 at the left, with the curve and the interval of its EC50.

    Parameters
    ----------
    doses, responses : (wells,) float
    curve : doses and values, or None
    ec50 : value, low, high
        NaN for none; open ends run to the edge.
    title, x_label : str
    """
    present = doses[doses > 0]
    low, high = math.log10(present.min()), math.log10(present.max())
    zero = low - max(0.15 * (high - low), 0.2)
    finite = responses[np.isfinite(responses)]
    axes = Axes((zero, high + 0.05 * (high - low)), (float(finite.min()), float(finite.max())))
    content = []
    if curve is not None:
        ends = [float(np.clip(math.log10(v), zero, axes.x[1])) if 0 < v < math.inf else e for v, e in
                zip(ec50[1:], (zero, axes.x[1]), strict=True)]  # fmt: skip
        band = fill(
            '<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="#0b6e8a" fill-opacity="0.13"/>',
            x=axes.px(ends[0]), y=_TOP, w=max(axes.px(ends[1]) - axes.px(ends[0]), 1), h=_HEIGHT - _TOP - _BOTTOM,
        )  # fmt: skip
        points = " ".join(f"{axes.px(math.log10(x))},{axes.py(y)}" for x, y in zip(*curve, strict=True))
        content += [
            band,
            fill('<polyline points="{p}" fill="none" stroke="#0b6e8a" stroke-width="2"/>', p=points),
        ]
    at = np.where(doses > 0, np.log10(np.maximum(doses, 1e-300)), zero)
    for kind, chosen in (("negative", doses == 0), ("", doses > 0)):
        content.append(dots(axes, at[chosen].tolist(), responses[chosen].tolist(), _KINDS[kind]))
    shown = np.unique(present)
    shown = shown[:: math.ceil(len(shown) / 6)]
    ticks = {zero: "0"} | {math.log10(dose): f"{dose:g}" for dose in shown.tolist()}
    return axes.draw(title, ticks, x_label, join(content))


def crop_rows(rows: Mapping[str, NDArray[np.float32]], channels: Sequence[str], alt: str) -> Html:
    """Rows of crops, one picture per row and channel; a channel has one contrast in all rows.

    Pictures are as wide as the longest row, black where a shorter one ends: on a page all have one magnification.

    Parameters
    ----------
    rows : mapping of label to (n, C, Y, X) float
    channels : sequence of str
    alt : str
    """
    parts, width = [], max(len(crops) * crops.shape[-1] for crops in rows.values())
    for number, channel in enumerate(channels):
        every = np.concatenate([crops[:, number].ravel() for crops in rows.values()])
        low, high = (float(v) for v in np.percentile(every, [0.5, 99.7]))
        for label, crops in rows.items():
            row = np.concatenate(list(crops[:, number]), axis=1)
            row = np.pad(row, ((0, 0), (0, width - row.shape[1])), constant_values=low)
            limits = Limits(low, high if high > low else low + 1, "")
            picture = draw_grey(row, Cut(None, 1, None), limits, max_side=max(row.shape), z_stretch=1.0).plane
            parts.append(
                fill(
                    '<figure class="crops"><figcaption>{channel}, {label}</figcaption>{png}</figure>',
                    channel=channel, label=label, png=embedded_png(picture, f"{alt}: {channel}, {label}"),
                )
            )  # fmt: skip
    return join(parts)
