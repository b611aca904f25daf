"""A deadline for every round trip to PostgreSQL, including connecting.

PostgreSQL ends a statement that takes too long, but not if the server is frozen or the network drops packets. The
driver would then wait forever, and a worker would lose its threads one by one. One thread for each process watches
the connections in use and shuts down the socket of a connection at its deadline; the driver then reports a lost
connection. Name look-ups and handshakes with several hosts have no socket to shut down. They run in a separate
thread, which is abandoned at the deadline.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Self

from psycopg2 import InterfaceError, OperationalError
from psycopg2.extensions import connection

DEADLINE_S: Final = 3.5
"""Seconds for one transaction or one block of reads. Above the `statement_timeout`, so that PostgreSQL's own error
arrives first if it can send one. Together with the breaker's trial, which may be the next use in the same request,
it stays below the 5 s that a client waits at most."""

_CHECK_EVERY_S: Final = 0.1
_SLOW_REFUSAL_S: Final = 1.5


class Deadline:
    """The time limit of one use of PostgreSQL: a context manager that cuts its connections at the deadline.

    The thread that uses the connections calls `watch`; the watching thread cuts them.
    """

    __slots__ = ("_at_s", "_connections", "passed")

    def __init__(self, seconds: float) -> None:
        self._at_s = time.monotonic() + seconds
        self._connections: list[connection] = []
        self.passed = False

    def __enter__(self) -> Self:
        _watch.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watch.remove(self)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; negative when it has passed."""
        return self._at_s - time.monotonic()

    def extend_to(self, at_s: float) -> None:
        """Set the deadline to a time of `time.monotonic`."""
        self._at_s = at_s

    def watch(self, used: connection) -> None:
        """Add a connection to cut when the deadline passes, or at once if it has passed."""
        self._connections.append(used)
        if self.passed:
            _cut(used)

    def cut(self) -> None:
        """Shut down the sockets of all watched connections; the calls on them return at once."""
        self.passed = True
        for used in list(self._connections):
            _cut(used)

    def connect(self, make: Callable[[], connection]) -> connection:
        """Return the connection that `make` returns; a connection made after the deadline is closed.

        Raises:
            OperationalError: there was no connection in time. Errors of `make` pass through.
        """
        began_s = time.monotonic()
        try:
            made = _Attempt(make).wait(self.left_s)
        except OperationalError:
            # After the driver's connect timeout: the server did not answer, so this is no refusal.
            self.passed = time.monotonic() - began_s > _SLOW_REFUSAL_S
            raise
        if made is None:
            self.passed = True
            raise OperationalError("connecting took longer than the deadline allows")
        self.watch(made)
        return made


class _Attempt:
    """One attempt to connect, in a thread that can be abandoned."""

    def __init__(self, make: Callable[[], connection]) -> None:
        self._make = make
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._made: connection | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        threading.Thread(target=self._run, name="postgres-connect", daemon=True).start()

    def _run(self) -> None:
        made = None
        try:
            made = self._make()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._error = error
        with self._lock:
            self._made = made
            if self._abandoned and made is not None:
                made.close()
        self._done.set()

    def wait(self, seconds: float) -> connection | None:
        if not self._done.wait(max(seconds, 0)):
            with self._lock:
                if self._made is None and self._error is None:
                    self._abandoned = True
                    return None
        if self._error is not None:
            raise self._error
        return self._made


class _Watch:
    """The deadlines that are running in this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Deadline] = set()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline) -> None:
        with self._lock:
            self._running.add(deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="postgres-deadlines", daemon=True)
                self._thread.start()
        if not self._busy.is_set():
            self._busy.set()

    def remove(self, deadline: Deadline) -> None:
        with self._lock:
            self._running.discard(deadline)

    def _run(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(_CHECK_EVERY_S)
            with self._lock:
                # Under the lock, since the connections of an ended use may be in use again.
                for deadline in [d for d in self._running if d.left_s <= 0]:
                    self._running.discard(deadline)
                    deadline.cut()
                if not self._running:
                    self._busy.clear()


def _cut(used: connection) -> None:
    """Shut the socket down. The driver closes the descriptor."""
    try:
        with socket.socket(fileno=os.dup(used.fileno())) as its_socket:
            its_socket.shutdown(socket.SHUT_RDWR)
    except (OSError, InterfaceError):
        return


_watch = _Watch()


def _start_anew() -> None:
    """Make a new watch in a forked child, which has neither the thread nor the running deadlines."""
    global _watch  # noqa: PLW0603 - one watch a process
    _watch = _Watch()


os.register_at_fork(after_in_child=_start_anew)
