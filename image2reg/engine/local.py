"""Run batches on this machine: in this process, or in worker processes that may die without harm.

`concurrent.futures` gives up its whole pool when one worker is killed; here the dead worker's batch alone is handed to
a fresh one.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from image2reg.engine.batches import Batch, Work, lost, work_through

if TYPE_CHECKING:
    from image2reg.engine.journal import Journal
    from image2reg.interruption import Interruption

__all__ = ["MAX_DEATHS", "run_here", "run_processes"]

# A unit that is with a worker when it dies so many times is listed as failed.
MAX_DEATHS = 5
_POLL_S, _GRACE_S = 0.2, 5.0


@dataclass
class _Job:
    batch: Batch
    deaths: int = 0


def run_here(
    batches: Iterator[Batch],
    work: Work,
    journal: Journal,
    interruption: Interruption,
    report: Callable[[int], None],
) -> None:
    """Run batch after batch in this process until done or interrupted."""
    for batch in batches:
        report(work_through(batch, work, journal, should_stop=lambda: interruption.signal_number is not None))
        if interruption.signal_number is not None:
            return


def run_processes(
    batches: Iterator[Batch],
    work: Work,
    journal: Journal,
    interruption: Interruption,
    report: Callable[[int], None],
    *,
    n_workers: int,
) -> None:
    """Run batches in worker processes; `work` must be importable (a function of a module, or a partial of one)."""
    context = multiprocessing.get_context("forkserver")  # fork alone is unsafe once there are threads
    context.set_forkserver_preload(["pandas"])
    waiting: deque[_Job] = deque()
    workers: list[_Worker] = []

    def next_job() -> _Job | None:
        if waiting:
            return waiting.popleft()
        batch = next(batches, None)
        return None if batch is None else _Job(batch)

    try:
        while interruption.signal_number is None:
            while len(workers) < n_workers and (job := next_job()) is not None:
                workers.append(_Worker(context, work, journal, job))
            if not workers:
                return
            ready = wait([w.pipe for w in workers], _POLL_S)
            for worker in [w for w in workers if w.pipe in ready]:
                n_run = worker.answer()
                if n_run is None:  # it died
                    workers.remove(worker)
                    waiting.extend(_after_death(worker.job, journal, report))
                    continue
                report(n_run)
                if (job := next_job()) is not None:
                    worker.give(job)
                else:
                    worker.dismiss()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.process.terminate()  # it finishes its unit, commits, and leaves
        for worker in workers:
            worker.process.join(_GRACE_S)
            worker.process.kill()


class _Worker:
    """A process, the pipe to it, and the batch it has."""

    def __init__(self, context: Any, work: Work, journal: Journal, job: _Job) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, work, journal), daemon=True, name="image2reg-worker"
        )
        self.process.start()
        theirs.close()  # so that the pipe ends when the worker does
        self.give(job)

    def give(self, job: _Job) -> None:
        self.job = job
        with suppress(OSError):  # dead already: `answer` finds out
            self.pipe.send(job.batch)

    def answer(self) -> int | None:
        """Units run, or None when the worker is dead."""
        try:
            return int(self.pipe.recv())
        except (EOFError, OSError):
            self.process.join()
            return None

    def dismiss(self) -> None:
        with suppress(OSError):
            self.pipe.send(None)
        self.process.join()


def _after_death(job: _Job, journal: Journal, report: Callable[[int], None]) -> list[_Job]:
    """Give what is left of a dead worker's batch; after many deaths unit by unit, to find the one that kills."""
    missing = set(journal.scan().missing(position for position, _ in job.batch))
    left = [item for item in job.batch if item[0] in missing]
    report(len(job.batch) - len(left))
    if job.deaths + 1 < MAX_DEATHS:
        return [_Job(left, job.deaths + 1)] if left else []
    if len(left) > 1:
        return [_Job([item]) for item in left]
    lost(left, journal, MAX_DEATHS)
    report(len(left))
    return []


def _serve(pipe: Connection, work: Work, journal: Journal) -> None:
    """Work in a process of its own: batches come, counts go, until told None, SIGTERM, or the parent is gone."""
    asked: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    with suppress(EOFError, OSError):
        while not asked:
            if not pipe.poll(_POLL_S):
                continue
            batch = pipe.recv()
            if batch is None:
                return
            # Nothing is sent during a batch: what can be read then is the end of the pipe, and of the parent.
            pipe.send(work_through(batch, work, journal, should_stop=lambda: bool(asked) or pipe.poll(0)))
