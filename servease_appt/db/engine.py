"""A pool of connections to PostgreSQL, which converts failures to `DatabaseUnavailable`."""

import logging
import os
import select
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg2
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, InvalidatePoolError

from servease_appt.db import deadlines
from servease_appt.db.connections import (
    STATEMENT_SETTINGS,
    TRANSACTION_SETTINGS,
    ServiceConnection,
    connector,
    psycopg2_url,
)
from servease_appt.db.deadlines import Deadline
from servease_appt.db.errors import OUT_OF_DATE, Cause, DatabaseUnavailable, hide_rows, unavailable
from servease_appt.db.failure_log import FailureLog
from servease_appt.db.hang_breaker import COOL_DOWN_S, TRIAL_S, Admission, HangBreaker
from servease_appt.db.versions import VERSION_TABLE, VERSIONS

_log = logging.getLogger(__name__)

POOL_SIZE: Final = 256
"""The maximum number of gunicorn's threads (WEB_THREADS), so that no thread waits for another's connection.
Connections are made on demand, so a worker has only as many as its threads have used at once."""
POOL_TIMEOUT_S: Final = 2
_STATEMENT_SHARE: Final = 0.9
_LOCK_SHARE: Final = 0.6
NAME: Final = "PostgreSQL"

_READY: Final = text(
    f"SELECT (SELECT version_num FROM {VERSION_TABLE}), EXISTS ("  # noqa: S608 - a name of our own
    "SELECT FROM appointments, time_slots, appointment_history, idempotency_keys, appointment_counts,"
    " appointment_count_changes, appointment_events, appointment_events_state WHERE false)"
)
"""Needs the same tables and rights as the requests, and reads no rows."""


class Database:
    """A pool of connections. Thread-safe and fork-safe.

    While PostgreSQL hangs, a use of it ends at its deadline. That opens a breaker: further uses fail at once,
    except one trial each second.
    """

    def __init__(
        self, url: str, *, pool_size: int = POOL_SIZE, deadline_s: float | None = None, name: str = NAME
    ) -> None:
        """Make a pool; connections are made on demand.

        Args:
            url: `postgresql://…` with any driver name; several hosts in libpq's form.
            pool_size: maximum number of connections; further threads wait for `POOL_TIMEOUT_S` seconds at most.
            deadline_s: seconds for one transaction or one block of reads, the connecting included; PostgreSQL ends
                a statement a little earlier. None: 3.5 s, 3 s for a statement, and 2 s for a lock.
            name: what log lines call the server.

        Raises:
            ValueError: libpq does not know an option in `url`.
        """
        parsed = psycopg2_url(url)
        self._deadline_s = deadline_s
        self._name = name
        self._connect = connector(parsed, *_settings(deadline_s))
        self._using = threading.local()
        self._engine = create_engine(
            parsed,
            creator=self._make_connection,
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_reset_on_return=None,
            hide_parameters=True,
            use_native_hstore=False,
        )
        self._breaker = HangBreaker(self._breaker_changed)
        self._failures = FailureLog(name=name)
        event.listen(self._engine, "checkout", self._watch_and_check)
        event.listen(self._engine, "handle_error", hide_rows)
        _leave_to_parent_after_fork(self._engine)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run one READ COMMITTED transaction: committed at the end, rolled back on any exception.

        Raises:
            DatabaseUnavailable: if raised by the commit, it is unknown whether the commit took place.
        """
        with self.reading() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.settings = ""
            try:
                connection.exec_driver_sql(driver.begin)
                yield connection
            except BaseException:
                _roll_back(connection)
                raise
            else:
                connection.exec_driver_sql("COMMIT")
            finally:
                driver.settings = driver.outside

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Provide a connection in autocommit mode. Raises `DatabaseUnavailable`."""
        admission = self._breaker.admit()
        if admission is Admission.REFUSED:
            raise self._hangs()
        is_trial = admission is Admission.TRIAL
        outer = getattr(self._using, "deadline", None)
        began_at_s = time.monotonic()
        deadline_s = deadlines.DEADLINE_S if self._deadline_s is None else self._deadline_s
        with Deadline(TRIAL_S if is_trial else deadline_s) as deadline:
            self._using.deadline = deadline
            try:
                with unavailable(), self._engine.connect() as connection:
                    if is_trial:
                        connection.exec_driver_sql("SELECT 1")
                        deadline.extend_to(began_at_s + deadline_s)
                        self._breaker.succeeded()
                    yield connection
            except DatabaseUnavailable as error:
                reported = error
                if deadline.passed:
                    reported = self._hangs()
                    self._breaker.failed(began_at_s, admission)
                elif is_trial:
                    self._breaker.succeeded()
                self._failures.note(reported)
                raise reported from error.__cause__
            finally:
                self._using.deadline = outer

    def ping(self) -> None:
        """Check that PostgreSQL answers and has the tables of this version or of a newer one.

        Raises:
            DatabaseUnavailable: it does not.
        """
        with self.reading() as connection:
            version = connection.execute(_READY).one()[0]
            if version in (None, *VERSIONS[:-1]):
                raise DatabaseUnavailable(OUT_OF_DATE, cause=Cause.TABLES)

    def close(self) -> None:
        """Close all idle connections. Idempotent."""
        self._engine.dispose()

    def _make_connection(self) -> Any:
        deadline: Deadline = self._using.deadline
        return deadline.connect(self._connect)

    def _watch_and_check(self, driver: Any, _record: object, _proxy: object) -> None:
        deadline: Deadline = self._using.deadline
        deadline.watch(driver)
        _refuse_if_lost(driver)

    def _breaker_changed(self, opened: bool) -> None:
        if opened:
            # Idle connections may lead to the hanging server, too: each would cost a trial.
            self._engine.dispose()
            _log.warning("%s hangs: uses fail at once, with one trial in %g s", self._name, COOL_DOWN_S)
        else:
            _log.warning("%s answers again", self._name)

    def _hangs(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"{self._name} did not answer in time", cause=Cause.DEADLINE)


def _settings(deadline_s: float | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings of a statement and of a transaction, whose limits fit into the deadline."""
    if deadline_s is None:
        return STATEMENT_SETTINGS, TRANSACTION_SETTINGS
    limits = {
        "statement_timeout": f"{deadline_s * 1000 * _STATEMENT_SHARE:.0f}",
        "lock_timeout": f"{deadline_s * 1000 * _LOCK_SHARE:.0f}",
    }
    return STATEMENT_SETTINGS | limits, TRANSACTION_SETTINGS | limits


def _roll_back(connection: Connection) -> None:
    """Roll the transaction back; if that fails, discard the connection, which also ends the transaction."""
    if connection.invalidated:
        return
    try:
        connection.exec_driver_sql("ROLLBACK")
    except DBAPIError:
        connection.invalidate()


def _refuse_if_lost(driver: ServiceConnection) -> None:
    """Raise InvalidatePoolError, so that the pool makes new connections, if PostgreSQL has closed this one.

    The socket of an idle connection has nothing to read until the server closes it, so polling it saves a round
    trip before every use. If there is something to read, a statement is sent to find out.
    """
    try:
        news = select.poll()
        news.register(driver.fileno(), select.POLLIN)
        if news.poll(0):
            with driver.cursor() as cursor:
                cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        raise InvalidatePoolError from error


def _leave_to_parent_after_fork(engine: Engine) -> None:
    """Give a forked child an empty pool: it must neither use nor close its parent's connections."""
    reference = weakref.ref(engine)

    def forget() -> None:
        inherited = reference()
        if inherited is not None:
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)
