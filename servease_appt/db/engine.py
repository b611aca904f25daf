"""Connections to PostgreSQL, and the one place where its failures become `DatabaseUnavailable`."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection


class Database:
    """A pool of connections; thread-safe, and safe to use on both sides of a fork."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """No connection is made before it is needed.

        Args:
            url: `postgresql+psycopg2://…`
            pool_size: connections at most; further threads wait for one.
        """
        raise NotImplementedError

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One READ COMMITTED transaction: committed at the end, rolled back on any exception.

        Raises:
            DatabaseUnavailable: also out of the commit.
        """
        raise NotImplementedError
        yield

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which each statement stands alone. Raises `DatabaseUnavailable`."""
        raise NotImplementedError
        yield

    def ping(self) -> None:
        """Return when PostgreSQL answers and the tables are there, else raise `DatabaseUnavailable`."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all idle connections; may be called twice."""
        raise NotImplementedError
