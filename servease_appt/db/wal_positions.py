"""Positions in PostgreSQL's write-ahead log (WAL), by which a replica proves how old its rows can be at most.

A replica can't say by itself how far it is behind. `pg_last_xact_replay_timestamp()` is the time of the last
transaction that it replayed: on a primary without writes that was long ago although nothing is missing, and on a
replica that has lost its connection it says nothing at all. Clocks of two machines differ as well.

So positions are compared. The primary's position is read again and again, each time with the time before reading
it, on the clock of this process. A replica that has replayed the position of time t has everything that was
committed before t, so what it shows now is at most as old as t.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

_CURRENT: Final = "SELECT pg_current_wal_insert_lsn()::text"
"""Not the flushed position: with `synchronous_commit = off` a commit is acknowledged before it is flushed."""
_PAGE: Final = 8192
_PAGE_HEADERS: Final = (24, 40)


def current_position(connection: Connection) -> int:
    """Return a position at which a replica has everything that the primary has committed so far, in bytes.

    Args:
        connection: a connection to the primary.
    """
    written: str = connection.exec_driver_sql(_CURRENT).scalar_one()
    return reachable(_bytes(written))


def reachable(position: int) -> int:
    """Return the position that a replica reports when it has replayed all before `position`.

    At the beginning of a page of the WAL the primary names the place behind the page's header, where the next
    record will be, and a replica the place before it. Without a further write they would differ for ever.
    """
    in_page = position % _PAGE
    return position - in_page if in_page in _PAGE_HEADERS else position


def as_lsn(position: int) -> str:
    """Return the position as PostgreSQL writes it, such as `0/3000028`."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def _bytes(lsn: str) -> int:
    high, _, low = lsn.partition("/")
    return int(high, 16) << 32 | int(low, 16)


class RecentPositions:
    """The primary's positions of the last seconds. Thread-safe."""

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep positions for `keep_s` seconds of `clock`."""
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, position: int) -> None:
        """Add a position that was read after the time `at_s`. Times never go back."""
        with self._lock:
            self._seen.append((at_s, position))

    def oldest(self) -> int | None:
        """Return the oldest position that is not older than `keep_s`; None if there is none.

        A replica that has replayed it is at most `keep_s` seconds behind.
        """
        with self._lock:
            while self._seen and self._seen[0][0] < self._clock() - self._keep_s:
                self._seen.popleft()
            return self._seen[0][1] if self._seen else None
