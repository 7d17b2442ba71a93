"""The fine texture an autoencoder does not keep, drawn at random with the strength and grain it was seen to have.

A decoder trained by mean error gives the mean of all crops that share a latent: it is smoother than any of them, and
every measure of texture shows it. What is missing is measured once on training crops, as a Gaussian field: its strength
depends on the brightness and on the texture of the decoded place, its grain (power spectrum) is the same everywhere.
It is the observation model of the autoencoder, ``p(x | z)``, with a covariance that is not white.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["ResidualTexture"]

_FLOOR = 1e-6
_GRAINS = 33


class ResidualTexture:
    """Gaussian residual of decoded planes in [-1, 1], each channel by itself.

    Parameters
    ----------
    strength : (C, 6) float
        Coefficients of the logarithm of the variance on 1, log brightness, log texture, their squares and product.
    spectrum : (C, 33) float
        Power by spatial frequency, from 0 to the Nyquist frequency along an axis; mean 1 over the plane's frequencies.
    """

    def __init__(self, strength: Sequence[Sequence[float]], spectrum: Sequence[Sequence[float]]) -> None:
        self.strength = torch.tensor(strength, dtype=torch.float32)
        self.spectrum = torch.tensor(spectrum, dtype=torch.float32)

    def as_dict(self) -> dict[str, Any]:
        """Numbers for a bundle's description."""
        rounded = {
            name: np.round(getattr(self, name).double().numpy(), 6) for name in ("strength", "spectrum")
        }
        return {name: values.tolist() for name, values in rounded.items()}

    @classmethod
    def fit(cls, crops: NDArray[np.float32], decoded: NDArray[np.float32]) -> ResidualTexture:
        """Measure over training crops (N, C, Y, X) in [-1, 1] and what the autoencoder makes of them."""
        strengths, spectra = [], []
        for c in range(crops.shape[1]):
            seen = torch.from_numpy(decoded[:, c : c + 1])
            residual = torch.from_numpy(crops[:, c : c + 1]) - seen
            terms = _terms(seen)
            local = _smooth(residual.square(), 5)
            shown = (seen > seen.amin() + 0.05 * (seen.amax() - seen.amin())).flatten()
            x, y = terms.reshape(6, -1).T[shown].double(), (local.flatten()[shown] + _FLOOR).log().double()
            weights = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
            variance = (terms.reshape(6, -1).T.double() @ weights).exp()
            # A mean of logarithms is not the logarithm of the mean.
            weights[0] += (residual.flatten()[shown].double().square().mean() / variance[shown].mean()).log()
            scaled = (
                residual
                / (terms.reshape(6, -1).T.double() @ weights / 2).exp().reshape(residual.shape).float()
            )
            scaled = scaled * shown.reshape(scaled.shape)
            power = torch.fft.rfft2(scaled[:, 0]).abs().square().mean(0)
            strengths.append(weights.tolist())
            spectra.append(_by_radius(power).tolist())
        return cls(strengths, spectra)

    def draw(self, decoded: Tensor, white: Tensor) -> Tensor:
        """Add the residual made of white noise (B, C, Y, X) to decoded planes of that shape."""
        height, width = decoded.shape[-2:]
        radius = _radius(height, width).to(decoded.device)
        made = []
        for c in range(decoded.shape[1]):
            place = (radius * (_GRAINS - 1)).clamp(max=_GRAINS - 1)
            low = place.floor().long()
            spectrum = self.spectrum[c].to(decoded.device)
            power = torch.lerp(spectrum[low], spectrum[(low + 1).clamp(max=_GRAINS - 1)], place - low)
            field = torch.fft.irfft2(
                torch.fft.rfft2(white[:, c]) * power.clamp_min(0).sqrt(), s=(height, width)
            )
            seen = decoded[:, c : c + 1]
            terms = _terms(seen)
            deviation = (torch.einsum("k,kbcyx->bcyx", self.strength[c].to(terms.device), terms) / 2).exp()
            made.append(seen + deviation.clamp(max=1.0) * field[:, None] * _shown(seen))
        return torch.cat(made, 1)


def _shown(seen: Tensor) -> Tensor:
    """Fade the residual out on the background, where a decoded crop is within 5 % of the darkest value."""
    return ((seen + 1) / 0.05 - 0.2).clamp(0, 1)


def _smooth(x: Tensor, k: int) -> Tensor:
    return functional.avg_pool2d(x, k, stride=1, padding=k // 2, count_include_pad=False)


def _terms(seen: Tensor) -> Tensor:
    """(6, B, 1, Y, X): 1, logarithms of brightness and of the local variance of the fine band, squares, product."""
    level = ((seen + 1).clamp_min(0) + 0.02).log()
    texture = (_smooth((seen - _smooth(seen, 5)).square(), 5) + _FLOOR).log()
    return torch.stack([torch.ones_like(level), level, texture, level**2, texture**2, level * texture])


def _radius(height: int, width: int) -> Tensor:
    """Spatial frequency of each place of a real Fourier transform, 1 at the Nyquist frequency of an axis."""
    y, x = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    return (2 * (y.square() + x.square()).sqrt()).clamp(max=1.0)


def _by_radius(power: Tensor) -> Tensor:
    """Mean power in 33 rings, scaled so that a field drawn with it has variance 1."""
    height, width = power.shape[0], 2 * (power.shape[1] - 1)
    ring = (_radius(height, width) * (_GRAINS - 1)).round().long()
    total = torch.zeros(_GRAINS, dtype=power.dtype).index_add(0, ring.flatten(), power.flatten())
    count = torch.zeros(_GRAINS, dtype=power.dtype).index_add(
        0, ring.flatten(), torch.ones_like(power).flatten()
    )
    rings = total / count.clamp_min(1)
    for k in range(1, _GRAINS):  # small windows leave rings empty
        rings[k] = rings[k] if count[k] else rings[k - 1]
    return rings / rings[ring].mean()
