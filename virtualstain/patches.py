"""Fields of view, and the patches that training draws from them.

A `StainField` holds one field's input and targets, registered voxel for voxel. It may be a NumPy array or
anything that is read by slicing (an OME-Zarr array, a lazy TIFF), so the training set may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from image2reg.errors import DataError
from image2reg.images.tiling import read_box
from virtualstain.augment import AugmentSettings, augment_photometry, warp_to_patch
from virtualstain.normalise import ChannelScale

__all__ = ["PatchSampler", "StainField"]


@dataclass(frozen=True)
class StainField:
    """One field of view.

    Attributes
    ----------
    name : str
        What errors and tables call it.
    group : str
        The unit of the split (experiment, plate, region).
    inputs : (C, Z, Y, X)
        Label-free channels, as recorded.
    targets : (K, Zt, Y, X)
        Stains, as recorded; Zt is Z, or 1 for a projection.
    present : (K,) bool
        Which targets this field has; the others may hold anything.
    valid : (Y, X) bool, optional
        False where registration left no data.
    masks : (Y, X) integer, optional
        Nucleus labels: privileged information, seen in training and evaluation, never asked for at prediction.
    voxel_um : (z, y, x) micrometres
    aligned : bool
        Known to be registered: no displacement is looked for (`virtualstain.registration`).
    input_scale, target_scale : tuple of ChannelScale
        How each channel becomes the network's units; `virtualstain.fields.standardise` fills them in.
    """

    name: str
    group: str
    inputs: Any
    targets: Any
    present: NDArray[np.bool_]
    valid: NDArray[np.bool_] | None = None
    masks: NDArray[np.integer] | None = None
    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None)
    aligned: bool = False
    input_scale: tuple[ChannelScale, ...] = ()
    target_scale: tuple[ChannelScale, ...] = ()

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.inputs.shape[-2]), int(self.inputs.shape[-1])

    def read_input(self, box: tuple[slice, ...]) -> NDArray[np.float32]:
        """Read the input of a (Z, Y, X) window that may leave the field: (C, z, y, x) in network units."""
        raw = read_box(self.inputs, box, axes_before=1)
        return np.stack([s.apply(c) for s, c in zip(self.input_scale, raw, strict=True)])

    def read(self, box: tuple[slice, ...], *, privileged: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Read one window in network units.

        Parameters
        ----------
        box : slices in Z, Y, X
        privileged : bool
            Append the nuclei (1 inside, 0 outside) as one more target, absent where the field has no masks.

        Returns
        -------
        x : (C, z, y, x), y : (K, zt, y, x), mask : (K, zt, y, x) float32
        """
        x = self.read_input(box)
        flat = int(self.targets.shape[1]) == 1
        raw = read_box(self.targets, (slice(0, 1), *box[1:]) if flat else box, axes_before=1)
        y = np.stack([s.apply(c) for s, c in zip(self.target_scale, raw, strict=True)])
        mask = np.broadcast_to(self.present[:, None, None, None], y.shape).astype(np.float32)
        if privileged:
            labels = self.masks if self.masks is not None else np.zeros(self.plane, np.uint8)
            nuclei = np.broadcast_to(read_box(labels, box[1:]) > 0, (1, *y.shape[1:])).astype(np.float32)
            y = np.concatenate([y, nuclei])
            mask = np.concatenate([mask, np.full_like(nuclei, self.masks is not None)])
        if self.valid is not None:
            mask = mask * read_box(self.valid, box[1:]).astype(np.float32)
        return (
            torch.from_numpy(x),
            torch.from_numpy(np.nan_to_num(y)),
            torch.from_numpy(np.ascontiguousarray(mask)),
        )


class PatchSampler:
    """Draws augmented batches; what it draws is a function of the generator it is handed.

    Parameters
    ----------
    fields : sequence of StainField
    patch : (z, y, x)
        Voxels; a field thinner than `patch` in Z is refused.
    settings : AugmentSettings
    privileged : bool
        Draw the nuclei as one more target (`StainField.read`).
    """

    def __init__(
        self,
        fields: Sequence[StainField],
        patch: tuple[int, int, int],
        settings: AugmentSettings,
        *,
        privileged: bool = False,
    ) -> None:
        if not fields:
            raise DataError(
                "no field to train on: the training split is empty. Check the manifest's split column."
            )
        for item in fields:
            if item.inputs.shape[1] < patch[0]:
                raise DataError(
                    f"{item.name}: {item.inputs.shape[1]} planes, but the recipe trains on patches of {patch[0]}. "
                    "Lower patch Z in the recipe, or leave the field out."
                )
        self.fields, self.patch, self.settings, self.privileged = list(fields), patch, settings, privileged

    def draw(self, size: int, rng: np.random.Generator) -> dict[str, Any]:
        """Give ``input`` (B, C, z, y, x), ``target`` and ``mask`` (B, K, zt, y, x), float32, and ``ids``."""
        chosen = [self.fields[i] for i in rng.integers(len(self.fields), size=size)]
        parts = [self._one(item, rng) for item in chosen]
        x, y, mask = (torch.stack(p) for p in zip(*parts, strict=True))
        return {
            "input": augment_photometry(x, self.settings, rng),
            "target": y,
            "mask": mask,
            "ids": [item.name for item in chosen],
        }

    def _one(self, item: StainField, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Cut one patch: an axis-aligned crop without geometry, a warped one from a wider window with it."""
        pz, py, px = self.patch
        z0 = int(rng.integers(item.inputs.shape[1] - pz + 1))
        # A window never wider than the field: what the warp misses comes back as mask 0.
        sides = [
            side if self.settings.reach == 1 else min(int(np.ceil(side * self.settings.reach)), max(n, side))
            for n, side in zip(item.plane, (py, px), strict=True)
        ]
        starts = [int(rng.integers(max(n - side, 0) + 1)) for n, side in zip(item.plane, sides, strict=True)]
        box = (slice(z0, z0 + pz), *(slice(s, s + n) for s, n in zip(starts, sides, strict=True)))
        x, y, mask = item.read(box, privileged=self.privileged)
        if self.settings.reach == 1:
            mirrored = self.settings.flip and rng.random() < 0.5
            return (x.flip(-1), y.flip(-1), mask.flip(-1)) if mirrored else (x, y, mask)
        # One warp for all: planes become channels, so that input, target and mask share every interpolation weight.
        planes = torch.cat([v.reshape(-1, 1, *sides) for v in (x, y, mask)])
        warped = warp_to_patch(planes, (py, px), self.settings, rng)
        n_x, n_y = x.shape[0] * x.shape[1], y.shape[0] * y.shape[1]
        wx, wy, wm = warped[:n_x], warped[n_x : n_x + n_y], warped[n_x + n_y :]
        return (
            wx.reshape(*x.shape[:2], py, px),
            wy.reshape(*y.shape[:2], py, px),
            (wm > 0.99).float().reshape(*mask.shape[:2], py, px),
        )
