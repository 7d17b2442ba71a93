"""A tiny trained-looking model and small fields, shared by the tests of virtualstain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from virtualstain.bundling import Facts, pack
from virtualstain.fields import standardise
from virtualstain.model import StainModel, from_bundle
from virtualstain.networks import build_network
from virtualstain.patches import StainField
from virtualstain.recipe import Recipe
from virtualstain.train import network_arguments

FLAT = {"name": "shuffle_unet", "arguments": {"dims": 2, "patch": (2, 2), "widths": (8, 16)}}
DEEP = {"name": "shuffle_unet", "arguments": {"dims": 3, "patch": (1, 2, 2), "widths": (8, 16), "down": ((2, 2, 2),)}}


def make_field(seed: int, planes: int, *, flat: bool, size: tuple[int, int] = (40, 44), stains: int = 2) -> StainField:
    """A field whose stains are smooth functions of its input, in camera counts (synthetic)."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(1000, 100, (1, planes, *size)).astype(np.float32)
    base = inputs.mean(1, keepdims=True) if flat else inputs
    targets = np.concatenate([500 + (k + 1) * 0.5 * base for k in range(stains)]).astype(np.float32)
    return StainField(
        f"field {seed}", f"plate {seed % 2}", inputs, targets, np.ones(stains, bool), voxel_um=(1.0, 0.5, 0.5)
    )


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., StainModel]:
    """Factory of bundles with random weights: (planes, flat, scope) to a loaded model."""
    made: dict[tuple[object, ...], StainModel] = {}

    def factory(*, planes: int = 1, flat: bool = True, scope: str = "image", offset: tuple[int, int] = (0, 0)) -> StainModel:
        key = (planes, flat, scope, offset)
        if key not in made:
            recipe = Recipe(
                name="tiny", inputs=("Brightfield",), targets=("Hoechst", "Mito"), network=FLAT if flat else DEEP,
                input_normalisation={"scope": scope}, tile=(8, 16, 16), patch=(planes, 16, 16),
            )  # fmt: skip
            fields, reference = standardise([make_field(s, planes, flat=flat) for s in range(2)], recipe)
            arguments = network_arguments(recipe, planes=planes)
            torch.manual_seed(0)
            network = build_network(**arguments)
            torch.nn.init.normal_(network.head.weight, std=0.2)
            folder: Path = tmp_path_factory.mktemp("bundles") / "tiny"
            bundle, _, _ = pack(
                folder, recipe, arguments, network.state_dict(), reference, example=fields[0], test=fields[1:],
                facts=Facts(command="none: random weights"), steps=0, minutes=0, offset_px=offset,
            )  # fmt: skip
            made[key] = from_bundle(bundle)
        return made[key]

    return factory
