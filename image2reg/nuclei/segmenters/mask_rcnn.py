"""Mask R-CNN (He et al., ICCV 2017) with torchvision's ResNet-50 and feature pyramid, where torchvision works.

Needs the extra ``[detect]``. Built without downloaded weights: nothing is fetched from a network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from image2reg.errors import ConfigurationError

__all__ = ["MaskRCNN", "boxes", "build", "loss", "read", "targets"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

_KEPT_SCORE, _KEPT_MASK = 0.5, 0.5


def _detection() -> Any:
    """Import torchvision's detectors, or say what to do where that fails.

    A torchvision built for another torch raises RuntimeError or OSError at import and not ImportError.
    """
    try:
        from torchvision.models import detection
    except (ImportError, RuntimeError, OSError) as error:
        raise ConfigurationError(
            f"mask_rcnn needs torchvision, which does not load with torch {torch.__version__} ({error}). Install the "
            "extra 'virtualstain[detect]' with the torchvision build that matches torch, or choose another design: "
            "distance_unet, three_class_unet, hover_net."
        ) from error
    return detection


class MaskRCNN(nn.Module):
    """Two classes (background, nucleus), three equal input channels.

    Parameters
    ----------
    size : int
        Side the detector scales an image to.
    most : int
        Largest number of nuclei per image.
    """

    def __init__(self, *, size: int = 512, most: int = 500) -> None:
        super().__init__()
        self.dims, self.divisor = 2, (1, 1)
        self.detector = _detection().maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=2, min_size=size, max_size=2 * size,
            box_detections_per_img=most,
        )  # fmt: skip

    def forward(self, x: Tensor, wanted: list[dict[str, Tensor]] | None = None) -> Any:
        """Give the detector's losses in training, its detections otherwise, for (B, 2, Y, X)."""
        return self.detector(list(x[:, :1].clamp(0, 1).expand(-1, 3, -1, -1)), wanted)


def build(**arguments: Any) -> nn.Module:
    """Make the network."""
    return MaskRCNN(**arguments)


def targets(labels: Labels) -> Floats:
    """Give the labels themselves, (1, Y, X), without nuclei too small for a box."""
    area = np.bincount(labels.ravel())
    return np.where((area >= 9)[labels], labels, 0)[None].astype(np.float32)


def loss(network: nn.Module, x: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Give the detector's losses on (B, 2, Y, X) with true labels (B, 1, Y, X)."""
    made = network(x, [boxes(item[0].long()) for item in wanted])
    return {"loss": torch.stack(list(made.values())).sum(), **made}


def read(network: nn.Module, x: Tensor) -> tuple[Labels, Floats]:
    """Give labels and a foreground map of one image (1, 2, Y, X); of overlapping nuclei the surer one is on top."""
    with torch.inference_mode():
        found = network(x)[0]
    probability = np.zeros(x.shape[-2:], dtype=np.float32)
    labels = np.zeros(x.shape[-2:], dtype=np.int32)
    masks = found["masks"][found["scores"] > _KEPT_SCORE, 0].float().cpu().numpy()
    for number, mask in reversed(list(enumerate(masks, start=1))):
        labels[mask > _KEPT_MASK] = number
        np.maximum(probability, mask, out=probability)
    return labels, probability - _KEPT_MASK


def boxes(labels: Tensor) -> dict[str, Tensor]:
    """Boxes (x, y, x, y; the far edges excluded) and masks of the labels (Y, X), as the detector wants them."""
    ids = labels.unique()
    ids = ids[ids > 0]
    masks = labels[None] == ids[:, None, None]
    rows, columns = masks.any(2).int(), masks.any(1).int()
    edges = [
        columns.argmax(1),
        rows.argmax(1),
        columns.shape[1] - columns.flip(1).argmax(1),
        rows.shape[1] - rows.flip(1).argmax(1),
    ]
    return {
        "boxes": torch.stack(edges, 1).float(),
        "labels": torch.ones_like(ids),
        "masks": masks.to(torch.uint8),
    }
