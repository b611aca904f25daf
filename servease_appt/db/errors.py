"""The one error that PostgreSQL's absence becomes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import exc

RETRY_AFTER_S: Final = 2
OUT_OF_DATE: Final = "the tables are out of date: run `flask --app wsgi db upgrade`"

_MEANINGS: Final = {
    "25006": "PostgreSQL is read-only",
    "42P01": "the tables are missing: run `flask --app wsgi db upgrade`",
    "42703": OUT_OF_DATE,
    "42883": OUT_OF_DATE,
    "42501": "PostgreSQL denies this service a right that it needs",
    "40P01": "PostgreSQL broke a deadlock",
    "53100": "PostgreSQL's disk is full",
    "53300": "PostgreSQL has no connection left",
    "55P03": "PostgreSQL is busy: a lock took too long",
    "57014": "PostgreSQL is busy: a statement took too long",
    "57P01": "PostgreSQL is shutting down",
}
"""By SQLSTATE, what an operator should read."""


class DatabaseUnavailable(Exception):
    """PostgreSQL is away, too slow, full, read-only, or has not been migrated.

    Attributes:
        retry_after_s: whole seconds after which asking again makes sense.
    """

    def __init__(self, message: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def sqlstate(error: exc.DBAPIError) -> str | None:
    """The five characters by which PostgreSQL says what is wrong; None where it could say nothing."""
    code = getattr(error.orig, "pgcode", None)
    return code if isinstance(code, str) else None


class UpgradeRefused(Exception):
    """The database holds tables of our names that this service can't work with. The text names what differs."""


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn what the driver and the pool say of PostgreSQL's state into `DatabaseUnavailable`.

    A violated constraint and a value that it can't take pass through: they say nothing of its state.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise DatabaseUnavailable("no connection to PostgreSQL came free in time") from error
    except exc.DBAPIError as error:
        state = sqlstate(error)
        away = error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError)
        if not away and state not in _MEANINGS:
            raise
        raise DatabaseUnavailable(_MEANINGS.get(state or "", "PostgreSQL can't be reached")) from error
