"""How results are worded for people."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted", "counted_level", "in_other_case", "other_case", "several_cases"]

_PLURALS = {"nucleus": "nuclei", "field in group": "fields in groups"}


def counted(n: int, noun: str, plural: str = "") -> str:
    """Give a number with its noun: 1 and ``field`` are ``1 field``, 2000 are ``2,000 fields``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def counted_level(n: int, level: str) -> str:
    """Give a number with the unit that was resampled: 13 and ``nucleus`` are ``13 nuclei``."""
    return counted(n, level, _PLURALS.get(level, ""))


def in_other_case(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Give what each name is called here, where only the capitals differ."""
    exact = set(map(str, known))
    here = {name.lower(): name for name in sorted(exact)}
    wanted = sorted(set(map(str, names)) - exact)
    return {name: here[name.lower()] for name in wanted if name.lower() in here}


def other_case(names: Iterable[str], known: Iterable[str]) -> str:
    """Say which names are known in other capitals; nothing where none is. Case matters: mouse Trp53, human TP53.

    >>> other_case(["tp53", "AKT1"], ["TP53", "EGFR"])
    " Written in other capitals: 'tp53' (here 'TP53')."
    """
    found = [f"{name!r} (here {here!r})" for name, here in in_other_case(names, known).items()]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f" Written in other capitals: {', '.join(found[:5])}{more}." if found else ""


def several_cases(names: Iterable[str]) -> list[list[str]]:
    """Group the names that differ in capitals alone; nothing where none do.

    >>> several_cases(["TP53", "BRAF", "braf"])
    [['BRAF', 'braf']]
    """
    found: dict[str, set[str]] = {}
    for name in map(str, names):
        found.setdefault(name.lower(), set()).add(name)
    return [sorted(same) for _, same in sorted(found.items()) if len(same) > 1]
