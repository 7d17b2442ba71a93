"""Fields with known nuclei, and the randomly turned, scaled and degraded patches a segmenter is trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from image2reg.errors import DataError
from image2reg.images.checks import refuse_beyond_float32, refuse_non_finite
from image2reg.nuclei.regions import dense_labels
from image2reg.nuclei.segmenters.appearance import AugmentSettings, change_appearance
from image2reg.nuclei.segmenters.scaling import (
    brightness_range,
    resize,
    resize_labels,
    standardise,
    working_factor,
)
from image2reg.nuclei.size import typical_diameter

__all__ = ["NucleusField", "Scaled", "draw_patch"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class NucleusField:
    """One field and its true nuclei.

    Attributes
    ----------
    name, group : str
        The group is the unit that must not be in two splits; fields of one `source` are drawn as often as those of
        another.
    image : (Y, X), any real dtype
    labels : (Y, X) int32
        0 is background; of whatever integers are given, nuclei become 1, 2, … without gaps, in the same order.
    diameter_px : float, optional
        Typical nucleus diameter; measured on `labels` when None.
    """

    name: str
    group: str
    image: NDArray[np.generic]
    labels: NDArray[np.integer]
    diameter_px: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse labels of another size than the image and values no network can learn from; number nuclei anew."""
        if self.image.shape != self.labels.shape or self.image.ndim != 2:
            raise DataError(
                f"{self.name}: the image has shape {self.image.shape}, its labels {self.labels.shape}; both must be "
                "the same plane (Y, X). Check that the pair belongs together."
            )
        refuse_non_finite(self.image, self.name, "YX")
        refuse_beyond_float32(self.image, self.name)
        # Tables are as long as the largest number, and numbers must fit into int32 and pass through float32.
        object.__setattr__(self, "labels", dense_labels(self.labels, self.name)[0])


@dataclass(frozen=True)
class Scaled:
    """A field at the working nucleus size and brightness, ready to be cut into patches."""

    image: Tensor
    labels: Labels
    source: str

    @classmethod
    def of(cls, field: NucleusField) -> Scaled:
        """Standardise a field."""
        diameter = field.diameter_px or typical_diameter(field.labels)
        factor = working_factor(diameter)
        shape = (
            max(16, round(field.image.shape[0] * factor)),
            max(16, round(field.image.shape[1] * factor)),
        )
        image = resize(standardise(field.image, *brightness_range(field.image)), shape)
        labels = resize_labels(field.labels, shape)
        return cls(torch.from_numpy(image), labels, field.source)


def draw_patch(
    scaled: Scaled, size: int, settings: AugmentSettings, rng: np.random.Generator
) -> tuple[Tensor, Labels]:
    """Cut a randomly placed, turned, mirrored and scaled patch and change how it was recorded.

    Returns
    -------
    image : (size, size) float32
    labels : (size, size) int32
        Of what the patch shows of each nucleus.
    """
    height, width = scaled.labels.shape
    spread = math.log(settings.magnification) * (2 if rng.random() < 0.2 else 1)
    zoom = math.exp(rng.uniform(-1, 1) * spread)
    angle, mirror = rng.uniform(0, 2 * math.pi), rng.choice([-1.0, 1.0])
    aligned = rng.random() < settings.aligned
    if aligned:
        zoom, angle = 1.0, round(angle / (math.pi / 2)) * math.pi / 2
    # Anywhere in the field, but never mostly outside it.
    reach = 0.35 * size / zoom
    centre = [rng.uniform(min(reach, n / 2), max(n - reach, n / 2)) for n in (height, width)]
    if aligned:  # the patch's pixels are the field's
        centre = [float(round(c)) for c in centre]
    centre = [c / n * 2 - 1 for c, n in zip(centre, (height, width), strict=True)]
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.diag([mirror, 1.0]) / zoom * size / np.array([[width], [height]])
    theta = torch.tensor(np.c_[matrix, [centre[1], centre[0]]][None], dtype=torch.float32)
    grid = functional.affine_grid(theta, [1, 1, size, size], align_corners=False)
    image = functional.grid_sample(
        scaled.image[None, None], grid, align_corners=False, padding_mode="reflection"
    )
    # float32 is exact for labels below 2**24, and they have no gaps.
    ids = torch.from_numpy(scaled.labels.astype(np.float32))[None, None]
    labels = functional.grid_sample(ids, grid, mode="nearest", align_corners=False, padding_mode="reflection")
    nuclei = labels[0, 0].numpy().astype(np.int32)
    return change_appearance(image[0, 0], nuclei, settings, rng), nuclei
