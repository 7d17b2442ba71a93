"""What registration or stitching left without data: where it is, and the field without its edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["continue_data", "nearest_data", "padding_mask"]

# Largest share of the voxels with data on all four sides that padding may have: of real padding none, of a
# background that was subtracted more than 2 % in every field we saw.
_WINDING = 0.005
# Of a stain, more than this without data is a background that was subtracted around one clump of cells.
_MOSTLY = 0.5


def padding_mask(stack: Any) -> NDArray[np.bool_]:
    """Find what registration padded: exact zeros in every plane, touching the border of the field.

    Parameters
    ----------
    stack : (C, Z, Y, X) array or lazy array
        Read plane by plane, up to the first plane without zeros at its rim.

    Returns
    -------
    (Y, X) bool
        True where there is no data. A few dark voxels in the corner are not padding: the patch has to be a
        quarter of a side long. Nor is a background that was subtracted: it winds between the cells, while what
        registration or stitching leaves lies beside the data.
    """
    recorded = np.zeros(stack.shape[2:], bool)
    for z in range(stack.shape[1]):
        recorded |= np.asarray(stack[:, z]).any(axis=0)
        if all(side.all() for side in (recorded[0], recorded[-1], recorded[:, 0], recorded[:, -1])):
            return np.zeros_like(recorded)
    empty = ~recorded
    if empty.all():
        return np.zeros_like(empty)
    from scipy import ndimage

    labels, n = ndimage.label(empty)
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    sizes = ndimage.sum_labels(empty, labels, np.arange(n + 1))
    found = np.isin(labels, [i for i in rim if i and sizes[i] >= min(empty.shape) / 4])
    enclosed = _between(~found, 0) & _between(~found, 1)
    return found if (enclosed & found).sum() <= _WINDING * enclosed.sum() else np.zeros_like(empty)


def _between(data: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """From the first to the last voxel with data along an axis."""
    after, before = np.maximum.accumulate(data, axis), np.maximum.accumulate(np.flip(data, axis), axis)
    return after & np.flip(before, axis)


def continue_data(plane: Any) -> tuple[Any, NDArray[np.bool_] | None]:
    """Give every padded pixel of a stained plane its nearest pixel with data, so that no edge is seen there.

    Parameters
    ----------
    plane : (Y, X)
        Itself where nothing is padded; a lazy array is not read, and stays as it is.

    Returns
    -------
    plane : (Y, X)
    padded : (Y, X) bool, or None
        None where none is; also where no side of the field is padded along its whole length (a dark sensor has zeros
        here and there), or more than half would be (that is the background of one clump of cells).

    Examples
    --------
    >>> continue_data(np.array([[0, 0, 0], [4, 5, 6], [7, 8, 9]]))[0][0].tolist()
    [4, 5, 6]
    """
    if not isinstance(plane, np.ndarray):
        return plane, None
    padded = padding_mask(plane[None, None])
    a_side = any(side.all() for side in (padded[0], padded[-1], padded[:, 0], padded[:, -1]))
    if not a_side or padded.mean() > _MOSTLY:
        return plane, None
    return plane[nearest_data(padded)], padded


def nearest_data(padded: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give rows and columns of the pixel with data that is nearest to every pixel: of one with data, its own."""
    from scipy import ndimage

    y, x = ndimage.distance_transform_edt(padded, return_distances=False, return_indices=True)
    return y, x
