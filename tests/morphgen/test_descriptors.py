"""Descriptors say what their names say, do not see rotation, and have gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, rotate

from morphgen.descriptors import DESCRIPTORS, describe, descriptor_names

SIZE = 48


def disc(radius: float = 14, *, squeeze: float = 1.0, height: float = 0.5) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return gaussian_filter(np.where(np.hypot(y * squeeze, x / squeeze) < radius, height, 0.0), 1.5)


def spot(y0: float, x0: float, height: float = 0.3) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return height * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 3)


def measured(*images: np.ndarray) -> dict[str, np.ndarray]:
    values = describe(torch.from_numpy(np.stack(images)[:, None].astype(np.float32) * 2 - 1)).numpy()
    return dict(zip(DESCRIPTORS, values.T, strict=True))


def test_bright_spots_and_dark_gaps_are_told_apart() -> None:
    found = measured(disc(), disc() + spot(4, -5), disc() - spot(4, -5, 0.45))
    plain, bright, dark = found["middle_skewness"]
    assert bright > plain + 0.5
    assert dark < plain - 0.3
    assert found["brightest"][1] > found["brightest"][0] + 0.1


def test_size_shape_and_brightness() -> None:
    found = measured(disc(10), disc(14), disc(10, squeeze=1.3), disc(10, height=0.25))
    area = found["log_area"]
    assert area[1] - area[0] == pytest.approx(2 * np.log(1.4), abs=0.1)
    assert area[3] == pytest.approx(area[0], abs=0.02)
    ratio = found["log_axis_ratio"]
    assert ratio[2] - ratio[0] == pytest.approx(2 * np.log(1.3), abs=0.15)
    assert found["log_mean"][3] - found["log_mean"][0] == pytest.approx(-np.log(2), abs=0.02)
    assert found["log_total"][3] - found["log_total"][0] == pytest.approx(-np.log(2), abs=0.02)


def test_pieces_and_rims() -> None:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    whole = disc()
    pieces = whole * (1 - np.exp(-((y / 2) ** 2))) * (1 - np.exp(-((x / 2) ** 2)))
    hollow = whole * (0.6 + 0.4 * (np.hypot(y, x) / 14) ** 2)
    found = measured(whole, pieces, hollow)
    assert found["log_form_factor"][1] > found["log_form_factor"][0] + 0.5
    assert found["ring_1"][2] < found["ring_1"][0] - 0.15
    assert found["ring_4"][2] > found["ring_4"][0]


def test_fine_and_coarse_texture() -> None:
    noise = np.random.default_rng(0).normal(size=(SIZE, SIZE))
    fine, coarse = (gaussian_filter(noise, s) for s in (0.4, 2.2))
    found = measured(*(disc() * (1 + 0.3 * n / n.std()) for n in (fine, coarse)))
    assert found["fine"][0] > found["fine"][1] + 1
    assert found["coarse"][1] > found["coarse"][0] + 0.5


def test_rotation_changes_little() -> None:
    image = disc(12, squeeze=1.2) + spot(3, 4) + spot(-6, 1, 0.2)
    turned = measured(image, np.rot90(image), np.fliplr(image), rotate(image, 30, reshape=False, order=3))
    for name, (own, quarter, mirrored, thirty) in turned.items():
        assert quarter == pytest.approx(own, abs=0.02), name
        assert mirrored == pytest.approx(own, abs=0.02), name
        assert thirty == pytest.approx(own, abs=0.25), name


def test_channels_are_measured_by_themselves_and_against_each_other() -> None:
    nucleus, cell = disc(8), disc(20, height=0.3)  # the cell's blurred rim lies outside the ring
    inside, even = cell + 0.3 * nucleus, cell
    images = np.stack([np.stack([inside, nucleus]), np.stack([even, nucleus])]).astype(np.float32) * 2 - 1
    values = describe(torch.from_numpy(images)).numpy()
    names = descriptor_names(("GFP", "DNA"))
    assert values.shape == (2, len(names)) == (2, 2 * len(DESCRIPTORS) + 2)
    alone = describe(torch.from_numpy(images[:, 1:])).numpy()
    assert np.allclose(values[:, len(DESCRIPTORS) : 2 * len(DESCRIPTORS)], alone, atol=1e-5)
    ratio = values[:, names.index("GFP_in_to_around_DNA")]
    assert ratio[0] > ratio[1] + 0.2
    assert ratio[1] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("channels", [1, 2])
def test_gradients_are_finite_even_of_nothing(channels: int) -> None:
    crops = torch.full((3, channels, SIZE, SIZE), -1.0)
    crops[1] += 0.2 * torch.rand(channels, SIZE, SIZE)
    crops[2] = 1.0
    crops.requires_grad_()
    values = describe(crops)
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(crops.grad).all()


def test_stacks_are_measured_in_projection() -> None:
    image = torch.from_numpy(disc().astype(np.float32) * 2 - 1)[None, None]
    stack = torch.full((1, 1, 5, SIZE, SIZE), -1.0)
    stack[:, :, 2] = image
    assert torch.allclose(describe(stack), describe(image))
