"""A PostgreSQL that hangs costs each use of it its deadline at most, and after the first one almost nothing."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg2
import pytest
from sqlalchemy import event, make_url, text

from servease_appt.db import deadlines, engine
from servease_appt.db.connections import STATEMENT_SETTINGS
from servease_appt.db.deadlines import Deadline
from servease_appt.db.engine import Database
from servease_appt.db.errors import Cause, DatabaseUnavailable
from servease_appt.db.hang_breaker import COOL_DOWN_S, TRIAL_S, Admission, HangBreaker
from servease_appt.testing.fault_proxy import Proxy
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedPostgres
from tests.support.processes import descendants

LIMIT_S = 20.0
"""More than any deadline here, less than a reader's patience: what takes longer hangs."""


@pytest.fixture(autouse=True)
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hanging has to be waited for: briefly."""
    monkeypatch.setattr(deadlines, "DEADLINE_S", 0.5)


@pytest.fixture
def proxy(migrated_postgres_url: str) -> Iterator[Proxy]:
    """A network between the service and PostgreSQL."""
    with Proxy(make_url(migrated_postgres_url).port or 0) as between:
        yield between


@pytest.fixture
def database(migrated_postgres_url: str, proxy: Proxy) -> Iterator[Database]:
    """A database that is reached through the proxy, with one idle connection."""
    url = make_url(migrated_postgres_url).set(port=proxy.port)
    database = Database(url.render_as_string(hide_password=False))
    read(database)
    yield database
    database.close()


def read(database: Database) -> None:
    with database.reading() as connection:
        connection.execute(text("SELECT 1"))


def write(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("SELECT 1"))


def failure(use: Callable[[], None]) -> DatabaseUnavailable:
    """What `use` raises; a hang is an assertion that fails, not a test that never ends."""
    raised: list[DatabaseUnavailable] = []

    def run() -> None:
        try:
            use()
        except DatabaseUnavailable as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it hangs"
    assert raised, "nothing was raised"
    return raised[0]


@pytest.mark.parametrize("use", [read, write], ids=["read", "transaction"])
def test_a_link_that_swallows_what_is_sent(
    database: Database, proxy: Proxy, use: Callable[[Database], None]
) -> None:
    """The first round trip already has the deadline: with a transaction that is its BEGIN."""
    proxy.data.black_hole()

    assert failure(lambda: use(database)).cause is Cause.DEADLINE


def test_a_commit_and_a_rollback_have_the_deadline(database: Database, proxy: Proxy) -> None:
    """What ends a transaction is a round trip like any other."""

    def commit() -> None:
        with database.transaction():
            proxy.data.black_hole()

    def roll_back() -> None:
        with suppress(KeyError), database.transaction():
            proxy.data.black_hole()
            raise KeyError

    assert failure(commit).cause is Cause.DEADLINE
    proxy.data.heal()
    read(database)
    thread = threading.Thread(target=roll_back, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it hangs"


def test_the_check_of_an_idle_connection_has_the_deadline(database: Database, proxy: Proxy) -> None:
    """Where there is something to read on it, PostgreSQL is asked: that is a round trip, too."""
    [link] = proxy.links()
    proxy.data.black_hole()
    link.inject(b"S" + (4 + 7).to_bytes(4, "big") + b"a\0b\0c\0\0")

    assert failure(lambda: read(database)).cause is Cause.DEADLINE


def test_a_new_connection_has_the_deadline(database: Database, proxy: Proxy) -> None:
    """Also where the server takes the connection and says nothing."""
    proxy.data.black_hole()

    def two_at_once() -> None:
        with database.reading(), database.reading():
            pass

    assert failure(two_at_once).cause is Cause.DEADLINE


def test_a_connection_that_comes_too_late_is_closed(migrated_postgres_url: str) -> None:
    """The name look-up has no limit of its own: it is left behind, and what comes of it is not kept."""
    go_on, made = threading.Event(), list[psycopg2.extensions.connection]()

    def slow() -> psycopg2.extensions.connection:
        go_on.wait(LIMIT_S)
        made.append(psycopg2.connect(migrated_postgres_url.replace("+psycopg2", "")))
        return made[0]

    with Deadline(0.2) as deadline, pytest.raises(psycopg2.OperationalError):
        deadline.connect(slow)
    go_on.set()

    assert wait_until(lambda: bool(made) and made[0].closed, timeout_s=LIMIT_S)


def test_the_kernels_limits_lie_below(database: Database) -> None:
    """A link without an answer is ended by the kernel, even where the process is not there to do it."""
    with database.reading() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        used = driver.info.dsn_parameters
    assert used["tcp_user_timeout"] == "5000"
    assert (used["keepalives"], used["keepalives_idle"]) == ("1", "10")


def test_after_the_first_hang_uses_fail_at_once(
    database: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only trials ask, one at a time; the first that is answered ends it, on new connections."""
    now = [1000.0]
    database._breaker._clock = lambda: now[0]
    proxy.data.black_hole()
    monkeypatch.setattr(engine, "TRIAL_S", 0.2)
    assert failure(lambda: read(database)).cause is Cause.DEADLINE
    assert failure(lambda: read(database)).cause is Cause.DEADLINE  # the first trial

    connections = len(proxy.links())
    for _ in range(100):
        with pytest.raises(DatabaseUnavailable):
            read(database)
    assert len(proxy.links()) == connections
    proxy.data.heal()
    now[0] += COOL_DOWN_S
    read(database)
    write(database)


def test_a_request_that_goes_on_after_a_hang_stays_within_the_limit(
    database: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next use may be the trial; one after that is refused at once. So two limits are all that it waits."""
    proxy.data.black_hole()
    monkeypatch.setattr(engine, "TRIAL_S", 0.2)
    for _ in range(2):
        assert failure(lambda: write(database)).cause is Cause.DEADLINE
    connections = len(proxy.links())
    assert failure(lambda: write(database)).cause is Cause.DEADLINE
    assert len(proxy.links()) == connections

    monkeypatch.undo()
    assert int(STATEMENT_SETTINGS["statement_timeout"]) / 1000 < deadlines.DEADLINE_S
    assert deadlines.DEADLINE_S + TRIAL_S < 4.8


def test_one_dead_link_refuses_nobody_else(database: Database, proxy: Proxy) -> None:
    """The first trial may start at once, and the server that answers it is used as before."""
    proxy.data.black_hole()
    assert failure(lambda: read(database)).cause is Cause.DEADLINE
    proxy.data.heal()

    read(database)


@contextmanager
def frozen(server: EmbeddedPostgres) -> Iterator[None]:
    """All processes of the server stand still; the kernel still takes connections for it."""
    pids = [server.pid, *descendants(server.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def test_a_frozen_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every use ends in time, those after the first trial at once, and it is used again when it goes on."""
    monkeypatch.setattr(engine, "TRIAL_S", 0.2)
    with EmbeddedPostgres() as server:
        database = Database(server.url())
        read(database)
        with frozen(server):
            for use in (read, write):
                assert failure(lambda use=use: use(database)).cause is Cause.DEADLINE  # type: ignore[misc]
            began_s = time.monotonic()
            refused = 0
            while refused < 10 and time.monotonic() - began_s < LIMIT_S:
                refused += failure(lambda: read(database)).cause is Cause.DEADLINE
            assert time.monotonic() - began_s < LIMIT_S

        def works() -> bool:
            with suppress(DatabaseUnavailable):
                read(database)
                return True
            return False

        assert wait_until(works, timeout_s=LIMIT_S)
        database.close()


@pytest.mark.parametrize("use", [read, write], ids=["read", "transaction"])
def test_a_backend_that_is_ended_just_before_it_is_used(
    database: Database, migrated_postgres_url: str, use: Callable[[Database], None]
) -> None:
    """The look at the idle connection was in time, the end comes after it: unavailable, not an unknown error."""

    def end(driver: psycopg2.extensions.connection, *_: object) -> None:
        with Database(migrated_postgres_url).reading() as other:
            ended = other.execute(text(f"SELECT pg_terminate_backend({driver.get_backend_pid()}, 5000)"))
            assert ended.scalar()

    event.listen(database._engine, "checkout", end)
    try:
        error = failure(lambda: use(database))
    finally:
        event.remove(database._engine, "checkout", end)

    assert error.cause in {Cause.UNREACHABLE, Cause.STOPPING}
    use(database)


def test_connections_that_are_ended_again_and_again(database: Database, migrated_postgres_url: str) -> None:
    """The idle one is lost, and the new one before it is looked at: unavailable as well."""

    def end(driver: psycopg2.extensions.connection, *_: object) -> None:
        with Database(migrated_postgres_url).reading() as other:
            other.execute(text(f"SELECT pg_terminate_backend({driver.get_backend_pid()}, 5000)"))

    event.listen(database._engine, "checkout", end, insert=True)
    try:
        error = failure(lambda: read(database))
    finally:
        event.remove(database._engine, "checkout", end)

    assert error.cause is Cause.UNREACHABLE
    read(database)


def test_a_hang_closes_the_idle_connections(database: Database, proxy: Proxy) -> None:
    """They lead to the server that hangs, too: each would cost a trial."""
    with database.reading(), database.reading(), database.reading():
        pass
    assert len(proxy.links()) == 3
    proxy.data.black_hole()

    assert failure(lambda: read(database)).cause is Cause.DEADLINE

    assert "Connections in pool: 0 " in database._engine.pool.status()


class TestHangBreaker:
    """When it opens, and when it lets a use through."""

    def setup_method(self) -> None:
        self.now_s = 100.0
        self.changes: list[bool] = []
        self.breaker = HangBreaker(self.changes.append, lambda: self.now_s)

    def test_one_trial_at_a_time(self) -> None:
        """The first at once, the next a cool-down after one that failed."""
        assert self.breaker.admit() is Admission.NORMAL
        self.breaker.failed(self.now_s, Admission.NORMAL)
        assert [self.breaker.admit() for _ in range(2)] == [Admission.TRIAL, Admission.REFUSED]
        self.breaker.failed(self.now_s, Admission.TRIAL)
        assert self.breaker.admit() is Admission.REFUSED
        self.now_s += COOL_DOWN_S
        assert self.breaker.admit() is Admission.TRIAL
        self.breaker.succeeded()
        assert self.breaker.admit() is Admission.NORMAL
        assert self.changes == [True, False]

    def test_a_trial_that_never_ends_gives_its_place_up(self) -> None:
        """The thread may have died with it."""
        self.breaker.failed(self.now_s, Admission.NORMAL)
        self.breaker.admit()
        self.now_s += TRIAL_S + COOL_DOWN_S
        assert self.breaker.admit() is Admission.TRIAL

    def test_old_failures_do_not_open_it_again(self) -> None:
        """Those that began before the trial that succeeded waited for the links of before."""
        began_s = self.now_s
        self.now_s += 4
        self.breaker.failed(began_s, Admission.NORMAL)
        self.breaker.admit()
        self.breaker.succeeded()
        self.breaker.failed(began_s + 1, Admission.NORMAL)
        assert not self.breaker.is_open
        self.now_s += 1
        self.breaker.failed(self.now_s, Admission.NORMAL)
        assert self.breaker.is_open
