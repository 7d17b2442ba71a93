"""One worker's share of a plan: run units one after the other, commit every few seconds, keep going after a failure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from image2reg.engine.journal import Failure, UnitResult

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.engine.journal import Journal

__all__ = ["Batch", "Work", "lost", "work_through"]

Batch = Sequence[tuple[int, str]]  # position in the plan, the unit's line
Work = Callable[[Mapping[str, Any]], "dict[str, pd.DataFrame]"]

# What a kill may cost: the units since the last commit. A twentieth of the time that this process runs, within bounds,
# so that days of work leave no million files.
_COMMIT_S, _COMMIT_UNITS = (10.0, 120.0), 2000
_STARTED = time.monotonic()


def work_through(batch: Batch, work: Work, journal: Journal, *, should_stop: Callable[[], bool]) -> int:
    """Run the units of a batch and commit their results.

    Parameters
    ----------
    batch : sequence of (position, line)
    work : callable
        Takes a unit, gives tables by name. What it raises is that unit's failure.
    journal : Journal
    should_stop : callable
        Asked before each unit; when True, what is done is committed and the rest left.

    Returns
    -------
    int
        Number of units run.
    """
    done: list[UnitResult] = []
    n_run, since = 0, time.monotonic()
    for position, line in batch:
        if should_stop():
            break
        done.append(_attempt(position, json.loads(line), work))
        n_run += 1
        now = time.monotonic()
        due = min(max((now - _STARTED) / 20, _COMMIT_S[0]), _COMMIT_S[1])
        if len(done) >= _COMMIT_UNITS or now - since > due:
            journal.commit(done)
            done, since = [], time.monotonic()
    journal.commit(done)
    return n_run


def lost(batch: Batch, journal: Journal, n_times: int) -> None:
    """Record units whose worker died again and again: whatever they do to it, the rest goes on."""
    text = f"its worker process died {n_times} times (killed, or out of memory)"
    failures = [
        UnitResult(p, failure=Failure(json.loads(line)["name"], "WorkerDied", text)) for p, line in batch
    ]
    journal.commit(failures)


def _attempt(position: int, unit: dict[str, Any], work: Work) -> UnitResult:
    try:
        return UnitResult(position, work(unit))
    except Exception as error:  # noqa: BLE001  whatever one unit does, the others go on; it is listed
        return UnitResult(position, failure=Failure(unit["name"], type(error).__name__, str(error)))
