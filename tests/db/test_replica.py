"""Lists from a streaming replica: within the bound, with the user's own writes, and never an error."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

import pytest
import redis
from sqlalchemy import Connection, make_url

from servease_appt.cache import connect
from servease_appt.db import deadlines
from servease_appt.db import replica as replica_module
from servease_appt.db.engine import Database
from servease_appt.db.replica import Replica, ReplicaState
from servease_appt.db.wal_positions import RecentPositions, reachable
from servease_appt.list_reads.lists import FROM_REPLICA, OWN_WRITE, REDIS, ListReads
from servease_appt.list_reads.own_writes import LastWrite, OwnWrites
from servease_appt.testing.fault_proxy import Proxy
from servease_appt.testing.pgbouncer import PROGRAM, EmbeddedPgBouncer
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedPostgres, free_port
from tests.db.replicated import LIMIT_S, Replicated, keep_marks

ALICE, BOB = "alice", "bob"
SHORT_S, LONG_S = 0.3, 5.0
"""Bounds: one to wait for, and one that does not pass within a test."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and deadlines have to be waited for: briefly."""
    monkeypatch.setattr(replica_module, "PAUSE_S", 0.1)
    monkeypatch.setattr(replica_module, "PROBE_EVERY_S", 0.05)


class Worker:
    """The reads of one worker, with where each list came from."""

    def __init__(self, lists: ListReads, replica: Replica, outcomes: list[str]) -> None:
        self.lists = lists
        self.replica = replica
        self._outcomes = outcomes

    def read(self, user: str = BOB, find: Callable[[Connection], Any] | None = None) -> tuple[str, Any]:
        """Return where a list was read, and what it holds: the ids that were written."""
        found = self.lists.read(user, find or written)
        return self._outcomes[-1], found

    def read_replica(self) -> Any:
        """Return the first list that comes from the replica."""
        while (read := self.read())[0] != FROM_REPLICA:
            assert read[0] in {"idle", "unavailable"}, "a moment's lack of processor time, and nothing else"
        return read[1]

    def wait_for(self, outcome: str, user: str = BOB) -> None:
        """Read lists until one has this outcome."""
        assert wait_until(lambda: self.read(user)[0] == outcome, timeout_s=LIMIT_S), self._outcomes[-5:]


def written(connection: Connection) -> object:
    return set(connection.exec_driver_sql("SELECT id FROM written").scalars())


def in_recovery(connection: Connection) -> object:
    return connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()


@pytest.fixture
def worker(servers: Replicated, redis_url: str) -> Iterator[Callable[..., Worker]]:
    """Makes workers. Redis has kept its keys for a long time."""
    keep_marks(redis_url, "test")
    with ExitStack() as to_close:

        def make(
            max_lag_s: float = LONG_S, *, url: str = "", primary: str = "", redis: str = redis_url
        ) -> Worker:
            database = Database(primary or servers.primary.url())
            client = connect(redis)
            replica = Replica(url or servers.replica.url(), database, max_lag_s=max_lag_s)
            outcomes: list[str] = []
            lists = ListReads(
                database, replica, OwnWrites(client, "test", max_lag_s), on_read=outcomes.append
            )
            for close in (database.close, client.close, lists.close):
                to_close.callback(close)
            return Worker(lists, replica, outcomes)

        yield make


def settle(*workers: Worker) -> None:
    for one in workers:
        one.wait_for(FROM_REPLICA)


def write(servers: Replicated) -> str:
    """Commit a row; return its id."""
    row = str(uuid.uuid4())
    servers.on_primary(f"INSERT INTO written VALUES ('{row}')")  # noqa: S608 - an id of our own
    return row


def test_lists_come_from_the_replica(worker: Callable[..., Worker]) -> None:
    """The first ones from the primary, at once: nothing is known of the replica yet."""
    one = worker()
    assert one.read() == ("idle", set())
    settle(one)
    assert one.read(find=in_recovery) == (FROM_REPLICA, True)


def test_an_idle_primary_makes_no_lag(servers: Replicated, worker: Callable[..., Worker]) -> None:
    """After a change of the log's file nothing is written, and the two servers name one place differently."""
    servers.on_primary("SELECT pg_switch_wal()")
    servers.catch_up()
    settle(worker(SHORT_S))


def test_the_place_after_a_page_header_is_the_one_before_it() -> None:
    """Pages have 8 kB; the first of a file has a longer header. A record can end nowhere near."""
    assert [reachable(n) for n in (3 * 8192 + 24, 1 << 24 | 40, 3 * 8192, 3 * 8192 + 48)] == [
        3 * 8192,
        1 << 24,
        3 * 8192,
        3 * 8192 + 48,
    ]


def test_positions_are_forgotten_after_the_bound() -> None:
    """What a replica must have is the oldest position within it."""
    now_s = 100.0
    positions = RecentPositions(1.0, lambda: now_s)
    positions.add(100.0, 7)
    positions.add(100.5, 9)
    assert positions.oldest() == 7
    now_s = 101.2
    assert positions.oldest() == 9
    now_s = 101.6
    assert positions.oldest() is None


def test_nothing_older_than_the_bound_is_read(
    servers: Replicated, worker: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    """From the bound's length after a commit on, every list has it; when the replica has it, it is read again."""
    one = worker(SHORT_S)
    settle(one)
    with servers.replay_paused():
        row = write(servers)
        committed_s = time.monotonic()
        while (began_s := time.monotonic()) < committed_s + 3 * SHORT_S:
            assert row in one.read()[1] or began_s < committed_s + SHORT_S
        one.wait_for("behind")
        assert one.replica.examine()[0] is ReplicaState.BEHIND
    settle(one)
    assert row in one.read()[1]
    logged = [record.message for record in caplog.records if record.name == "servease_appt.db.replica"]
    assert "Lists are read from the primary, the replica is: behind" in logged
    assert logged[-1] == "Lists are read from the replica again"
    assert all(line != following for line, following in pairwise(logged))


def test_a_user_sees_their_own_writes_in_every_worker(
    servers: Replicated, worker: Callable[..., Worker]
) -> None:
    """From the primary until a replica that may be read has them; other users are not affected."""
    one, other = worker(), worker()
    settle(one, other)
    with servers.replay_paused():
        with one.lists.own_write(ALICE):
            row = write(servers)
        outcome, found = other.read(ALICE)
        assert outcome == OWN_WRITE
        assert row in found
        assert row not in other.read_replica()


def test_a_write_that_fails_is_marked_as_well(servers: Replicated, worker: Callable[..., Worker]) -> None:
    """It may have been committed all the same."""
    one = worker()
    settle(one)
    with pytest.raises(KeyError), one.lists.own_write(ALICE):
        raise KeyError
    assert one.read(ALICE)[0] == OWN_WRITE


def test_a_redis_that_lost_its_keys_knows_nothing(
    servers: Replicated, worker: Callable[..., Worker], redis_url: str
) -> None:
    """For as long as a mark lives, everybody's lists are the primary's."""
    one = worker()
    settle(one)
    with servers.replay_paused():
        with one.lists.own_write(ALICE):
            row = write(servers)
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()
        for _ in range(2):
            outcome, found = one.read(ALICE)
            assert outcome == REDIS
            assert row in found


def test_marks_expire(redis_url: str) -> None:
    """A user's after a write, and everybody's after a loss of all keys."""
    with connect(redis_url) as client:
        own_writes = OwnWrites(client, "test", 0.01)
        assert own_writes.last_write(ALICE) is LastWrite.UNKNOWN
        assert own_writes.mark(ALICE)
        assert own_writes.last_write(ALICE) is LastWrite.RECENT
        assert wait_until(lambda: own_writes.last_write(ALICE) is LastWrite.LONG_AGO, timeout_s=LIMIT_S)
        assert own_writes.last_write(BOB) is LastWrite.LONG_AGO


def test_a_redis_that_is_down_marks_nobody(servers: Replicated, worker: Callable[..., Worker]) -> None:
    """So lists are the primary's, and a write waits until the replica has it, for the bound at most."""
    down = f"redis://127.0.0.1:{free_port()}/1"
    one, witness = worker(SHORT_S, redis=down), worker(SHORT_S)
    settle(witness)
    with connect(down) as client:
        assert not OwnWrites(client, "test", SHORT_S).mark(ALICE)
    one.wait_for(REDIS)

    with one.lists.own_write(ALICE):
        row = write(servers)
    assert row in witness.read()[1]

    with servers.replay_paused():
        began_s = time.monotonic()
        with one.lists.own_write(ALICE):
            write(servers)
        assert time.monotonic() - began_s >= SHORT_S


ENDS = {
    "terminated": "SELECT pg_terminate_backend(pg_backend_pid())",
    "recovery conflict": "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$",
    "corrupt": "DO $$ BEGIN RAISE SQLSTATE 'XX001'; END $$",
    "no right": "DO $$ BEGIN RAISE SQLSTATE '42501'; END $$",
    "too slow": "SELECT pg_sleep(10)",
}


@pytest.mark.parametrize("statement", ENDS.values(), ids=ENDS)
def test_a_read_that_fails_there_is_answered_by_the_primary(
    worker: Callable[..., Worker], statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and the replica has a pause."""
    monkeypatch.setattr(replica_module, "DEADLINE_S", 0.3)
    one = worker()
    settle(one)
    monkeypatch.setattr(replica_module, "PAUSE_S", 60.0)

    def find(connection: Connection) -> object:
        if in_recovery(connection):
            connection.exec_driver_sql(statement)
        return in_recovery(connection)

    assert one.read(find=find) == ("unavailable", False)
    assert one.read(find=in_recovery) == ("unavailable", False)


def test_what_the_reader_raises_is_no_failure_of_the_replica(worker: Callable[..., Worker]) -> None:
    """Such as a customer's request for another's list."""
    one = worker()
    settle(one)

    def refuse(_connection: Connection) -> object:
        raise PermissionError

    with pytest.raises(PermissionError):
        one.lists.read(BOB, refuse)
    assert one.read()[0] == FROM_REPLICA


def test_a_replica_that_hangs_takes_its_deadline_once(
    servers: Replicated, worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what waits at that moment: later ones do not try, and find it again when it answers."""
    deadline_s = 0.8
    monkeypatch.setattr(replica_module, "DEADLINE_S", deadline_s)
    with Proxy(servers.replica.port) as between:
        url = make_url(servers.replica.url()).set(port=between.port).render_as_string(hide_password=False)
        one = worker(url=url)
        settle(one)
        between.data.black_hole()
        took_s = []
        for _ in range(30):
            began_s = time.monotonic()
            assert one.read(find=in_recovery) == ("unavailable", False)
            took_s.append(time.monotonic() - began_s)
        assert deadline_s <= took_s[0] < deadlines.DEADLINE_S
        assert sorted(took_s)[-2] < deadline_s
        between.data.heal()
        settle(one)


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (Debian: apt install pgbouncer)")
def test_a_pooler_in_front_of_the_replica(servers: Replicated, worker: Callable[..., Worker]) -> None:
    """The proof comes with the read, so it is of the same server session."""
    with EmbeddedPgBouncer(servers.replica.url()) as bouncer:
        one = worker(url=bouncer.url)
        settle(one)
        with servers.replay_paused():
            row = write(servers)
            assert row not in one.read_replica()


def test_a_forked_child_watches_for_itself(worker: Callable[..., Worker]) -> None:
    """It has none of its parent's threads, and begins as a new worker does."""
    one = worker()
    settle(one)
    child = os.fork()
    if child == 0:
        began_idle = False
        with suppress(BaseException):
            began_idle = one.read()[0] == "idle"
            settle(one)
            os._exit(0 if began_idle else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_replica_that_is_down(servers: Replicated, worker: Callable[..., Worker]) -> None:
    """Lists go on; it is read again when it is back."""
    one = worker()
    settle(one)
    servers.replica.kill()
    try:
        assert {one.read()[0] for _ in range(20)} == {"unavailable"}
    finally:
        servers.replica.restart()
    settle(one)


def test_the_primary_is_no_replica_of_itself(servers: Replicated, worker: Callable[..., Worker]) -> None:
    """A replica that was promoted may lack what others have: the read itself is refused."""
    one = worker(url=servers.primary.url())
    one.wait_for("wrong")
    assert one.replica.examine()[0] is ReplicaState.WRONG

    def refused() -> bool:
        one.replica.state = ReplicaState.OK  # as before the next probe
        return one.read()[0] == "behind"

    assert wait_until(refused, timeout_s=LIMIT_S)


@pytest.mark.parametrize("other", ["server", "database"])
def test_another_server_or_database_is_no_replica(
    servers: Replicated, worker: Callable[..., Worker], postgres: EmbeddedPostgres, other: str
) -> None:
    """Its positions prove nothing, however large."""
    primary = postgres.url() if other == "server" else servers.primary.create_database("other")
    one = worker(primary=primary)
    assert wait_until(lambda: one.read(find=in_recovery)[0] == "wrong", timeout_s=LIMIT_S), one.replica.state
    assert one.read(find=in_recovery) == ("wrong", False)
