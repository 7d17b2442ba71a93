"""F14 (training): the same seed gives the same bytes with any number of worker threads; another does not."""

from __future__ import annotations

import hashlib

import pytest
import torch
from small_models import TwoPhases, small_settings

from image2reg.models.train import fit


def digest(out, **changes) -> str:
    torch.rand(3)  # whatever was drawn before must not matter
    fit(TwoPhases(), small_settings(**changes), out, device="cpu", progress=False)
    newest = max((out / "checkpoints").iterdir())
    content = b"".join(p.read_bytes() for p in sorted(newest.glob("*.safetensors")))
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return digest(tmp_path_factory.mktemp("reference") / "run")


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_same_seed_gives_the_same_bytes(tmp_path, reference, workers):
    assert digest(tmp_path / "run", workers=workers) == reference


def test_how_often_is_logged_and_stored_does_not_matter(tmp_path, reference):
    assert digest(tmp_path / "run", log_every=1, checkpoint_every=100) == reference


def test_another_seed_gives_other_bytes(tmp_path, reference):
    assert digest(tmp_path / "run", seed=6) != reference
