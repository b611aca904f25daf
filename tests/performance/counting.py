"""Counts that are the same on every machine, however busy it is."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sqlalchemy import Engine, event


def function_calls(work: Callable[[], object]) -> int:
    """How many functions, Python's and C's, a piece of work calls on this thread."""
    count = 0

    def profile(_frame: FrameType, what: str, _about: Any) -> None:
        nonlocal count
        count += what in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@contextmanager
def sql_statements() -> Iterator[list[str]]:
    """All statements that are sent to PostgreSQL within the block."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)
