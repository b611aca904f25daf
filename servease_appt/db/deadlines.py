"""A last deadline for every round trip to PostgreSQL.

PostgreSQL itself ends a statement that takes too long, but not when it is frozen, or when a network swallows
what is sent: then the driver would wait for ever, and a worker's threads would be gone one by one. Here one
thread a process looks at the calls under way and shuts the socket of one that is overdue; the driver then
reports a lost connection, as if PostgreSQL had gone away, which comes to the same.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from psycopg2 import InterfaceError
from psycopg2.extensions import connection, cursor

DEADLINE_S: Final = 4.0
"""Above the `statement_timeout`, so that PostgreSQL's own word comes first where it still has one."""

_LOOK_EVERY_S: Final = 0.25


class _Watch:
    """The calls under way in this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._overdue_at: dict[connection, float] = {}
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, watched: connection) -> Iterator[None]:
        """Watch a connection while a call on it is under way."""
        with self._lock:
            self._overdue_at[watched] = time.monotonic() + DEADLINE_S
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="postgres-deadlines", daemon=True)
                self._thread.start()
        self._busy.set()
        try:
            yield
        finally:
            with self._lock:
                self._overdue_at.pop(watched, None)

    def _run(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(_LOOK_EVERY_S)
            with self._lock:
                now = time.monotonic()
                for watched in [c for c, overdue_at in self._overdue_at.items() if overdue_at <= now]:
                    del self._overdue_at[watched]
                    _cut(watched)
                if not self._overdue_at:
                    self._busy.clear()


def _cut(watched: connection) -> None:
    """Shut the socket down; the call on it returns at once. The descriptor stays the driver's to close."""
    try:
        with socket.socket(fileno=os.dup(watched.fileno())) as its_socket:
            its_socket.shutdown(socket.SHUT_RDWR)
    except (OSError, InterfaceError):
        return


_watch = _Watch()


def _start_anew() -> None:
    """A fork copies neither the thread nor the calls that were under way in others."""
    global _watch  # noqa: PLW0603 - one watch a process
    _watch = _Watch()


os.register_at_fork(after_in_child=_start_anew)


class WatchedCursor(cursor):  # type: ignore[misc] # psycopg2 has no types
    """A cursor whose statements have the deadline."""

    def execute(self, *args: Any) -> None:
        """As the driver's."""
        with _watch.over(self.connection):
            super().execute(*args)

    def executemany(self, *args: Any) -> None:
        """As the driver's."""
        with _watch.over(self.connection):
            super().executemany(*args)


class WatchedConnection(connection):  # type: ignore[misc] # psycopg2 has no types
    """A connection whose transactions end within the deadline, or fail."""

    def commit(self) -> None:
        """As the driver's."""
        with _watch.over(self):
            super().commit()

    def rollback(self) -> None:
        """As the driver's."""
        with _watch.over(self):
            super().rollback()
