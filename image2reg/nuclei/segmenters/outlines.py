"""Outlines looked at again, pixel by pixel: what the maps and the image say across them, and of which nucleus they are.

A network judges every pixel of a field alike. Where an outline runs also depends on the nucleus it is of: how large and
bright that is, how bright its surrounding, how surely it was found. A small network reads each pixel close to a drawn
outline once more, along the outline's normal and beside what is known of its nucleus, and says whether it is inside.

Source: PointRend (Kirillov, Wu, He and Girshick, CVPR 2020), which judges again the points a coarse mask is unsure of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from image2reg.nuclei.segmenters.nearness import edges, nearest_nucleus, squared_distance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["MEASURES", "OutlineRule", "TaughtPoints", "redrawn"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

# Pixels this close to an outline are judged again, by what lies at these distances along its normal, outwards.
_REACH_PX = 3.5
_STEPS_PX = (-4, -3, -2, -1, 0, 1, 2, 3, 4)
# Of these, in this order; logits are cut off here, where they are sure.
_CHANNELS = ("foreground", "touching", "depth", "brightness")
_SURE_LOGIT = 6.0
# So far distances are measured; beyond it is enough to know the side.
_FAR_PX = 5
_ROOTS = np.sqrt(np.arange(256, dtype=np.float32)).clip(max=_FAR_PX)
# Brightness is told in multiples of how much brighter the nucleus is than the ring around it, of these pixels.
_RING_PX = (2.0, 4.0)
_FAINTEST = 1e-3
MEASURES = (
    "distance",  # from the outline, in pixels, positive inside
    *(f"{channel} at {step} px" for step in _STEPS_PX for channel in _CHANNELS),
    # Of the whole nucleus.
    "area",  # logarithm of pixels
    "contrast",  # logarithm of brightness over the ring
    "surrounding",  # logarithm of the ring's brightness
    "touching",  # pixels that touch another nucleus, over the root of the area
    "certainty",  # mean logit of foreground
    "level",  # brightness where the drawn outline runs: 0 as the ring, 1 as the nucleus
)
# Probabilities are smoothed by this many pixels before an outline is drawn where they are a half.
_SMOOTH_PX = 0.7
# So many pixels are measured and judged at once.
_BATCH = 1 << 16

_HIDDEN, _DROPOUT = 32, 0.1
_STEPS, _BATCH_TAUGHT, _RATE, _DECAY = 3000, 2048, 3e-3, 0.05
# Of fewer nuclei than this (one counts each time its field is shown: some eight hundred) others were drawn no better;
# of more pixels than this, a sample teaches.
_FEWEST, _MOST = 8000, 1_000_000
# This share of a field's, any.
_SHARE = 0.2
# A drawn nucleus shows where its outline should be when it overlaps the true one by this much (IoU).
_CLEAR = 0.6


class OutlineRule(nn.Module):
    """Pixels near outlines to the logit that they are inside: two hidden layers, kept with a network's weights.

    Untaught (``taught`` is 0) it leaves outlines as they were drawn.
    """

    taught: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._widths = (len(MEASURES), _HIDDEN, _HIDDEN, 1)
        self._unlearn()

    def _unlearn(self) -> None:
        sizes = zip(self._widths, self._widths[1:], strict=False)
        layers = [(torch.zeros(made, given), torch.zeros(made)) for given, made in sizes]
        self._hold(torch.zeros(len(MEASURES)), torch.ones(len(MEASURES)), layers, taught=False)

    def _hold(
        self, centre: Tensor, spread: Tensor, layers: Sequence[tuple[Tensor, Tensor]], *, taught: bool
    ) -> None:
        self.register_buffer("taught", torch.tensor(taught, dtype=torch.uint8))
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        for n, (weight, bias) in enumerate(layers):
            self.register_buffer(f"weight_{n}", weight)
            self.register_buffer(f"bias_{n}", bias)

    def forward(self, measures: Tensor) -> Tensor:
        """Map `MEASURES` (k, 43) to logits (k,)."""
        x = (measures - self.centre) / self.spread
        for n in range(len(self._widths) - 1):
            x = functional.linear(
                functional.silu(x) if n else x,
                self.get_buffer(f"weight_{n}"), self.get_buffer(f"bias_{n}"),
            )  # fmt: skip
        return x[:, 0]

    def fit(self, points: TaughtPoints) -> bool:
        """Learn anew from outlines whose nuclei are known; of too few be untaught, and give False."""
        if points.n_nuclei < _FEWEST:
            self._unlearn()
            return False
        measures, inside, weight = map(torch.from_numpy, points.columns())
        weight = weight / weight.mean()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            layers: list[nn.Module] = []
            for given, made in zip(self._widths, self._widths[1:], strict=False):
                layers += [nn.Linear(given, made), nn.SiLU(), nn.Dropout(_DROPOUT)]
            network = nn.Sequential(*layers[:-2])
            centre, spread = measures.mean(0), measures.std(0) + _FAINTEST
            optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
            for _ in range(_STEPS):
                some = torch.randint(len(measures), (_BATCH_TAUGHT,))
                logit = network((measures[some] - centre) / spread)[:, 0]
                error = functional.binary_cross_entropy_with_logits(logit, inside[some], weight=weight[some])
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                schedule.step()
        fitted = [(m.weight.detach(), m.bias.detach()) for m in network if isinstance(m, nn.Linear)]
        self._hold(centre, spread, fitted, taught=True)
        return True


class _Band(NamedTuple):
    """The pixels close to drawn outlines, and what they are measured by.

    Attributes
    ----------
    at : (k,) int
        Into the flat field.
    owner : (k,) int32
        The nucleus whose outline it is.
    distance : (k,) float32
    normal : (2, k) float32
        Outwards, (y, x).
    channels : (4, Y, X) Tensor
    surrounding, contrast : (n,) float32
    whole : (6, n) float32
        The last of `MEASURES`, by nucleus.
    """

    at: NDArray[np.intp]
    owner: Labels
    distance: Floats
    normal: Floats
    channels: Tensor
    surrounding: Floats
    contrast: Floats
    whole: Floats

    def measures(self, part: NDArray[np.intp] | slice) -> Floats:
        """Measure some of the pixels: (43, k)."""
        own = self.owner[part]
        height, width = self.channels.shape[1:]
        y, x = np.divmod(self.at[part], width)
        steps = np.array(_STEPS_PX, np.float32)[:, None]
        down, right = (steps * axis for axis in self.normal[:, part])
        # The grid's corners are the middles of the outermost pixels.
        where = np.empty((1, *down.shape, 2), np.float32)
        where[..., 0] = (x + right) * (2 / max(width - 1, 1)) - 1
        where[..., 1] = (y + down) * (2 / max(height - 1, 1)) - 1
        seen = functional.grid_sample(
            self.channels[None], torch.from_numpy(where), padding_mode="border", align_corners=True
        )[0].numpy()
        seen[-1] = np.clip((seen[-1] - self.surrounding[own]) / self.contrast[own], -1, 3)
        profile = seen.transpose(1, 0, 2).reshape(len(_STEPS_PX) * len(_CHANNELS), own.size)
        return np.concatenate([self.distance[None, part], profile, self.whole[:, own]])

    def parts(self) -> Iterator[slice]:
        return (slice(start, start + _BATCH) for start in range(0, self.at.size, _BATCH))


def _band(labels: Labels, maps: Floats, image: Floats) -> tuple[_Band, Labels]:
    """Find the pixels close to outlines, and the nucleus that each pixel in or around one is of."""
    nucleus = labels > 0
    edge, touching = edges(labels)
    away, deep = squared_distance(nucleus, _FAR_PX), squared_distance(edge, _FAR_PX)
    owner = nearest_nucleus(labels, away, _RING_PX[1])
    distance = np.where(nucleus, 0.5 + _ROOTS[deep], 0.5 - _ROOTS[away])
    n = int(labels.max()) + 1
    logits = maps[:2].clip(-_SURE_LOGIT, _SURE_LOGIT)

    def pooled(where: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Callable[[Floats], NDArray[np.float64]]]:
        """Count the pixels of each nucleus there, and give what takes the mean of values over them."""
        there = np.flatnonzero(where)
        own = owner.ravel()[there]
        count = np.bincount(own, minlength=n)
        return count, lambda values: np.bincount(own, values.ravel()[there], n) / np.maximum(count, 1)

    area, inner = pooled(nucleus)
    area = np.maximum(area, 1)
    surrounding = pooled((away > _RING_PX[0] ** 2) & (owner > 0))[1](image)
    contrast = np.maximum(inner(image) - surrounding, _FAINTEST)
    close = (owner > 0) & (np.abs(distance) < _REACH_PX)
    unsure = pooled(close & (np.abs(logits[0]) < 1))[1]
    whole = [
        np.log(area),
        np.log(contrast),
        np.log1p(30 * np.abs(surrounding)),
        pooled(touching)[0] / np.sqrt(area),
        inner(logits[0]),
        (unsure(image) - surrounding) / contrast,
    ]
    at = np.flatnonzero(close)
    slope = np.gradient(ndimage.gaussian_filter(distance, 1.0))
    normal = -np.stack([axis.ravel()[at] for axis in slope])
    normal /= np.maximum(np.hypot(*normal), _FAINTEST)
    band = _Band(
        at=at,
        owner=owner.ravel()[at],
        distance=distance.ravel()[at],
        normal=normal,
        channels=torch.from_numpy(np.concatenate([logits, maps[2:3], image[None]])),
        surrounding=surrounding.astype(np.float32),
        contrast=contrast.astype(np.float32),
        whole=np.stack(whole).astype(np.float32),
    )
    return band, owner


def redrawn(rule: OutlineRule, labels: Labels, maps: Floats, image: Floats) -> tuple[Labels, Floats]:
    """Draw the outlines of nuclei anew, within four pixels of where they were drawn.

    Parameters
    ----------
    rule : OutlineRule
        A taught one.
    labels : (Y, X) int32
        At the working nucleus size.
    maps : (3, Y, X) float32
        Foreground, a logit whose zero line is the outline; the logit that nuclei touch; depth.
    image : (Y, X) float32
        Standardised.

    Returns
    -------
    labels : (Y, X) int32
        No pixel passes from one nucleus to another.
    inside : (Y, X) float32
        -1 to 1, positive in nuclei; its zero line is the outline.
    """
    inside = (labels > 0).astype(np.float32)
    if not inside.any():
        return labels, 2 * inside - 1
    band, owner = _band(labels, maps, image)
    device = rule.centre.device
    with torch.inference_mode():
        for part in band.parts():
            logit = rule(torch.from_numpy(band.measures(part)).T.to(device))
            inside.ravel()[band.at[part]] = torch.sigmoid(logit).cpu().numpy()
    inside = 2 * ndimage.gaussian_filter(inside, _SMOOTH_PX) - 1
    return np.where(inside > 0, owner, 0), inside


class TaughtPoints:
    """Pixels near outlines of which it is known whether they are inside: all, or an even sample of very many."""

    def __init__(self) -> None:
        self.n_nuclei = 0
        self._rng = np.random.default_rng(0)
        self._held: list[Floats] = []
        self._keys: list[NDArray[np.float64]] = []

    def add(self, labels: Labels, maps: Floats, image: Floats, truth: Labels) -> None:
        """Take those of a field: arguments as in `redrawn`, and the true nuclei (Y, X).

        Drawn nuclei that are mostly of none, or of several, are left out.
        """
        shared = np.zeros((int(labels.max()) + 1, int(truth.max()) + 1), np.int64)
        np.add.at(shared, (labels.ravel(), truth.ravel()), 1)
        area, true_area = shared.sum(axis=1), shared.sum(axis=0)
        shared[:, 0] = 0
        partner, common = shared.argmax(axis=1), shared.max(axis=1)
        clear = common >= _CLEAR * (area + true_area[partner] - common)
        clear[0] = False
        self.n_nuclei += int(np.count_nonzero(clear & (common > 0)))
        band, _ = _band(labels, maps, image)
        known = np.flatnonzero(clear[band.owner])
        known = known[self._rng.random(known.size) < _SHARE]
        own = band.owner[known]
        inside = truth.ravel()[band.at[known]] == partner[own]
        # A nucleus counts as its outline is long.
        told = np.vstack([band.measures(known), inside, 1 / np.sqrt(area[own])]).T
        self._held.append(told.astype(np.float32, order="C"))
        self._keys.append(self._rng.random(len(told)))
        if sum(map(len, self._keys)) > 2 * _MOST:
            self._thin()

    def _thin(self) -> None:
        held, keys = np.concatenate(self._held), np.concatenate(self._keys)
        if len(keys) > _MOST:
            kept = np.argpartition(keys, _MOST)[:_MOST]
            held, keys = held[kept], keys[kept]
        self._held, self._keys = [held], [keys]

    def columns(self) -> tuple[Floats, Floats, Floats]:
        """Give measures (k, 43), whether inside (k,) and weights (k,)."""
        self._thin()
        (held,) = self._held
        return held[:, :-2], held[:, -2], held[:, -1]
