"""Print for people or programs: aligned tables, JSON, and no control character from outside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import click

Cell = str | int | float | None
T = TypeVar("T")

BATCH: Final = 1000
"""Keys per pipeline."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

NOTHING: Final = "-"


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Align rows under headers, numbers to the right. A cell that is None shows `-`."""
    grid = [list(row) for row in rows]
    right = [
        bool(grid) and all(row[column] is None or not isinstance(row[column], str) for row in grid)
        for column in range(len(headers))
    ]
    texts = [list(headers), *([_text(cell) for cell in row] for row in grid)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headers))]
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in texts
    )
    return "\n".join(lines)


def _text(cell: Cell) -> str:
    if cell is None:
        return NOTHING
    if isinstance(cell, str):
        return printable(cell)
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.1f}"


def printable(text: str) -> str:
    """Escape every character that is not printable: anyone may have written the bytes in Redis."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def seconds(milliseconds: int) -> str | None:
    """Format a PTTL reply: `287.1 s`, `no end`, or None where there is no such key."""
    if milliseconds >= 0:
        return f"{milliseconds / 1000:.1f} s"
    return "no end" if milliseconds == -1 else None


def percent(part: int, whole: int) -> str | None:
    """Format a share as a percentage; None where `whole` is 0."""
    return f"{part / whole:.1%}" if whole else None


def counted(n: int, noun: str) -> str:
    """Format a number with its noun: `1 key`, `2 keys`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def echo_json(value: Any, *, one_line: bool = False) -> None:
    """Print JSON, indented, or on one line where it is part of a stream."""
    click.echo(json.dumps(value, indent=None if one_line else 2, ensure_ascii=False))


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Split the items into lists of at most `size`."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
