"""The one training loop: staining networks, adversaries, diffusion, segmenters and encoders all use `fit`.

A step is a function of (seed, step number, weights, optimizer state): batches and torch's random numbers are
derived from the step, never from what was drawn before. That is why a resumed run is bitwise the uninterrupted
one on a CPU, and why the number of worker threads does not matter.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm import tqdm

from image2reg.errors import ConfigurationError, DataError, TrainingError
from image2reg.interruption import Interrupted, Interruption
from image2reg.locking import run_lock
from image2reg.models import state as stored
from image2reg.models.devices import accelerator_for
from image2reg.models.history import History
from image2reg.models.settings import TrainingSettings, learning_rate_at
from image2reg.models.task import Batch, BatchFeed, FitResult, StopReason, Task
from image2reg.randomness import integer_seed

__all__ = ["FitResult", "Task", "TrainingSettings", "fit"]

# What may differ between the first part of a run and its continuation: where it ends and what it writes.
_FREE = {"steps", "patience", "max_minutes", "workers", "log_every", "checkpoint_every", "keep_checkpoints"}


def fit(
    task: Task,
    settings: TrainingSettings,
    out: Path | str,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> FitResult:
    """Train `task`; log to ``out/metrics.jsonl``, checkpoint to ``out/checkpoints/step_000123/``.

    Parameters
    ----------
    task : Task
        Modules are moved to the device and trained in place. With `resume`, build it as the first time: weights
        come from the checkpoint, everything else from the task.
    settings : TrainingSettings
    out : Path or str
        Directory of the run. It is locked while training.
    resume : bool
        Continue from the newest checkpoint; start afresh where there is none. The log is cut back to it.
    device : "auto", "cpu" or "cuda"
    progress : bool
        A bar on stderr, when that is a terminal.

    Returns
    -------
    FitResult

    Raises
    ------
    TrainingError
        A loss or a gradient is not finite. The step is not taken; checkpoints stay as they are.
    Interrupted
        Ctrl-C or SIGTERM: the step was finished and checkpointed. Uncaught it exits with 130 or 143.
    ConfigurationError
        Settings differ from those of the run that is resumed, or the device is not there.
    DataError
        `out` holds a run and `resume` is False.
    BundleError, ResourceError
        The checkpoint is damaged; the directory is in use, full or read-only.

    Notes
    -----
    Under ``accelerate launch`` each of n processes takes its share of ``n x accumulate`` micro-batches and
    gradients are averaged: n processes with ``accumulate=1`` take the steps of one with ``accumulate=n``.
    """
    out = Path(out)
    accelerator = accelerator_for(settings, device)
    lock = run_lock(out) if accelerator.is_main_process else contextlib.nullcontext()
    with lock, Interruption() as interruption:
        run = _Run(task, settings, out, accelerator)
        run.start(resume=resume)
        try:
            return run.train(interruption, progress=progress)
        finally:
            run.history.close()


@dataclass
class _Progress:
    """The scalars of a checkpoint. `validated`: last validated step; `stale`: validations since the best one."""

    step: int = 0
    validated: int = 0
    stale: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_score: float | None = None


class _Run:
    """Everything a checkpoint holds, and the step that changes it."""

    history: History

    def __init__(self, task: Task, settings: TrainingSettings, out: Path, accelerator: Accelerator) -> None:
        self.task, self.settings, self.accelerator = task, settings, accelerator
        self.folder, self.log_path = out / "checkpoints", out / "metrics.jsonl"
        self.model = next(iter(task.phases.values()))
        self.trainable: dict[str, dict[Tensor, str]] = {}
        self.optimizers: dict[str, Any] = {}
        for phase, module in task.phases.items():
            module.to(accelerator.device)
            names = {p: f"{phase}/{name}" for name, p in module.named_parameters() if p.requires_grad}
            self.trainable[phase] = names
            adam = torch.optim.AdamW(_groups(names, settings), settings.learning_rate, settings.betas)
            self.optimizers[phase] = accelerator.prepare_optimizer(adam)
        decay = settings.ema_decay
        self.average = None if decay is None else stored.WeightAverage(self.model, decay)
        self.now = _Progress()
        self.best: dict[str, Tensor] | None = None
        self.sums: dict[str, list[float]] = defaultdict(list)

    def start(self, *, resume: bool) -> None:
        """Restore the newest checkpoint or begin; open the log."""
        found = stored.list_checkpoints(self.folder)
        if not resume and (found or self.log_path.exists()):
            raise DataError(
                f"{self.folder.parent}: holds a training run. Pass --resume to continue it, "
                f"or choose another --out."
            )
        main = self.accelerator.is_main_process
        if main:
            stored.prune_checkpoints(self.folder, self.settings.keep_checkpoints, partial=True)
        keep_bytes = self._restore(found[-1]) if found else 0
        self.history = History(self.log_path, keep_bytes=keep_bytes, write=main)
        self.began = time.monotonic() - self.now.seconds

    def _restore(self, path: Path) -> int:
        state, tensors = stored.read_checkpoint(path)
        old, new = state["settings"], self.settings.model_dump(mode="json")
        changed = [f"{k}: {old.get(k)} -> {new[k]}" for k in new if k not in _FREE and new[k] != old.get(k)]
        if changed:
            raise ConfigurationError(
                f"{path}: was trained with other settings ({', '.join(changed)}). "
                f"Restore them, or choose another --out."
            )
        for phase, module in self.task.phases.items():
            stored.load_module(module, phase, tensors["model"], path)
            stored.load_optimizer(self.optimizers[phase].optimizer, self.trainable[phase], tensors["optim"])
        if self.average:
            self.average.load(tensors["ema"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.now = _Progress(**state["progress"])
        self.best = tensors.get("best")
        return int(state["log_bytes"])

    def checkpoint(self) -> Path:
        """Store the present step, unless it is stored already."""
        path = stored.checkpoint_path(self.folder, self.now.step)
        if path.exists() or not self.accelerator.is_main_process:
            return path
        self._log_losses()
        tensors: dict[str, dict[str, Tensor]] = {"model": {}, "optim": {}}
        for phase, module in self.task.phases.items():
            tensors["model"] |= {f"{phase}/{name}": value for name, value in stored.cpu_state(module).items()}
            adam = self.optimizers[phase].optimizer
            tensors["optim"] |= stored.optimizer_tensors(adam, self.trainable[phase])
        if self.average:
            tensors["ema"] = {name: value.cpu().contiguous() for name, value in self.average.tensors.items()}
        if self.best is not None:
            tensors["best"] = self.best
        scaler = self.accelerator.scaler
        state = {
            "progress": asdict(self.now),
            "log_bytes": self.history.sync(),
            "scaler": scaler.state_dict() if scaler else None,
            "settings": self.settings.model_dump(mode="json"),
            "torch": torch.__version__,
        }
        stored.write_checkpoint(path, tensors, state)
        stored.prune_checkpoints(self.folder, self.settings.keep_checkpoints)
        return path

    @contextlib.contextmanager
    def _only(self, phase: str) -> Iterator[None]:
        """Let one phase's parameters collect gradients; the others pass them through and hold none."""
        others = [p for name, parameters in self.trainable.items() if name != phase for p in parameters]
        for parameter in others:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad = True

    def take_step(self, feed: BatchFeed, batches: list[Batch]) -> None:
        """Step each phase once on the step's micro-batches."""
        step, device = self.now.step + 1, self.accelerator.device
        rate = learning_rate_at(self.settings, step)
        batches = [
            {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
            for batch in batches
        ]
        for module in self.task.phases.values():
            module.train()
        for phase, optimizer in self.optimizers.items():
            with self._only(phase):
                terms = []
                for index, batch in zip(feed.indices, batches, strict=True):
                    torch.manual_seed(integer_seed(self.settings.seed, "torch", step, phase, index))
                    with self.accelerator.accumulate(), self.accelerator.autocast():
                        losses = self.task.loss(phase, batch)
                    self.accelerator.backward(losses["loss"])
                    terms.append({name: value.detach().float() for name, value in losses.items()})
                self._check_losses(step, phase, terms, batches)
                self._finish_gradients(step, phase)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad()
        if self.average:
            self.average.update(step)
        self.now.step = step

    def _check_losses(
        self, step: int, phase: str, terms: list[dict[str, Tensor]], batches: list[Batch]
    ) -> None:
        names = list(terms[0])
        values = torch.stack([torch.stack([term[name] for name in names]) for term in terms])
        for row, batch in zip(values.tolist(), batches, strict=True):
            for name, value in zip(names, row, strict=True):
                if not math.isfinite(value):
                    ids = f" (batch ids {list(batch['ids'])})" if "ids" in batch else ""
                    self._fail(f"step {step}: loss '{name}' of phase '{phase}' is {value}{ids}")
                self.sums[f"{phase}/{name}"].append(value)

    def _finish_gradients(self, step: int, phase: str) -> None:
        parameters = list(self.trainable[phase])
        scaled = self.accelerator.scaler is not None
        if scaled:
            self.accelerator.unscale_gradients(self.optimizers[phase])
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.accelerator.num_processes > 1:
            for gradient in gradients:
                gradient.copy_(self.accelerator.reduce(gradient, "mean"))
        norm = get_total_norm(gradients)
        if not scaled and not torch.isfinite(norm):  # in fp16 overflow is routine: the scaler skips the step
            self._fail(f"step {step}: the gradient of phase '{phase}' is not finite, though its losses are")
        if self.settings.gradient_clip is not None:
            clip_grads_with_norm_(parameters, self.settings.gradient_clip, norm)
        self.sums[f"{phase}/gradient_norm"].append(norm.item())

    def _fail(self, what: str) -> None:
        kept = stored.list_checkpoints(self.folder)
        raise TrainingError(
            f"{what}; the step was not taken. Last good checkpoint: {kept[-1] if kept else 'none yet'}. Look at "
            f"that batch, lower learning_rate ({self.settings.learning_rate}) or set gradient_clip "
            f"({self.settings.gradient_clip})."
        )

    def validate(self, interruption: Interruption) -> None:
        """Score the (averaged) model; keep a copy of its weights when it is the best so far."""
        for module in self.task.phases.values():
            module.eval()
        if self.average:
            self.average.swap()
        try:
            with torch.random.fork_rng(), torch.no_grad(), self.accelerator.autocast():
                torch.manual_seed(integer_seed(self.settings.seed, "validation"))
                scores = interruption.attempt(lambda: self.task.validate(self.model))
            if scores is None:  # interrupted: the resumed run validates this step again
                return
            score = float(scores.get("score", math.nan))
            if math.isfinite(score) and (self.now.best_score is None or score > self.now.best_score):
                self.now.best_step, self.now.best_score, self.now.stale = self.now.step, score, 0
                self.best = stored.cpu_state(self.model)
            else:
                self.now.stale += 1
        finally:
            if self.average:
                self.average.swap()
        self.now.validated = self.now.step
        self._log_losses()
        if scores:
            numbers = {name: float(value) for name, value in scores.items()}
            self._log({"validation": numbers, "best": self.now.best_step == self.now.step})

    def _log(self, record: dict[str, Any]) -> None:
        self.history.append({"step": self.now.step, "seconds": round(self.now.seconds, 3), **record})

    def _log_losses(self) -> None:
        if self.sums:
            means = {name: math.fsum(values) / len(values) for name, values in self.sums.items()}
            self._log({"learning_rate": learning_rate_at(self.settings, self.now.step), "train": means})
            self.sums.clear()

    def _stop_reason(self) -> StopReason | None:
        settings = self.settings
        if self.now.step >= settings.steps:
            return "steps"
        if settings.patience is not None and self.now.stale >= settings.patience:
            return "patience"
        if settings.max_minutes is not None and self.now.seconds >= 60 * settings.max_minutes:
            return "time"
        return None

    def train(self, interruption: Interruption, *, progress: bool) -> FitResult:
        """Step, log, validate and checkpoint until there is a reason to stop."""
        settings, now, main = self.settings, self.now, self.accelerator
        feed = BatchFeed(self.task, settings, rank=main.process_index, n_processes=main.num_processes)
        silent = None if progress and main.is_main_process else True
        bar = tqdm(total=settings.steps, initial=now.step, disable=silent, file=sys.stderr, unit="step")
        with contextlib.closing(feed), bar:
            while True:
                stopped = self._stop_reason()
                if now.validated < now.step and (stopped or now.step % settings.validate_every == 0):
                    self.validate(interruption)
                    stopped = stopped or self._stop_reason()
                self._leave_if_asked(interruption)
                if stopped or (now.step and now.step % settings.checkpoint_every == 0):
                    self.checkpoint()
                if stopped:
                    return self._result(stopped)
                batches = interruption.attempt(lambda: feed.get(now.step + 1))
                self._leave_if_asked(interruption)
                self.take_step(feed, batches or [])
                now.seconds = time.monotonic() - self.began
                if now.step % settings.log_every == 0:
                    self._log_losses()
                bar.update()

    def _leave_if_asked(self, interruption: Interruption) -> None:
        number = interruption.signal_number or 0
        if (
            self.accelerator.num_processes > 1
        ):  # all leave at the same step, or the others would wait for ever
            asked = torch.tensor([float(number)], device=self.accelerator.device)
            number = round(float(self.accelerator.reduce(asked, "sum"))) and (number or 15)
        if number:
            path = self.checkpoint()
            raise Interrupted(
                number, f"Interrupted at step {self.now.step}; stored as {path}. Continue with --resume."
            )

    def _result(self, stopped: StopReason) -> FitResult:
        live = self.average.tensors if self.average else self.model.state_dict()
        last = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in live.items()}
        now = self.now
        return FitResult(
            self.best, last, now.best_step, now.best_score, self.log_path, now.step, now.seconds, stopped
        )


def _groups(names: dict[Tensor, str], settings: TrainingSettings) -> list[dict[str, Any]]:
    """Decay matrices and kernels, not biases and norms (Loshchilov and Hutter 2019; the usual practice)."""
    heavy, light = [p for p in names if p.ndim > 1], [p for p in names if p.ndim < 2]
    groups = [
        {"params": heavy, "weight_decay": settings.weight_decay},
        {"params": light, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
