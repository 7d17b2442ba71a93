"""The plan of a long job: its units and settings under one hash, fixed before the first unit runs."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from image2reg.errors import ConfigurationError, DataError
from image2reg.provenance import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SEEN", "UNITS", "Plan", "Shard", "make_plan"]

SCHEMA_VERSION = 4  # of the plan, markers and parts
UNITS, SEEN = "units", "seen"


@dataclass(frozen=True)
class Shard:
    """Part `index` of `of` parts, counted from 1; a plan's units are dealt out in contiguous runs.

    Examples
    --------
    >>> shard = Shard.parse("2/3")
    >>> list(shard.positions(10))
    [3, 4, 5]
    """

    index: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``.

        Raises
        ------
        ConfigurationError
            Not two whole numbers with 1 <= I <= N.
        """
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigurationError(
                f"--shard {text!r}: write I/N with 1 <= I <= N, for example --shard 2/20 for the second of twenty."
            )
        return cls(int(found[1]), int(found[2]))

    def positions(self, n_units: int) -> range:
        """Positions in the plan that belong to this shard."""
        return range(n_units * (self.index - 1) // self.of, n_units * self.index // self.of)


@dataclass(frozen=True)
class Plan:
    """Units and settings of a job; equal hash, equal job.

    Attributes
    ----------
    kind : str
        What is done with each unit; part of the hash.
    settings : dict
        JSON values that change results; part of the hash.
    lines : tuple of str
        Each unit as canonical JSON, with a ``name`` of its own; of a plan that was read for a shard, only the shard's.
        Kept as text: a million units are 0.3 GB so, and several times that as dictionaries.
    sha256 : str
    seen_sha256 : str
        Of what the inputs of all units looked like; no part of `sha256`.
    n_units : int
        Units of the whole plan.
    first : int
        Position of the first of `lines`.
    made_from : str
        Tells what the plan was made from, see `make_plan`; no part of `sha256`.
    """

    kind: str
    settings: dict[str, Any]
    lines: tuple[str, ...] = field(repr=False)
    sha256: str
    seen_sha256: str
    n_units: int
    first: int = 0
    made_from: str = ""

    def __len__(self) -> int:
        """Count the units of the whole plan."""
        return self.n_units

    def line(self, position: int) -> str:
        """One unit as canonical JSON."""
        return self.lines[position - self.first]

    def unit(self, position: int) -> dict[str, Any]:
        """One unit, as it was given."""
        return dict(json.loads(self.line(position)))

    def header(self) -> dict[str, Any]:
        """Give the first line of the plan's file."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "sha256": self.sha256,
            "seen_sha256": self.seen_sha256,
            "made_from": self.made_from,
            "n_units": len(self),
            "settings": self.settings,
        }


def make_plan(
    kind: str, units: Iterable[Mapping[str, Any]], settings: Mapping[str, Any], *, made_from: str = ""
) -> Plan:
    """Fix a plan.

    Parameters
    ----------
    kind : str
    units : iterable of mapping
        JSON values; ``name`` (text) tells units apart in messages and in ``failures.csv``, and nothing of a result may
        depend on it. Their order is the order of the rows in the results. ``seen`` (optional, a mapping) says what the
        unit's inputs looked like, such as the sizes and times of files: it is no part of the hash, but a unit where it
        changed counts as not done.
    settings : mapping
        JSON values: everything besides the units that changes a result (options, model hash, version).
    made_from : str
        A hash of what the units were made from, such as a table of images: a shard that has the same reads its part of
        the plan where another one left it (`image2reg.engine.kept_plan`) and need not make it again.

    Raises
    ------
    DataError
        No unit, or two of one name (they are named).

    Examples
    --------
    >>> len(make_plan("count", [{"name": "A01"}, {"name": "A02"}], {"threshold": 3}))
    2
    """
    digest = hashlib.sha256(canonical({"v": SCHEMA_VERSION, "kind": kind, "settings": settings}).encode())
    seen = hashlib.sha256()
    lines, names, doubled = [], set(), []
    for unit in units:
        line = bare = canonical(unit)
        if SEEN in unit:
            bare = canonical({key: unit[key] for key in unit if key != SEEN})
        lines.append(line)
        digest.update(b"\n" + bare.encode())
        seen.update(b"\n" + canonical(unit.get(SEEN, {})).encode())
        if unit["name"] in names:
            doubled.append(unit["name"])
        names.add(unit["name"])
    if doubled:
        raise DataError(
            f"plan {kind!r}: {len(doubled)} units have the name of an earlier one, such as {doubled[:3]}. "
            "List each once, or tell them apart by plate, well and site."
        )
    if not lines:
        raise DataError(f"plan {kind!r}: nothing to do, no unit was given.")
    return Plan(
        kind, json.loads(canonical(settings)), tuple(lines), digest.hexdigest(), seen.hexdigest(), len(lines),
        made_from=made_from,
    )  # fmt: skip
