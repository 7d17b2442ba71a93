"""One training step: forward, backward and optimizer step of each phase, and the checks before it counts."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from image2reg.errors import TrainingError
from image2reg.models.settings import TrainingSettings, learning_rate_at
from image2reg.randomness import integer_seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from accelerate import Accelerator

    from image2reg.models.state import TrainingState
    from image2reg.models.task import Batch, Task

__all__ = ["Stepper"]

# In fp16 an overflow is routine: the step is left out and the scale of the losses halved. After so many in a row the
# scale is far below anything that could overflow.
MOST_SKIPPED = 50


class Stepper:
    """Take training steps on a `TrainingState`."""

    def __init__(
        self, task: Task, settings: TrainingSettings, accelerator: Accelerator, state: TrainingState
    ) -> None:
        self._task, self._settings, self._accelerator, self._state = task, settings, accelerator, state
        self._optimizers: dict[str, Any] = dict(state.optimizers)
        if accelerator.scaler is not None:  # only scaled steps need accelerate's
            self._optimizers = {p: accelerator.prepare_optimizer(o) for p, o in state.optimizers.items()}
        self._skipped = dict.fromkeys(state.optimizers, 0)

    def take_step(self, indices: Sequence[int], batches: Sequence[Batch]) -> list[tuple[str, float]]:
        """Step each phase once on the step's micro-batches, then the average.

        Parameters
        ----------
        indices : sequence of int
            Number of each micro-batch within the step; decides its random numbers.
        batches : sequence of Batch
            On the CPU.

        Returns
        -------
        list of (str, float)
            ``<phase>/<loss name>`` and its value, once for each micro-batch, and ``<phase>/gradient_norm``.

        Raises
        ------
        TrainingError
            A loss or gradient is not finite; the phase's weights are as before.
        """
        step = self._state.progress.step + 1
        rate = learning_rate_at(self._settings, step)
        batches = [self._on_device(batch) for batch in batches]
        logged: list[tuple[str, float]] = []
        for module in self._task.phases.values():
            module.train()
        for phase, optimizer in self._optimizers.items():
            with self._only(phase):
                terms = []
                for index, batch in zip(indices, batches, strict=True):
                    self._seed(integer_seed(self._settings.seed, "torch", step, phase, index))
                    with self._accelerator.accumulate(), self._accelerator.autocast():
                        losses = self._task.loss(phase, batch)
                    self._accelerator.backward(losses["loss"])
                    terms.append({name: value.detach().float() for name, value in losses.items()})
                logged += self._finite_losses(step, phase, terms, batches)
                logged.append((f"{phase}/gradient_norm", self._finish_gradients(step, phase)))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad()
                self._refuse_skipping(step, phase, optimizer)
        if self._state.average:
            self._state.average.update(step)
        self._state.progress.step = step
        return logged

    def _seed(self, seed: int) -> None:
        if self._accelerator.device.type == "cpu":
            # `torch.manual_seed` also describes the call stack each time, for devices that are not in use.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _refuse_skipping(self, step: int, phase: str, optimizer: Any) -> None:
        """End a training in fp16 whose gradients are not finite however small the losses are scaled."""
        skipped = self._accelerator.scaler is not None and optimizer.step_was_skipped
        self._skipped[phase] = self._skipped[phase] + 1 if skipped else 0
        if self._skipped[phase] >= MOST_SKIPPED:
            raise self._error(
                f"step {step}: the gradient of phase '{phase}' was not finite in any of the last {MOST_SKIPPED} steps, "
                "its losses are"
            )

    def _on_device(self, batch: Batch) -> Batch:
        device = self._accelerator.device
        return {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }

    @contextlib.contextmanager
    def _only(self, phase: str) -> Iterator[None]:
        """Let one phase's parameters collect gradients; the others pass them through and hold none."""
        trainable = self._state.trainable
        others = [p for name in trainable if name != phase for p in trainable[name].values()]
        for parameter in others:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad = True

    def _finite_losses(
        self, step: int, phase: str, terms: list[dict[str, Tensor]], batches: Sequence[Batch]
    ) -> list[tuple[str, float]]:
        names = list(terms[0])
        # Stacked, so that a GPU is waited for once per phase and not once per number.
        values = torch.stack([torch.stack([term[name] for name in names]) for term in terms]).tolist()
        for row, batch in zip(values, batches, strict=True):
            for name, value in zip(names, row, strict=True):
                if not math.isfinite(value):
                    ids = f" (batch ids {list(batch['ids'])})" if "ids" in batch else ""
                    raise self._error(f"step {step}: loss '{name}' of phase '{phase}' is {value}{ids}")
        return [(f"{phase}/{n}", value) for row in values for n, value in zip(names, row, strict=True)]

    def _finish_gradients(self, step: int, phase: str) -> float:
        """Average over processes, clip, and give the norm before clipping."""
        parameters = list(self._state.trainable[phase].values())
        scaled = self._accelerator.scaler is not None
        if scaled:
            self._accelerator.unscale_gradients(self._optimizers[phase])
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self._accelerator.num_processes > 1:
            for gradient in gradients:
                gradient.copy_(self._accelerator.reduce(gradient, "mean"))
        norm = get_total_norm(gradients)
        if not scaled and not torch.isfinite(norm):  # in fp16 overflow is routine: the scaler skips the step
            raise self._error(
                f"step {step}: the gradient of phase '{phase}' is {norm}, its losses are finite"
            )
        if self._settings.gradient_clip is not None:
            clip_grads_with_norm_(parameters, self._settings.gradient_clip, norm)
        return norm.item()

    def _error(self, what: str) -> TrainingError:
        settings = self._settings
        return TrainingError(
            f"{what}; the step was not taken. Look at that batch, lower learning_rate "
            f"({settings.learning_rate}) or set gradient_clip ({settings.gradient_clip})."
        )
