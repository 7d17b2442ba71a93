"""Running a network over one field of any size: tiles in, blended stain out, in network units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from image2reg.images.blending import blend_tiles
from image2reg.models.networks.poses import mean_of_poses
from virtualstain.networks.interface import StainNetwork

__all__ = ["forward", "stain_array", "stain_field", "tile_for"]

Box = tuple[slice, ...]
OVERLAP = 0.25  # share of a tile that its neighbour covers too


def tile_for(
    shape: Sequence[int], largest: Sequence[int], divisor: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tile and stride per axis: the whole axis where it fits, a multiple of the divisor always.

    Parameters
    ----------
    shape, largest, divisor : one int per spatial axis
        Size of the image, largest tile, and what the network's halvings demand.
    """
    tile, stride = [], []
    for n, most, d in zip(shape, largest, divisor, strict=True):
        whole = math.ceil(n / d) * d
        size = min(whole, max(d, most // d * d))
        tile.append(size)
        stride.append(size if size >= n else max(1, math.ceil(size * (1 - OVERLAP))))
    return tuple(tile), tuple(stride)


def forward(module: StainNetwork, x: Tensor) -> Tensor:
    """Run a 2D, 2.5D or 3D network on (B, C, Z, Y, X); give (B, K, Z, Y, X), or Z = 1 from a 2D network."""
    if module.dims == 2:
        b, c, z, height, width = x.shape
        folded = x.reshape(b, c * z, height, width).contiguous(memory_format=torch.channels_last)
        return module(folded).unsqueeze(2)
    return module(x)  # the layout of deployed weights decides that of the maps


def stain_field(
    module: StainNetwork,
    read: Callable[[Box], NDArray[np.float32]],
    shape: tuple[int, int, int],
    *,
    n_outputs: int,
    tile: tuple[int, int, int],
    sink: Callable[[Box, NDArray[np.float32]], None],
    tta: bool = False,
    batch_size: int = 1,
    skip: Callable[[int], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Predict one field tile by tile and hand finished blocks to `sink`.

    Parameters
    ----------
    module : StainNetwork
        In eval mode.
    read : callable
        Box in (Z, Y, X), which may leave the field, to (C, z, y, x) float32 in network units.
    shape : (Z, Y, X) of the input
    n_outputs : int
        Channels K of the stain; further outputs of the network (privileged ones) are dropped.
    tile : (z, y, x)
        Largest window handed to the network. A 2D network always sees all its planes at once.
    sink : callable
        Receives (box, (K, z, y, x) block), each voxel once; box is in (Z, Y, X), Z = 1 for a 2D network.
    tta : bool
        Average over the eight turns and mirrorings; eight times the cost.
    """
    flat = module.dims == 2
    device = next(module.parameters()).device
    spatial = tuple(shape[1:] if flat else shape)
    window, stride = tile_for(spatial, tile[1:] if flat else tile, module.divisor)

    def whole(box: Box) -> Box:
        return (slice(0, shape[0]), *box) if flat else box

    def predict(boxes: list[Box]) -> NDArray[np.float32]:
        x = torch.from_numpy(np.stack([read(whole(box)) for box in boxes])).to(device)
        with torch.inference_mode():
            stained = mean_of_poses(partial(forward, module), x) if tta else forward(module, x)
        y = stained[:, :n_outputs].float().cpu().numpy()
        return y[:, :, 0] if flat else y

    def receive(box: Box, values: NDArray[np.float32]) -> None:
        sink((slice(0, 1), *box) if flat else box, values[:, None] if flat else values)

    blend_tiles(
        predict,
        shape=spatial,
        tile=window,
        stride=stride,
        n_channels=n_outputs,
        sink=receive,
        batch_size=batch_size,
        skip=skip,
        progress=progress,
    )


def stain_array(
    module: StainNetwork,
    read: Callable[[Box], NDArray[np.float32]],
    shape: tuple[int, int, int],
    *,
    n_outputs: int,
    tile: tuple[int, int, int],
    **options: Any,
) -> NDArray[np.float32]:
    """Predict one field into memory: (K, Z, Y, X) float32, Z = 1 from a 2D network; options as `stain_field`."""
    out = np.empty((n_outputs, 1 if module.dims == 2 else shape[0], *shape[1:]), np.float32)

    def sink(box: Box, values: NDArray[np.float32]) -> None:
        out[(slice(None), *box)] = values

    stain_field(module, read, shape, n_outputs=n_outputs, tile=tile, sink=sink, **options)
    return out
