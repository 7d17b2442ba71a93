"""What a prediction is charged for. Every term is a mean over the voxels that count.

A target may be missing for a channel of a field, and registration leaves borders without data: both arrive as
one mask (B, K, *spatial), 1 where the target is real. Terms are averaged per sample and channel over their
valid voxels, then over the samples and channels present, so that a half-empty field weighs no more than a
full one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional

from image2reg.errors import ConfigurationError

RIM = (1, 17, 17)  # window of the rim around a nucleus that `emphasis` reaches: 8 pixels either way

__all__ = ["StainLoss", "StainLossSettings", "correlation_loss"]

Weight = Annotated[float, Field(ge=0)]


class StainLossSettings(BaseModel):
    """Weights of the terms; 0 leaves a term out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    l1: Weight = 1.0
    mse: Weight = 0.0
    correlation: Weight = 0.0
    ssim: Weight = 0.0
    lpips: Weight = 0.0
    nuclei: Weight = 0.0
    """Cross-entropy of a nucleus mask the network predicts in training only: learning with privileged information."""
    emphasis: Weight = 0.0
    """How much more a voxel in or near an annotated nucleus counts in the L1, squared and correlation terms."""
    compression: Weight = 0.0
    """Standard deviations c beyond which brightness y is asked for less and less, as ``c asinh(y / c)``; 0 never.

    A few voxels near saturation otherwise decide the squared error: with little data they are learned by heart, and
    what was not seen is predicted too bright wherever it is bright.
    """

    @model_validator(mode="after")
    def _asks_for_the_stain(self) -> StainLossSettings:
        if not (self.l1 or self.mse or self.correlation or self.ssim or self.lpips):
            raise ValueError("l1, mse, correlation, ssim and lpips are all 0: give one of them a weight")
        return self

    @property
    def privileged(self) -> bool:
        """Whether training reads nucleus masks."""
        return self.nuclei > 0 or self.emphasis > 0


def _per_channel_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid voxels: (B, K, *spatial) to (B, K)."""
    axes = tuple(range(2, values.ndim))
    return (values * mask).sum(axes) / mask.sum(axes).clamp_min(1)


def _over_present(per_channel: Tensor, mask: Tensor) -> Tensor:
    """Mean over the samples and channels that have any valid voxel."""
    present = mask.flatten(2).any(-1).to(per_channel.dtype)
    return (per_channel * present).sum() / present.sum().clamp_min(1)


def correlation_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """One minus (weighted) Pearson's r per sample and channel, over valid voxels: (B, K).

    Blind to gain and offset, hence always used beside an absolute term.
    """
    shape = (*prediction.shape[:2], *([1] * (prediction.ndim - 2)))
    p = prediction - _per_channel_mean(prediction, mask).reshape(shape)
    t = target - _per_channel_mean(target, mask).reshape(shape)
    axes = tuple(range(2, p.ndim))
    # The constant keeps the gradient finite in patches of bare background, where r has no meaning, and in channels
    # that are missing, where the root of 0 would have none.
    pp, tt, pt = ((mask * a * b).sum(axes) for a, b in ((p, p), (t, t), (p, t)))
    return 1 - pt / (pp * tt + 1e-4 * mask.sum(axes).clamp_min(1) ** 2).sqrt()


def _ssim_loss(prediction: Tensor, target: Tensor, mask: Tensor, data_range: float) -> Tensor:
    """One minus structural similarity (Wang 2004; uniform 7-voxel window, 3 in Z), over valid voxels: (B, K)."""
    spatial = prediction.ndim - 2
    window = [7] * spatial if spatial == 2 else [min(3, prediction.shape[2]) | 1, 7, 7]
    if prediction.ndim == 5 and prediction.shape[2] < window[0]:
        window[0] = 1
    pool = functional.avg_pool2d if spatial == 2 else functional.avg_pool3d

    def mean(x: Tensor) -> Tensor:
        return pool(x, window, stride=1)

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mp, mt = mean(prediction), mean(target)
    vp, vt = mean(prediction * prediction) - mp * mp, mean(target * target) - mt * mt
    covariance = mean(prediction * target) - mp * mt
    similarity = ((2 * mp * mt + c1) * (2 * covariance + c2)) / ((mp * mp + mt * mt + c1) * (vp + vt + c2))
    valid = (mean(mask) > 0.999).to(mask.dtype)  # windows that see nothing but valid voxels
    return _per_channel_mean(1 - similarity, valid)


class StainLoss:
    """Weighted sum of the terms of `StainLossSettings`.

    Parameters
    ----------
    settings : StainLossSettings
    data_range : float
        Range of the normalised target that SSIM's constants refer to.
    perceptual : callable, optional
        (B, 3, Y, X) pairs in [-1, 1] to (B,) distances; needed when ``lpips > 0``.
    """

    def __init__(
        self,
        settings: StainLossSettings,
        *,
        data_range: float = 6.0,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        if settings.lpips > 0 and perceptual is None:
            raise ConfigurationError(
                "loss 'lpips' needs a perceptual network: install the extra with "
                "`pip install 'virtualstain[perceptual]'` and set lpips_backbone, or set loss.lpips=0."
            )
        self.settings, self.data_range, self.perceptual = settings, data_range, perceptual

    def __call__(
        self, prediction: Tensor, target: Tensor, mask: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return every weighted-in term by name and their sum as ``loss``.

        Parameters
        ----------
        prediction, target : (B, K, *spatial) float32
            Normalised units.
        mask : (B, K, *spatial) float32
            1 where the target is real, 0 elsewhere.
        weights : (B, K, *spatial) float32, optional
            `mask` with what counts more than once (`emphasised`); for the voxel-wise terms.
        """
        weights = mask if weights is None else weights
        target = torch.where(mask > 0, target, torch.zeros_like(target))  # a missing channel may hold NaN
        s, terms = self.settings, {}
        if s.l1:
            terms["l1"] = s.l1 * _over_present(_per_channel_mean((prediction - target).abs(), weights), mask)
        if s.mse:
            terms["mse"] = s.mse * _over_present(_per_channel_mean((prediction - target) ** 2, weights), mask)
        if s.correlation:
            terms["correlation"] = s.correlation * _over_present(
                correlation_loss(prediction, target, weights), mask
            )
        if s.ssim:
            similarity = _ssim_loss(prediction, target, mask, self.data_range)
            terms["ssim"] = s.ssim * _over_present(similarity, mask)
        if s.lpips and self.perceptual is not None:
            terms["lpips"] = s.lpips * self._perceptual(prediction, target, mask)
        terms["loss"] = torch.stack(list(terms.values())).sum()
        return terms

    def asked(self, target: Tensor) -> Tensor:
        """Give what is asked for where `target` was recorded, network units: the same, or compressed where bright."""
        c = self.settings.compression
        return c * torch.asinh(target / c) if c else target

    def emphasised(self, mask: Tensor, nuclei: Tensor, annotated: Tensor) -> Tensor:
        """Weigh annotated nuclei and their rims more.

        Bright cells that nobody annotated (lymphocytes over a culture, debris) otherwise outweigh the dimmer nuclei
        that the stain is wanted for.

        Parameters
        ----------
        mask : (B, K, z, y, x)
        nuclei, annotated : (B, 1, z, y, x)
            1 inside nuclei; 1 where the field has annotations.
        """
        near = functional.max_pool3d(nuclei * annotated, RIM, stride=1, padding=[n // 2 for n in RIM])
        return mask * (1 + self.settings.emphasis * near)

    def nuclei(self, logits: Tensor, nuclei: Tensor, mask: Tensor) -> Tensor:
        """Charge the privileged output: weighted binary cross-entropy of (B, 1, *spatial) logits."""
        entropy = functional.binary_cross_entropy_with_logits(logits, nuclei, reduction="none")
        return self.settings.nuclei * _over_present(_per_channel_mean(entropy, mask), mask)

    def _perceptual(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """LPIPS of the planes, each channel as grey RGB; planes that are partly invalid are left out."""
        assert self.perceptual is not None
        y, x = prediction.shape[-2:]

        def planes(v: Tensor) -> Tensor:
            return (v / (self.data_range / 2)).clamp(-1, 1).reshape(-1, 1, y, x).expand(-1, 3, -1, -1)

        whole = mask.reshape(-1, y * x).amin(1)
        return (self.perceptual(planes(prediction), planes(target)) * whole).sum() / whole.sum().clamp_min(1)
