"""What the training loop is given, how it asks for batches, and what it gives back."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from image2reg.randomness import generator

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

    from image2reg.models.settings import TrainingSettings

__all__ = ["Batch", "BatchFeed", "FitResult", "StopReason", "Task", "looks_of", "other_looks"]

Batch = dict[str, Any]
StopReason = Literal["steps", "patience", "time"]


class Task(Protocol):
    """What is trained. An implementation holds the data, the modules and the losses; the loop holds the rest.

    Attributes
    ----------
    phases : dict of str to nn.Module
        Insertion order is the order of the optimiser steps within one training step. The first phase is the
        model: it is averaged (EMA), validated and returned. No parameter may be in two phases.
    """

    phases: dict[str, nn.Module]

    def batch(self, step: int, rng: np.random.Generator) -> Batch:
        """Give one micro-batch on the CPU, drawn from `rng` alone.

        Called from worker threads, ahead of time and in any order. Tensors are moved to the device; an entry
        ``ids`` (a sequence) is named when a loss of this batch is not finite.
        """

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        """Give scalar terms; ``"loss"`` is minimised over the phase's parameters, all are logged.

        The phases of one step are given the same dict, in their order: a phase may leave something for the next.
        """

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Give scores of `module`, the first phase, in evaluation mode and with averaged weights in place.

        ``"score"``: higher is better; one that is not finite is never best. ``{}``: there is no validation.
        """


@dataclass(frozen=True)
class FitResult:
    """What a training run leaves behind. States are copies on the CPU, averaged (EMA) where that is on.

    ``best_state``, ``best_step`` and ``best_score`` are None without validation. ``seconds`` counts all
    resumed parts. ``stopped`` says why training ended: "steps", "patience" or "time".
    """

    best_state: dict[str, Tensor] | None
    last_state: dict[str, Tensor]
    best_step: int | None
    best_score: float | None
    history_path: Path
    steps_done: int
    seconds: float
    stopped: StopReason


class BatchFeed:
    """Micro-batches of a step, prepared ahead in threads; what comes out depends on the step alone.

    Process `rank` of `n_processes` gets micro-batches ``rank, rank + n, rank + 2 n, ...`` of a step, so that
    the step sees the same data however many processes share it.
    """

    def __init__(
        self, task: Task, settings: TrainingSettings, *, rank: int = 0, n_processes: int = 1
    ) -> None:
        self.indices = [i * n_processes + rank for i in range(settings.accumulate)]
        self._task, self._settings = task, settings
        self._pool = _single_threaded_pool(settings.workers) if settings.workers else None
        self._ahead: dict[int, Future[list[Batch]]] = {}

    def _make(self, step: int) -> list[Batch]:
        seed = self._settings.seed
        return [self._task.batch(step, generator(seed, "batch", step, index)) for index in self.indices]

    def get(self, step: int) -> list[Batch]:
        """Give the micro-batches of `step`; set threads to work on those that follow."""
        if self._pool is None:
            return self._make(step)
        for later in range(step, min(step + self._settings.workers, self._settings.steps) + 1):
            if later not in self._ahead:
                self._ahead[later] = self._pool.submit(self._make, later)
        batches = self._ahead[step].result()
        del self._ahead[step]
        return batches

    def close(self) -> None:
        """Drop what was prepared and not asked for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def looks_of(batch: Batch) -> dict[str, Any]:
    """Describe a batch by shape, mean and spread of its tensors: alike on every machine, not alike for other data.

    What is not finite, such as a gene that was not measured, has no part in mean and spread.
    """
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    looks = {}
    for name, value in tensors.items():
        if value.numel() and not value.is_complex():
            x = value.double()
            x = x[x.isfinite()] if x.isfinite().any() else x.new_zeros(1)
            looks[name] = {
                "shape": list(value.shape),
                "mean": float(x.mean()),
                "spread": float(x.std(correction=0)),
            }
    return looks


def other_looks(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Name what of a batch is not as it was; processors that differ in the last bits are no difference."""
    if before.keys() != now.keys():
        return f"its parts ({sorted(before)}, now {sorted(now)})"
    for name, old in before.items():
        new = now[name]
        if old["shape"] != new["shape"]:
            return f"the shape of {name!r} ({old['shape']}, now {new['shape']})"
        if not math.isclose(old["mean"], new["mean"], rel_tol=0.01, abs_tol=0.01 * (old["spread"] + 1e-9)):
            return f"the mean of {name!r} ({old['mean']:.3g}, now {new['mean']:.3g})"
    return ""


def _single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """Make a pool whose threads run torch on one core each; a second team would fight the training step for cores.

    Setting the number in a thread also changes what threads that start torch later take over. The caller's number is
    therefore set again once all have started: results depend on it to the last bit.
    """
    n_threads, started = torch.get_num_threads(), threading.Barrier(workers + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, initializer=begin)
    for _ in range(workers):
        pool.submit(int)  # a thread is started for a task, not before
    started.wait()
    torch.set_num_threads(n_threads)
    return pool
