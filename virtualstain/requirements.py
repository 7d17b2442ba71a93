"""What training asks of fields and recipe, asked before the first step: hours later it would cost the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from image2reg.errors import ConfigurationError, DataError
from image2reg.wording import counted
from virtualstain.model import shown_sizes
from virtualstain.networks import build_network
from virtualstain.patches import StainField
from virtualstain.recipe import Recipe

__all__ = ["refuse_misfits"]


def refuse_misfits(splits: Mapping[str, Sequence[StainField]], recipe: Recipe) -> None:
    """Refuse fields that the recipe's network could not be trained, validated or tested on together.

    Parameters
    ----------
    splits : mapping
        ``train``, ``validation`` and ``test`` to fields, as `virtualstain.train.train` is given them.
    recipe : Recipe

    Raises
    ------
    ConfigurationError
        The patch does not fit the network.
    DataError
        Fields of different planes or voxel sizes, targets of a shape that the network does not give, or a split
        that has fields and none with a stain.
    """
    with torch.device("meta"):
        network = build_network(recipe.network.name, **recipe.network.arguments)
    _refuse_patch(recipe, network.divisor)
    fields = [item for name in ("train", "validation", "test") for item in splits.get(name, ())]
    for name in ("train", "validation", "test"):
        if splits.get(name) and not any(item.present.any() for item in splits[name]):
            raise DataError(
                f"split '{name}': none of its {len(splits[name])} fields has a real {' or '.join(recipe.targets)}. "
                "Draw the split over fields that have one, or leave the others out."
            )
    for item in fields:
        _refuse_planes(item, fields[0], dims=network.dims)
        _refuse_voxels(item, fields[0], recipe.voxel_tolerance)


def _refuse_patch(recipe: Recipe, divisor: Sequence[int]) -> None:
    patch = recipe.patch[-len(divisor) :]
    if any(n % d for n, d in zip(patch, divisor, strict=True)):
        axes = "ZYX"[-len(divisor) :]
        raise ConfigurationError(
            f"patch={list(recipe.patch)}: network '{recipe.network.name}' with these arguments takes multiples of "
            f"{list(divisor)} ({', '.join(axes)}). Set patch to such lengths."
        )


def _refuse_planes(item: StainField, first: StainField, *, dims: int) -> None:
    planes, stained = int(item.inputs.shape[1]), int(item.targets.shape[1])
    if dims == 2 and planes != first.inputs.shape[1]:
        raise DataError(
            f"{item.name}: {counted(planes, 'plane')}, {first.name} has {first.inputs.shape[1]}; a 2D network takes "
            "the planes as its channels, the same number in every field. Leave fields out, or use a 3D network."
        )
    if item.present.any() and stained != (1 if dims == 2 else planes):
        raise DataError(
            f"{item.name}: its stain has {counted(stained, 'plane')}, its input {planes}; a {dims}D network gives "
            f"{'one plane' if dims == 2 else 'as many as it is given'}. Use a {5 - dims}D network, or a recipe made "
            "for such targets."
        )


def _refuse_voxels(item: StainField, first: StainField, tolerance: float) -> None:
    axes = range(3) if item.inputs.shape[1] > 1 else range(1, 3)
    pairs = [(item.voxel_um[a], first.voxel_um[a]) for a in axes]
    if any((a is None) != (b is None) or (a and b and abs(a / b - 1) > tolerance) for a, b in pairs):
        its, theirs = shown_sizes(item.voxel_um), shown_sizes(first.voxel_um)
        raise DataError(
            f"{item.name}: voxel size {its} um (z, y, x), {first.name} has {theirs}; one model is "
            f"trained at one size, within {tolerance:.0%}. Resample or leave out what differs; where a file says "
            "nothing or something wrong, fill the manifest's columns voxel_z_um, voxel_y_um and voxel_x_um."
        )
