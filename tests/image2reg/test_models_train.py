"""The training loop: resume, averaging, phases, best weights, log, refusals."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from image2reg.interruption import Interrupted
from image2reg.models.history import read_history
from image2reg.models.train import TrainingSettings, fit

if TYPE_CHECKING:
    from pathlib import Path


class TwoPhases:
    """A small regression with dropout and batch norm, and an adversary: everything a resume can get wrong."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        generator = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
        )
        self.phases = {
            "generator": generator,
            "discriminator": nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)),
        }
        self.steps_seen: list[int] = []

    def batch(self, step: int, rng: np.random.Generator) -> dict:
        x = torch.from_numpy(rng.standard_normal((6, 4), dtype=np.float32))
        return {"x": x, "y": x[:, :2] * 2 + 1, "ids": [f"field-{step}-{i}" for i in range(6)]}

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


def settings(**changes: object) -> TrainingSettings:
    defaults = {
        "steps": 12, "batch_size": 6, "learning_rate": 0.02, "weight_decay": 0.01, "warmup_steps": 3,
        "ema_decay": 0.8, "accumulate": 2, "gradient_clip": 1.0, "validate_every": 4, "checkpoint_every": 3,
        "log_every": 5, "seed": 5,
    }  # fmt: skip
    return TrainingSettings(**{**defaults, **changes})


class Stopping(TwoPhases):
    """Sends a signal to its own process while it works on one step."""

    def __init__(self, step: int, number: int = signal.SIGINT, stage: str = "loss") -> None:
        super().__init__()
        self.at, self.number, self.stage, self.now, self.sent = step, number, stage, 0, False

    def send(self) -> None:
        if not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)

    def batch(self, step: int, rng: np.random.Generator) -> dict:
        return {**super().batch(step, rng), "step": step}

    def loss(self, phase: str, batch: dict) -> dict:
        if batch["step"] == self.at and self.stage == "loss" and phase == "generator":
            self.send()
        self.now = batch["step"]
        return super().loss(phase, batch)

    def validate(self, module: nn.Module) -> dict:
        if self.stage == "validate" and self.now == self.at:
            self.send()
        return super().validate(module)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def whole_state(out: Path) -> dict[str, bytes]:
    newest = sorted((out / "checkpoints").iterdir())[-1]
    return {name: (newest / f"{name}.safetensors").read_bytes() for name in ("model", "optim", "ema")}


@pytest.mark.parametrize(("stage", "at"), [("loss", 7), ("validate", 8), ("loss", 1), ("loss", 12)])
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(tmp_path, stage, at):
    whole = fit(TwoPhases(), settings(), tmp_path / "whole", device="cpu", progress=False)
    with pytest.raises(Interrupted) as caught:
        fit(Stopping(at, stage=stage), settings(), tmp_path / "parts", device="cpu", progress=False)
    assert caught.value.code == 130
    assert f"Interrupted at step {at}" in str(caught.value)
    torch.rand(17)  # random numbers drawn in between must not matter
    parts = fit(TwoPhases(seed=99), settings(), tmp_path / "parts", resume=True, device="cpu", progress=False)
    assert same(whole.last_state, parts.last_state)
    assert same(whole.best_state, parts.best_state)
    assert (whole.best_step, whole.best_score) == (parts.best_step, parts.best_score)
    assert whole_state(tmp_path / "whole") == whole_state(tmp_path / "parts")
    logged = [
        [r["validation"] for r in read_history(x.history_path) if "validation" in r] for x in (whole, parts)
    ]
    assert logged[0] == logged[1]
    assert len(logged[0]) == 3
