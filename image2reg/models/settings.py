"""What a training run may be told: the one set of options every model of the project is trained with."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["TrainingSettings", "free_settings", "learning_rate_at"]


class TrainingSettings(BaseModel):
    """Options of `image2reg.models.train.fit`.

    Attributes
    ----------
    steps : int
        Optimiser steps (each phase is stepped once in each). Under schedule "constant" a run may be resumed with more;
        under "cosine" each rate depends on their number, and it may not.
    batch_size : int
        Examples per micro-batch; the task reads it, the loop does not.
    learning_rate : float
        Peak rate, reached after `warmup_steps` of linear rise.
    weight_decay : float
        Decoupled decay, on parameters with two or more axes only (not on biases and norms).
    warmup_steps : int
        Steps of the linear rise.
    schedule : "cosine" or "constant"
        After the rise: half a cosine down to zero at `steps`, or flat.
    betas : (float, float)
        AdamW's moment decays.
    ema_decay : float or None
        Decay of the exponential moving average of the first phase's weights; None for none.
    accumulate : int
        Micro-batches per step.
    precision : "fp32", "bf16" or "fp16"
        Mixed precision of forward and backward; weights stay float32. "fp16" needs a GPU; "bf16" is float32 on a
        processor that has no bfloat16; the log says what was computed.
    gradient_clip : float or None
        Largest gradient norm per phase.
    seed : int
        Decides batches, augmentation and dropout.
    workers : int
        Threads that prepare batches ahead; 0 prepares them in the loop. Has no influence on the result.
    log_every, validate_every, checkpoint_every : int
        In steps. The last step is always validated and checkpointed.
    patience : int or None
        Stop after this many validations without a better score; never where there is no validation.
    keep_checkpoints : int
        How many of the newest stay on disk.
    max_minutes : float or None
        Wall-clock budget over all resumed parts together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.999)
    ema_decay: float | None = Field(default=None, ge=0, lt=1)
    accumulate: int = Field(default=1, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_clip: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)
    workers: int = Field(default=1, ge=0, le=64)
    log_every: int = Field(default=20, gt=0)
    validate_every: int = Field(default=500, gt=0)
    checkpoint_every: int = Field(default=500, gt=0)
    patience: int | None = Field(default=None, gt=0)
    keep_checkpoints: int = Field(default=2, gt=0)
    max_minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _consistent(self) -> TrainingSettings:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas}: each must be at least 0 and below 1")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be below steps={self.steps}")
        return self


def free_settings(settings: TrainingSettings) -> set[str]:
    """Name what a continuation may change without another result at the steps both take: its end and what is written.

    Under the cosine schedule the end decides every rate; the rate of a prolonged run would jump back up, and no single
    command would give its weights.
    """
    free = {"patience", "max_minutes", "workers", "log_every", "checkpoint_every", "keep_checkpoints"}
    return free | {"steps"} if settings.schedule == "constant" else free


def learning_rate_at(settings: TrainingSettings, step: int) -> float:
    """Give the rate of training step `step` (the first is 1): a function of the step alone.

    Cosine annealing without restarts, Loshchilov and Hutter, SGDR (2017), equation 5, after a linear rise.
    """
    if step <= settings.warmup_steps:
        return settings.learning_rate * step / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - 1 - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
