"""Networks keep their shapes, their published size, and see everything they are given."""

from __future__ import annotations

import pytest
import torch

from image2reg.errors import ConfigurationError
from image2reg.models.networks.shuffle_unet import fold, unfold
from image2reg.models.networks.thin_maps import convolved
from virtualstain.networks import NAMES, build_network
from virtualstain.networks.discriminator import ConditionalPatchDiscriminator, feature_matching
from virtualstain.networks.interface import deploy


def n_parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def published_size(depth: int, width: int) -> int:
    """Closed form of Ounkomol's network: two convolutions, a way down, a coarser level, a way up, two convolutions."""

    def double(i: int, o: int) -> int:
        return 27 * i * o + 27 * o * o + 6 * o

    def level(i: int, o: int, d: int) -> int:
        if d == 0:
            return double(i, o)
        return (
            double(i, o) + 8 * o * o + 3 * o + level(o, 2 * o, d - 1) + 16 * o * o + 3 * o + double(2 * o, o)
        )

    return level(1, width, depth) + 27 * width + 1


def test_fnet3d_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert n_parameters(build_network("fnet3d")) == 23_280_769


@pytest.mark.parametrize(("depth", "width", "count"), [(3, 16, 1_445_953), (3, 4, 91_057), (2, 8, 88_225)])
def test_fnet3d_follows_the_closed_form(depth: int, width: int, count: int) -> None:
    assert (
        n_parameters(build_network("fnet3d", depth=depth, width=width))
        == count
        == published_size(depth, width)
    )


SMALL = {
    "shuffle_unet": {"dims": 3, "patch": (1, 2, 2), "widths": (8, 16), "down": ((2, 2, 2),)},
    "fnet3d": {"depth": 2, "width": 4},
    "monai_unet": {"dims": 3, "widths": (4, 8), "strides": ((1, 2, 2),)},
    "ensemble": {"members": 2, "member": {"name": "fnet3d", "depth": 2, "width": 4}},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_network_keeps_the_shape_and_states_its_divisor(name: str) -> None:
    network = build_network(name, in_channels=2, out_channels=3, **SMALL[name]).eval()
    size = [2 * d for d in network.divisor]
    assert network(torch.randn(1, 2, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_a_network_is_trained(name: str) -> None:
    network = build_network(name, **SMALL[name])
    network(torch.randn(2, 1, *[2 * d for d in network.divisor])).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("patch", [(2, 2), (1, 4, 4), (2, 3, 2)])
def test_fold_and_unfold_are_inverse(patch: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *[p * n for p, n in zip(patch, (2, 3, 4), strict=False)])
    folded = fold(x, patch)
    assert folded.shape[1] == 3 * torch.tensor(patch).prod()
    assert torch.equal(unfold(folded, patch), x)


@pytest.mark.parametrize("name", NAMES)
def test_a_deployed_network_predicts_the_same(name: str) -> None:
    network = build_network(name, **SMALL[name])
    x = torch.randn(2, 1, *[2 * d for d in network.divisor])
    for _ in range(3):
        network(x)  # statistics that are not the initial ones
    with torch.no_grad():
        expected = network.eval()(x)
        made = deploy(network)(x)
    assert torch.allclose(made, expected, atol=1e-5 * float(expected.abs().max()) + 1e-6)
    n_norms = sum(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in network.modules())
    assert n_norms == 0 or name == "monai_unet"


def test_fold_equals_torch_in_two_dimensions() -> None:
    x = torch.randn(1, 2, 6, 8)
    assert torch.equal(fold(x, (2, 2)), torch.nn.functional.pixel_unshuffle(x, 2))


def test_unknown_network_and_foreign_arguments_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'unet9000' is not known\. Choose one of shuffle_unet, fnet3d, monai"
    ):
        build_network("unet9000")
    with pytest.raises(ConfigurationError, match="cannot be built with"):
        build_network("fnet3d", colour="red")
    with pytest.raises(ConfigurationError, match="names 3 axes; a 2D network needs 2"):
        build_network("shuffle_unet", dims=2, patch=(1, 2, 2))


def test_discriminator_judges_the_pair_and_matches_features() -> None:
    judge = ConditionalPatchDiscriminator(2, 1, dims=2, width=8, layers=2)
    x, real = torch.randn(1, 2, 32, 32), torch.randn(1, 1, 32, 32)
    assert feature_matching(judge(x, real), judge(x, real)).item() == pytest.approx(0, abs=1e-6)
    fake = torch.randn(1, 1, 32, 32, requires_grad=True)
    feature_matching(judge(x, fake), judge(x, real)).backward()
    assert fake.grad is not None
    assert float(fake.grad.abs().sum()) > 0
    assert not torch.equal(judge(torch.randn(1, 2, 32, 32), real)[-1], judge(x, real)[-1])


def test_thin_maps_have_true_gradients_in_bfloat16() -> None:
    torch.manual_seed(0)
    block, x = torch.nn.Conv3d(256, 512, 3, padding=1), torch.randn(4, 256, 2, 4, 4)

    def gradient(*, mixed: bool) -> torch.Tensor:
        block.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            loss = convolved(block, x).float().square().mean()
        loss.backward()
        assert block.weight.grad is not None
        return block.weight.grad.clone()

    exact = gradient(mixed=False)
    assert (gradient(mixed=True) - exact).norm() <= 0.1 * exact.norm()
