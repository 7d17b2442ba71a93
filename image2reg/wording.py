"""How results are worded for people."""

from __future__ import annotations

__all__ = ["counted", "counted_level"]

_PLURALS = {"nucleus": "nuclei", "field in group": "fields in groups"}


def counted(n: int, noun: str, plural: str = "") -> str:
    """Give a number with its noun: 1 and ``field`` are ``1 field``, 2000 are ``2,000 fields``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def counted_level(n: int, level: str) -> str:
    """Give a number with the unit that was resampled: 13 and ``nucleus`` are ``13 nuclei``."""
    return counted(n, level, _PLURALS.get(level, ""))
