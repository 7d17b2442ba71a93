"""LPIPS: what it says when something of it is missing; its value where the extra is installed."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from image2reg.errors import BundleError, ConfigurationError
from image2reg.models import perceptual


class StandIn(torch.nn.Module):
    """Has the shape of `lpips.LPIPS`: a sliced backbone under ``net`` and a call that gives (B, 1, 1, 1)."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options
        self.net = torch.nn.Module()
        self.net.slice1 = torch.nn.Sequential()
        self.net.slice1.add_module("0", torch.nn.Conv2d(3, 4, 3))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (self.net.slice1(a) - self.net.slice1(b)).abs().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lpips")
    module.LPIPS = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(
        perceptual.importlib.util, "find_spec", lambda name: object() if name == "lpips" else None
    )


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigurationError, match=r"'lpips', which is not installed: pip install 'virtualstain\[perc"
    ):
        perceptual.lpips_distance(tmp_path / "alexnet.safetensors")


def test_a_torchvision_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setitem(sys.modules, "torchvision", None)  # import raises ImportError
    with pytest.raises(ConfigurationError, match=r"does not load with torch .*pip uninstall torchvision"):
        perceptual.lpips_distance(tmp_path / "alexnet.safetensors")


@pytest.mark.usefixtures("installed")
def test_a_missing_or_foreign_backbone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.safetensors"
    with pytest.raises(BundleError, match="no LPIPS backbone there"):
        perceptual.lpips_distance(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(BundleError, match="not a readable safetensors file"):
        perceptual.lpips_distance(path)
    save_file({"classifier.weight": torch.zeros(2)}, path)
    with pytest.raises(
        BundleError, match=r"not an AlexNet: 2 weights missing, the first is 'features\.0\.bias'"
    ):
        perceptual.lpips_distance(path)


@pytest.mark.usefixtures("installed")
def test_the_backbone_is_the_users_file_and_is_not_trained(tmp_path: Path) -> None:
    weights = {"features.0.weight": torch.randn(4, 3, 3, 3), "features.0.bias": torch.zeros(4)}
    save_file(weights, tmp_path / "alexnet.safetensors")
    distance = perceptual.lpips_distance(tmp_path / "alexnet.safetensors")
    a, b = torch.rand(2, 3, 8, 8, requires_grad=True), torch.rand(2, 3, 8, 8)
    expected = (
        (
            torch.nn.functional.conv2d(a, weights["features.0.weight"])
            - torch.nn.functional.conv2d(b, weights["features.0.weight"])
        )
        .abs()
        .mean((1, 2, 3))
    )
    value = distance(a, b)
    assert value.shape == (2,)
    assert torch.allclose(value, expected, atol=1e-6)
    value.sum().backward()
    assert a.grad is not None
    # as on a GPU, where the training moves its own modules only
    elsewhere = torch.rand(2, 3, 8, 8, device="meta")
    assert distance(elsewhere, elsewhere).device.type == "meta"
