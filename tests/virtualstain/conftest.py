"""A tiny trained-looking model and small fields, shared by the tests of virtualstain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_fields import DEEP, FLAT, make_field

from virtualstain.bundling import Facts, pack
from virtualstain.fields import standardise
from virtualstain.model import StainModel, from_bundle
from virtualstain.networks import build_network
from virtualstain.recipe import Recipe
from virtualstain.train import network_arguments


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., StainModel]:
    """Factory of bundles with random weights: (planes, flat, scope) to a loaded model."""
    made: dict[tuple[object, ...], StainModel] = {}

    def factory(
        *, planes: int = 1, flat: bool = True, scope: str = "image", offset: tuple[int, int] = (0, 0)
    ) -> StainModel:
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
