"""Run a plan, or one shard of it: only what is missing, on the engine asked for, until done or interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from image2reg.engine.claim import claim_shard
from image2reg.engine.journal import Journal
from image2reg.engine.local import run_here, run_processes
from image2reg.engine.plan import Plan, Shard
from image2reg.engine.results import Results
from image2reg.errors import ConfigurationError
from image2reg.interruption import Interrupted, Interruption
from image2reg.tables.cells import write_csv

if TYPE_CHECKING:
    from image2reg.engine.batches import Batch, Work

__all__ = ["ENGINES", "FAILURES", "Outcome", "run_plan"]

ENGINES = ("local", "dask")
FAILURES = "failures.csv"
_MAX_BATCH, _BATCHES_PER_WORKER = 500, 8


@dataclass(frozen=True)
class Outcome:
    """State of a plan after a run.

    Attributes
    ----------
    results : Results
    n_units, n_run : int
        Units of the plan; units that ran in this call.
    is_complete : bool
        Every unit of the whole plan has a result or has failed (other shards included).
    notes : tuple of str
        What its reader has to know of the plan, from who made it.
    """

    results: Results
    n_units: int
    n_run: int
    is_complete: bool
    notes: tuple[str, ...] = ()


def run_plan(
    plan: Plan,
    work: Work,
    directory: Path | str,
    *,
    engine: Literal["local", "dask"] = "local",
    n_workers: int = 1,
    shard: Shard | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Run what is missing of a plan.

    Parameters
    ----------
    plan : Plan
    work : callable
        Takes a unit (dict), gives ``dict`` of table name to DataFrame. With several workers it must be a function
        of a module or a `functools.partial` of one. The same unit must give the same tables every time.
    directory : Path
        Where plan and results lie; shards of one plan share it.
    engine : str
        ``local``: this process, or `n_workers` processes; ``dask``: `n_workers` dask workers.
    shard : Shard, optional
        Run this part only.
    overwrite : bool
        Go over from another plan that lies there: units that are the same keep their results, if all is done with
        them in the same way; the others, and units whose inputs changed, run.
    progress : callable
        Called with (finished, total) units of this run.

    Returns
    -------
    Outcome
        Failed units are also in ``failures.csv``, which goes away once they succeed; a run tries them again.

    Raises
    ------
    DataError
        Another plan's results lie in `directory`, or inputs of finished units changed (``seen`` of `make_plan`).
    ResourceError
        Another process runs the same shard, one that has units of it, or one whose plan `overwrite` would remove; or
        the disk refused.
    Interrupted
        Ctrl-C or SIGTERM: what was finished is kept; the same call goes on from there.
    """
    if engine not in ENGINES or n_workers < 1:
        raise ConfigurationError(
            f"--engine {engine!r} --workers {n_workers}: allowed are {list(ENGINES)} and 1 or more."
        )
    directory, shard = Path(directory), shard or Shard()
    with claim_shard(directory, plan, shard, overwrite=overwrite):
        before = Journal(directory, plan.sha256, len(plan)).scan()
        journal = Journal(directory, plan.sha256, len(plan), before.attempt + 1)
        missing = before.missing(shard.positions(len(plan)))
        n_run = _run(plan, missing, work, journal, engine, n_workers, progress)
    results = journal.scan()
    _write_failures(results, directory)
    left = results.missing(range(len(plan)))
    return Outcome(results, len(plan), n_run, all(position in results.failed for position in left))


def _run(
    plan: Plan,
    missing: Sequence[int],
    work: Work,
    journal: Journal,
    engine: str,
    n_workers: int,
    progress: Callable[[int, int], None] | None,
) -> int:
    finished = 0

    def report(n_more: int) -> None:
        nonlocal finished
        finished += n_more
        if progress is not None:
            progress(finished, len(missing))

    if not missing:
        return 0
    batches = _batches(plan, missing, n_workers)
    with Interruption() as interruption:
        if engine == "dask":
            from image2reg.engine.dask import run_dask

            run_dask(batches, work, journal, interruption, report, n_workers=n_workers)
        elif n_workers > 1:
            run_processes(batches, work, journal, interruption, report, n_workers=n_workers)
        else:
            run_here(batches, work, journal, interruption, report)
    if interruption.signal_number is not None:
        n_done = len(missing) - len(journal.scan().missing(missing))
        raise Interrupted(
            interruption.signal_number,
            f"interrupted: {n_done} of {len(missing)} missing units are done and kept in {journal.directory}. "
            "Run the same command again to go on.",
        )
    return finished


def _batches(plan: Plan, missing: Sequence[int], n_workers: int) -> Iterator[Batch]:
    size = max(1, min(_MAX_BATCH, len(missing) // (_BATCHES_PER_WORKER * n_workers)))
    for start in range(0, len(missing), size):
        yield [(position, plan.line(position)) for position in missing[start : start + size]]


def _write_failures(results: Results, directory: Path) -> None:
    import pandas as pd

    path = directory / FAILURES
    if results.failed:
        rows = [(f.unit, f.kind, f.error) for f in results.failed.values()]
        write_csv(pd.DataFrame(rows, columns=["unit", "kind", "error"]), path, overwrite=True)
    else:
        path.unlink(missing_ok=True)
