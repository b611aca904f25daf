"""Connections to PostgreSQL, and the settings of their statements.

The settings are sent with the statements (`SET LOCAL`, in the same round trip), not with the connection: a pooler
in transaction mode refuses or loses settings of a session, and may run each transaction in another session. An
operator's own `options` are sent in both ways, since PgBouncer may ignore them (`ignore_startup_parameters`).
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, Final

import psycopg2
from psycopg2.extensions import DATE, PYDATETIMETZ, connection, cursor, make_dsn, new_type, register_type
from sqlalchemy import URL, make_url

CONNECT_TIMEOUT_S: Final = 2
_LINK_OPTIONS: Final = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "tcp_user_timeout": 5000,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}
"""The kernel's limits, `tcp_user_timeout` in ms, times in s: they end a dead connection even when it is idle."""

STATEMENT_SETTINGS: Final = {"statement_timeout": "3000", "lock_timeout": "2000", "jit": "off"}
"""Settings of each statement; numbers are ms. No request waits longer for PostgreSQL than its client would, and
no statement here runs long enough for JIT compilation to pay off."""
TRANSACTION_SETTINGS: Final = STATEMENT_SETTINGS | {
    "idle_in_transaction_session_timeout": "5000",
    # The use cases check the rules under their locks, so the trigger for other writers need not.
    "servease.has_checked_rules": "on",
}

_FIRST_MOMENT: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST_MOMENT: Final = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
NO_LIMITS: Final = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}
"""Settings of work outside of requests."""

_GIVEN_OPTION: Final = re.compile(r"(?:-c\s*|--)([\w.-]+)=((?:\\.|[^\s\\])*)")
"""A setting in libpq's `options`, where a backslash comes before a blank or a backslash in a value."""
_SEARCH_PATH: Final = "search_path"
_UTC_NAMES: Final = frozenset({"UTC", "Etc/UTC"})


class Cursor(cursor):  # type: ignore[misc] # psycopg2 has no types
    """A cursor that sends its connection's settings before each statement, in the same message."""

    def execute(self, query: str, arguments: Any = None) -> None:
        """Execute a statement, as the driver's cursor does, with the settings before it."""
        super().execute(self.connection.settings + query, arguments)


class ServiceConnection(connection):  # type: ignore[misc] # psycopg2 has no types
    """A connection in autocommit mode; only explicit statements begin and end transactions.

    Attributes:
        settings: SQL before each statement; "" within a transaction, which has the settings already.
        outside: the value of `settings` outside of a transaction.
        begin: the statement that begins a transaction with its settings.
    """

    settings = ""
    outside = ""
    begin = ""


def connector(
    url: URL,
    statement_settings: dict[str, str] = STATEMENT_SETTINGS,
    transaction_settings: dict[str, str] = TRANSACTION_SETTINGS,
) -> Callable[[], ServiceConnection]:
    """Return a function that makes a connection to `url`.

    Args:
        url: its session options override the settings here, except the time zone; so do its `connect_timeout`,
            `tcp_user_timeout` and `keepalives…`.
        statement_settings: settings of each statement outside of a transaction.
        transaction_settings: settings of a transaction.

    Raises:
        ValueError: libpq does not know an option in `url`.
    """
    dialect: Any = url.get_dialect()()
    arguments, options = dialect.create_connect_args(url)
    dsn = arguments[0] if arguments else ""
    try:
        make_dsn(dsn, **options)
    except psycopg2.ProgrammingError as error:
        raise ValueError(str(error).strip()) from error
    given = _given_settings(str(options.get("options", "")))

    def make() -> ServiceConnection:
        made: ServiceConnection = psycopg2.connect(
            dsn,
            **{**_LINK_OPTIONS, **options},
            connection_factory=ServiceConnection,
            cursor_factory=Cursor,
        )
        made.autocommit = True
        utc = {} if made.get_parameter_status("TimeZone") in _UTC_NAMES else {"timezone": "UTC"}
        made.outside = made.settings = _set_local(utc | statement_settings, given)
        made.begin = f"BEGIN ISOLATION LEVEL READ COMMITTED;{_set_local(utc | transaction_settings, given)}"
        register_type(_DATE, made)
        register_type(_MOMENT, made)
        return made

    return make


def psycopg2_url(url: str) -> URL:
    """Return the URL with the driver of this service; SQLAlchemy may choose another for plain `postgresql`."""
    return make_url(_hosts_apart(url)).set(drivername="postgresql+psycopg2")


def _hosts_apart(url: str) -> str:
    """Convert libpq's list of hosts (`h1:5432,h2:5433`) to SQLAlchemy's: `?host=h1:5432&host=h2:5433`."""
    match = re.fullmatch(r"(\w[\w+]*://)((?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)([^?#]*)(?:\?([^#]*))?", url)
    if match is None:
        return url
    scheme, user, hosts, path, query = match.groups()
    listed = "&".join(f"host={host}" for host in hosts.split(","))
    return f"{scheme}{user}{path}?{listed}{'&' + query if query else ''}"


def _given_settings(options: str) -> dict[str, str]:
    """Return the settings in libpq's `options`, by name."""
    return {
        name.lower().replace("-", "_"): re.sub(r"\\(.)", r"\1", value)
        for name, value in _GIVEN_OPTION.findall(options)
    }


def _set_local(settings: dict[str, str], given: dict[str, str]) -> str:
    """Return the SQL that sets these for one transaction; given values replace all but the time zone."""
    wanted = settings | {
        name: value for name, value in given.items() if name in settings.keys() - {"timezone"}
    }
    if _SEARCH_PATH in given:
        wanted[_SEARCH_PATH] = given[_SEARCH_PATH]
    return "".join(_set(name, value) for name, value in wanted.items())


def _set(name: str, value: str) -> str:
    quoted = value.replace("'", "''")
    if name == _SEARCH_PATH:  # a list, which SET would take for one name if it were quoted
        return f"SELECT set_config('{name}','{quoted}',true);"
    return f"SET LOCAL {name}='{quoted}';"


def _readable_date(text: str | None, row: cursor) -> date | None:
    """Return a date; for a date outside of Python's range, the nearest one in it."""
    try:
        found: date | None = DATE(text, row)
    except ValueError:
        return date.min if str(text).endswith("BC") else date.max
    return found


def _readable_moment(text: str | None, row: cursor) -> datetime | None:
    """Return a time in UTC, for any session time zone; for one outside of Python's range, the nearest in it."""
    try:
        found: datetime | None = PYDATETIMETZ(text, row)
        if found is None or found.tzinfo is UTC:
            return found
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return _FIRST_MOMENT if str(text).endswith("BC") else _LAST_MOMENT


_DATE: Final = new_type((1082,), "DATE", _readable_date)
_MOMENT: Final = new_type((1184,), "TIMESTAMPTZ", _readable_moment)
