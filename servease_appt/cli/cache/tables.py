"""How commands print: aligned tables for people, JSON for programs, nothing that could steer a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import click

Cell = str | int | float | None
T = TypeVar("T")

BATCH: Final = 1000
"""How many keys go into one pipeline."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

NOTHING: Final = "-"


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Rows under headers, columns of numbers to the right. Empty cells show `-`."""
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
    """The text with everything that is no printable character escaped: bytes in Redis may be anyone's."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def seconds(milliseconds: int) -> str | None:
    """What Redis says is left of a key's life: `287.1 s`, `no end`, or None where there is no such key."""
    if milliseconds >= 0:
        return f"{milliseconds / 1000:.1f} s"
    return "no end" if milliseconds == -1 else None


def percent(part: int, whole: int) -> str | None:
    """A share for a table."""
    return f"{part / whole:.1%}" if whole else None


def counted(n: int, noun: str) -> str:
    """`1 key`, `2 keys`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def echo_json(value: Any, *, one_line: bool = False) -> None:
    """Print JSON, indented for a person who looks at it, or on one line of a stream."""
    click.echo(json.dumps(value, indent=None if one_line else 2, ensure_ascii=False))


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
