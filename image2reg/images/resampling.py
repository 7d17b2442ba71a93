"""Bring an image to another voxel size."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ConfigurationError
from image2reg.images.limits import refuse_oversized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from image2reg.images.image import Image
    from image2reg.images.units import VoxelSize

__all__ = ["resample"]


def resample(
    image: Image, voxel_um: VoxelSize, order: int = 1, *, shape: Sequence[int] | None = None
) -> Image:
    """Interpolate an image onto voxels of another size.

    The first corner stays where it is: the centre of output voxel j lies at ``(j + 0.5) * new``. Before an
    axis shrinks it is smoothed with a Gaussian of ``(new / old - 1) / 2`` input voxels, so that detail
    finer than the new voxel does not alias.

    Parameters
    ----------
    image : Image
        Its voxel size must be known along the axes that change.
    voxel_um : (z, y, x), micrometres
        New size; None keeps that axis. Z is ignored when the image has no Z axis, or one plane only.
    order : int
        Spline order: 0 nearest (label images, the type is kept, nothing is smoothed), 1 linear, 3 cubic.
    shape : (z, y, x) lengths, optional
        Of the result; ``round(n * old / new)`` when None. For going back to a grid one came from.

    Returns
    -------
    Image
        In memory, float32 (or the input's type for order 0), with exactly the voxel size asked for.

    Raises
    ------
    DataError
        The voxel size is unknown.
    ConfigurationError
        A new size that is not positive, or an order outside 0..5.
    ResourceError
        The result is over the image's limit.
    """
    wanted = dict(zip("ZYX", voxel_um, strict=True))
    if order not in range(6) or any(size is not None and not size > 0 for size in wanted.values()):
        raise ConfigurationError(
            f"resample: voxel_um={tuple(voxel_um)} must be positive micrometres (or None), order={order} "
            "in 0..5."
        )
    spatial = [letter for letter in "ZYX" if letter in image.axes]
    target = {
        letter: float(size)
        for letter, size in wanted.items()
        if size is not None and letter in spatial and not (letter == "Z" and image.sizes["Z"] == 1)
    }
    old = dict(zip(target, image.voxel_for("".join(target)), strict=True))
    ratio = {letter: target[letter] / old[letter] if letter in target else 1.0 for letter in spatial}
    lengths = {letter: max(1, round(image.sizes[letter] / ratio[letter])) for letter in spatial}
    if shape is not None:
        lengths |= {letter: n for letter, n in zip("ZYX", shape, strict=True) if letter in spatial}
    n_lead = len(image.axes) - len(spatial)
    dtype = image.dtype if order == 0 else np.dtype(np.float32)
    out_shape = (*image.shape[:n_lead], *(lengths[letter] for letter in spatial))
    refuse_oversized(
        image.source or "image", out_shape, dtype, max_bytes=image.max_bytes, what="resampled image"
    )
    out = np.empty(out_shape, dtype=dtype)
    for lead in itertools.product(*(range(n) for n in image.shape[:n_lead])):
        values = np.asarray(image.data[lead])
        out[lead] = _interpolate(values, [ratio[letter] for letter in spatial], out.shape[n_lead:], order)
    sizes = dict(zip("ZYX", image.voxel_um, strict=True)) | target
    return image.replace(data=out, voxel_um=(sizes["Z"], sizes["Y"], sizes["X"]))


def _interpolate(
    values: NDArray[np.generic], ratio: Sequence[float], shape: Sequence[int], order: int
) -> NDArray[np.generic]:
    offset = [0.5 * factor - 0.5 for factor in ratio]
    if order == 0:
        axes = zip(ratio, offset, shape, values.shape, strict=True)
        nearest = [
            np.clip(np.floor(np.arange(n) * factor + first + 0.5).astype(np.intp), 0, n_old - 1)
            for factor, first, n, n_old in axes
        ]
        return values[np.ix_(*nearest)]
    from scipy import ndimage

    values = values.astype(np.float32)
    sigma = [max(0.0, (factor - 1) / 2) for factor in ratio]
    values = ndimage.gaussian_filter(values, sigma, mode="nearest") if any(sigma) else values
    return ndimage.affine_transform(
        values, np.asarray(ratio), offset, tuple(shape), order=order, mode="nearest", prefilter=order > 1
    )
