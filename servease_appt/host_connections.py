"""A host's own connections to PostgreSQL and Redis: checked, used, and never closed by the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

from redis import Redis
from redis.connection import SSLConnection, UnixDomainSocketConnection
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from servease_appt.cache.redis_client import check_client
from servease_appt.db.connections import TRANSACTION_SETTINGS
from servease_appt.db.engine import Database
from servease_appt.db.errors import cut_to_primary, unavailable

_DRIVER: Final = "psycopg2"
_SSL_OPTIONS: Final = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
_SETTINGS: Final = TRANSACTION_SETTINGS | {"timezone": "UTC", "datestyle": "ISO"}
_FOR_THIS_TRANSACTION: Final = text(
    "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items())
)


class HostDatabase(Database):
    """The service's transactions on the connections of a host's engine. Thread-safe, as the engine is.

    Time limits, time zone and date style are set for each transaction and end with it: the host's next user of the
    connection finds it as it was. How long a thread waits for a connection is the engine's own setting.
    """

    def __init__(self, engine: Engine) -> None:
        """Use `engine`, which stays the host's to dispose of.

        Raises:
            ValueError: it is no engine for PostgreSQL over psycopg2.
        """
        if (engine.dialect.name, engine.dialect.driver) != ("postgresql", _DRIVER):
            raise ValueError(
                f"engine= is for {engine.dialect.name}+{engine.dialect.driver}: it must be postgresql+psycopg2"
            )
        self._engine = engine.execution_options(isolation_level="READ COMMITTED")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open one READ COMMITTED transaction: committed at the end, rolled back on any exception.

        Raises:
            DatabaseUnavailable: also out of the commit, and then it is unknown whether it took place.
        """
        with unavailable(), _rows_hidden(), self._engine.begin() as connection:
            connection.execute(_FOR_THIS_TRANSACTION)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection to read from; each statement sees what was committed before it.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        with unavailable(), _rows_hidden(), self._engine.connect() as connection:
            connection.execute(_FOR_THIS_TRANSACTION)
            yield connection

    def close(self) -> None:
        """Leave the engine alone."""


@contextmanager
def _rows_hidden() -> Iterator[None]:
    """Keep rows and parameters out of an error's text. A listener for errors would hear of the host's, too."""
    try:
        yield
    except DBAPIError as error:
        error.hide_parameters = True
        if error.orig is not None:
            cut_to_primary(error.orig, error)
        raise


def engine_url(engine: Engine) -> str:
    """Return the URL of a host's engine, with its password, for commands that connect by themselves."""
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def shared_client(client: Redis) -> Redis:
    """Return a client on the pool of a host's client, which stays the host's to close.

    Raises:
        ValueError: it was made with `decode_responses=True` or `protocol=2`.
        TypeError: it is no `redis.Redis`.
    """
    if not isinstance(client, Redis):
        raise TypeError(f"redis= is a {type(client).__name__}: it must be a redis.Redis")
    check_client(client)
    return Redis(connection_pool=client.connection_pool)


def client_url(client: Redis) -> str | None:
    """Return the URL of a host's client, for commands that connect by themselves.

    None for a client that goes through Sentinel: only `SERVEASE_REDIS_URL` can say where the sentinels are.
    """
    pool = client.connection_pool
    options: dict[str, Any] = pool.connection_kwargs
    credentials = _credentials(options)
    database = options.get("db") or 0
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        return f"unix://{credentials}{options['path']}?db={database}"
    if "host" not in options:
        return None
    place = f"{credentials}{_bracketed(options['host'])}:{options.get('port', 6379)}/{database}"
    if not issubclass(pool.connection_class, SSLConnection):
        return f"redis://{place}"
    ssl = {name: options[name] for name in _SSL_OPTIONS if options.get(name) is not None}
    return f"rediss://{place}?{urlencode(ssl)}"


def _credentials(options: dict[str, Any]) -> str:
    user, password = options.get("username") or "", options.get("password") or ""
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
