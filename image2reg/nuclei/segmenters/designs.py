"""The trainable designs by name: what a network is taught to draw, and how nuclei are read from it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

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
Rule = TypeVar("Rule", bound="nn.Module")

if TYPE_CHECKING:
    Read = Callable[[nn.Module, Tensor], tuple[Labels, Floats]]

    class Views(Protocol):
        """Fields, as they are or changed as in training."""

        def __call__(self, *, changed: bool) -> Iterable[tuple[Tensor, Labels]]: ...


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
    draw : callable
        The same without a second look at outlines: enough to measure how large nuclei are.
    turns : bool
        Its maps turn with the image, so that those of several poses can be averaged.
    finish : callable, optional
        What is fitted once a network is trained, in place: network and what gives the fields (images (1, 2, Y, X) and
        true labels (Y, X), at the working nucleus size), as they are or changed as in training, to whether they were
        enough.
    """

    build: Callable[..., nn.Module]
    targets: Callable[[Labels], Floats]
    loss: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
    read: Read
    draw: Read
    turns: bool = False
    finish: Callable[[nn.Module, Views], bool] | None = None


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
            mask_rcnn.build, mask_rcnn.targets, mask_rcnn.loss, mask_rcnn.read, mask_rcnn.read
        )  # fmt: skip
    if name not in _DENSE:
        raise ConfigurationError(f"segmenter design {name!r} is not known. Choose one of {', '.join(NAMES)}.")
    from image2reg.nuclei.segmenters.joining import JoiningRule
    from image2reg.nuclei.segmenters.outlines import OutlineRule, TaughtPoints, redrawn

    module: Any = importlib.import_module(f"image2reg.nuclei.segmenters.{_DENSE[name]}")

    def maps_of(network: nn.Module, x: Tensor) -> Floats:
        height, width = x.shape[2:]
        multiples: tuple[int, int] = network.divisor  # type: ignore[assignment]
        padding = (0, -width % multiples[1], 0, -height % multiples[0])
        padded = functional.pad(x, padding, mode="replicate").contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            maps: Floats = network(padded)[0, :, :height, :width].float().cpu().numpy()
        return maps

    def drawn(network: nn.Module, x: Tensor) -> tuple[Labels, Floats]:
        """Give nuclei as the maps draw them, and the maps with a foreground that is zero at outlines."""
        maps = maps_of(network, x)
        labels = module.decode(maps, WORKING_DIAMETER_PX, *_held(network, JoiningRule))
        return labels, np.concatenate([module.foreground(maps)[None], maps[1:]])

    def draw(network: nn.Module, x: Tensor) -> tuple[Labels, Floats]:
        labels, maps = drawn(network, x)
        return labels, maps[0]

    def read(network: nn.Module, x: Tensor) -> tuple[Labels, Floats]:
        labels, maps = drawn(network, x)
        for rule in _held(network, OutlineRule):
            if rule.taught:
                return redrawn(rule, labels, maps, x[0, 0].cpu().numpy())
        return labels, maps[0]

    def finish(network: nn.Module, views: Views) -> bool:
        (rule,) = _held(network, JoiningRule)
        examples = ((maps_of(network, x), labels) for x, labels in views(changed=False))
        fitted: bool = module.finish(rule, examples, WORKING_DIAMETER_PX)
        for outlines in _held(network, OutlineRule):
            points = TaughtPoints()
            # From fields as they are alone it learns one microscope: outlines of other screens get worse.
            for x, truth in chain(views(changed=False), views(changed=True)):
                points.add(*drawn(network, x), x[0, 0].cpu().numpy(), truth)
            fitted &= outlines.fit(points)
        return fitted

    return Design(
        module.build, module.targets, lambda network, x, wanted: module.loss(network(x), wanted), read, draw,
        turns=module.TURNS, finish=finish if hasattr(module, "finish") else None,
    )  # fmt: skip


def _held(network: nn.Module, kind: type[Rule]) -> list[Rule]:
    """Find the rule of a kind that a network carries for reading its maps, if any; also inside a wrapper."""
    return [module for module in network.modules() if isinstance(module, kind)]
