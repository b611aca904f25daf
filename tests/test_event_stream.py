"""Booking events in a Redis stream: in order, at least once, whatever fails between PostgreSQL and Redis."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from servease_appt.app import create_app
from servease_appt.cache import connect
from servease_appt.container import EXTENSION, Container
from servease_appt.db import events
from servease_appt.db.engine import Database
from servease_appt.db.events import Backlog
from servease_appt.event_stream import COOL_DOWN_S, EventStream
from servease_appt.settings import Settings
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.db.platform import appointment, known
from tests.support.dataset import SECRET

KEY = "test:__events"
DIES = """
import os, signal, sys
from servease_appt.cache import connect
from servease_appt.db.engine import Database
from servease_appt.event_stream import EventStream

class Dies(EventStream):
    def add(self, batch):
        super().add(batch)
        os.kill(os.getpid(), signal.SIGKILL)

Dies(Database(sys.argv[1]), connect(sys.argv[2]), prefix="test", maxlen=100).deliver()
"""


@pytest.fixture
def database(migrated_postgres_url: str) -> Iterator[Database]:
    # The service's own deadline is tried elsewhere; a busy machine may need more.
    database = Database(migrated_postgres_url, deadline_s=30.0)
    yield database
    database.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def stream_to(client: Redis, database: Database, maxlen: int = 100, **more: Any) -> EventStream:
    return EventStream(database, client, prefix="test", maxlen=maxlen, **more)


def run(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(text(statement))


def entries(client: Redis) -> list[dict[str, Any]]:
    found: Any = client.xrange(KEY)
    return [fields for _, fields in found]


def numbers(client: Redis) -> list[int]:
    return [int(entry["number"]) for entry in entries(client)]


def test_events_arrive_in_order_and_once(database: Database, client: Redis, redis_url: str) -> None:
    """With everything that a reader needs, as text; a second delivery has nothing to add."""
    left: list[Backlog] = []
    with connect(redis_url) as used:
        stream = stream_to(used, database, on_backlog=left.append)
        run(database, appointment(1), appointment(2))
        stream.deliver()
        run(database, f"DELETE FROM appointments WHERE id = '{known(1)}'")  # noqa: S608
        stream.deliver()
        stream.deliver()

    found = entries(client)
    assert [(entry["event"], entry["appointment_id"]) for entry in found] == [
        ("booked", known(1)),
        ("booked", known(2)),
        ("deleted", known(1)),
    ]
    assert numbers(client) == [1, 2, 3]
    assert set(found[0]) == {"number", "event", "appointment_id", "customer_id", "status", "occurred_at"}
    assert found[0]["customer_id"] == known(1001)
    assert found[0]["occurred_at"].endswith("Z")
    assert left == [Backlog(0, 0.0)] * 3


def test_what_happens_while_redis_is_away_arrives_later(
    database: Database, own_valkey: EmbeddedValkey
) -> None:
    """It is not asked at every turn meanwhile, and the backlog is told."""
    left: list[Backlog] = []
    now_s = 100.0
    with connect(own_valkey.url(1)) as used, Redis.from_url(own_valkey.url(1)) as client:
        stream = stream_to(used, database, on_backlog=left.append, clock=lambda: now_s)
        own_valkey.kill()
        run(database, appointment(1))
        stream.deliver()
        own_valkey.restart()
        stream.deliver()
        assert client.xlen(KEY) == 0
        assert [backlog.events for backlog in left] == [1, 1]
        assert 0 < left[0].oldest_s < 60

        now_s += COOL_DOWN_S
        stream.deliver()

        assert client.xlen(KEY) == 1
        assert left[-1] == Backlog(0, 0.0)


def test_a_worker_killed_before_its_note_makes_duplicates_that_tell(
    database: Database, client: Redis, redis_url: str, migrated_postgres_url: str
) -> None:
    """Nothing is lost; the numbers say what a reader has had."""
    run(database, appointment(1), appointment(2))
    ended = subprocess.run([sys.executable, "-c", DIES, migrated_postgres_url, redis_url], check=False)
    assert ended.returncode == -9
    assert numbers(client) == [1, 2]
    run(database, appointment(3))

    with connect(redis_url) as used:
        stream = stream_to(used, database)

        def delivered() -> bool:
            stream.deliver()
            return numbers(client)[-1] == 3

        # PostgreSQL may need a moment to end the transaction of the killed process.
        assert wait_until(delivered, timeout_s=30)
    assert numbers(client) == [1, 2, 1, 2, 3]


def test_one_worker_delivers_at_a_time(database: Database) -> None:
    """Another one returns at once, so that the order holds and nothing is added twice."""
    run(database, appointment(1))
    events.publish(database)
    passed_on: list[int] = []

    def send(batch: Any) -> None:
        assert events.deliver(database, lambda _: passed_on.append(0)) == 0
        passed_on.extend(event.number for event in batch)

    assert events.deliver(database, send) == 1
    assert events.deliver(database, send) == 0
    assert passed_on == [1]


def test_the_stream_is_bounded(database: Database, client: Redis, redis_url: str) -> None:
    """Old entries go; Redis removes whole blocks of about a hundred."""
    run(database, *(appointment(number) for number in range(1, 301)))
    with connect(redis_url) as used:
        stream_to(used, database, maxlen=10).deliver()

    assert numbers(client)[-1] == 300
    assert client.xlen(KEY) <= 120


@pytest.mark.parametrize("maxlen", ["100", "0"])
def test_a_worker_delivers_by_itself(
    database: Database, client: Redis, redis_url: str, migrated_postgres_url: str, maxlen: str
) -> None:
    """With its heartbeat, and the backlog in the metrics; not if nobody has turned it on."""
    app = create_app(
        Settings.from_mapping(
            {
                "SECRET_KEY": SECRET,
                "DATABASE_URL": migrated_postgres_url,
                "REDIS_URL": redis_url,
                "CACHE_KEY_PREFIX": "test",
                "EVENT_STREAM_MAXLEN": maxlen,
            }
        )
    )
    container: Container = app.extensions[EXTENSION]
    try:
        run(database, appointment(1))
        container.lookups.cache.start()
        if maxlen == "0":
            assert not wait_until(lambda: client.exists(KEY) == 1, timeout_s=1.5)
        else:
            assert wait_until(lambda: client.xlen(KEY) == 1, timeout_s=20)
            told = b'servease_event_backlog_events{stream="events"} 0.0'
            assert wait_until(lambda: told in container.metrics.text(), timeout_s=30)
            assert (
                b'servease_event_backlog_oldest_timestamp_seconds{stream="events"}'
                in container.metrics.text()
            )
    finally:
        container.close()
    assert "postgres-upkeep" not in {thread.name for thread in threading.enumerate()}
