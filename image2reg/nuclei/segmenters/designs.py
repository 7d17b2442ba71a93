"""The trainable designs by name: what a network is taught to draw, and how nuclei are read from it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError
from image2reg.nuclei.segmenters.scaling import WORKING_DIAMETER_PX

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

__all__ = ["NAMES", "Design", "find_design"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

# Design to module; a dense one predicts a map per pixel.
_DENSE = {"distance_unet": "distance", "three_class_unet": "three_class", "hover_net": "hover_net"}
NAMES = (*_DENSE, "mask_rcnn")


@dataclass(frozen=True)
class Design:
    """A way to segment.

    Attributes
    ----------
    build : callable
        Makes the network from its arguments; it states `dims` and `divisor` (`image2reg.models.networks`).
    targets : callable
        True labels (Y, X) to what the losses compare with, (M, Y, X).
    loss : callable
        Network, images (B, 2, Y, X) and targets of a batch to named scalars; ``"loss"`` is minimised.
    read : callable
        Network and one image (1, 2, Y, X), at the working nucleus size, to labels (Y, X) and a map (Y, X) that is
        positive in nuclei and whose zero line is the outline.
    turns : bool
        Its maps turn with the image, so that those of several poses can be averaged.
    """

    build: Callable[..., nn.Module]
    targets: Callable[[Labels], Floats]
    loss: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
    read: Callable[[nn.Module, Tensor], tuple[Labels, Floats]]
    turns: bool = False


def find_design(name: str) -> Design:
    """Look a design up by its name in recipes and bundles.

    Raises
    ------
    ConfigurationError
        No such design.
    """
    if name == "mask_rcnn":
        from image2reg.nuclei.segmenters import mask_rcnn

        return Design(
            mask_rcnn.build, mask_rcnn.targets, mask_rcnn.loss, mask_rcnn.read
        )  # fmt: skip
    if name not in _DENSE:
        raise ConfigurationError(f"segmenter design {name!r} is not known. Choose one of {', '.join(NAMES)}.")
    module: Any = importlib.import_module(f"image2reg.nuclei.segmenters.{_DENSE[name]}")

    def read(network: nn.Module, x: Tensor) -> tuple[Labels, Floats]:
        with torch.inference_mode():
            maps = network(x)[0].float().cpu().numpy()
        return module.decode(maps, WORKING_DIAMETER_PX), module.foreground(maps)

    return Design(
        module.build, module.targets, lambda network, x, wanted: module.loss(network(x), wanted), read,
        turns=module.TURNS,
    )  # fmt: skip
