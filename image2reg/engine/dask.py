"""Run batches on dask workers of this machine; a worker that is lost is replaced and its batch runs again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from image2reg.engine.batches import Batch, Work, lost, work_through
from image2reg.engine.local import MAX_DEATHS
from image2reg.errors import ConfigurationError

if TYPE_CHECKING:
    from image2reg.engine.journal import Journal
    from image2reg.interruption import Interruption

__all__ = ["run_dask"]

_POLL_S = 0.2
_LOST_S = 30.0
# Its web page on loopback only; what it logs of workers that died is no news here.
_CLUSTER: dict[str, Any] = {
    "threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0", "silence_logs": 50,
}  # fmt: skip
_IN_FLIGHT = 3  # batches per worker that the scheduler knows of: its memory does not grow with the plan


def run_dask(
    batches: Iterator[Batch],
    work: Work,
    journal: Journal,
    interruption: Interruption,
    report: Callable[[int], None],
    *,
    n_workers: int,
) -> None:
    """Run batches on a `distributed.LocalCluster` of `n_workers` processes.

    Raises
    ------
    ConfigurationError
        dask is not installed.
    """
    try:
        import dask
        from distributed import Client, KilledWorker, LocalCluster, wait
    except ImportError as error:
        raise ConfigurationError(
            "--engine dask: dask and distributed are not installed. Install them with "
            "pip install 'virtualstain[dask]', or use --engine local --workers N, which needs nothing more."
        ) from error
    waiting: deque[Batch] = deque()
    # The scheduler blames what was queued on a worker that died as it blames what ran there: a unit is given up only
    # once it had the cluster to itself.
    suspects: deque[Batch] = deque()
    alone: Batch = []

    def next_batch() -> Batch | None:
        return waiting.popleft() if waiting else next(batches, None)

    task = partial(_run_batch, work=work, journal=journal)
    finished = False
    while not finished and interruption.signal_number is None:
        running: dict[Any, Batch] = {}
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": MAX_DEATHS - 1}),
            LocalCluster(n_workers=n_workers, **_CLUSTER) as cluster,
            Client(cluster) as client,
        ):
            alive = time.monotonic()
            while interruption.signal_number is None and time.monotonic() - alive < _LOST_S:
                while len(running) < _IN_FLIGHT * n_workers and (batch := next_batch()) is not None:
                    running[client.submit(task, batch, pure=False)] = batch
                if not running and suspects:
                    alone = suspects.popleft()
                    running[client.submit(task, alone, pure=False)] = alone
                if not running:
                    finished = True
                    break
                with suppress(TimeoutError):
                    for future in wait(list(running), timeout=_POLL_S, return_when="FIRST_COMPLETED").done:
                        batch = running.pop(future)
                        try:
                            report(future.result())
                        except KilledWorker:  # one of its units kills; which one, they show alone
                            left = _missing(batch, journal, report)
                            if len(left) > 1:
                                waiting.extend([item] for item in left)
                            elif batch is not alone:
                                suspects.extend([left] if left else [])
                            else:
                                lost(left, journal, MAX_DEATHS)
                                report(len(left))
                if cluster.scheduler.workers:
                    alive = time.monotonic()
        # A cluster none of whose workers comes back is given up, and a new one takes what is left.
        waiting.extend(rest for batch in running.values() if (rest := _missing(batch, journal, report)))


def _missing(batch: Batch, journal: Journal, report: Callable[[int], None]) -> Batch:
    missing = set(journal.scan().missing(position for position, _ in batch))
    report(len(batch) - len(missing))
    return [item for item in batch if item[0] in missing]


def _run_batch(batch: Batch, *, work: Work, journal: Journal) -> int:
    return work_through(batch, work, journal, should_stop=lambda: False)
