"""The error for every failure to reach or use PostgreSQL, with its cause."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

import psycopg2
from sqlalchemy import exc
from sqlalchemy.engine import ExceptionContext

RETRY_AFTER_S: Final = 2
_UPGRADE: Final = "run `flask --app wsgi db upgrade`"
OUT_OF_DATE: Final = f"the tables are out of date: {_UPGRADE}"


class Cause(StrEnum):
    """The cause for which PostgreSQL can't be used, as logged for operators."""

    UNREACHABLE = "unreachable"
    DEADLINE = "deadline"
    POOL = "pool exhausted"
    POOLER = "pooler"
    LOGIN = "login"
    RIGHTS = "rights"
    TABLES = "tables"
    BUSY = "busy"
    CONNECTIONS = "no connection left"
    READ_ONLY = "read-only"
    DISK = "disk full"
    STOPPING = "shutting down"


_MEANINGS: Final = {
    "25006": (Cause.READ_ONLY, "PostgreSQL is read-only"),
    "42P01": (Cause.TABLES, f"the tables are missing: {_UPGRADE}"),
    "42703": (Cause.TABLES, OUT_OF_DATE),
    "42883": (Cause.TABLES, OUT_OF_DATE),
    "42501": (Cause.RIGHTS, "PostgreSQL denies this service a right that it needs"),
    "40001": (Cause.BUSY, "PostgreSQL ended a transaction that conflicts with another"),
    "40P01": (Cause.BUSY, "PostgreSQL broke a deadlock"),
    "53100": (Cause.DISK, "PostgreSQL's disk is full"),
    "53300": (Cause.CONNECTIONS, "PostgreSQL has no connection left"),
    "55P03": (Cause.BUSY, "PostgreSQL is busy: a lock took too long"),
    "57014": (Cause.BUSY, "PostgreSQL is busy: a statement took too long"),
    "57P01": (Cause.STOPPING, "PostgreSQL is shutting down"),
    "57P03": (Cause.STOPPING, "PostgreSQL is starting or shutting down"),
}
"""Cause and message for operators, by SQLSTATE."""

_REFUSALS: Final = {
    "unsupported startup parameter": (
        Cause.POOLER,
        "the connection pooler refuses the `options` in DATABASE_URL: leave them out",
    ),
    "authentication failed": (Cause.LOGIN, "PostgreSQL refuses the user or the password"),
    "no password supplied": (Cause.LOGIN, "PostgreSQL wants a password, and none is set"),
    "pg_hba.conf": (Cause.LOGIN, "PostgreSQL refuses this user or host"),
    'role "': (Cause.LOGIN, "PostgreSQL does not know the user"),
    'database "': (Cause.LOGIN, "PostgreSQL does not have this database"),
    "too many": (Cause.CONNECTIONS, "PostgreSQL has no connection left"),
    "no more connections allowed": (Cause.CONNECTIONS, "the connection pooler has no connection left"),
    "starting up": (Cause.STOPPING, "PostgreSQL is starting or shutting down"),
    "shutting down": (Cause.STOPPING, "PostgreSQL is starting or shutting down"),
    "query_wait_timeout": (Cause.POOLER, "the connection pooler found no free connection in time"),
    "pgbouncer cannot connect": (Cause.POOLER, "the connection pooler can't reach PostgreSQL"),
    "server login has been failing": (Cause.POOLER, "the connection pooler can't reach PostgreSQL"),
}
"""Cause and message by part of the error's text: the driver gives no SQLSTATE for a refused connection."""


_LOST_TWICE: Final = "This connection is closed"
"""The pool's message when a connection and its replacement are lost on check-out."""


class DatabaseUnavailable(Exception):
    """PostgreSQL can't be reached, is too slow, full, read-only, denies a right, or has not been migrated.

    Attributes:
        cause: the cause; failures of the same cause share a log line.
        detail: PostgreSQL's primary message, or "". It never contains values of a row.
        retry_after_s: whole seconds after which a retry is reasonable.
    """

    def __init__(
        self,
        message: str,
        *,
        cause: Cause = Cause.UNREACHABLE,
        detail: str = "",
        retry_after_s: int = RETRY_AFTER_S,
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.detail = detail
        self.retry_after_s = retry_after_s


class UpgradeRefused(Exception):
    """An upgrade can't work with the database's tables or rows. The text names what differs, in one line."""


class LockNotAvailable(Exception):
    """Other sessions held a lock of an upgrade's step too long. The text names them; earlier steps stay."""


def sqlstate(error: exc.DBAPIError) -> str | None:
    """Return PostgreSQL's SQLSTATE, five characters; None if it sent none."""
    return _code(error.orig)


@contextmanager
def unavailable() -> Iterator[None]:
    """Convert errors of the driver and the pool about PostgreSQL's state to `DatabaseUnavailable`.

    A violated constraint and an invalid value pass through: they are no sign of PostgreSQL's state.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise DatabaseUnavailable(
            "no connection to PostgreSQL came free in time", cause=Cause.POOL
        ) from error
    except exc.DBAPIError as error:
        if not _says_unavailable(error.orig, disconnected=error.connection_invalidated):
            raise
        raise _meaning(error.orig) from error
    except exc.InvalidRequestError as error:
        if str(error) != _LOST_TWICE:
            raise
        raise DatabaseUnavailable("PostgreSQL ends every connection at once") from error


def hide_rows(context: ExceptionContext) -> None:
    """Reduce an error's text to PostgreSQL's primary message, as SQLAlchemy's `handle_error` listener.

    PostgreSQL's additions (DETAIL, CONTEXT, the line of the statement) contain whole rows, with notes of
    customers, and the text of an unexpected error is logged.
    """
    cut_to_primary(context.original_exception, context.sqlalchemy_exception)


def cut_to_primary(original: BaseException, wrapped: exc.StatementError | None) -> None:
    """Reduce the texts of a driver's error and of SQLAlchemy's wrapper to PostgreSQL's primary message."""
    primary = _primary(original)
    if not primary:
        return
    original.args = (primary,)
    if wrapped is not None:
        wrapped.args = (f"({type(original).__name__}) {primary}",)


def _says_unavailable(error: object, *, disconnected: bool) -> bool:
    lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    # The driver reports a protocol error as a plain DatabaseError without a SQLSTATE.
    nameless = type(error) is psycopg2.DatabaseError and _code(error) is None
    return disconnected or lost or nameless or _code(error) in _MEANINGS


def _meaning(error: Any) -> DatabaseUnavailable:
    text = _primary(error) or str(error).strip().split("\n")[0]
    cause, message = _MEANINGS.get(_code(error) or "", (None, ""))
    if cause is None:
        found = (meaning for part, meaning in _REFUSALS.items() if part in str(error))
        cause, message = next(found, (Cause.UNREACHABLE, "PostgreSQL can't be reached"))
    return DatabaseUnavailable(message, cause=cause, detail=text)


def _code(error: object) -> str | None:
    code = getattr(error, "pgcode", None)
    return code if isinstance(code, str) else None


def _primary(error: object) -> str:
    diagnostics = getattr(error, "diag", None)
    return getattr(diagnostics, "message_primary", None) or ""
