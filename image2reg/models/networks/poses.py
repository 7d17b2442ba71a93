"""Test-time augmentation: the mean over an image's eight poses, four turns of it and of its mirror image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from image2reg.models.networks.interface import ImageNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EightPoses", "mean_of_poses"]


def mean_of_poses(predict: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Predict the eight turns and mirrorings of Y and X, set them upright and average.

    Parameters
    ----------
    predict : callable
        (B, C, ..., Y, X) to (B, K, ..., Y, X): maps that turn with the image, so no directions.
    x : (B, C, ..., Y, X)

    Returns
    -------
    (B, K, ..., Y, X) float32
    """
    total = torch.zeros(())
    for mirrored in (False, True):
        for turns in range(4):
            pose = torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1))
            y = torch.rot90(predict(pose).float(), -turns, (-2, -1))
            total = total + (y.flip(-1) if mirrored else y)
    return total / 8


class EightPoses(ImageNetwork):
    """A network that predicts the mean over eight poses, at eight times the cost."""

    def __init__(self, network: ImageNetwork) -> None:
        super().__init__()
        self.network, self.dims, self.divisor = network, network.dims, network.divisor

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to (B, K, *spatial); Y and X are multiples of both their divisors."""
        return mean_of_poses(self.network, x)
