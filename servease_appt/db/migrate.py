"""Bringing a database to the tables of this version: an empty one, an older one, or the platform's."""

from dataclasses import dataclass
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from servease_appt.db.connections import psycopg2_url
from servease_appt.db.errors import unavailable
from servease_appt.db.versions import VERSION_TABLE
from servease_appt.db.violations import Violation, violations

_ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('servease_appt.db.migrate', 0))")
_EXEMPTIONS: Final = text(
    "SELECT conname, obj_description(oid, 'pg_constraint') FROM pg_constraint"
    " WHERE conrelid IN (to_regclass('appointments'), to_regclass('time_slots'))"
    " AND obj_description(oid, 'pg_constraint') LIKE 'does not bind %' ORDER BY conname"
)


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """What an upgrade found and did.

    Attributes:
        before: the version that was found, None for none.
        after: the version now.
        exemptions: constraint name and the rows that it does not bind.
        violations: every row that breaks a rule; they are reported, never changed.
    """

    before: str | None
    after: str | None
    exemptions: tuple[tuple[str, str], ...]
    violations: tuple[Violation, ...]


def upgrade(url: str, default_capacity: int = 3) -> UpgradeReport:
    """Run what is missing, in one transaction; of several at the same time one runs and the others find it done.

    Args:
        url: `postgresql://…`, whatever driver it names
        default_capacity: what the report counts as room where no slot is defined.

    Raises:
        UpgradeRefused: tables of the same name are not those of the platform; nothing was changed.
        DatabaseUnavailable: PostgreSQL is away.
    """
    with unavailable(), _engine(url).begin() as connection:
        connection.execute(_ONE_AT_A_TIME)
        before = _version(connection)
        command.upgrade(_config(connection), "head")
        return UpgradeReport(
            before=before,
            after=_version(connection),
            exemptions=tuple((name, note) for name, note in connection.execute(_EXEMPTIONS)),
            violations=tuple(violations(connection, default_capacity)),
        )


def current(url: str) -> tuple[str | None, str | None]:
    """The version of the database, None for none, and the version that this code needs.

    Raises:
        DatabaseUnavailable: PostgreSQL is away.
    """
    with unavailable(), _engine(url).begin() as connection:
        head = ScriptDirectory.from_config(_config(connection)).get_current_head()
        return _version(connection), head


def _engine(url: str) -> Engine:
    return create_engine(
        psycopg2_url(url), poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": 5}
    )


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "servease_appt.db:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    return config


def _version(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()
