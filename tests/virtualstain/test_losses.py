"""Losses: masks decide what counts, missing channels cost nothing, each term means what its name says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from image2reg.errors import ConfigurationError
from virtualstain.losses import StainLoss, StainLossSettings, correlation_loss


def batch(seed: int = 0, shape: tuple[int, ...] = (2, 3, 1, 24, 24)) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g), torch.randn(shape, generator=g)


EVERY = StainLossSettings(l1=1, mse=1, correlation=1, ssim=1)


def test_terms_equal_their_textbook_value_without_a_mask() -> None:
    p, t = batch()
    terms = StainLoss(EVERY)(p, t, torch.ones_like(p))
    assert float(terms["l1"]) == pytest.approx(float((p - t).abs().mean()), rel=1e-5)
    assert float(terms["mse"]) == pytest.approx(float(((p - t) ** 2).mean()), rel=1e-5)
    r = [np.corrcoef(p[b, k].ravel(), t[b, k].ravel())[0, 1] for b in range(2) for k in range(3)]
    assert float(terms["correlation"]) == pytest.approx(1 - np.mean(r), abs=1e-3)
    parts = [v for name, v in terms.items() if name != "loss"]
    assert float(terms["loss"]) == pytest.approx(float(torch.stack(parts).sum()), rel=1e-6)


def test_a_perfect_prediction_costs_next_to_nothing() -> None:
    _, t = batch()
    terms = StainLoss(EVERY)(t.clone(), t, torch.ones_like(t))
    assert float(terms["loss"]) < 1e-3


def test_what_is_masked_has_no_influence_not_even_nan() -> None:
    p, t = batch()
    mask = torch.ones_like(t)
    mask[:, :, :, :8] = 0
    wild = t.clone()
    wild[:, :, :, :8] = float("nan")
    loss = StainLoss(EVERY)
    calm = torch.where(mask > 0, t, torch.zeros(()))
    assert float(loss(p, wild, mask)["loss"]) == pytest.approx(float(loss(p, calm, mask)["loss"]), rel=1e-6)


def test_a_missing_channel_is_left_out_of_the_mean() -> None:
    p, t = batch()
    mask = torch.ones_like(t)
    mask[0, 1] = 0
    whole = StainLoss(StainLossSettings(l1=1))
    per_channel = (p - t).abs().mean((2, 3, 4))
    kept = torch.tensor([[1.0, 0, 1], [1, 1, 1]])
    assert float(whole(p, t, mask)["loss"]) == pytest.approx(float((per_channel * kept).sum() / 5), rel=1e-5)
    p = p.requires_grad_()
    whole(p, t, mask)["loss"].backward()
    assert float(p.grad[0, 1].abs().sum()) == 0


def test_correlation_does_not_see_gain_and_offset_and_survives_background() -> None:
    _, t = batch()
    ones = torch.ones_like(t)
    assert float(correlation_loss(3 * t + 7, t, ones).abs().max()) < 1e-3
    flat = torch.zeros_like(t).requires_grad_()
    correlation_loss(flat, torch.zeros_like(t), ones).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_a_missing_channel_leaves_every_gradient_finite() -> None:
    p, t = batch()
    mask = torch.ones_like(t)
    mask[0, 1] = 0
    p = p.requires_grad_()
    StainLoss(EVERY)(p, t, mask)["loss"].backward()
    assert torch.isfinite(p.grad).all()
    assert float(p.grad[0, 1].abs().sum()) == 0


def test_the_privileged_mask_is_charged_by_cross_entropy() -> None:
    loss = StainLoss(StainLossSettings(nuclei=2))
    nuclei = (torch.rand(1, 1, 1, 8, 8) > 0.5).float()
    right, wrong = 20 * (2 * nuclei - 1), -20 * (2 * nuclei - 1)
    assert float(loss.nuclei(right, nuclei, torch.ones_like(nuclei))) < 1e-6
    assert float(loss.nuclei(wrong, nuclei, torch.ones_like(nuclei))) == pytest.approx(40, rel=1e-4)


def test_lpips_without_its_extra_says_what_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"virtualstain\[perceptual\].*or set loss.lpips=0"):
        StainLoss(StainLossSettings(lpips=1))


def test_lpips_takes_whole_planes_as_grey_pictures() -> None:
    seen = []

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append((a.shape, float(a.min()), float(a.max())))
        return (a - b).abs().mean((1, 2, 3))

    p, t = batch(shape=(1, 2, 3, 16, 16))
    mask = torch.ones_like(t)
    mask[0, 0, 0, 0, 0] = 0
    value = StainLoss(StainLossSettings(l1=0, lpips=1), perceptual=distance)(p, t, mask)["lpips"]
    assert seen[0][0] == (6, 3, 16, 16)
    assert -1 <= seen[0][1] <= seen[0][2] <= 1
    planes = ((p - torch.where(mask > 0, t, torch.zeros(()))) / 3).abs().mean((3, 4)).flatten()
    assert float(value) == pytest.approx(
        float(planes[1:].mean()), rel=0.05
    )  # the clipped tails differ a little


def test_compression_keeps_order_and_small_values_and_asks_for_less_the_brighter() -> None:
    y = torch.linspace(-3, 12, 301)
    asked = StainLoss(StainLossSettings(mse=1, compression=2.0)).asked(y)
    assert torch.all(asked.diff() > 0)
    dim = y.abs() < 0.5
    torch.testing.assert_close(asked[dim], y[dim], atol=0.006, rtol=0)
    torch.testing.assert_close(asked, 2 * torch.asinh(y / 2))
    assert torch.all(asked[y > 1].diff().diff() < 1e-6)
    assert StainLoss(StainLossSettings(mse=1)).asked(y) is y


def test_emphasis_counts_nuclei_and_their_rims_more_and_nothing_without_annotation() -> None:
    criterion = StainLoss(StainLossSettings(l1=1.0, correlation=1.0, emphasis=3.0))
    mask, nuclei = torch.ones(2, 1, 1, 40, 40), torch.zeros(2, 1, 1, 40, 40)
    nuclei[:, :, :, 20, 20] = 1
    annotated = torch.stack([torch.ones(1, 1, 40, 40), torch.zeros(1, 1, 40, 40)])
    weights = criterion.emphasised(mask, nuclei, annotated)
    assert weights[0, 0, 0, 12, 28] == 4
    assert weights[0, 0, 0, 11, 20] == 1
    assert (weights[1] == 1).all()
    generator = torch.Generator().manual_seed(0)
    p, t = (torch.randn(2, 1, 1, 40, 40, generator=generator) for _ in range(2))
    terms = criterion(p, t, mask, weights)
    w = weights.numpy().reshape(2, -1)
    expected = np.mean([np.average(np.abs(a - b), weights=c) for a, b, c in zip(*flat(p, t), w, strict=True)])
    assert terms["l1"].item() == pytest.approx(expected, rel=1e-5)
    r = []
    for a, b, c in zip(*flat(p, t), w, strict=True):
        covariance = np.cov(a, b, aweights=c, ddof=0)
        r.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    assert terms["correlation"].item() == pytest.approx(1 - np.mean(r), abs=1e-3)


def flat(*values: torch.Tensor) -> list[np.ndarray]:
    return [v.numpy().reshape(len(v), -1) for v in values]
