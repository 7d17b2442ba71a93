"""The trainable designs by name: what a network is taught to draw, and how nuclei are read from it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from image2reg.errors import ConfigurationError
from image2reg.nuclei.segmenters.scaling import WORKING_DIAMETER_PX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    finish : callable, optional
        What is fitted once a network is trained, in place: network and fields (images (1, 2, Y, X) and true labels
        (Y, X), at the working nucleus size) to whether they were enough.
    """

    build: Callable[..., nn.Module]
    targets: Callable[[Labels], Floats]
    loss: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
    read: Callable[[nn.Module, Tensor], tuple[Labels, Floats]]
    turns: bool = False
    finish: Callable[[nn.Module, Iterable[tuple[Tensor, Labels]]], bool] | None = None


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

    def maps_of(network: nn.Module, x: Tensor) -> Floats:
        height, width = x.shape[2:]
        multiples: tuple[int, int] = network.divisor  # type: ignore[assignment]
        padding = (0, -width % multiples[1], 0, -height % multiples[0])
        padded = functional.pad(x, padding, mode="replicate").contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            maps: Floats = network(padded)[0, :, :height, :width].float().cpu().numpy()
        return maps

    def read(network: nn.Module, x: Tensor) -> tuple[Labels, Floats]:
        maps = maps_of(network, x)
        return module.decode(maps, WORKING_DIAMETER_PX, *_rules(network)), module.foreground(maps)

    def finish(network: nn.Module, fields: Iterable[tuple[Tensor, Labels]]) -> bool:
        (rule,) = _rules(network)
        examples = ((maps_of(network, x), labels) for x, labels in fields)
        fitted: bool = module.finish(rule, examples, WORKING_DIAMETER_PX)
        return fitted

    return Design(
        module.build, module.targets, lambda network, x, wanted: module.loss(network(x), wanted), read,
        turns=module.TURNS, finish=finish if hasattr(module, "finish") else None,
    )  # fmt: skip


def _rules(network: nn.Module) -> list[nn.Module]:
    """Find the rule a network carries for reading its maps, if its design has one; also inside a wrapper."""
    from image2reg.nuclei.segmenters.joining import JoiningRule

    return [module for module in network.modules() if isinstance(module, JoiningRule)]
