"""A network, a bundle and a training task small enough for every test that needs one."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from image2reg.models.bundle import Bundle, save_bundle
from image2reg.models.integrity import content_sha256
from image2reg.models.settings import TrainingSettings
from image2reg.models.spec import BundleSpec

if TYPE_CHECKING:
    from pathlib import Path


class SmallNet(nn.Module):
    """One convolution and a counter: a weight, a bias and an integer buffer."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.register_buffer("n_seen", torch.tensor(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


NETWORKS = {"small_net": SmallNet}


def small_spec(**changes: object) -> BundleSpec:
    content = {
        "kind": "staining", "name": "small", "summary": "One plane to three channels.",
        "intended_use": "Tests.", "limits": ["Knows nothing."],
        "architecture": {"name": "small_net", "arguments": {"width": 3}},
        "inputs": [{"axes": "YX", "channels": ["Brightfield"], "voxel_um": [None, 0.65, 0.65]}],
        "outputs": [{"axes": "CYX", "channels": ["DNA", "Actin", "Golgi"], "voxel_um": [None, 0.65, 0.65]}],
        "tile": {"window": [64, 64], "stride": [48, 48]},
        "normalisation": {
            "input": {"method": "robust", "scope": "image"},
            "output": {"method": "zscore", "centre": [1.0, 2.0, 3.0], "scale": [1.0, 1.0, 2.0]},
        },
        "training": {"command": "virtualstain train --out x", "seed": 3, "steps": 10},
        "metrics": [{"name": "Pearson", "channel": "DNA", "value": 0.6, "ci95": [0.5, 0.7], "n": 9,
                     "level": "field", "floor": 0.2, "ceiling": 0.9}],
        "domain": {"focus": {"mean": 1.0, "sd": 0.1}},
        "licence": "BSD-3-Clause",
        "data": [{"name": "a | b", "licence": "CC0", "credit": "someone"}],
    }  # fmt: skip
    return BundleSpec.model_validate({**content, **changes})


def small_bundle(directory: Path, **changes: object) -> Bundle:
    torch.manual_seed(0)
    return save_bundle(
        directory, small_spec(**changes), SmallNet().state_dict(), files={"config.yaml": b"a: 1\n"}
    )


def rewrite_spec(directory: Path, change) -> None:
    """Change ``bundle.json`` as an attacker would: any content, hashes of present files made to fit."""
    path = directory / "bundle.json"
    content = json.loads(path.read_text())
    for name in content["files"]:
        if (directory / name).is_file():
            content["files"][name] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    content = change(content) or content
    if isinstance(content, dict):
        content["sha256"] = content_sha256(content)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


class TwoPhases:
    """A small regression with dropout and batch norm, and an adversary: everything a resume can get wrong."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        generator = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
        )
        judge = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        self.phases: dict[str, nn.Module] = {"generator": generator, "discriminator": judge}

    def batch(self, step: int, rng: np.random.Generator) -> dict:
        x = torch.from_numpy(rng.standard_normal((6, 4), dtype=np.float32))
        ids = [f"field-{step}-{i}" for i in range(6)]
        return {"x": x, "y": x[:, :2] * 2 + 1, "ids": ids, "step": step}

    def loss(self, phase: str, batch: dict) -> dict:
        made = self.phases["generator"](batch["x"])
        judge = self.phases["discriminator"]
        if phase == "generator":
            l1 = (made - batch["y"]).abs().mean()
            return {"loss": l1 + 0.1 * (judge(made) - 1).square().mean(), "l1": l1}
        return {"loss": (judge(batch["y"]) - 1).square().mean() + judge(made.detach()).square().mean()}

    def validate(self, module: nn.Module) -> dict:
        x = torch.linspace(-1, 1, 20).reshape(5, 4)
        return {"score": -float((module(x) - x[:, :2] * 2 - 1).abs().mean()), "noise": float(torch.rand(()))}


class Stopping(TwoPhases):
    """Sends a signal to its own process once, in one stage of one step."""

    def __init__(self, step: int, number: int, stage: str) -> None:
        super().__init__()
        self.at, self.number, self.stage, self.now, self.sent = step, number, stage, 0, False

    def send_at(self, stage: str, step: int) -> None:
        if (stage, step, self.sent) == (self.stage, self.at, False):
            self.sent = True
            os.kill(os.getpid(), self.number)

    def batch(self, step: int, rng: np.random.Generator) -> dict:
        self.send_at("batch", step)
        return super().batch(step, rng)

    def loss(self, phase: str, batch: dict) -> dict:
        self.now = batch["step"]
        self.send_at(phase, self.now)
        return super().loss(phase, batch)

    def validate(self, module: nn.Module) -> dict:
        self.send_at("validate", self.now)
        return super().validate(module)


def small_settings(**changes: object) -> TrainingSettings:
    values = {
        "steps": 12, "batch_size": 6, "learning_rate": 0.02, "weight_decay": 0.01, "warmup_steps": 3,
        "ema_decay": 0.8, "accumulate": 2, "gradient_clip": 1.0, "validate_every": 4, "checkpoint_every": 3,
        "log_every": 5, "seed": 5,
    }  # fmt: skip
    return TrainingSettings.model_validate({**values, **changes})


def same_tensors(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
