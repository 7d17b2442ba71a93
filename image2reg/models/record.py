"""The record of a training that every bundle carries."""

from __future__ import annotations

from typing import Any

from image2reg.models.spec import Training
from image2reg.provenance import git_commit, installed_versions, json_sha256

__all__ = ["training_record"]


def training_record(recipe: Any, *, command: str, steps: int, minutes: float, split: str) -> Training:
    """Say how weights came about: command, recipe (a pydantic class with ``training.seed``), commit, versions."""
    return Training(
        command=command,
        config_sha256=json_sha256(recipe.model_dump(mode="json")),
        git=git_commit(),
        seed=recipe.training.seed,
        steps=steps,
        minutes=round(minutes, 2),
        versions=installed_versions(),
        split=split,
    )
