"""Take hold of a job's folder: one plan lies in it, nobody replaces it under a running shard, a shard runs once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from image2reg.engine.kept import keep_plan, planning, refuse_overlap
from image2reg.engine.plan import UNITS
from image2reg.locking import run_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from image2reg.engine.plan import Plan, Shard

__all__ = ["claim_shard"]


@contextlib.contextmanager
def claim_shard(directory: Path, plan: Plan, shard: Shard, *, overwrite: bool = False) -> Iterator[None]:
    """Hold one shard of the plan in `directory`, which is written there first or found to be the same.

    Arguments and errors as for `image2reg.engine.keep_plan`; `directory` is made when missing.

    Raises
    ------
    ResourceError
        Also: the shard runs already, or another one that has units of it.
    """
    with contextlib.ExitStack() as held:
        # Every shard passes here, so none can start between the look at the others and the removal of results.
        with planning(directory):
            keep_plan(directory, plan, overwrite=overwrite)
            held.enter_context(run_lock(directory / UNITS / f"shard-{shard.index}-of-{shard.of}"))
            refuse_overlap(directory, len(plan), shard.positions(len(plan)), but=shard)
        yield
