"""Small synthetic fields and networks, for the tests of virtualstain and its command line."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from virtualstain.patches import StainField

FLAT = {"name": "shuffle_unet", "arguments": {"dims": 2, "patch": (2, 2), "widths": (8, 16)}}
DEEP = {
    "name": "shuffle_unet",
    "arguments": {"dims": 3, "patch": (1, 2, 2), "widths": (8, 16), "down": ((2, 2, 2),)},
}


def make_field(
    seed: int, planes: int, *, flat: bool, size: tuple[int, int] = (40, 44), stains: int = 2
) -> StainField:
    """A field whose stains are smooth functions of its input, in camera counts (synthetic)."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((1, planes, *size)), (0, 0, 2, 2))
    inputs = (1000 + 100 * smooth / smooth.std()).astype(np.float32)
    base = inputs.mean(1, keepdims=True) if flat else inputs
    targets = np.concatenate([500 + (k + 1) * 0.5 * base for k in range(stains)]).astype(np.float32)
    return StainField(
        f"field {seed}", f"plate {seed % 2}", inputs, targets, np.ones(stains, bool), voxel_um=(1.0, 0.5, 0.5)
    )
