"""The mean over eight poses turns with the image, and changes nothing that is the same in all of them."""

from __future__ import annotations

import pytest
import torch
from small_nuclei import bright_segmenter, discs, grid
from torch import nn

from image2reg.errors import ConfigurationError
from image2reg.models.networks.poses import EightPoses, mean_of_poses
from image2reg.nuclei.match import match
from image2reg.nuclei.segmenters.catalogue import load_segmenter
from image2reg.nuclei.segmenters.network import NetworkSegmenter


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(2, 3, 3, padding=1).requires_grad_(False)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_image_gives_the_turned_map(network, turns, mirrored) -> None:
    x = torch.randn(2, 2, 7, 11)

    def pose(y: torch.Tensor) -> torch.Tensor:
        return torch.rot90(y.flip(-1) if mirrored else y, turns, (-2, -1))

    upright = mean_of_poses(network, x)
    assert upright.shape == (2, 3, 7, 11)
    torch.testing.assert_close(mean_of_poses(network, pose(x)), pose(upright))
    # The network alone does not turn with the image.
    assert not torch.allclose(network(pose(x)), pose(network(x)), atol=1e-2)


def test_what_turns_with_the_image_stays_as_it_is() -> None:
    x = torch.randn(1, 2, 6, 9)
    torch.testing.assert_close(mean_of_poses(lambda pose: 2 * pose - 1, x), 2 * x - 1)


def test_stacks_turn_in_y_and_x_only() -> None:
    x = torch.randn(1, 1, 4, 6, 5)
    depth = torch.arange(4.0)[:, None, None]
    torch.testing.assert_close(mean_of_poses(lambda pose: pose * depth, x), x * depth)


def test_a_segmenter_in_eight_poses_sees_eight_and_finds_the_same_discs() -> None:
    image, labels = discs((150, 200), grid(4)[:12], 28)
    plain = bright_segmenter()
    posed = NetworkSegmenter("posed", "distance_unet", EightPoses(plain.network).eval())
    plain.network.seen.clear()
    found = match(labels, posed.segment(image, diameter_px=28)).at(0.85)
    assert len(plain.network.seen) == 8
    assert len({tuple(shape) for shape in plain.network.seen}) == 2  # lying and standing
    assert found["fp"] == found["fn"] == 0


def test_the_shipped_segmenter_turns_with_the_image_in_eight_poses() -> None:
    image, _ = discs((160, 192), grid(5), 26, blur=2.0)
    segmenter = load_segmenter("nuclei", device="cpu", tta=True)
    once = segmenter.segment(image, diameter_px=28)
    turned = segmenter.segment(image[:, ::-1].T.copy(), diameter_px=28)
    assert ((once > 0) != (turned.T[:, ::-1] > 0)).mean() < 1e-3
    assert once.max() == turned.max() > 0


@pytest.mark.parametrize("name", ["classical", "texture"])
def test_without_a_network_there_is_nothing_to_average(name) -> None:
    with pytest.raises(ConfigurationError, match=rf"'{name}' has no network.*--tta"):
        load_segmenter(name, tta=True)


def test_maps_with_directions_are_not_averaged() -> None:
    from image2reg.nuclei.segmenters.network import _in_eight_poses

    with pytest.raises(ConfigurationError, match=r"hover_net predicts does not turn.*--tta"):
        _in_eight_poses(EightPoses(bright_segmenter().network), "hover_net")
