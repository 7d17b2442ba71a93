"""Training pairs that are off by some pixels: how far, found with a first model, and set right.

Cameras, filters and the time between two exposures displace a stain against its label-free image. Augmentation by
turning and mirroring makes a network blind to any direction, so a displaced pair only blurs what it learns. A short
first training is therefore enough to see each pair's displacement: the shift at which its real stain correlates best
with the prediction. Pairs are then cut to register, the network learns in the frame of its input, and the median
displacement is kept in the bundle, because the microscope will displace the next field in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from virtualstain.metrics import pearson
from virtualstain.patches import StainField

__all__ = ["find_shift", "register", "typical_shift"]

Shift = tuple[int, int]


def _overlap(n: int, shift: int) -> tuple[slice, slice]:
    """Where an image and its displaced partner show the same place: slices of the image and of the partner."""
    return slice(max(0, -shift), n - max(0, shift)), slice(max(0, shift), n + min(0, shift))


def find_shift(
    predicted: NDArray[np.floating], real: NDArray[np.floating], valid: NDArray[np.bool_], *, reach: int
) -> tuple[Shift, float]:
    """Find the displacement of a real stain against its prediction.

    Parameters
    ----------
    predicted, real : (Y, X) float
    valid : (Y, X) bool
        Pixels of the real stain that count.
    reach : int
        Largest displacement looked for, pixels.

    Returns
    -------
    shift : (y, x) pixels
        ``real[y + shift_y, x + shift_x]`` shows what ``predicted[y, x]`` predicts.
    r : float
        Pearson's correlation at that shift.
    """

    def correlation(shift: Shift) -> float:
        (py, ry), (px, rx) = (_overlap(n, s) for n, s in zip(real.shape, shift, strict=True))
        keep = valid[ry, rx]
        if keep.sum() < keep.size / 2:
            return -1.0
        r = pearson(real[ry, rx][keep][::2], predicted[py, px][keep][::2])
        return r if np.isfinite(r) else -1.0

    coarse = range(-reach, reach + 1, 2)
    best = max(product(coarse, coarse), key=correlation)
    near = [(best[0] + dy, best[1] + dx) for dy, dx in product((-1, 0, 1), repeat=2)]
    best = max(near, key=correlation)
    return best, correlation(best)


def typical_shift(found: Sequence[tuple[Shift, float]], *, trust: float) -> Shift:
    """Median displacement of the pairs whose correlation says that theirs was really found.

    Parameters
    ----------
    found : sequence of (shift, r)
    trust : float
        Smallest r that counts; without any such pair the shift is zero.
    """
    sure = np.array([shift for shift, r in found if r >= trust])
    if not len(sure):
        return 0, 0
    y, x = (round(float(v)) for v in np.median(sure, axis=0))
    return y, x


def register(item: StainField, shift: Shift) -> StainField:
    """Cut input and stain of a field to the part both show, with the displacement taken out.

    Parameters
    ----------
    item : StainField
        Held in memory: the cut makes views of its arrays.
    shift : (y, x) pixels
        From `find_shift`.
    """
    (iy, ty), (ix, tx) = (_overlap(n, s) for n, s in zip(item.plane, shift, strict=True))
    valid = None if item.valid is None else item.valid[iy, ix] & item.valid[ty, tx]
    return replace(
        item,
        inputs=np.asarray(item.inputs)[:, :, iy, ix],
        targets=np.asarray(item.targets)[:, :, ty, tx],
        masks=None if item.masks is None else item.masks[ty, tx],
        valid=valid,
    )
