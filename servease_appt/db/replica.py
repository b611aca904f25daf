"""A streaming replica of PostgreSQL, which is read only while its rows are provably at most some seconds old.

Every read carries its proof: in the same message, before the statement, the replica compares the position that it
has replayed with one that the primary had (see `wal_positions`). It refuses the read if it is behind, or if it is
no replica any more. So the bound holds for whichever server answers, also behind a pooler or a load balancer.

One thread, which runs only while lists are read, reads the primary's position, and finds out when a replica that
has failed can be used again. No request waits for that.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from servease_appt.cache.forks import after_fork
from servease_appt.db.engine import Database
from servease_appt.db.errors import DatabaseUnavailable, sqlstate, unavailable
from servease_appt.db.wal_positions import RecentPositions, as_lsn, current_position

DEADLINE_S: Final = 1.0
"""Seconds for one read, connecting included. With the primary's deadline after it, less than a client waits."""
PAUSE_S: Final = 5.0
"""Seconds after a failed read in which the replica is not read."""
PROBE_EVERY_S: Final = 1.0
"""Seconds between two trials of a replica that is not read; also the longest time between two positions."""
IDLE_AFTER_S: Final = 30.0
"""Seconds without lists after which the primary's position is not read any more."""
_POLL_S: Final = 0.005

_log = logging.getLogger(__name__)

# Division by zero is the way in which plain SQL can refuse: the statement that follows is not executed.
_PROOF: Final = (
    "SELECT 1 / coalesce(pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= '{lsn}', false)::integer;"
)
_REFUSED: Final = "22012"
_DATABASE: Final = (
    "SELECT system_identifier::text, oid::text FROM pg_control_system(), pg_database"
    " WHERE datname = current_database()"
)
"""Both are the same on a primary and its streaming replicas, and on no other server."""


class ReplicaState(StrEnum):
    """Whether the replica is read, as shown to operators."""

    IDLE = "idle"
    """No lists were read for a while: nothing is known."""
    OK = "ok"
    BEHIND = "behind"
    """Further behind than allowed, or promoted."""
    UNAVAILABLE = "unavailable"
    WRONG = "not a replica of DATABASE_URL"


class ReplicaNotUsed(Exception):
    """The replica can't answer this read: read from the primary. `state` says why."""

    def __init__(self, state: ReplicaState) -> None:
        super().__init__(state.value)
        self.state = state


class Replica:
    """Connections to a streaming replica. Thread-safe and fork-safe."""

    def __init__(self, url: str, primary: Database, *, max_lag_s: float) -> None:
        """Make a pool; nothing is connected to yet.

        Args:
            url: `postgresql://…` of the replica.
            primary: where the replica's rows come from.
            max_lag_s: how many seconds behind the primary the replica is read at most.

        Raises:
            ValueError: libpq does not know an option in `url`.
        """
        self.max_lag_s = max_lag_s
        self._primary = primary
        self._database = Database(url, deadline_s=DEADLINE_S, name="The read replica")
        self._every_s = min(max_lag_s / 4, PROBE_EVERY_S)
        self._set_up()
        after_fork(self, Replica._set_up)

    def _set_up(self) -> None:
        self._positions = RecentPositions(self.max_lag_s)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._wanted_until_s = 0.0
        self._probe_at_s = 0.0
        self._failed_before = False
        self.state = ReplicaState.IDLE

    def check(self) -> int:
        """Return the position that the replica has to have replayed, without asking a server.

        Raises:
            ReplicaNotUsed: the replica is known to be of no use now, or nothing is known yet.
        """
        self._keep_watching()
        position = self._positions.oldest()
        if self.state is not ReplicaState.OK:
            raise ReplicaNotUsed(self.state)
        if position is None:
            raise ReplicaNotUsed(ReplicaState.IDLE)
        return position

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Provide a connection in autocommit mode whose statements fail where rows might be too old.

        Raises:
            ReplicaNotUsed: as `check`; or the replica is too far behind, can't be reached, is too slow or fails,
                after `DEADLINE_S` at most.
        """
        try:
            with self._proven(self.check()) as connection:
                yield connection
        except DatabaseUnavailable as error:
            self._pause(ReplicaState.UNAVAILABLE, PAUSE_S)
            raise ReplicaNotUsed(ReplicaState.UNAVAILABLE) from error
        except DBAPIError as error:
            behind = sqlstate(error) == _REFUSED
            state = ReplicaState.BEHIND if behind else ReplicaState.UNAVAILABLE
            self._pause(state, 0 if behind else PAUSE_S)
            raise ReplicaNotUsed(state) from error

    def examine(self) -> tuple[ReplicaState, float]:
        """Ask both servers whether the replica can be read, for operators; this takes `max_lag_s` at most.

        Returns:
            `OK`, `BEHIND` or `WRONG`, and the seconds until the replica had what the primary had at the call.

        Raises:
            DatabaseUnavailable: one of both can't be used.
        """
        began_s = time.monotonic()
        with unavailable():
            with self._primary.reading() as connection:
                position, needed = current_position(connection), _which(connection)
            if not self._is_replica_of(needed):
                return ReplicaState.WRONG, time.monotonic() - began_s
            state = ReplicaState.OK if self._reaches(position, self.max_lag_s) else ReplicaState.BEHIND
        return state, time.monotonic() - began_s

    def wait_until_replayed(self) -> None:
        """Wait until the replica has everything that is committed now, or until `max_lag_s` have passed.

        After that time nothing older is read from it, by this process or another. Where this process can't reach
        the replica, it does not wait: it would take that time from every write, and others can hardly reach it.
        """
        self._keep_watching()
        if self.state in (ReplicaState.UNAVAILABLE, ReplicaState.WRONG):
            return
        try:
            with self._primary.reading() as connection:
                position = current_position(connection)
            self._reaches(position, self.max_lag_s)
        except (DatabaseUnavailable, DBAPIError):
            self._pause(ReplicaState.UNAVAILABLE, PAUSE_S)

    def close(self) -> None:
        """Close all idle connections and end the thread. Idempotent."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(DEADLINE_S)
        self._database.close()

    @contextmanager
    def _proven(self, position: int) -> Iterator[Connection]:
        with self._database.reading() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.settings = driver.outside + _PROOF.format(lsn=as_lsn(position))
            try:
                yield connection
            finally:
                driver.settings = driver.outside

    def _is_replica_of(self, primary: tuple[str, str]) -> bool:
        with self._database.reading() as connection:
            return _which(connection) == primary and _in_recovery(connection)

    def _reaches(self, position: int, within_s: float) -> bool:
        """Wait until the replica has replayed `position`, and return whether it has."""
        until_s = time.monotonic() + within_s
        while not self._has_replayed(position):
            if time.monotonic() >= until_s or self._closed.wait(_POLL_S):
                return False
        return True

    def _has_replayed(self, position: int) -> bool:
        try:
            with self._proven(position) as connection:
                connection.exec_driver_sql("SELECT 1")
        except DBAPIError as error:
            if sqlstate(error) != _REFUSED:
                raise
            return False
        return True

    def _keep_watching(self) -> None:
        self._wanted_until_s = time.monotonic() + IDLE_AFTER_S
        if self._thread is not None and self._thread.is_alive():
            return
        with self._lock:
            if (self._thread is None or not self._thread.is_alive()) and not self._closed.is_set():
                self._thread = threading.Thread(target=self._watch, name="postgres-replica", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while time.monotonic() < self._wanted_until_s:
            try:
                self._look()
            except Exception:  # noqa: BLE001 - the thread goes on: lists come from the primary meanwhile
                _log.exception("The watch of the read replica failed")
            if self._closed.wait(self._every_s):
                return
        self.state = ReplicaState.IDLE

    def _look(self) -> None:
        """Read the primary's position; if the replica is not read, find out whether it can be."""
        at_s = time.monotonic()
        try:
            with self._primary.reading() as connection:
                self._positions.add(at_s, current_position(connection))
                if self.state is ReplicaState.OK or at_s < self._probe_at_s:
                    return
                needed = _which(connection)
        except (DatabaseUnavailable, DBAPIError):
            _log.debug("No position of the primary", exc_info=True)
            return
        found = self._probe(needed)
        if found is ReplicaState.OK:
            self._change(found)
        else:
            self._pause(found, PROBE_EVERY_S)

    def _probe(self, needed: tuple[str, str]) -> ReplicaState:
        position = self._positions.oldest()
        try:
            if not self._is_replica_of(needed):
                return ReplicaState.WRONG
            # After a while without lists that is the newest position, which takes a moment to arrive.
            if position is None or not self._reaches(position, self._every_s):
                return ReplicaState.BEHIND
        except (DatabaseUnavailable, DBAPIError):
            return ReplicaState.UNAVAILABLE
        return ReplicaState.OK

    def _pause(self, state: ReplicaState, seconds: float) -> None:
        """Do not read the replica until a probe after so many seconds has found that it can be."""
        self._probe_at_s = time.monotonic() + seconds
        self._change(state)

    def _change(self, state: ReplicaState) -> None:
        with self._lock:
            before, self.state = self.state, state
            failed_before, self._failed_before = self._failed_before, state is not ReplicaState.OK
        if state is ReplicaState.OK:
            if failed_before:
                _log.warning("Lists are read from the replica again")
        elif before is not state:
            _log.warning("Lists are read from the primary, the replica is: %s", state)


def _which(connection: Connection) -> tuple[str, str]:
    system, database = connection.exec_driver_sql(_DATABASE).one()
    return system, database


def _in_recovery(connection: Connection) -> bool:
    found: bool = connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()
    return found
