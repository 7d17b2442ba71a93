"""Scores of predicted stains against real ones, each beside its floor, its ceiling and its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from image2reg.intervals import Interval, bootstrap_interval
from virtualstain.metrics import pearson, score_image, spectral_pearson

__all__ = [
    "METRICS",
    "ScoredField",
    "block_interval",
    "noise_ceiling",
    "score_field",
    "score_table",
    "summarise",
]

METRICS = ("pearson", "spectral_pearson", "ssim", "psnr", "nrmse")


@dataclass(frozen=True)
class ScoredField:
    """One channel of one field, in the units of the target.

    Attributes
    ----------
    name, group, channel : str
    inputs : (C, Z, Y, X)
    truth, prediction : (Z, Y, X) float
    mask : (Z, Y, X) bool
        Voxels that count.
    data_range : float
        Of the target in the training set: six of its standard deviations.
    typical : float
        Mean of the target in the training set: the prediction that needs no image.
    """

    name: str
    group: str
    channel: str
    inputs: NDArray[Any]
    truth: NDArray[np.floating]
    prediction: NDArray[np.floating]
    mask: NDArray[np.bool_]
    data_range: float
    typical: float


def noise_ceiling(truth: NDArray[np.floating], mask: NDArray[np.bool_] | None = None) -> float:
    """Highest Pearson correlation a noise-free prediction could reach with this noisy target.

    ``sqrt(1 - v_noise / v)``: the noise variance from the median absolute response of each plane to a
    Laplacian-difference mask (Immerkaer, CVIU 64:300, 1996, with the median for the mean so that edges do not
    count), `v` the variance of the image; both over the voxels of `mask`, whose rim has no response. It knows of
    camera noise only: not of what brightfield cannot show.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=float)
    counted = np.ones(truth.shape, bool) if mask is None else mask
    around = np.ones((*[1] * (truth.ndim - 2), 3, 3), bool)
    inner = ndimage.binary_erosion(counted, around, border_value=1)
    if not inner.any():
        return math.nan
    planes = truth.reshape(-1, *truth.shape[-2:]).astype(float)
    response = np.stack([ndimage.convolve(p, kernel, mode="reflect") for p in planes])
    sigma = float(np.median(np.abs(response.reshape(truth.shape)[inner]))) / 0.6745 / 6
    variance = float(truth[counted].var())
    return math.sqrt(max(0.0, 1 - sigma**2 / variance)) if variance > 0 else math.nan


def _squeezed(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    return [a[0] if a.shape[0] == 1 else a for a in arrays]


def score_field(item: ScoredField) -> dict[str, Any]:
    """Score one channel of one field: one row of a table.

    Returns
    -------
    dict
        ``field, group, channel``, every name of `METRICS`, ``floor_<metric>`` and ``ceiling_pearson``. The floor of
        the correlations is the best single input plane, sign free (what a microscope gives without a model);
        that of SSIM, PSNR and NRMSE is the training mean as a constant image.
    """
    truth, prediction, mask = _squeezed(item.truth, item.prediction, item.mask)
    scores = score_image(truth, prediction, data_range=item.data_range, mask=mask)
    constant = score_image(truth, np.full_like(truth, item.typical), data_range=item.data_range, mask=mask)
    planes = _matching_planes(item)
    row: dict[str, Any] = {"field": item.name, "group": item.group, "channel": item.channel}
    row |= {name: scores[name] for name in METRICS}
    row["floor_pearson"] = max((abs(pearson(truth, p, mask=mask)) for p in planes), default=math.nan)
    row["floor_spectral_pearson"] = max(
        (abs(spectral_pearson(truth, p, mask=mask)) for p in planes), default=math.nan
    )
    row |= {f"floor_{name}": constant[name] for name in ("ssim", "psnr", "nrmse")}
    row["ceiling_pearson"] = noise_ceiling(item.truth, item.mask)
    row["undefined"] = scores["undefined"]
    return row


def _matching_planes(item: ScoredField) -> Iterable[NDArray[Any]]:
    """Input images of the target's shape: each plane for a flat target, each channel's stack for a stack."""
    if item.truth.shape[0] == 1:
        return [plane for channel in item.inputs for plane in channel]
    return list(item.inputs)


def _moments(item: ScoredField, block: int) -> NDArray[np.float64]:
    """Give sums of 1, t, p, t², p², t p in every block of the field that has valid voxels: (blocks, 6)."""
    rows = []
    height, width = item.truth.shape[-2:]
    for y in range(0, max(1, height - block // 2), block):
        for x in range(0, max(1, width - block // 2), block):
            part = (slice(None), slice(y, _end(y, block, height)), slice(x, _end(x, block, width)))
            keep = item.mask[part]
            if keep.any():
                t, p = item.truth[part][keep].astype(float), item.prediction[part][keep].astype(float)
                rows.append([t.size, t.sum(), p.sum(), (t * t).sum(), (p * p).sum(), (t * p).sum()])
    return np.array(rows)


def _end(start: int, block: int, n: int) -> int:
    """End of a block; a last piece of half a block or less goes to its neighbour."""
    return n if n - (start + block) <= block // 2 else start + block


def block_interval(item: ScoredField, *, block: int = 96, seed: int = 0) -> Interval:
    """Pearson's r of one whole field, with an interval over its blocks.

    Blocks of `block` pixels are resampled and r is computed anew from their pooled sums. Neighbouring blocks are not
    independent, so the interval is a lower bound on the uncertainty.
    """
    sums = _moments(item, block)

    def pooled(index: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
        n, t, p, tt, pp, tp = np.moveaxis(sums[index.astype(int)].sum(axis=axis), -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw of empty blocks alone has no r
            return (tp - t * p / n) / np.sqrt((tt - t * t / n) * (pp - p * p / n))

    return bootstrap_interval(np.arange(len(sums), dtype=float), statistic=pooled, seed=seed)


def score_table(scored: Iterable[ScoredField], *, seed: int = 0) -> pd.DataFrame:
    """Score predicted fields: `summarise`, with block intervals for a channel that only one field has.

    Fields are taken one by one; of each channel the first is kept until there is a second.
    """
    rows: list[dict[str, Any]] = []
    alone: dict[str, ScoredField | None] = {}
    for item in scored:
        rows.append(score_field(item))
        alone[item.channel] = None if item.channel in alone else item
    table = summarise(rows, seed=seed)
    for channel, single in alone.items():
        if single is not None:
            interval = block_interval(single, seed=seed)
            row = (table["channel"] == channel) & (table["metric"] == "pearson")
            for name, value in (
                ("low", interval.low),
                ("high", interval.high),
                ("n", interval.n),
                ("level", "block"),
            ):
                table.loc[row, name] = value
    return table


def summarise(rows: Sequence[dict[str, Any]], *, seed: int = 0) -> pd.DataFrame:
    """Mean of every metric over fields, per channel, with its 95 % bootstrap interval, floor and ceiling.

    Parameters
    ----------
    rows : sequence of dict
        From `score_field`. With several groups, groups are resampled whole.

    Returns
    -------
    DataFrame
        ``channel, metric, value, low, high, n, level, floor, ceiling, median``. ``level`` names what was resampled,
        ``n`` counts the fields where the metric is defined, which all numbers are about.
    """
    table = pd.DataFrame(rows)
    out = []
    for channel, part in table.groupby("channel", sort=False):
        several = part["group"].nunique() > 1 and part["group"].nunique() < len(part)
        for metric in METRICS:
            interval = bootstrap_interval(
                part[metric].to_numpy(float), seed=seed, groups=part["group"].to_numpy() if several else None
            )
            defined = part[part[metric].notna()]
            ceiling = defined.get(f"ceiling_{metric}")
            out.append({
                "channel": channel, "metric": metric, "value": interval.value, "low": interval.low,
                "high": interval.high, "n": len(defined), "level": "field in group" if several else "field",
                "floor": defined[f"floor_{metric}"].mean(), "ceiling": math.nan if ceiling is None else ceiling.mean(),
                "median": defined[metric].median(),
            })  # fmt: skip
    return pd.DataFrame(out)
