"""One small generator for all tests that only need some generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from small_generators import small_generator

if TYPE_CHECKING:
    from morphgen.sample import MorphologyGenerator


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> MorphologyGenerator:
    from morphgen.sample import MorphologyGenerator

    torch.manual_seed(0)
    bundle = small_generator(tmp_path_factory.mktemp("small"))
    return MorphologyGenerator(bundle)
