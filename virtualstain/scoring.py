"""Predicting fields whose stain is known, and pairing what was predicted with what is real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtualstain.evaluate import ScoredField
from virtualstain.metrics import pearson
from virtualstain.model import StainModel
from virtualstain.normalise import ChannelScale, measure_image_scale
from virtualstain.patches import StainField

__all__ = ["StainedFields", "mean_pearson", "scored_channels", "stain_fields", "with_target_scale"]


def with_target_scale(model: StainModel, item: StainField) -> StainField:
    """Give a field the target scale its real stains are compared at: the bundle's, or its own under scope "image"."""
    by = model.bundle.spec.normalisation.output
    scales = []
    for k, channel in enumerate(model.outputs):
        if by.scope == "dataset" or not item.present[k]:
            scales.append(ChannelScale(by.centre[k], by.scale[k], by.transform))
        else:
            scales.append(
                measure_image_scale(
                    item.targets,
                    k,
                    method=by.method,
                    transform=by.transform,
                    where=f"{item.name}: channel '{channel}'",
                    valid=item.valid,
                )
            )
    return replace(item, target_scale=tuple(scales))


def stain_fields(
    model: StainModel, fields: Sequence[StainField], *, tta: bool = False
) -> list[list[ScoredField]]:
    """Predict standardised fields as `predict` would; per field, one `ScoredField` per target it has."""
    out = []
    for item in fields:
        predicted = model.predict_array(item.inputs, where=item.name, valid=item.valid, tta=tta)
        out.append(scored_channels(model, item, predicted))
    return out


class StainedFields(Sequence[list[ScoredField]]):
    """Standardised fields with their predictions, each made when it is asked for: memory holds one.

    Attributes
    ----------
    ranks : list of float
        `mean_pearson` of every field that was asked for, NaN of the others.
    """

    def __init__(self, model: StainModel, fields: Sequence[StainField]) -> None:
        self._model, self._fields = model, fields
        self.ranks = [math.nan] * len(fields)

    def __len__(self) -> int:
        """Count the fields."""
        return len(self._fields)

    def __getitem__(self, index: Any) -> Any:
        """Predict one field, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        made = stain_fields(self._model, [self._fields[index]])[0]
        self.ranks[index] = mean_pearson(made)
        return made


def mean_pearson(channels: Sequence[ScoredField]) -> float:
    """Mean of Pearson's r over the channels of one field; NaN without any."""
    found = [pearson(c.truth, c.prediction, mask=c.mask) for c in channels]
    return math.fsum(found) / len(found) if found else math.nan


def scored_channels(model: StainModel, item: StainField, predicted: NDArray[np.float32]) -> list[ScoredField]:
    """Pair a (K, Z, Y, X) prediction in output units with the field's real stains, brought to the same units."""
    valid = np.ones(item.plane, bool) if item.valid is None else item.valid
    scored = []
    for k, channel in enumerate(model.outputs):
        if not item.present[k]:
            continue
        scale = model.output_scale[k]
        scored.append(
            ScoredField(
                name=item.name,
                group=item.group,
                channel=channel,
                inputs=np.asarray(item.inputs),
                truth=scale.invert(item.target_scale[k].apply(np.asarray(item.targets[k]))),
                prediction=predicted[k],
                mask=np.broadcast_to(valid, predicted[k].shape),
                data_range=6 * scale.scale,
                typical=scale.centre,
            )
        )
    return scored
