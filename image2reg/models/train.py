"""The one training loop: staining networks, adversaries, diffusion, segmenters and encoders all use `fit`.

A step is a function of (seed, step number, weights, optimizer state): batches and torch's random numbers are
derived from the step, never from what was drawn before. That is why a resumed run is bitwise the
uninterrupted one on a CPU, and why the number of worker threads does not matter.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from image2reg.errors import ConfigurationError, DataError, TrainingError
from image2reg.interruption import Interrupted, Interruption
from image2reg.locking import run_lock
from image2reg.models.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from image2reg.models.devices import accelerator_for
from image2reg.models.history import History
from image2reg.models.settings import TrainingSettings, free_settings, learning_rate_at
from image2reg.models.state import TrainingState
from image2reg.models.step import Stepper
from image2reg.models.task import Batch, BatchFeed, FitResult, StopReason, Task, looks_of, other_looks
from image2reg.randomness import generator, integer_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accelerate import Accelerator

__all__ = ["FitResult", "Task", "TrainingSettings", "fit", "fit_unkept", "refuse_other_settings"]


def fit(
    task: Task,
    settings: TrainingSettings,
    out: Path | str,
    *,
    basis: Mapping[str, Any] | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> FitResult:
    """Train `task`; log to ``out/metrics.jsonl``, checkpoint to ``out/checkpoints/step_000123/``.

    Parameters
    ----------
    task : Task
        Modules are moved to the device and trained in place. With `resume`, build it as the first time:
        weights come from the checkpoint, everything else from the task.
    settings : TrainingSettings
    out : Path or str
        Directory of the run. It is locked while training.
    basis : mapping of str to JSON values, optional
        What else decides the result, by name: settings of the task, hashes of its data. A run is not resumed on
        another basis.
    resume : bool
        Continue from the newest checkpoint; start afresh where there is none. The log is cut back to it.
        `image2reg.models.settings.free_settings` may differ from the run's.
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
        Settings, basis or first batch differ from those of the run that is resumed, or the device is not there.
    DataError
        `out` holds a run and `resume` is False.
    BundleError, ResourceError
        The checkpoint is damaged; the directory is in use, full or read-only.

    Notes
    -----
    The log says on which device and in which precision the run is computed, and again from where that changes.

    Under ``torchrun`` each of n processes takes its share of ``n x accumulate`` micro-batches and
    gradients are averaged: n processes with ``accumulate=1`` take the steps of one with ``accumulate=n``.
    """
    out = Path(out)
    accelerator = accelerator_for(settings, device)
    lock = run_lock(out) if accelerator.is_main_process else contextlib.nullcontext()
    with lock, Interruption() as interruption:
        run = _Run(task, settings, out, accelerator, dict(basis or {}))
        run.start(resume=resume)
        try:
            return run.train(interruption, progress=progress)
        finally:
            run.history.close()


def fit_unkept(task: Task, settings: TrainingSettings, *, device: str, progress: bool = False) -> FitResult:
    """Train as `fit` does, in a folder that goes with its log; an interruption does not promise a resume."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return fit(task, settings, Path(folder) / "run", device=device, progress=progress)
        except Interrupted as stop:  # its words name the folder that ends here
            told = "Interrupted; the network that was being trained is not kept."
            raise Interrupted(stop.signal_number, told) from None


def refuse_other_settings(out: Path, settings: TrainingSettings, basis: Mapping[str, Any]) -> None:
    """Refuse, before any data are read, to resume what was trained with other settings.

    Parameters
    ----------
    out : Path
        Directory of the run.
    settings : TrainingSettings
    basis : mapping
        What of `fit`'s is known without the data.

    Raises
    ------
    ConfigurationError
    """
    for path in list_checkpoints(out / "checkpoints")[-1:]:
        _refuse_other_settings(path, read_checkpoint(path)[0], settings, basis)


def _refuse_other_settings(
    path: Path, stored: Mapping[str, Any], settings: TrainingSettings, basis: Mapping[str, Any]
) -> None:
    old, new = stored["settings"], settings.model_dump(mode="json")
    # No basis: begun before the task had one.
    old, new = old | (stored.get("basis") or basis), new | {**basis}
    free = free_settings(settings)
    changed = [f"{k}: {old.get(k)} -> {new[k]}" for k in new if k not in free and new[k] != old.get(k)]
    if changed:
        ends = " A run is prolonged under schedule=constant only." if new["steps"] != old["steps"] else ""
        raise ConfigurationError(
            f"{path}: was trained with other settings ({', '.join(changed)}). "
            f"Restore them, or choose another --out.{ends}"
        )


class _Run:
    """The training state of one task, and the step that changes it."""

    history: History
    first_batch: dict[str, Any]

    def __init__(
        self,
        task: Task,
        settings: TrainingSettings,
        out: Path,
        accelerator: Accelerator,
        basis: dict[str, Any],
    ) -> None:
        self.task, self.settings, self.accelerator, self.basis = task, settings, accelerator, basis
        self.folder, self.log_path = out / "checkpoints", out / "metrics.jsonl"
        for module in task.phases.values():
            module.to(accelerator.device)
        self.state = TrainingState(task.phases, settings)
        self.stepper = Stepper(task, settings, accelerator, self.state)
        self.sums: dict[str, list[float]] = defaultdict(list)
        # Not a setting: "bf16" is computed in float32 where the processor lacks it, and a run may change machines.
        precision = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
        self.computed = {"device": accelerator.device.type, "precision": precision}
        self.told: dict[str, str] | None = None

    def start(self, *, resume: bool) -> None:
        """Restore the newest checkpoint or begin; open the log."""
        found, main = list_checkpoints(self.folder), self.accelerator.is_main_process
        if main and not resume and (found or self.log_path.exists()):
            raise DataError(
                f"{self.folder.parent}: holds a training run. Pass --resume to continue it, "
                f"or choose another --out."
            )
        if main:
            prune_checkpoints(self.folder, self.settings.keep_checkpoints, partial=True)
        self.first_batch = looks_of(self.task.batch(0, generator(self.settings.seed, "batch", 0, 0)))
        keep_bytes = self._restore(found[-1]) if found else 0
        self.history = History(self.log_path, keep_bytes=keep_bytes, write=main)
        self.began = time.monotonic() - self.state.progress.seconds

    def _restore(self, path: Path) -> int:
        stored, tensors = read_checkpoint(path)
        _refuse_other_settings(path, stored, self.settings, self.basis)
        if other := other_looks(stored.get("first_batch", self.first_batch), self.first_batch):
            raise ConfigurationError(
                f"{path}: was trained on other data, or on data that were prepared in another way: the first batch "
                f"differs in {other}. Give what the run began with, or choose another --out."
            )
        self.told = stored.get("computed")
        self.state.restore(tensors, stored["progress"])
        if self.accelerator.scaler and stored["scaler"]:
            self.accelerator.scaler.load_state_dict(stored["scaler"])
        return int(stored["log_bytes"])

    def checkpoint(self) -> Path:
        """Store the present step, unless it is stored already."""
        path = checkpoint_path(self.folder, self.state.progress.step)
        if path.exists() or not self.accelerator.is_main_process:
            return path
        self._log_losses()
        tensors, progress = self.state.collect()
        scaler = self.accelerator.scaler
        record = {
            "progress": progress,
            "log_bytes": self.history.sync(),
            "scaler": scaler.state_dict() if scaler else None,
            "settings": self.settings.model_dump(mode="json"),
            "basis": self.basis,
            "computed": self.told,
            "first_batch": self.first_batch,
            "torch": torch.__version__,
        }
        write_checkpoint(path, tensors, record)
        prune_checkpoints(self.folder, self.settings.keep_checkpoints)
        return path

    def validate(self, interruption: Interruption) -> None:
        """Score the (averaged) model; keep a copy of its weights when it is the best so far."""
        average, now = self.state.average, self.state.progress
        for module in self.task.phases.values():
            module.eval()
        if average:
            average.swap()
        try:
            with torch.random.fork_rng(), torch.no_grad(), self.accelerator.autocast():
                torch.manual_seed(integer_seed(self.settings.seed, "validation"))
                scores = interruption.attempt(lambda: self.task.validate(self.state.model))
        finally:
            if average:
                average.swap()
        if scores is None:  # interrupted: the resumed run validates this step again
            return
        score = float(scores.get("score", math.nan))
        better = math.isfinite(score) and (now.best_score is None or score > now.best_score)
        if better:
            now.best_step, now.best_score, now.stale = now.step, score, 0
            self.state.best = self.state.deployed()
        elif scores:
            now.stale += 1
        now.validated = now.step
        self._log_losses()
        if scores:
            numbers = {name: float(value) for name, value in scores.items()}
            self._log({"validation": numbers, "best": better})

    def _log(self, record: dict[str, Any]) -> None:
        now = self.state.progress
        self.history.append({"step": now.step, "seconds": round(now.seconds, 3), **record})

    def _log_losses(self) -> None:
        if self.sums:
            means = {name: math.fsum(values) / len(values) for name, values in self.sums.items()}
            rate = learning_rate_at(self.settings, self.state.progress.step)
            self._log({"learning_rate": rate, "train": means})
            self.sums.clear()

    def _stop_reason(self) -> StopReason | None:
        settings, now = self.settings, self.state.progress
        if now.step >= settings.steps:
            return "steps"
        if settings.patience is not None and now.stale >= settings.patience:
            return "patience"
        if settings.max_minutes is not None and now.seconds >= 60 * settings.max_minutes:
            return "time"
        return None

    def train(self, interruption: Interruption, *, progress: bool) -> FitResult:
        """Step, log, validate and checkpoint until there is a reason to stop."""
        settings, now, main = self.settings, self.state.progress, self.accelerator
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
                self._take_step(feed, batches or [])
                now.seconds = time.monotonic() - self.began
                if now.step % settings.log_every == 0:
                    self._log_losses()
                bar.update()

    def _take_step(self, feed: BatchFeed, batches: list[Batch]) -> None:
        if self.told != self.computed:  # first, and where a part of the run is computed in another way
            self._log({"computed": self.computed})
            self.told = self.computed
        try:
            terms = self.stepper.take_step(feed.indices, batches)
        except TrainingError as error:
            kept = list_checkpoints(self.folder)
            raise TrainingError(
                f"{error} Last good checkpoint: {kept[-1] if kept else 'none yet'}."
            ) from error
        for name, value in terms:
            self.sums[name].append(value)

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
                number,
                f"Interrupted at step {self.state.progress.step}; stored as {path}. Continue with --resume.",
            )

    def _result(self, stopped: StopReason) -> FitResult:
        now = self.state.progress
        return FitResult(
            best_state=self.state.best,
            last_state=self.state.deployed(),
            best_step=now.best_step,
            best_score=now.best_score,
            history_path=self.log_path,
            steps_done=now.step,
            seconds=now.seconds,
            stopped=stopped,
        )
