"""Connections to PostgreSQL, and the one place where its failures become `DatabaseUnavailable`."""

import os
import select
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg2
from sqlalchemy import URL, Connection, create_engine, event, make_url, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InvalidatePoolError

from servease_appt.db.deadlines import WatchedConnection, WatchedCursor
from servease_appt.db.errors import OUT_OF_DATE, DatabaseUnavailable, unavailable
from servease_appt.db.versions import VERSION_TABLE, VERSIONS

CONNECT_TIMEOUT_S: Final = 2
POOL_TIMEOUT_S: Final = 5
SESSION_SETTINGS: Final = {
    "statement_timeout": "3000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "5000",
    "timezone": "UTC",
    "datestyle": "ISO",
    "jit": "off",
}
"""In milliseconds where a number. No request waits longer for PostgreSQL than its client would, and no statement
here runs long enough to earn back what compiling it costs."""

_ALL_TABLES: Final = text("SELECT 1 FROM appointments, idempotency_keys LIMIT 1")
_VERSION: Final = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a name of our own


class Database:
    """A pool of connections; thread-safe, and safe to use on both sides of a fork."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """No connection is made before it is needed.

        Args:
            url: `postgresql://…`, whatever driver it names
            pool_size: connections at most; further threads wait for one, `POOL_TIMEOUT_S` at most.
        """
        parsed = psycopg2_url(url)
        self._engine = create_engine(
            parsed,
            # Each switch is a round trip: the reads, which are many, get connections as they are.
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": _options(parsed),
                "connection_factory": WatchedConnection,
                "cursor_factory": WatchedCursor,
            },
        )
        self._writer = self._engine.execution_options(isolation_level="READ COMMITTED")
        event.listen(self._engine, "checkout", _refuse_if_lost)
        _leave_to_parent_after_fork(self._engine)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One READ COMMITTED transaction: committed at the end, rolled back on any exception.

        Raises:
            DatabaseUnavailable: also out of the commit, and then it is unknown whether it took place.
        """
        with unavailable(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which each statement stands alone. Raises `DatabaseUnavailable`."""
        with unavailable(), self._engine.connect() as connection:
            yield connection

    def ping(self) -> None:
        """Return when PostgreSQL answers and has the tables of this version, or of a newer one.

        Raises:
            DatabaseUnavailable: it does not.
        """
        with self.reading() as connection:
            connection.execute(_ALL_TABLES)
            if connection.execute(_VERSION).scalar() in (None, *VERSIONS[:-1]):
                raise DatabaseUnavailable(OUT_OF_DATE)

    def close(self) -> None:
        """Close all idle connections; may be called twice."""
        self._engine.dispose()


def psycopg2_url(url: str) -> URL:
    """The URL with the driver that this service uses; SQLAlchemy would take plain `postgresql` for another."""
    return make_url(url).set(drivername="postgresql+psycopg2")


def _options(url: URL) -> str:
    """The command-line options of the session: ours first, so that those in the URL win."""
    ours = " ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items())
    given = url.query.get("options", "")
    return f"{ours} {given if isinstance(given, str) else ' '.join(given)}".strip()


def _refuse_if_lost(dbapi_connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool make new connections when PostgreSQL has closed this one meanwhile.

    An idle connection has nothing to read until the server ends it, so a look at the socket tells what otherwise
    takes a round trip before every use. Where there is something to read, PostgreSQL is asked.
    """
    try:
        news = select.poll()
        news.register(dbapi_connection.fileno(), select.POLLIN)
        if news.poll(0):
            with dbapi_connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        raise InvalidatePoolError from error


def _leave_to_parent_after_fork(engine: Engine) -> None:
    """A child must not talk over its parent's sockets, nor close them: it starts with an empty pool."""
    reference = weakref.ref(engine)

    def forget() -> None:
        inherited = reference()
        if inherited is not None:
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)
