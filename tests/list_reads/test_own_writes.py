"""Marks of who has written, in a Redis that loses some of its keys and keeps the others."""

from collections.abc import Iterator

import pytest
import redis

from servease_appt.cache import connect
from servease_appt.list_reads.own_writes import LastWrite, OwnWrites
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

ALICE = "alice"
SHORT_S, LONG_S = 0.01, 60.0
LIMIT_S = 10.0


@pytest.fixture
def server() -> Iterator[EmbeddedValkey]:
    """Provide a server of the test's own, which knows that it has lost nothing."""
    with EmbeddedValkey(options=["--repl-diskless-sync-delay", "0"]) as started:
        _let_it_know(started)
        yield started


def _let_it_know(server: EmbeddedValkey) -> None:
    with connect(server.url(), timeout_s=LIMIT_S) as client:
        worker = OwnWrites(client, "test", SHORT_S)
        assert wait_until(lambda: worker.last_write(ALICE) is LastWrite.LONG_AGO, timeout_s=LIMIT_S)


def _last_write(server: EmbeddedValkey) -> LastWrite:
    with connect(server.url(), timeout_s=LIMIT_S) as client:
        return OwnWrites(client, "test", LONG_S).last_write(ALICE)


def _mark(server: EmbeddedValkey) -> None:
    with connect(server.url(), timeout_s=LIMIT_S) as client:
        assert OwnWrites(client, "test", LONG_S).mark(ALICE)


def test_a_restart_from_an_older_snapshot_knows_nothing(server: EmbeddedValkey) -> None:
    """It has the key that says that nothing was lost, and not the mark."""
    with redis.Redis.from_url(server.url()) as client:
        client.save()
    _mark(server)
    server.restart()
    assert _last_write(server) is LastWrite.UNKNOWN


def test_a_promoted_replica_knows_nothing(server: EmbeddedValkey) -> None:
    """It may lack a mark that the old primary took."""
    options = ["--replicaof", "127.0.0.1", str(server.port)]
    with EmbeddedValkey(options=options) as replica, redis.Redis.from_url(replica.url()) as client:
        assert wait_until(lambda: client.info("replication")["master_link_status"] == "up", timeout_s=LIMIT_S)
        _let_it_know(server)  # its history has begun anew with the first replica
        with redis.Redis.from_url(server.url()) as primary:
            primary.wait(1, int(LIMIT_S * 1000))
        client.replicaof("NO", "ONE")
        _mark(server)
        assert _last_write(replica) is LastWrite.UNKNOWN
