"""A failure of PostgreSQL has a cause, which is logged once a minute, and no row's values get out with it."""

import logging
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from servease_appt.db import engine as engine_module
from servease_appt.db.connections import psycopg2_url
from servease_appt.db.engine import Database
from servease_appt.db.errors import Cause, DatabaseUnavailable
from servease_appt.db.failure_log import LOG_EVERY_S, FailureLog
from servease_appt.db.versions import VERSION_TABLE
from servease_appt.testing.servers import free_port


@pytest.fixture
def database(migrated_postgres_url: str) -> Iterator[Database]:
    database = Database(migrated_postgres_url)
    yield database
    database.close()


@pytest.fixture
def admin(migrated_postgres_url: str) -> Iterator[Engine]:
    """The superuser's own connection."""
    engine = create_engine(
        psycopg2_url(migrated_postgres_url), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    yield engine
    engine.dispose()


@pytest.fixture
def limited_role(admin: Engine) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = "may_nothing"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP ROLE IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    yield name
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


def cause_of(use: Callable[[], object]) -> Cause:
    with pytest.raises(DatabaseUnavailable) as caught:
        use()
    return caught.value.cause


def test_the_causes(
    database: Database,
    admin: Engine,
    limited_role: str,
    migrated_postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is told from the others, also where the connection itself is refused."""
    url = make_url(migrated_postgres_url)

    def ping(**changes: object) -> Callable[[], None]:
        other = Database(url.set(**changes).render_as_string(hide_password=False))  # type: ignore[arg-type]
        return other.ping

    assert cause_of(ping(username=limited_role, password="x")) is Cause.RIGHTS
    assert cause_of(ping(password="wrong")) is Cause.LOGIN
    assert cause_of(ping(database="no_such_database")) is Cause.LOGIN
    assert cause_of(ping(port=free_port())) is Cause.UNREACHABLE
    assert cause_of(ping(query={"host": [f"127.0.0.1:{free_port()}"] * 2}, host=None)) is Cause.UNREACHABLE

    monkeypatch.setattr(engine_module, "POOL_TIMEOUT_S", 0.1)
    small = Database(migrated_postgres_url, pool_size=1)
    with small.reading():
        assert cause_of(small.ping) is Cause.POOL
    small.close()

    with admin.connect() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = 'v1'"))  # noqa: S608
        assert cause_of(database.ping) is Cause.TABLES
        connection.exec_driver_sql("DROP TABLE idempotency_keys")
        assert cause_of(database.ping) is Cause.TABLES


def test_ready_needs_the_rights_and_reads_no_row(database: Database, admin: Engine) -> None:
    """Its cost does not grow with the tables; a plan that scans one is the failure."""
    plan: list[str] = []
    with database.reading() as connection:
        explained = connection.execute(text(f"EXPLAIN {engine_module._READY}"))
        plan += [line for (line,) in explained]
    scanned = [line for line in plan if "Scan on" in line and VERSION_TABLE not in line]
    assert scanned == []


def test_one_line_for_each_cause_and_minute(caplog: pytest.LogCaptureFixture) -> None:
    """With what PostgreSQL says, and how many had no line of their own."""
    now_s = 50.0
    failures = FailureLog(lambda: now_s)
    rights = DatabaseUnavailable(
        "PostgreSQL denies a right", cause=Cause.RIGHTS, detail="permission denied for table appointments"
    )

    for _ in range(5):
        failures.note(rights)
    failures.note(DatabaseUnavailable("no connection came free", cause=Cause.POOL))
    now_s += LOG_EVERY_S
    failures.note(rights)

    assert [record.getMessage() for record in caplog.records] == [
        "PostgreSQL unavailable, cause: rights. PostgreSQL denies a right"
        " (permission denied for table appointments)",
        "PostgreSQL unavailable, cause: pool exhausted. no connection came free",
        "PostgreSQL unavailable, cause: rights. PostgreSQL denies a right"
        " (permission denied for table appointments); 4 more since the last line",
    ]


def test_each_use_that_fails_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    """By the database itself, whoever asked it."""
    database = Database(f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/x")

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            cause_of(database.ping)

    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("PostgreSQL unavailable, cause: unreachable. PostgreSQL can't be reached (")
    assert "hunter2" not in line


def test_an_unexpected_error_holds_no_row(database: Database, admin: Engine) -> None:
    """PostgreSQL's DETAIL and the statement hold what a customer wrote; its first line does not."""
    with admin.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE time_slots ADD CONSTRAINT unknown_here CHECK (false)")
    secret = "what the customer said"
    statements = (
        f"INSERT INTO time_slots SELECT gen_random_uuid(), '2030-01-01', '9:00', '10:00', true, 1 -- {secret}",
        f"SELECT '{secret}' = 1::box",
    )
    for statement in statements:
        with pytest.raises(DBAPIError) as caught, database.transaction() as connection:
            connection.execute(text(statement))
        shown = f"{caught.value.args} {caught.value.orig} {caught.value.__cause__!r}"
        assert secret not in shown
        assert "Failing row" not in shown
        assert "DETAIL" not in shown
    with pytest.raises(DBAPIError, match="unknown_here"), database.transaction() as connection:
        connection.execute(text(statements[0]))
