"""How well crops survive the autoencoder, per channel, beside JPEG at the same rate."""

from __future__ import annotations

import bisect
import io

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from morphgen.autoencoder import MorphologyAutoencoder
from morphgen.crop_features import channels_of, crop_features
from morphgen.crops import IntensityRange

__all__ = ["jpeg_round_trip", "quantised_round_trip", "reconstruction_table", "round_trip"]

_JPEG_SIDE = 65_500


@torch.no_grad()
def round_trip(
    autoencoder: MorphologyAutoencoder,
    intensity: IntensityRange,
    crops: NDArray[np.floating],
    *,
    batch: int = 64,
) -> NDArray[np.float32]:
    """Crops (N, C, *spatial) in recorded units through the autoencoder and back."""
    x = torch.from_numpy(intensity.apply(crops))
    return np.concatenate([intensity.undo(autoencoder(part).numpy()) for part in x.split(batch)])


@torch.no_grad()
def quantised_round_trip(
    autoencoder: MorphologyAutoencoder,
    intensity: IntensityRange,
    crops: NDArray[np.floating],
    *,
    step: float,
    batch: int = 64,
) -> tuple[NDArray[np.float32], float]:
    """Crops through latents rounded to multiples of `step`, and what these take to store.

    Parameters
    ----------
    crops : (N, C, *spatial)
        Recorded units.
    step : float
        In standard deviations of the latents.

    Returns
    -------
    crops, bits
        Recorded units; bits per crop by the entropy of the rounded latents, channel by channel: what an ideal entropy
        code of independent numbers needs.
    """
    x = torch.from_numpy(intensity.apply(crops))
    latents = torch.cat([autoencoder.encode(part) for part in x.split(batch)])
    rounded = torch.round(latents / step)
    bits = 0.0
    for channel in rounded.transpose(0, 1).reshape(rounded.shape[1], -1):
        share = torch.unique(channel, return_counts=True)[1] / channel.numel()
        bits -= float((share * share.log2()).sum()) * channel.numel()
    made = [autoencoder.decode(part * step).numpy() for part in rounded.split(batch)]
    return intensity.undo(np.concatenate(made)), bits / len(crops)


def jpeg_round_trip(
    crops: NDArray[np.floating], intensity: IntensityRange, *, bits_per_crop: float
) -> tuple[NDArray[np.float32], float]:
    """Send crops of planes through JPEG at the lowest quality that takes at least so many bits.

    All crops of a channel are one grey picture, so that headers and code tables, which are counted, weigh nothing:
    sides are brought to multiples of JPEG's blocks of 8 pixels by repeating the edge, and no block holds two crops.

    Returns
    -------
    crops, bits
        Recorded units; the rate that was reached, bits per crop. The highest quality where no quality takes as many.
    """
    grey = np.rint((np.clip(intensity.apply(crops), -1, 1) + 1) * 127.5).astype(np.uint8)
    n, channels, height, width = grey.shape
    padded = np.pad(grey, ((0, 0), (0, 0), (0, -height % 8), (0, -width % 8)), mode="edge")
    planes = padded.swapaxes(0, 1).reshape(-1, *padded.shape[2:])
    cuts = range(0, len(planes), min(n, _JPEG_SIDE // planes.shape[1]))
    sheets = [planes[cut : cut + cuts.step].reshape(-1, planes.shape[2]) for cut in cuts]
    quality = bisect.bisect_left(
        range(1, 100), bits_per_crop, key=lambda q: 8 * sum(len(_encoded(s, q)) for s in sheets) / n
    )
    files = [_encoded(sheet, quality + 1) for sheet in sheets]
    decoded = np.concatenate([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    decoded = decoded.reshape(channels, n, *padded.shape[2:]).swapaxes(0, 1)[..., :height, :width]
    return intensity.undo(decoded.astype(np.float32) / 127.5 - 1), 8 * sum(map(len, files)) / n


def _encoded(plane: NDArray[np.uint8], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def reconstruction_table(
    real: NDArray[np.floating],
    made: NDArray[np.floating],
    intensity: IntensityRange,
    channels: tuple[str, ...],
) -> pd.DataFrame:
    """PSNR, SSIM and feature errors per channel.

    Parameters
    ----------
    real, made : (N, C, Y, X)
        Recorded units.

    Returns
    -------
    DataFrame, one row per channel
        ``channel``; ``psnr`` (dB over the intensity range) and ``ssim``, means over crops; ``feature_error``: median
        over features of the mean absolute difference in units of the feature's standard deviation over crops;
        ``feature_r``: median over features of the correlation over crops. Both NaN where no nucleus is found.
    """
    from skimage.metrics import structural_similarity

    first, second = (np.clip(intensity.apply(x), -1, 1) for x in (real, made))
    tables = [crop_features(np.asarray(x, np.float32), channels=channels) for x in (real, made)]
    rows = []
    for c, name in enumerate(channels):
        error = np.maximum(((first[:, c] - second[:, c]) ** 2).mean((1, 2)), 1e-10)
        similarity = [
            structural_similarity(a, b, data_range=2.0)
            for a, b in zip(first[:, c], second[:, c], strict=True)
        ]
        row = {
            "channel": name, "psnr": float((10 * np.log10(4 / error)).mean()), "ssim": float(np.mean(similarity)),
            "feature_error": np.nan, "feature_r": np.nan,
        }  # fmt: skip
        rows.append(row)
        own = [f for f in tables[0] if name in channels_of(f, channels) or (c == 0 and "AreaShape" in f)]
        a, b = (t[own].to_numpy(np.float64) for t in tables)
        found = np.isfinite(a).all(1) & np.isfinite(b).all(1)
        if found.sum() < 2:
            continue
        spread = a[found].std(0)
        kept = spread > 1e-9
        a, b, spread = a[found][:, kept], b[found][:, kept], spread[kept]
        z = (a - a.mean(0)) / spread
        w = (b - b.mean(0)) / np.maximum(b.std(0), 1e-9)
        row["feature_error"] = float(np.median(np.abs(a - b).mean(0) / spread))
        row["feature_r"] = float(np.median((z * w).mean(0)))
    return pd.DataFrame(rows)
