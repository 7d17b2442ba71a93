"""Encoder networks: a branch for the nucleus, one for the region, one embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EncoderNetwork", "build_encoder"]


class SmallBranch(nn.Sequential):
    """Four strided convolutions, then mean and maximum over the image, so that a shift changes next to nothing."""

    def __init__(self, n_channels: int, width: int = 16) -> None:
        widths = (width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        before = n_channels
        for index, after in enumerate(widths):
            stride, kernel = (2, 5) if index == 0 else (2 if index < 3 else 1, 3)
            convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        super().__init__(*layers)
        self.n_features = 2 * before

    def maps(self, x: Tensor) -> Tensor:
        """Give the second convolution's maps, (N, 2 width, y / 4, x / 4): fine enough to show a place in a nucleus."""
        for layer in list(self)[:6]:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Give (N, n_features)."""
        maps = super().forward(x)
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around which the input passes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        same = before == after and stride == 1
        shortcut = (nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.shortcut: nn.Module = nn.Identity() if same else nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Give (N, after, y, x)."""
        return functional.relu(self.convolutions(x) + self.shortcut(x))


class ResNet9Branch(nn.Module):
    """The nine-convolution network of the SoRa epigenetic-profiling study: ResNet18 cut off after its second stage.

    The study's last layer is a linear map of 128 x 75 x 75 numbers, which ties the answer to where in the crop the
    nucleus lies; here the maps are averaged. Random initial weights, no ImageNet.
    """

    n_features = 128

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(n_channels, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        blocks = (
            ResidualBlock(64, 64, 1),
            ResidualBlock(64, 64, 1),
            ResidualBlock(64, 128, 2),
            ResidualBlock(128, 128, 1),
        )
        self.stages = nn.Sequential(*blocks)

    def maps(self, x: Tensor) -> Tensor:
        """Give the second stage's maps, (N, 128, y / 8, x / 8)."""
        found: Tensor = self.stages(self.stem(x))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Give (N, 128)."""
        return self.maps(x).mean(dim=(2, 3))


class ResNet18Branch(nn.Module):
    """ResNet18 to 512 features on crops resized to 224 pixels; random initial weights, no ImageNet."""

    n_features = 512

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        from monai.networks.nets import resnet18

        self.network = resnet18(
            spatial_dims=2, n_input_channels=n_channels, num_classes=512, conv1_t_stride=2
        )

    def maps(self, x: Tensor) -> Tensor:
        """Give the last stage's maps, (N, 512, 7, 7)."""
        net = self.network
        found: Tensor = net.maxpool(net.act(net.bn1(net.conv1(_resized(x)))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            found = stage(found)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Give (N, 512)."""
        found: Tensor = self.network(_resized(x))
        return found


def _resized(x: Tensor) -> Tensor:
    return functional.interpolate(x, size=224, mode="bilinear", align_corners=False)


_BRANCHES: dict[str, Any] = {
    "small": SmallBranch, "resnet9": ResNet9Branch, "two_branch_resnet18": ResNet18Branch,
}  # fmt: skip


class EncoderNetwork(nn.Module):
    """Branches side by side, a linear embedding, and a head for classes.

    Parameters
    ----------
    design : str
        ``small``, ``resnet9`` or ``two_branch_resnet18``.
    branches : sequence of str
        ``nucleus``, ``context``.
    n_channels : int
    n_features : int
        Length of the embedding; 1024 in the published design.
    n_classes : int
    """

    def __init__(
        self, design: str, branches: tuple[str, ...], n_channels: int, n_features: int, n_classes: int
    ) -> None:
        super().__init__()
        published = design == "two_branch_resnet18"
        made = {name: _BRANCHES[design](n_channels) for name in branches}
        self.branches = nn.ModuleDict(made)
        width = sum(branch.n_features for branch in made.values())
        self.embedding = nn.Linear(width, n_features)
        self.head = nn.Sequential(
            nn.BatchNorm1d(n_features),
            nn.PReLU() if published else nn.ReLU(),
            nn.Linear(n_features, n_classes),
        )

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Embed a batch: (N, n_features) of ``{branch: (N, C, Y, X)}``."""
        found = [branch(inputs[name]) for name, branch in self.branches.items()]
        embedded: Tensor = self.embedding(torch.cat(found, dim=1))
        return embedded

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Score classes: (N, n_classes) logits."""
        logits: Tensor = self.head(self.embed(inputs))
        return logits


def build_encoder(design: str, **arguments: Any) -> EncoderNetwork:
    """Make a network of the arguments that a bundle stores."""
    arguments["branches"] = tuple(arguments["branches"])
    return EncoderNetwork(design, **arguments)
