"""The fast segmenter: foreground, touching borders and normalised depth; pieces around peaks of depth are joined.

A folded U-Net (`image2reg.models.networks.shuffle_unet`) predicts three maps at full resolution. The depth of a pixel
is its distance from the outline divided by the largest such distance of its nucleus, so that small and large nuclei
have a middle alike. Which of the pieces that the peaks of depth make of the foreground are one nucleus, a rule says
that was learned from the same fields once the network was (`image2reg.nuclei.segmenters.joining`), and where their
outlines run, another (`image2reg.nuclei.segmenters.outlines`).

Sources: distance regression with watershed (Bai and Urtasun, CVPR 2017; Naylor et al., IEEE TMI 38:448, 2019); folded
input (Shi et al., CVPR 2016).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special
from torch import Tensor
from torch.nn import functional

from image2reg.models.networks.shuffle_unet import ShuffleUNet
from image2reg.nuclei.segmenters.clumps import find_pieces, joined
from image2reg.nuclei.segmenters.joining import JoiningRule, taught_pairs
from image2reg.nuclei.segmenters.nearness import edges
from image2reg.nuclei.segmenters.outlines import OutlineRule
from image2reg.nuclei.size import only

if TYPE_CHECKING:
    from collections.abc import Iterable

    from image2reg.nuclei.segmenters.clumps import Clumps

__all__ = ["N_MAPS", "TURNS", "DistanceUNet", "build", "decode", "finish", "foreground", "loss", "targets"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

N_MAPS = 3
# No map holds a direction.
TURNS = True
# Thresholds of the foreground's and the middle's probability, settled on validation fields.
FOREGROUND, MIDDLE, TOUCHING = 0.55, 0.4, 0.5
# A middle has at least this share of the pixels of a square as wide as a nucleus.
_SMALLEST_MIDDLE = 0.004
# Objects of a lower mean probability are none: bright cytoplasm, mostly. As strict as costs no F1 on the same fields.
SURE = 0.8


class DistanceUNet(ShuffleUNet):
    """The network, as `rule` what joins the pieces its maps make, as `outlines` what draws them: one set of weights."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            **{"in_channels": 2, "out_channels": N_MAPS, "widths": (16, 32, 64, 96), **arguments}
        )
        self.rule = JoiningRule(MIDDLE)
        self.outlines = OutlineRule()


def build(**arguments: Any) -> DistanceUNet:
    """Make the network: two channels in (`two_channels`), three maps out, two of them as logits."""
    return DistanceUNet(**arguments)


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
    edge, touching = edges(labels)
    inner = nucleus & ~edge
    distance = ndimage.distance_transform_edt(inner).astype(np.float32) + 0.5 * nucleus
    deepest = np.zeros(int(labels.max()) + 1, dtype=np.float32)
    np.maximum.at(deepest, labels[nucleus], distance[nucleus])
    depth = distance / np.maximum(deepest, 1.0)[labels]
    rim = ndimage.maximum_filter(nucleus, 5) & ~ndimage.binary_erosion(inner)
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


def finish(rule: JoiningRule, examples: Iterable[tuple[Floats, Labels]], diameter_px: float) -> bool:
    """Learn which pieces are one nucleus from fields whose nuclei are known; True when there were enough of them.

    Parameters
    ----------
    rule : JoiningRule
        Changed in place.
    examples : iterable of (maps (3, Y, X), labels (Y, X))
        What the trained network gives of fields, and their true nuclei on the same grid.
    diameter_px : float
        Typical nucleus diameter on that grid.
    """
    pairs = [taught_pairs(_pieces(maps)[0], labels, _disc(diameter_px)) for maps, labels in examples]
    return rule.fit(np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs]))


def decode(maps: Floats, diameter_px: float, rule: JoiningRule) -> Labels:
    """Make labels of the predicted maps.

    Parameters
    ----------
    maps : (3, Y, X) float32
    diameter_px : float
        Typical nucleus diameter on this grid.
    rule : JoiningRule

    Returns
    -------
    (Y, X) int32
    """
    pieces, depth, probability = _pieces(maps)
    plane = joined(pieces, _disc(diameter_px), rule.judge)
    labels = plane.ravel()
    middle = (depth > MIDDLE) & (maps[1] < _logit(TOUCHING))
    deep = np.bincount(labels, middle.ravel()) >= max(2.0, _SMALLEST_MIDDLE * diameter_px**2)
    for side in (plane[0], plane[-1], plane[:, 0], plane[:, -1]):
        deep[side] = True  # the middle of a nucleus that the image cuts may lie beyond it
    sure = np.bincount(labels, probability.ravel()) >= SURE * np.bincount(labels)
    return only(labels, deep & sure).reshape(plane.shape)


def _pieces(maps: Floats) -> tuple[Clumps, Floats, Floats]:
    """Give the pieces, the depth, lowered where nuclei touch, and the probability of foreground."""
    probability, touching = special.expit(maps[:2])
    depth = np.asarray(maps[2] - 0.3 * touching, dtype=np.float32)
    return find_pieces(depth, touching, probability, foreground(maps) > 0), depth, probability


def _disc(diameter_px: float) -> float:
    return math.pi / 4 * diameter_px**2


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))
