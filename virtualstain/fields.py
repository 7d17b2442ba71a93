"""From a manifest to fields of view ready for training or evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from image2reg.errors import DataError
from image2reg.provenance import arrays_sha256
from virtualstain.normalise import ChannelScale, Scope, measure_image_scale, merge_scales
from virtualstain.patches import StainField
from virtualstain.recipe import Recipe

__all__ = ["fields_digest", "standardise"]


def fields_digest(fields: Sequence[StainField]) -> str:
    """Hash of all that training can see of fields (sha256), plane by plane, because fields may lie on disk."""
    with np.errstate(over="ignore"):  # `standardise` refuses what is beyond float32, by its name
        return arrays_sha256(part for item in fields for part in _seen(item))


def _seen(item: StainField) -> Iterator[Any]:
    yield item.present
    for stack, channels in (
        (item.inputs, range(item.inputs.shape[0])),
        (item.targets, item.present.nonzero()[0]),
    ):
        yield np.array(stack.shape)
        yield from (np.float32(stack[c, z]) for c in channels for z in range(stack.shape[1]))
    yield from (part for part in (item.valid, item.masks) if part is not None)


def standardise(
    fields: Sequence[StainField],
    recipe: Recipe,
    *,
    reference: tuple[Sequence[ChannelScale], Sequence[ChannelScale]] | None = None,
) -> tuple[list[StainField], tuple[tuple[ChannelScale, ...], tuple[ChannelScale, ...]]]:
    """Fill in every field's scales as the recipe's normalisation asks.

    Parameters
    ----------
    fields : sequence of StainField
    recipe : Recipe
    reference : (input scales, target scales), optional
        Those of the training set. None measures them on `fields`, which must then be the training set.

    Returns
    -------
    fields : list of StainField
    reference : (input scales, target scales)
        Mean centre and scale over the training fields. Where the scope is "dataset" they are used as they are;
        where it is "image" each field has its own, and these are what a bundle gives back as typical units.

    Raises
    ------
    DataError
        A constant channel, or one without finite values (`virtualstain.normalise.measure_scale`).
    """
    per_field = [(_scales(item, recipe, "input"), _scales(item, recipe, "target")) for item in fields]
    if reference is None:
        inputs = [[scales[0][c] for scales in per_field] for c in range(len(recipe.inputs))]
        targets = [[scales[1][k] for scales in per_field] for k in range(len(recipe.targets))]
        for name, found in zip(recipe.targets, targets, strict=True):
            if not any(scale is not None for scale in found):
                raise DataError(
                    f"target '{name}': no training field has it. Check the manifest's channel column."
                )
        reference = (
            tuple(_pooled(found, recipe.input_normalisation.scope) for found in inputs),
            tuple(_pooled(found, recipe.target_normalisation.scope) for found in targets),
        )
    own_input = recipe.input_normalisation.scope == "image"
    own_target = recipe.target_normalisation.scope == "image"
    done = []
    for item, (inputs_of, targets_of) in zip(fields, per_field, strict=True):
        chosen = [
            tuple(s if own and s is not None else r for s, r in zip(found, typical, strict=True))
            for own, found, typical in (
                (own_input, inputs_of, reference[0]),
                (own_target, targets_of, reference[1]),
            )
        ]
        done.append(replace(item, input_scale=chosen[0], target_scale=chosen[1]))
    return done, (tuple(reference[0]), tuple(reference[1]))


def _pooled(found: Sequence[ChannelScale | None], scope: Scope) -> ChannelScale:
    return merge_scales([s for s in found if s is not None], scope=scope)


def _scales(item: StainField, recipe: Recipe, role: str) -> list[ChannelScale | None]:
    """Measure every channel of one field; None for a target it does not have."""
    array = item.inputs if role == "input" else item.targets
    names = recipe.inputs if role == "input" else recipe.targets
    settings = recipe.input_normalisation if role == "input" else recipe.target_normalisation
    found: list[ChannelScale | None] = []
    for c, name in enumerate(names):
        if role == "target" and not item.present[c]:
            found.append(None)
            continue
        found.append(
            measure_image_scale(
                array,
                c,
                method=settings.method,
                transform=settings.transform,
                where=f"{item.name}: channel '{name}'",
                valid=item.valid,
            )
        )
    return found
