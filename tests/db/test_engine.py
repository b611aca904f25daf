"""What a connection is like, and what PostgreSQL's failures become."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from threading import Event, Thread

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from servease_appt.db import deadlines, engine
from servease_appt.db.engine import Database
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.db.versions import VERSION_TABLE, VERSIONS
from servease_appt.testing.servers import EmbeddedPostgres, free_port

ADD_A_SLOT = text("INSERT INTO time_slots VALUES (gen_random_uuid(), '2030-01-01', '9:00', '10:00', true, 1)")


@pytest.fixture
def database(migrated_postgres_url: str) -> Iterator[Database]:
    database = Database(migrated_postgres_url, pool_size=2)
    yield database
    database.close()


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server to kill and restart."""
    with EmbeddedPostgres() as server:
        yield server


def value(database: Database, statement: str) -> object:
    with database.reading() as connection:
        return connection.execute(text(statement)).scalar()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("statement_timeout", "3s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("timezone", "UTC"),
    ],
)
def test_the_settings_of_each_statement(database: Database, setting: str, expected: str) -> None:
    """PostgreSQL itself ends what takes too long, in a transaction as well as outside of one."""
    if setting != "idle_in_transaction_session_timeout":
        assert value(database, f"SHOW {setting}") == expected
    with database.transaction() as connection:
        assert connection.execute(text(f"SHOW {setting}")).scalar() == expected


@pytest.mark.parametrize(("setting", "expected"), [("statement_timeout", "9s"), ("lock_timeout", "6s")])
def test_the_limits_of_a_statement_fit_into_a_deadline(
    migrated_postgres_url: str, setting: str, expected: str
) -> None:
    """In a transaction as well as outside of one."""
    database = Database(migrated_postgres_url, deadline_s=10.0)

    assert value(database, f"SHOW {setting}") == expected
    with database.transaction() as connection:
        assert connection.execute(text(f"SHOW {setting}")).scalar() == expected
    database.close()


def test_options_in_the_url_are_kept(migrated_postgres_url: str) -> None:
    """An operator's own session options win over ours."""
    options = "?options=-c%20statement_timeout%3D7s%20-c%20work_mem%3D8MB"
    database = Database(migrated_postgres_url + options)

    assert (value(database, "SHOW statement_timeout"), value(database, "SHOW work_mem")) == ("7s", "8MB")
    assert value(database, "SHOW lock_timeout") == "2s"
    database.close()


def test_a_transaction_sees_what_others_have_committed_meanwhile(database: Database) -> None:
    """READ COMMITTED, whatever the server's default is: each statement has its own view."""
    with database.transaction() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 3000"))
        level = connection.execute(text("SHOW transaction_isolation")).scalar()

    assert level == "read committed"


def test_the_settings_hold_after_a_transaction_too(migrated_postgres_url: str) -> None:
    """Also on a connection whose last transaction failed, on its way or in its COMMIT."""
    database = Database(migrated_postgres_url, pool_size=1)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO late VALUES (1)"
        )
    assert value(database, "SHOW statement_timeout") == "3s"
    for statement in ("SELECT 1/0", "INSERT INTO late VALUES (1)"):
        with pytest.raises(DBAPIError), database.transaction() as connection:
            connection.exec_driver_sql(statement)
        assert value(database, "SHOW statement_timeout") == "3s"
    database.close()


def test_a_transaction_is_kept_or_undone_as_a_whole(database: Database) -> None:
    """Committed at the end, undone by any exception."""

    def change(*, fail: bool) -> None:
        with database.transaction() as connection:
            connection.execute(ADD_A_SLOT)
            if fail:
                raise KeyError

    with pytest.raises(KeyError):
        change(fail=True)
    assert value(database, "SELECT count(*) FROM time_slots") == 0

    change(fail=False)
    assert value(database, "SELECT count(*) FROM time_slots") == 1


def test_nobody_listens() -> None:
    """A refused connection is told at once, without the password in its text."""
    database = Database(f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/x")

    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as caught:
        database.ping()

    assert time.monotonic() - started < 2
    assert caught.value.retry_after_s > 0
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


def test_a_backend_that_is_terminated_within_a_transaction(database: Database) -> None:
    """The transaction ends as unavailable, nothing of it is kept, and the next one works."""

    def be_terminated() -> None:
        with database.transaction() as connection:
            connection.execute(ADD_A_SLOT)
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            value(database, f"SELECT pg_terminate_backend({pid}, 3000)")
            connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        be_terminated()

    assert value(database, "SELECT count(*) FROM time_slots") == 0


def test_a_restarted_server_is_used_without_an_error(own_server: EmbeddedPostgres) -> None:
    """While it is away every use is unavailable; idle connections from before are never used after."""
    database = Database(own_server.url())
    for _ in range(2):
        assert value(database, "SELECT 1") == 1

    own_server.kill()
    with pytest.raises(DatabaseUnavailable):
        value(database, "SELECT 1")
    own_server.restart()
    assert value(database, "SELECT 1") == 1
    own_server.kill()
    own_server.restart()

    assert [value(database, "SELECT 1") for _ in range(4)] == [1, 1, 1, 1]
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL statement_timeout = 20; SELECT pg_sleep(2)",
        "SET LOCAL lock_timeout = 20; SELECT pg_advisory_xact_lock(1)",
        "SET TRANSACTION READ ONLY; DELETE FROM time_slots",
        "SELECT * FROM no_such_table",
        "SELECT no_such_column FROM time_slots",
        "SELECT no_such_function()",
    ],
    ids=["slow", "locked", "read-only", "no table", "no column", "no function"],
)
def test_what_counts_as_unavailable(database: Database, statement: str) -> None:
    """Not only a server that is away: also one that can't do its work at the moment, or was not migrated."""
    with database.transaction() as holder:
        holder.execute(text("SELECT pg_advisory_xact_lock(1)"))
        with pytest.raises(DatabaseUnavailable), database.transaction() as connection:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (
            "INSERT INTO time_slots VALUES (gen_random_uuid(), '2030-01-01', '9:00', '8:00', true, 1)",
            IntegrityError,
        ),
        ("SELECT 'x'::int", DataError),
    ],
)
def test_what_says_nothing_of_the_servers_state_passes_through(
    database: Database, statement: str, error: type[Exception]
) -> None:
    """A violated constraint and a bad value are the caller's to handle."""
    with pytest.raises(error), database.transaction() as connection:
        connection.exec_driver_sql(statement)


def test_a_pool_without_a_free_connection(
    migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting ends as unavailable, and a connection that comes back is given to the next."""
    monkeypatch.setattr(engine, "POOL_TIMEOUT_S", 0.1)
    database = Database(migrated_postgres_url, pool_size=1)

    with database.reading(), pytest.raises(DatabaseUnavailable, match="no connection"):
        value(database, "SELECT 1")

    assert value(database, "SELECT 1") == 1
    database.close()


def test_a_thread_waits_for_a_connection(migrated_postgres_url: str) -> None:
    """More threads than connections is no error."""
    database = Database(migrated_postgres_url, pool_size=1)
    held, seen = Event(), list[object]()

    def wait_for_it() -> None:
        held.wait(10)
        seen.append(value(database, "SELECT 1"))

    waiting = Thread(target=wait_for_it)
    waiting.start()
    with database.reading():
        held.set()
        waiting.join(0.2)
        assert seen == []
    waiting.join(10)

    assert seen == [1]
    database.close()


@pytest.mark.parametrize("in_commit", [False, True])
def test_a_frozen_server_does_not_keep_the_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch, in_commit: bool
) -> None:
    """A backend that neither answers nor ends is given up at the deadline, in a statement and in a commit."""
    monkeypatch.setattr(deadlines, "DEADLINE_S", 0.3)
    frozen: list[int] = []

    def freeze() -> None:
        with database.transaction() as connection:
            frozen.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
            os.kill(frozen[0], signal.SIGSTOP)
            if not in_commit:
                connection.execute(text("SELECT 1"))

    started = time.monotonic()
    try:
        with pytest.raises(DatabaseUnavailable):
            freeze()
        assert time.monotonic() - started < 5
    finally:
        os.kill(frozen[0], signal.SIGCONT)

    assert value(database, "SELECT 1") == 1


def test_after_a_fork_parent_and_child_have_connections_of_their_own(migrated_postgres_url: str) -> None:
    """A child never talks over its parent's socket, and its end does not close it.

    The parent has a thread by then, the one that watches deadlines: `docs/decisions.md` says what holds after such
    a fork.
    """
    script = """
import os, sys
from sqlalchemy import text
from servease_appt.db.engine import Database

def backend():
    with database.reading() as connection:
        return connection.execute(text("SELECT pg_backend_pid()")).scalar()

database = Database(sys.argv[1], pool_size=1)
before = backend()
child = os.fork()
if child == 0:
    other = backend()
    database.close()
    os._exit(0 if other != before else 1)
assert os.waitpid(child, 0)[1] == 0, "the child used its parent's connection"
assert backend() == before, "the parent lost its connection"
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", script, migrated_postgres_url],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_ping(database: Database, postgres_url: str) -> None:
    """Ready means that the tables are there too; it says what to do when they are not, or are older ones."""
    database.ping()

    for version, is_ready in (("v999", True), (VERSIONS[-2], False), (VERSIONS[-1], True)):
        with database.transaction() as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))  # noqa: S608
        if is_ready:
            database.ping()
        else:
            with pytest.raises(DatabaseUnavailable, match=r"out of date.*db upgrade"):
                database.ping()

    empty = Database(postgres_url)
    with pytest.raises(DatabaseUnavailable, match="db upgrade"):
        empty.ping()
    empty.close()
    empty.close()
