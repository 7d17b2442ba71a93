"""F13: a number that is not finite stops training at that step; the last good checkpoint stays."""

from __future__ import annotations

import pytest
import torch
from small_models import TwoPhases, same_tensors, small_settings

from image2reg.errors import TrainingError
from image2reg.models.checkpoint import list_checkpoints, read_checkpoint
from image2reg.models.devices import accelerator_for
from image2reg.models.train import fit


class NaNInput(TwoPhases):
    """A bad pixel in one field."""

    def batch(self, step, rng):
        batch = super().batch(step, rng)
        if step == 8:
            batch["x"][2, 1] = float("nan")
        return batch


class InfiniteTerm(TwoPhases):
    """One named term of the second phase overflows."""

    def loss(self, phase, batch):
        terms = super().loss(phase, batch)
        if batch["step"] == 8 and phase == "discriminator":
            terms["penalty"] = terms["loss"].detach() * float("inf")
        return terms


class NaNGradient(TwoPhases):
    """A finite loss whose gradient is not: the square root at zero."""

    def loss(self, phase, batch):
        terms = super().loss(phase, batch)
        if batch["step"] == 8 and phase == "generator":
            weight = self.phases["generator"][0].weight
            terms["loss"] = terms["loss"] + torch.sqrt((weight - weight.detach()).square().sum()).mean()
        return terms


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (NaNInput, "step 8: loss 'loss' of phase 'generator' is nan (batch ids ['field-8-0', 'field-8-1'"),
        (InfiniteTerm, "step 8: loss 'penalty' of phase 'discriminator' is inf (batch ids ['field-8-0'"),
        (NaNGradient, "step 8: the gradient of phase 'generator' is nan, its losses are finite"),
    ],
)
def test_training_stops_and_keeps_the_last_good_checkpoint(tmp_path, task, expected):
    with pytest.raises(TrainingError) as caught:
        fit(task(), small_settings(), tmp_path / "bad", device="cpu", progress=False)
    text = str(caught.value)
    assert expected in text
    assert "lower learning_rate (0.02) or set gradient_clip (1.0)" in text
    assert f"Last good checkpoint: {tmp_path / 'bad' / 'checkpoints' / 'step_000006'}" in text
    assert caught.value.exit_code == 1

    kept = list_checkpoints(tmp_path / "bad" / "checkpoints")
    assert [path.name for path in kept] == ["step_000003", "step_000006"]
    _, tensors = read_checkpoint(kept[-1])
    assert all(value.isfinite().all() for part in tensors.values() for value in part.values())

    healed = fit(TwoPhases(), small_settings(), tmp_path / "bad", resume=True, device="cpu", progress=False)
    whole = fit(TwoPhases(), small_settings(), tmp_path / "whole", device="cpu", progress=False)
    assert same_tensors(healed.last_state, whole.last_state)


def test_before_the_first_checkpoint_the_message_says_so(tmp_path):
    with pytest.raises(TrainingError, match="Last good checkpoint: none yet"):
        fit(NaNInput(), small_settings(checkpoint_every=50), tmp_path, device="cpu", progress=False)


class Overflowing(NaNGradient):
    """As in fp16: the gradient is not finite in the first steps."""

    until = 200

    def loss(self, phase, batch):
        return super().loss(phase, {**batch, "step": 8 if batch["step"] <= self.until else 0})


def test_in_half_precision_a_gradient_that_is_never_finite_ends_the_training(tmp_path, monkeypatch):
    def scaled(settings, device):
        accelerator = accelerator_for(settings, device)
        accelerator.scaler = torch.amp.GradScaler("cpu")
        return accelerator

    monkeypatch.setattr("image2reg.models.train.accelerator_for", scaled)
    settings = small_settings(steps=60, ema_decay=None, gradient_clip=None, checkpoint_every=60)
    with pytest.raises(
        TrainingError, match=r"step 50: the gradient of phase 'generator' was not finite in any"
    ):
        fit(Overflowing(), settings, tmp_path / "never", device="cpu", progress=False)
    monkeypatch.setattr(Overflowing, "until", 20)  # the scale falls, and training begins
    assert fit(Overflowing(), settings, tmp_path / "soon", device="cpu", progress=False).steps_done == 60
