"""What the one training loop runs to train a segmenter: patches, losses, and F1 on whole validation fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from image2reg.errors import DataError
from image2reg.nuclei.match import match, match_dataset
from image2reg.nuclei.segmenters.appearance import AugmentSettings
from image2reg.nuclei.segmenters.dense import predict_labels, two_channels
from image2reg.nuclei.segmenters.examples import NucleusField, Scaled, draw_patch
from image2reg.nuclei.size import typical_diameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from image2reg.models.task import Batch
    from image2reg.nuclei.segmenters.designs import Design

__all__ = ["SegmenterTask"]

# What validation averages: found at all, outlined well, outlined to the pixel.
_LEVELS = (0.5, 0.7, 0.9)


class SegmenterTask:
    """Train a dense network of a design (`image2reg.models.task.Task`).

    Parameters
    ----------
    network, design
    training, validation : sequence of NucleusField
    augment : AugmentSettings
    patch : int
        Side of a training patch, pixels at the working nucleus size.
    batch_size : int
    """

    def __init__(
        self,
        network: nn.Module,
        design: Design,
        training: Sequence[NucleusField],
        validation: Sequence[NucleusField],
        *,
        augment: AugmentSettings,
        patch: int,
        batch_size: int,
    ) -> None:
        if not training:
            raise DataError(
                "no field to train on: the training split is empty. Check the split column or the groups."
            )
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.phases: dict[str, nn.Module] = {"segmenter": network}
        self.network, self.design, self.validation = network, design, list(validation)
        self._augment, self._patch, self._batch_size = augment, patch, batch_size
        fields = [Scaled.of(field) for field in training]
        self._sources = [[f for f in fields if f.source == s] for s in sorted({f.source for f in fields})]
        # Full fields teach more than empty ones, but not in proportion: fields differ more than nuclei of one do.
        crowds = [np.sqrt([1.0 + np.unique(f.labels).size for f in source]) for source in self._sources]
        self._chances = [crowd / crowd.sum() for crowd in crowds]

    def batch(self, step: int, rng: np.random.Generator) -> Batch:
        """Draw patches, each source as often as the others."""
        images, wanted = [], []
        for _ in range(self._batch_size):
            n = rng.integers(len(self._sources))
            source, chances = self._sources[n], self._chances[n]
            field = source[rng.choice(len(source), p=chances)]
            image, labels = draw_patch(field, self._patch, self._augment, rng)
            images.append(image)
            wanted.append(torch.from_numpy(self.design.targets(labels)))
        x = two_channels(torch.stack(images)).contiguous(memory_format=torch.channels_last)
        return {"image": x, "wanted": torch.stack(wanted)}

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        """Give the design's losses."""
        return self.design.loss(self.network, batch["image"], batch["wanted"])

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Give F1 at IoU 0.5, 0.7 and 0.9 of every source, pooled over its fields; the score is their mean."""
        scores: dict[str, float] = {}
        for source in sorted({field.source for field in self.validation}):
            matched = []
            for field in (f for f in self.validation if f.source == source):
                diameter = field.diameter_px or typical_diameter(field.labels)
                labels = predict_labels(module, self.design, field.image, diameter)
                matched.append(match(field.labels, labels, thresholds=_LEVELS))
            pooled = match_dataset(matched)
            scores |= {f"{source or 'validation'}/f1@{t}": pooled.at(t)["f1"] for t in _LEVELS}
        return {"score": float(np.mean(list(scores.values()))), **scores} if scores else {}
