"""One field as rows of four pictures (input, predicted, real, error), with a detail where it was reduced."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.report.figures import (
    ERROR_COLOURS,
    Cut,
    FieldPanel,
    Limits,
    Picture,
    busiest_window,
    contrast_limits,
    draw_error,
    draw_grey,
    one_cut,
    scale_bar,
)
from image2reg.report.page import Html, embedded_png, fill, join

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GUIDE", "field_panels"]

GUIDE = (
    "Predicted and real share one contrast, set by the real image; the error is predicted minus real, blue "
    "where the prediction is too dark and red where it is too bright, full colour at half of that contrast "
    "range. Mean error and the share of pixels off the colour scale are those of the plane shown."
)
_GREY = "linear-gradient(90deg,#000,#fff)"
_DIVERGING = f"linear-gradient(90deg,{','.join(f'rgb{c}'.replace(' ', '') for c in ERROR_COLOURS)})"
_STAIN_PERCENTILES, _INPUT_PERCENTILES = (0.5, 99.8), (0.5, 99.5)
_DETAIL_PX = 192  # side of the window shown at full resolution


def field_panels(panel: FieldPanel, *, role: str, max_side: int) -> Html:
    """Heading and one row of four pictures per channel.

    Parameters
    ----------
    panel : FieldPanel
    role : str
        "worst", "median", "best" or nothing.
    max_side : int
        Pictures with longer sides are reduced; a window of them then follows at full resolution.
    """
    score = "" if panel.score is None else f"{panel.score_name} {_number(panel.score)}"
    strips = []
    for channel in panel.predicted:
        strip = _Strip(panel, channel, max_side)
        strips.append(strip.render())
        if strip.window is not None:
            strips.append(strip.detail().render())
    return fill(
        "<h3>{name}<small>{details}</small></h3>{strips}",
        name=panel.name,
        details=" · ".join(part for part in (role, score) if part),
        strips=join(strips),
    )


class _Strip:
    """Four pictures of one channel, by one cut and one pair of limits."""

    def __init__(self, panel: FieldPanel, channel: str, max_side: int) -> None:
        self.panel, self.channel, self.max_side = panel, channel, max_side
        self.predicted, self.real = panel.predicted[channel], panel.real.get(channel)
        truth = self.predicted if self.real is None else self.real
        self.cut = one_cut(truth)
        source = "predicted" if self.real is None else "real"
        self.limits = contrast_limits(truth, self.cut, percentiles=_STAIN_PERCENTILES, of=source)
        self.seen = contrast_limits(
            truth if panel.input is None else panel.input,
            self.cut,
            percentiles=_INPUT_PERCENTILES,
            of="this plane",
        )
        reduced = max(truth.shape[-2:]) > max_side and min(truth.shape[-2:]) > 2 * _DETAIL_PX
        self.window = busiest_window(truth, self.cut, _DETAIL_PX) if reduced else None
        self.is_detail = False

    def detail(self) -> _Strip:
        """Strip of the window at full resolution: same plane, same limits, no side view."""
        y, x = self.window or (slice(None), slice(None))

        def crop(image: NDArray[Any]) -> NDArray[Any]:
            return image[..., y, x]

        small = dataclasses.replace(
            self.panel,
            input=None if self.panel.input is None else crop(self.panel.input),
            predicted={self.channel: crop(self.predicted)},
            real={} if self.real is None else {self.channel: crop(self.real)},
        )
        strip = _Strip(small, self.channel, max(_DETAIL_PX, self.max_side))
        strip.cut = dataclasses.replace(self.cut, row=None)
        strip.limits, strip.seen, strip.is_detail = self.limits, self.seen, True
        return strip

    def render(self) -> Html:
        """Caption over the four, then the four."""
        return fill(
            '<div class="strip"><p class="what"><b>{channel}</b> {where}</p>{pictures}</div>',
            channel=self.channel,
            where=self._where(),
            pictures=join([self._input(), self._stain("predicted", self.predicted), *self._compared()]),
        )

    def _where(self) -> str:
        if self.is_detail and self.window is None:
            words = ["detail at full resolution, the framed part"]
        else:
            words = [_plane(self.panel, self.cut)] if self.cut.plane is not None else []
            if self.cut.row is not None:
                words.append("XZ below each picture, cut along the dashed line, top up")
            words.append(f"contrast {self.limits.origin}")
            if self.panel.units:
                words.append(f"in {self.panel.units}")
        images = [i for i in (self.panel.input, self.predicted, self.real) if i is not None]
        if any(np.isnan(image).any() for image in images if np.issubdtype(image.dtype, np.floating)):
            words.append("mid-grey where there is no value")
        return " · ".join(words)

    def _alt(self, what: str) -> str:
        return f"{what}, field {self.panel.name}{', detail' if self.is_detail else ''}"

    @property
    def _stretch(self) -> float:
        size = self.panel.pixel_um
        return 1.0 if size is None else size[0] / size[2]

    def _grey(self, image: NDArray[Any], limits: Limits) -> Picture:
        return draw_grey(image, self.cut, limits, max_side=self.max_side, z_stretch=self._stretch)

    def _input(self) -> Html:
        name, seen = self.panel.input_name, self.panel.input
        if seen is None:
            return _figure(name, "", fill('<div class="none">{text}</div>', text="not given"), Html(""))
        n = seen.shape[0] if seen.ndim == 3 else 1
        same = self.cut.plane is not None and n == self.cut.n_planes
        note = f"middle plane, {n // 2 + 1} of {n}" if n > 1 and not same else ""
        view = self._view(self._grey(seen, self.seen), self._alt(name), marks=True)
        return _figure(name, note, view, _key(_GREY, _number(self.seen.low), _number(self.seen.high)))

    def _stain(self, name: str, image: NDArray[Any]) -> Html:
        view = self._view(self._grey(image, self.limits), self._alt(f"{self.channel} {name}"))
        ends = _number(self.limits.low), _number(self.limits.high)
        return _figure(name, "", view, _key(_GREY, *ends))

    def _compared(self) -> list[Html]:
        if self.real is None:
            empty = fill('<div class="none">{text}</div>', text="no real image")
            return [_figure(name, "", empty, Html("")) for name in ("real", "error")]
        full = (self.limits.high - self.limits.low) / 2
        picture, bias, beyond = draw_error(
            self.predicted, self.real, self.cut, full, max_side=self.max_side, z_stretch=self._stretch
        )
        note = f"mean {_number(bias)}, {100 * beyond:.1f} % off scale"
        view = self._view(picture, self._alt(f"{self.channel} predicted minus real"), ruler=False)
        key = _key(_DIVERGING, _number(-full), f"+{_number(full)}")
        return [self._stain("real", self.real), _figure("error", note, view, key)]

    def _view(self, picture: Picture, alt: str, *, marks: bool = False, ruler: bool = True) -> Html:
        overlay = []
        size, shape = self.panel.pixel_um, self.predicted.shape[-2:]
        if ruler and size is not None:
            share, label = scale_bar(shape[1], size[2])
            overlay.append(
                fill(
                    '<span class="bar" style="width:{share}%">{label}</span>',
                    share=f"{100 * share:.2f}",
                    label=label,
                )
            )
        if marks and self.cut.row is not None:
            top = f"{100 * (self.cut.row + 0.5) / shape[0]:.2f}"
            overlay.append(fill('<span class="row" style="top:{top}%"></span>', top=top))
        if self.window is not None:
            (y, x), (n_y, n_x) = self.window, shape
            box = [
                100 * v
                for v in (y.start / n_y, x.start / n_x, (y.stop - y.start) / n_y, (x.stop - x.start) / n_x)
            ]
            style = "top:{:.2f}%;left:{:.2f}%;height:{:.2f}%;width:{:.2f}%".format(*box)
            overlay.append(fill('<span class="frame" style="{style}"></span>', style=style))
        side = embedded_png(picture.side, f"{alt}, side view", css="side") if picture.side else Html("")
        return fill(
            '<div class="view">{image}{overlay}</div>{side}',
            image=embedded_png(picture.plane, alt),
            overlay=join(overlay),
            side=side,
        )


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "\N{EN DASH}"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _plane(panel: FieldPanel, cut: Cut) -> str:
    assert cut.plane is not None
    words = f"plane {cut.plane + 1} of {cut.n_planes}"
    if panel.voxel_um is not None and panel.voxel_um[0]:
        words += f", {cut.plane * panel.voxel_um[0]:.3g} µm above the first"
    return words


def _key(gradient: str, low: str, high: str) -> Html:
    return fill(
        '<div class="key"><span>{low}</span><i style="background:{gradient}"></i><span>{high}</span></div>',
        low=low,
        high=high,
        gradient=Html(gradient),
    )


def _figure(caption: str, note: str, body: Html, key: Html) -> Html:
    return fill(
        '<figure><figcaption>{caption} <span class="note">{note}</span></figcaption>{body}{key}</figure>',
        caption=caption,
        note=note,
        body=body,
        key=key,
    )
