"""The plan in a job's folder: written once, found again, gone over to, or read in part by a shard."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image2reg.atomic import atomic_file
from image2reg.engine.carry_over import (
    carry_over,
    changed_inputs,
    read_marker,
    remove_marker,
    same_work,
    unit_key,
)
from image2reg.engine.plan import SCHEMA_VERSION, SEEN, UNITS, Plan, Shard, make_plan
from image2reg.errors import DataError
from image2reg.locking import run_lock
from image2reg.provenance import canonical
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PLAN", "finished_elsewhere", "keep_plan", "kept_plan", "planning", "refuse_overlap"]

PLAN = "plan.jsonl"
_SHARD = re.compile(r"shard-([1-9]\d*)-of-([1-9]\d*)")
# Shards of a cluster start together and pass one after the other. The first lists the images of a whole screen, which
# takes a slow disk long; who holds the lock is alive, or the kernel would have let go of it.
_WAIT_S = 4 * 3600.0


@contextlib.contextmanager
def planning(directory: Path) -> Iterator[None]:
    """Hold a job's folder while its plan is looked at or made; others wait.

    Raises
    ------
    ResourceError
        The folder cannot be written, or another process held it for hours.
    """
    with run_lock(directory, wait_s=_WAIT_S):
        yield


def kept_plan(directory: Path, made_from: str, shard: Shard) -> Plan | None:
    """Read a shard's part of the plan that lies in a folder.

    Parameters
    ----------
    directory : Path
    made_from : str
        See `make_plan`.
    shard : Shard

    Returns
    -------
    Plan or None
        With the lines of this shard only. None where no plan lies, or one that was made from something else.
    """
    path = directory / PLAN
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError), path.open(encoding="utf-8") as handle:
        header = dict(json.loads(handle.readline()))
        if header["made_from"] != made_from or header["schema_version"] != SCHEMA_VERSION:
            return None
        part = shard.positions(header["n_units"])
        lines = tuple(line.rstrip("\n") for line in itertools.islice(handle, part.start, part.stop))
        names = ("kind", "settings", "sha256", "seen_sha256", "n_units", "made_from")
        if len(lines) == len(part):
            return Plan(lines=lines, first=part.start, **{name: header[name] for name in names})
    return None


def finished_elsewhere(directory: Path, plan: Plan) -> list[str]:
    """Names of units that are finished in a folder, of a plan of the same work, and that this plan lacks."""
    path = directory / PLAN
    if not path.exists() or not same_work(before := _header(path), plan) or before["sha256"] == plan.sha256:
        return []
    markers = (read_marker(marker) for marker in (directory / UNITS).glob("*.json"))
    finished = set().union(
        *(said.get("units", ()) for said in markers if said.get("plan") == before["sha256"])
    )
    mine = {unit_key(json.loads(line)) for line in plan.lines}
    with path.open(encoding="utf-8") as handle:
        lines = itertools.islice(handle, 1, before["n_units"] + 1)
        units = (json.loads(line) for position, line in enumerate(lines) if position in finished)
        return [unit["name"] for unit in units if unit_key(unit) not in mine]


def keep_plan(directory: Path, plan: Plan, *, overwrite: bool = False) -> None:
    """Write a plan into a folder, or find it there; call it within `planning`.

    Parameters
    ----------
    directory : Path
    plan : Plan
    overwrite : bool
        Go over to this plan: of another one that does the same with its units, units that are the same keep their
        results; others, and units whose inputs changed, lose theirs. While a shard runs, that is refused.

    Raises
    ------
    DataError
        Another plan lies there, or inputs of finished units changed, and `overwrite` is False; what differs is said.
    ResourceError
        A shard runs, and `overwrite` would remove its results, or an input of its units changed.
    """
    path = directory / PLAN
    if path.exists():
        before = _header(path)
        if before.get("sha256") == plan.sha256:
            if overwrite:
                _remove_foreign(directory / UNITS, plan)
            if all(before.get(name) == plan.header()[name] for name in ("seen_sha256", "made_from")):
                return
            _refuse_part(directory, plan)
            plan, changed = _look_again(path, plan)
            _forget(directory, plan, changed, overwrite=overwrite)
        elif not overwrite:
            what = (
                "go on; units that are the same keep their results"
                if same_work(before, plan)
                else "start again"
            )
            raise DataError(
                f"{directory}: holds the results of another plan ({_difference(before, plan)}). Give the inputs and "
                f"options of that run to continue it, choose another --out, or pass --overwrite to {what}."
            )
        else:
            _refuse_part(directory, plan)
            _refuse_running(directory)
            carry_over(path, before, plan)
    with atomic_file(path, overwrite=True) as partial, partial.open("w", encoding="utf-8") as handle:
        handle.writelines(f"{line}\n" for line in itertools.chain([canonical(plan.header())], plan.lines))


def refuse_overlap(directory: Path, n_units: int, units: Sequence[int], *, but: Shard | None = None) -> None:
    """Refuse to go on while a shard, other than `but`, runs that has any of these units; call it within `planning`.

    Parameters
    ----------
    directory : Path
    n_units : int
        Units of the whole plan.
    units : sequence of int
        Positions, ascending.
    but : Shard, optional

    Raises
    ------
    ResourceError
        One runs; it is said where.
    """
    for folder, shard in _shards(directory):
        part = shard.positions(n_units)
        if shard != but and bisect_left(units, part.start) < bisect_left(units, part.stop):
            _refuse_held(folder)


def _refuse_running(directory: Path) -> None:
    for folder, _ in _shards(directory):
        _refuse_held(folder)


def _refuse_held(folder: Path) -> None:
    with run_lock(folder):  # raises, and says who runs there
        pass


def _shards(directory: Path) -> Iterator[tuple[Path, Shard]]:
    """Folders of shards that ever ran; one that a person copied or renamed is none."""
    for folder in sorted((directory / UNITS).glob("shard-*-of-*")):
        if name := _SHARD.fullmatch(folder.name):
            yield folder, Shard(int(name[1]), int(name[2]))


def _refuse_part(directory: Path, plan: Plan) -> None:
    if len(plan.lines) < len(plan):
        raise DataError(f"{directory}: its plan was replaced just now. Run the same command again.")


def _remove_foreign(units: Path, plan: Plan) -> None:
    """Remove done markers of other plans, which nothing but a person or an older program can have left."""
    for marker in units.glob("*.json"):
        with contextlib.suppress(
            OSError, ValueError, AttributeError
        ):  # a damaged one is for the journal to refuse
            if json.loads(marker.read_text(encoding="utf-8")).get("plan", plan.sha256) != plan.sha256:
                marker.unlink()


def _look_again(path: Path, plan: Plan) -> tuple[Plan, set[int]]:
    """Give the plan with what was seen of inputs that are gone now, and the units of which an input changed.

    An input that is gone is no change: images may be archived once they are measured.
    """
    lines, changed = list(plan.lines), set()
    with path.open(encoding="utf-8") as handle:
        for position, line in enumerate(itertools.islice(handle, 1, len(lines) + 1)):
            if line.rstrip("\n") != lines[position]:
                before, unit = json.loads(line), plan.unit(position)
                if changed_inputs(before, unit):
                    changed.add(position)
                lines[position] = canonical({**unit, SEEN: {**before.get(SEEN, {}), **unit.get(SEEN, {})}})
    units = map(json.loads, lines)
    return make_plan(plan.kind, units, plan.settings, made_from=plan.made_from), changed


def _forget(directory: Path, plan: Plan, changed: set[int], *, overwrite: bool) -> None:
    """Remove markers that say these units are done; the few others of a marker are done anew with them."""
    stale = {
        marker: changed.intersection(units)
        for marker in (directory / UNITS).glob("*.json")
        if changed and not changed.isdisjoint(units := read_marker(marker).get("units", ()))
    }
    if stale and not overwrite:
        found = sorted(set().union(*stale.values()))
        raise DataError(
            f"{directory}: inputs of {counted(len(found), 'finished unit')} changed since (size or time), the first of "
            f"{plan.unit(found[0])['name']!r}. Pass --overwrite to do these anew and keep the others, or put the files "
            "back; copies that keep their times (cp -p) count as unchanged."
        )
    if stale:
        _refuse_running(directory)
    # What runs now may have read an input before it changed, and writes its result later.
    refuse_overlap(directory, len(plan), sorted(changed))
    for marker in stale:
        remove_marker(marker)


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as handle:
            return dict(json.loads(handle.readline()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: is no plan of this program ({error}). Choose another --out, or remove the file."
        ) from error


def _difference(before: Mapping[str, Any], plan: Plan) -> str:
    old, new = before.get("settings", {}), plan.settings
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    said = [f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in changed[:3]]
    if before.get("schema_version") != SCHEMA_VERSION:
        said.append(f"files of version {before.get('schema_version')} then, {SCHEMA_VERSION} now")
    if before.get("n_units") != len(plan):
        said.append(f"{before.get('n_units')} units then, {len(plan)} now")
    return "; ".join(said) or "the units themselves: paths, wells or hashes"
