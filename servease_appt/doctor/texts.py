"""How findings write quantities."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Write a duration in the largest unit that it fills: `3.0 h`, `12 min`, `4.2 s`, `15 ms`."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def counted(n: int, noun: str) -> str:
    """Write a number with its noun: `1 worker`, `2 workers`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
