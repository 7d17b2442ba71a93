"""Go over to another plan of the same work: units that are the same keep their results, wherever they stand now."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.atomic import atomic_file
from image2reg.engine.plan import SEEN, UNITS
from image2reg.provenance import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from image2reg.engine.plan import Plan

__all__ = ["carry_over", "changed_inputs", "read_marker", "remove_marker", "same_work", "unit_key"]


def same_work(before: Mapping[str, Any], plan: Plan) -> bool:
    """Whether a plan, told by its header, does with its units what another does."""
    return all(before.get(name) == plan.header()[name] for name in ("schema_version", "kind", "settings"))


def carry_over(path: Path, before: Mapping[str, Any], plan: Plan) -> None:
    """Let the results of an earlier plan count for another one.

    A marker is carried over whole, in whatever order its units are now, or its units run again. A kill on the way costs
    nothing: the next call goes on.

    Parameters
    ----------
    path : Path
        File of the earlier plan; results lie beside it.
    before : mapping
        Its header.
    plan : Plan
        What is to be done now.
    """
    folder = path.parent / UNITS
    if not same_work(before, plan):
        shutil.rmtree(folder, ignore_errors=True)
        return
    moved = _moved(path, int(before["n_units"]), plan)
    for marker in folder.glob("*.json"):
        said = read_marker(marker)
        if said.get("plan") == plan.sha256:
            continue
        mine = said.get("plan") == before["sha256"]
        units = moved[np.array(said.get("units", ()) if mine else (), np.int64)]
        if len(units) and (units >= 0).all():
            carried = said | {"plan": plan.sha256, "units": units.tolist(), "failed": []}
            with atomic_file(marker, overwrite=True) as partial:
                partial.write_text(json.dumps(carried, separators=(",", ":")), encoding="utf-8")
        else:
            remove_marker(marker)


def _moved(path: Path, n_units: int, plan: Plan) -> NDArray[np.int64]:
    """Where the units of an earlier plan stand in another one; -1 where they do not, or where inputs changed."""
    places = {unit_key(json.loads(line)): position for position, line in enumerate(plan.lines)}
    moved = np.full(n_units, -1, np.int64)
    with path.open(encoding="utf-8") as handle:
        for old, line in enumerate(itertools.islice(handle, 1, n_units + 1)):
            unit = json.loads(line)
            new = places.get(unit_key(unit), -1)
            if new >= 0 and not changed_inputs(unit, plan.unit(new)):
                moved[old] = new
    return moved


def unit_key(unit: Mapping[str, Any]) -> bytes:
    """Tell units apart by what is done with them, in few bytes: plans have millions.

    What inputs looked like is no part of it, nor is the name: a corrected plate, site or time changes no result.
    """
    text = canonical({name: unit[name] for name in unit if name not in (SEEN, "name")})
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def changed_inputs(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether an input of a unit looks otherwise than before; one that is gone does not: it may be archived."""
    old, new = before.get(SEEN, {}), now.get(SEEN, {})
    return any(old[name] != new[name] for name in old.keys() & new.keys())


def read_marker(path: Path) -> dict[str, Any]:
    """Read a done marker; a damaged one is empty here, and refused by the journal."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def remove_marker(path: Path) -> None:
    """Remove a done marker, then the parts that it names: its units are missing again."""
    path.unlink(missing_ok=True)
    for part in path.parent.glob(f"*/{path.stem}.parquet"):
        with contextlib.suppress(OSError):
            part.unlink()
