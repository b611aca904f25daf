"""Upgrade a database to the tables of this version and downgrade it, while services write to it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from servease_appt.db import kept_counts
from servease_appt.db.connections import NO_LIMITS, connector, psycopg2_url
from servease_appt.db.errors import Cause, DatabaseUnavailable, UpgradeRefused, hide_rows, unavailable
from servease_appt.db.migrations import removal
from servease_appt.db.migrations.versions import v1_platform_tables
from servease_appt.db.online import OnlineSteps
from servease_appt.db.versions import VERSION_TABLE, VERSIONS
from servease_appt.db.violations import Violation, violations

_ONE_AT_A_TIME: Final = text(
    "SELECT pg_try_advisory_xact_lock(hashtextextended('servease_appt.db.migrate', 0))"
)
_LOOK_AGAIN_S: Final = 0.2
_EXEMPTIONS: Final = text(
    "SELECT conname, obj_description(oid, 'pg_constraint') FROM pg_constraint"
    " WHERE conrelid IN (to_regclass('appointments'), to_regclass('time_slots'),"
    " to_regclass('appointment_employee_times'))"
    " AND obj_description(oid, 'pg_constraint') LIKE 'does not bind %' ORDER BY conname"
)


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """The result of an upgrade.

    Attributes:
        before: the version found; None: none.
        after: the version now.
        exemptions: pairs of a constraint's name and the rows that it does not bind.
        violations: every row that breaks a rule; rows are reported, never changed.
        repaired: the number of wrong kept counts that were repaired; 0 in a first upgrade.
    """

    before: str | None
    after: str | None
    exemptions: tuple[tuple[str, str], ...]
    violations: tuple[Violation, ...]
    repaired: int = 0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of `check`.

    Attributes:
        found: the version of the database; None: none.
        needed: the version that this code needs.
        missing: the statements that an upgrade would run, one line for each.
        wrong_counts: the number of kept counts that differ from the rows; None: there are no such tables.
    """

    found: str | None
    needed: str | None
    missing: tuple[str, ...]
    wrong_counts: int | None


def upgrade(
    url: str, default_capacity: int = 3, progress: Callable[[str], None] = lambda _text: None
) -> UpgradeReport:
    """Run the missing steps while others read and write. Of several upgrades, one runs and the others wait.

    Each step is a separate transaction (see `servease_appt.db.online`). The next upgrade continues one that was
    interrupted.

    Args:
        url: `postgresql://…` with any driver name.
        default_capacity: the capacity that the report assumes where no slot is defined.
        progress: called with a line for the operator when a step has to wait.

    Raises:
        UpgradeRefused: tables of the same name are not those of the platform; nothing was changed.
        LockNotAvailable: other sessions held a lock too long; earlier steps stay.
        DatabaseUnavailable: PostgreSQL can't be used.
    """
    with only_upgrade(url), connected(url) as connection:
        before = _version(connection)
        if before is None or before in VERSIONS:
            _run(connection, OnlineSteps(connection, progress=progress))
        after = _version(connection)
        wrong = repair(connection)
        return UpgradeReport(
            before=before,
            after=after,
            exemptions=tuple((name, note) for name, note in connection.execute(_EXEMPTIONS)),
            violations=tuple(violations(connection, default_capacity)),
            repaired=wrong if before == after else 0,
        )


def plan(url: str) -> list[str]:
    """Return the statements that an upgrade would send, one line for each, and change nothing.

    Raises:
        UpgradeRefused: an upgrade would be refused.
        DatabaseUnavailable: PostgreSQL can't be used.
    """
    with connected(url) as connection:
        version = _version(connection)
        return _missing(connection) if version is None or version in VERSIONS else []


def check(url: str) -> CheckReport:
    """Compare the database with the needs of this code, independent of its version number. Changes nothing.

    Raises:
        UpgradeRefused: tables of the same name are not those of the platform.
        DatabaseUnavailable: PostgreSQL can't be used.
    """
    with connected(url) as connection:
        steps = OnlineSteps(connection, dry_run=True)
        has_counts = steps.exists("appointment_counts") and steps.exists("appointment_count_changes")
        return CheckReport(
            found=_version(connection),
            needed=VERSIONS[-1],
            missing=tuple(_missing(connection)),
            wrong_counts=kept_counts.differences(connection) if has_counts else None,
        )


def repair_counts(url: str) -> int:
    """Repair the kept counts while others write. Returns how many were wrong. Raises `DatabaseUnavailable`."""
    with connected(url) as connection:
        return repair(connection)


def downgrade(url: str, progress: Callable[[str], None] = lambda _text: None) -> None:
    """Drop everything that upgrades have made, except the platform's tables, while others read and write.

    No row or column of `appointments`, `time_slots` or `appointment_history` is lost. The answers stored for
    `Idempotency-Key` are lost.

    Raises:
        LockNotAvailable: other sessions held a lock too long; earlier steps stay.
        DatabaseUnavailable: PostgreSQL can't be used.
    """
    with only_upgrade(url), connected(url) as connection:
        removal.run(OnlineSteps(connection, progress=progress))


def current(url: str) -> tuple[str | None, str | None]:
    """Return the version of the database (None: none) and the version that this code needs.

    Raises:
        DatabaseUnavailable: PostgreSQL can't be used.
    """
    with connected(url) as connection:
        return _version(connection), VERSIONS[-1]


def repair(connection: Connection) -> int:
    """Repair the kept counts on a connection of this module; see `kept_counts.repair`."""
    driver = connection.connection.dbapi_connection
    assert driver is not None  # noqa: S101 - the connection is open
    driver.settings = ""
    try:
        connection.exec_driver_sql(driver.begin)
        repaired = kept_counts.repair(connection)
        connection.exec_driver_sql("COMMIT")
    finally:
        driver.settings = driver.outside
    return repaired


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Provide a connection in autocommit mode, without time limits, which raises an upgrade's errors."""
    try:
        with unavailable(), _engine(url).connect() as connection:
            yield connection
    except DatabaseUnavailable as error:
        # The message for requests is "run an upgrade", which is wrong here.
        if error.cause is Cause.TABLES:
            raise UpgradeRefused(f"PostgreSQL refuses a step: {error.detail}") from error
        raise
    except DBAPIError as error:
        raise UpgradeRefused(f"PostgreSQL refuses a step: {error.orig}") from error


@contextmanager
def only_upgrade(url: str) -> Iterator[None]:
    """Hold the lock of upgrades, on a separate connection.

    The lock belongs to a transaction, since a pooler in transaction mode supports no session locks. It is polled:
    the creation of an index would wait for the end of a statement that waits for the lock.
    """
    with connected(url) as connection:
        while True:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED")
            if connection.execute(_ONE_AT_A_TIME).scalar():
                break
            connection.exec_driver_sql("ROLLBACK")
            time.sleep(_LOOK_AGAIN_S)
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.exec_driver_sql("ROLLBACK")


def _engine(url: str) -> Engine:
    parsed = psycopg2_url(url)
    engine = create_engine(
        parsed,
        creator=connector(parsed, NO_LIMITS, NO_LIMITS),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        pool_reset_on_return=None,
        hide_parameters=True,
        use_native_hstore=False,
    )
    event.listen(engine, "handle_error", hide_rows)
    return engine


def _run(connection: Connection, steps: OnlineSteps) -> None:
    """Run every step of every version; each step checks if it is done already.

    So an interrupted upgrade, and an index or trigger dropped since, make no difference.
    """
    v1_platform_tables.refuse_unknown_tables(OnlineSteps(connection, dry_run=True))
    scripts = _scripts()
    for script in reversed(list(scripts.iterate_revisions("heads", "base"))):
        script.module.upgrade(steps)
    if not steps.dry_run:
        _context(connection).stamp(scripts, "heads")


def _missing(connection: Connection) -> list[str]:
    steps = OnlineSteps(connection, dry_run=True)
    _run(connection, steps)
    return steps.planned


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "servease_appt.db:migrations")
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def _version(connection: Connection) -> str | None:
    return _context(connection).get_current_revision()


def _context(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
