"""How results are worded for people."""

from __future__ import annotations

__all__ = ["counted"]


def counted(n: int, noun: str, plural: str = "") -> str:
    """Give a number with its noun: 1 and ``field`` are ``1 field``, 2000 are ``2,000 fields``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
