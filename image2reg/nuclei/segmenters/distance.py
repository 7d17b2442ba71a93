"""The fast segmenter: foreground, touching borders and normalised depth; nuclei grow from their deep middles.

A folded U-Net (`image2reg.models.networks.shuffle_unet`) predicts three maps at full resolution. The depth of a pixel
is its distance from the outline divided by the largest such distance of its nucleus, so that one threshold finds the
middle of small and large nuclei alike, without a search for maxima.

Sources: distance regression with watershed (Bai and Urtasun, CVPR 2017; Naylor et al., IEEE TMI 38:448, 2019); folded
input (Shi et al., CVPR 2016).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from image2reg.nuclei.size import only, without_small

if TYPE_CHECKING:
    from image2reg.models.networks.interface import ImageNetwork

__all__ = ["N_MAPS", "TURNS", "build", "decode", "foreground", "loss", "targets"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

N_MAPS = 3
# No map holds a direction.
TURNS = True
# Thresholds of the foreground's and the middle's probability, settled on validation fields.
FOREGROUND, MIDDLE, TOUCHING = 0.55, 0.4, 0.5
# Objects of a lower mean probability are none: bright cytoplasm, mostly. As strict as costs no F1 on the same fields.
SURE = 0.8


def build(**arguments: Any) -> ImageNetwork:
    """Make the network: two channels in (`two_channels`), three maps out, two of them as logits."""
    from image2reg.models.networks.shuffle_unet import ShuffleUNet

    return ShuffleUNet(**{"in_channels": 2, "out_channels": N_MAPS, "widths": (16, 32, 64, 96), **arguments})


def targets(labels: Labels) -> Floats:
    """Give the maps of a patch of true labels.

    Parameters
    ----------
    labels : (Y, X) integer

    Returns
    -------
    (4, Y, X) float32
        Foreground, touching border (0 or 1), depth (0 to 1), weight of the foreground's error.
    """
    nucleus = labels > 0
    highest = ndimage.maximum_filter(labels, 3)
    lowest = ndimage.minimum_filter(np.where(nucleus, labels, np.iinfo(labels.dtype).max), 3)
    touching = nucleus & (lowest < highest) & (lowest > 0)
    inner = nucleus & (ndimage.minimum_filter(labels, 3) == highest)
    distance = ndimage.distance_transform_edt(inner).astype(np.float32) + 0.5 * nucleus
    deepest = np.zeros(int(labels.max()) + 1, dtype=np.float32)
    np.maximum.at(deepest, labels[nucleus], distance[nucleus])
    depth = distance / np.maximum(deepest, 1.0)[labels]
    rim = (ndimage.maximum_filter(highest, 3) > 0) & ~ndimage.binary_erosion(inner)
    return np.stack([nucleus, touching, depth * nucleus, 1.0 + 2.0 * rim]).astype(np.float32)


def loss(maps: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Weighted cross-entropies of foreground and touching borders, and the absolute error of depth.

    Parameters
    ----------
    maps : (B, 3, Y, X)
        What the network gives.
    wanted : (B, 4, Y, X)
        From `targets`.
    """
    nucleus, touching, depth, weight = wanted.unbind(1)
    maps = maps.float()
    bce = functional.binary_cross_entropy_with_logits
    terms = {
        "foreground": bce(maps[:, 0], nucleus, weight=weight),
        "touching": bce(maps[:, 1], touching, weight=1 + 4 * touching),
        "depth": (
            functional.smooth_l1_loss(maps[:, 2], depth, beta=0.1, reduction="none") * (0.3 + nucleus)
        ).mean(),
    }
    return {"loss": terms["foreground"] + terms["touching"] + 2 * terms["depth"], **terms}


def foreground(maps: Floats) -> Floats:
    """Give the map that is positive in nuclei."""
    return maps[0] - _logit(FOREGROUND)


def decode(maps: Floats, diameter_px: float) -> Labels:
    """Make labels of the predicted maps.

    Parameters
    ----------
    maps : (3, Y, X) float32
    diameter_px : float
        Typical nucleus diameter on this grid.

    Returns
    -------
    (Y, X) int32
    """
    from skimage.segmentation import watershed

    inside = foreground(maps) > 0
    depth = maps[2] - 0.3 / (1 + np.exp(-maps[1]))
    seeds, n_seeds = ndimage.label((depth > MIDDLE) & inside & (maps[1] < _logit(TOUCHING)))
    if n_seeds == 0:
        return np.zeros(inside.shape, dtype=np.int32)
    seeds = without_small(seeds, max(2.0, 0.004 * diameter_px**2))
    labels = watershed(-depth, seeds, mask=inside).ravel()
    probability = 1 / (1 + np.exp(-maps[0].ravel()))
    sure = np.bincount(labels, weights=probability) >= SURE * np.bincount(labels)
    return only(labels, sure).reshape(inside.shape)


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))
