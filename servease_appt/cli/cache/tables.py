"""Print for people or programs: tables that fit the terminal, JSON, and no control character from outside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import click


class State(NamedTuple):
    """A cell with a state in a colour, which `click.echo` leaves out where there is no terminal."""

    text: str
    color: str


Cell = str | int | float | State | None
T = TypeVar("T")

BATCH: Final = 1000
"""Keys per pipeline."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

NOTHING: Final = "-"


def well(text: str) -> State:
    """Return a cell: as it should be."""
    return State(text, "green")


def unwell(text: str) -> State:
    """Return a cell: works less well than it should."""
    return State(text, "yellow")


def broken(text: str) -> State:
    """Return a cell: somebody has to act."""
    return State(text, "red")


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Align rows under headers, numbers to the right. A cell that is None shows `-`.

    Where standard output is a terminal that is too narrow for it, each row is printed as a block with one line a
    column. The variable COLUMNS sets the width.
    """
    grid = [list(row) for row in rows]
    right = [
        bool(grid) and all(row[column] is None or isinstance(row[column], int | float) for row in grid)
        for column in range(len(headers))
    ]
    texts = [[_text(cell) for cell in row] for row in grid]
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    room = shutil.get_terminal_size((0, 0)).columns
    if room and sum(widths) + 2 * (len(widths) - 1) > room:
        return "\n\n".join(_block(headers, row) for row in grid)

    lines = []
    for cells in (headers, *grid):
        padded = []
        for cell, width, to_right in zip(cells, widths, right, strict=True):
            text = _text(cell)
            room_left = " " * (width - len(text))
            padded.append(room_left + _styled(cell, text) if to_right else _styled(cell, text) + room_left)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _block(headers: Sequence[str], row: Sequence[Cell]) -> str:
    width = max(map(len, headers))
    return "\n".join(
        f"{header:<{width}}  {_styled(cell, _text(cell))}" for header, cell in zip(headers, row, strict=True)
    )


def _styled(cell: Cell, text: str) -> str:
    return click.style(text, fg=cell.color) if isinstance(cell, State) else text


def _text(cell: Cell) -> str:
    if cell is None:
        return NOTHING
    if isinstance(cell, State):
        return printable(cell.text)
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
