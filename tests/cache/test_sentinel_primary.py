"""An invalidation is acknowledged only if the next primary will have it, or the sentinels keep the present one."""

from collections.abc import Iterator

import pytest

from servease_appt.cache import CacheUnavailable
from servease_appt.cache.redis_client import DEFAULT_TIMEOUT_S
from servease_appt.cache.replication import parse
from tests.cache.conftest import Background
from tests.cache.replicated_pair import NamedPrimary, Pair, started_pair
from tests.cache.testbed import (
    CODECS,
    LIMIT_S,
    PREFIX,
    Cache,
    Source,
    Versioned,
    eventually,
    listening,
    monkeypatch,
    settle,
)

K = "customer_1"
V1, V2 = Versioned("1", 1), Versioned("1", 2)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary and a replica, which every test leaves as they were."""
    with started_pair() as pair:
        yield pair


@pytest.fixture
def sentinels(pair: Pair) -> NamedPrimary:
    """They name the primary."""
    return NamedPrimary(pair.primary.port)


@pytest.fixture
def worker(pair: Pair, sentinels: NamedPrimary, source: Source) -> Iterator[Cache]:
    """A worker that listens, with K cached."""
    pair.on_primary.flushdb()
    cache = listening(Cache(sentinels.client(), CODECS, prefix=PREFIX, owns_client=True))
    source.put(K)
    assert cache.get(K, source.load) == V1
    settle(cache)
    try:
        yield cache
    finally:
        cache.close()


def test_a_primary_that_is_cut_off_acknowledges_nothing(
    pair: Pair, sentinels: NamedPrimary, worker: Cache, source: Source
) -> None:
    """Seen to fail: it was acknowledged, and the other hosts showed the old value until the network was whole."""
    pair.replica.pause()
    sentinels.cut_off = True
    with pytest.raises(CacheUnavailable, match="most sentinels can't be reached"):
        worker.invalidate([K])
    pair.replica.resume()
    sentinels.cut_off = False
    eventually(lambda: worker.l1.is_trusted() and not worker._process.recovery.l2_is_old, "the trust")
    worker.invalidate([K])


def test_a_slow_replica_refuses_no_invalidation(
    pair: Pair, sentinels: NamedPrimary, worker: Cache, source: Source
) -> None:
    """The sentinels are asked after the replica did not answer, and keep the primary."""
    pair.replica.pause()
    before = sentinels.looks
    source.put(K)
    worker.invalidate([K])
    assert sentinels.looks > before
    assert worker.get(K, source.load) == V2
    pair.replica.resume()


def test_the_server_ends_its_wait_before_the_client_gives_up(pair: Pair, sentinels: NamedPrimary) -> None:
    """It looks at its next tick only. Seen to fail: with a frozen replica, the two ended at the same moment."""
    tick_ms = 1000 / int(pair.on_primary.config_get("hz")["hz"])
    with sentinels.client(DEFAULT_TIMEOUT_S) as client:
        cache = Cache(client, CODECS, prefix=PREFIX)
        assert cache.l2._wait_ms + tick_ms <= 0.8 * DEFAULT_TIMEOUT_S * 1000  # type: ignore[attr-defined]
        cache.close()


def test_an_invalidation_goes_to_the_new_primary(
    pair: Pair, sentinels: NamedPrimary, worker: Cache, source: Source
) -> None:
    """It was sent to the old one while the replica was promoted, which no worker had noticed yet.

    Seen to fail: K stayed on the new primary until the worker had found out, and had all values deleted there.
    """
    pair.on_primary.execute_command("WAIT", 1, 5000)
    assert pair.on_replica.get(f"{PREFIX}:{K}") is not None
    pair.on_replica.replicaof("NO", "ONE")
    sentinels.port = pair.replica.port
    source.put(K)
    worker.invalidate([K])
    assert pair.on_replica.get(f"{PREFIX}:{K}") is None
    assert worker.get(K, source.load) == V2
    pair.on_replica.replicaof("127.0.0.1", pair.primary.port)
    pair.wait_for_replication()


@pytest.mark.usefixtures("worker")
def test_the_server_that_has_the_invalidation_is_the_one_that_is_judged(
    pair: Pair, background: Background
) -> None:
    """It waited for its replica, which was promoted, and another thread has connected to that meanwhile.

    Seen to fail: since new connections led to the new primary, the answer of the old one was enough.
    """
    pair.on_primary.execute_command("WAIT", 1, 5000)
    assert pair.on_replica.get(f"{PREFIX}:{K}") is not None
    pair.on_replica.replicaof("NO", "ONE")
    sentinels = NamedPrimary(
        pair.primary.port
    )  # others than the worker's, which would have all values deleted
    command = Cache(sentinels.client(), CODECS, prefix=PREFIX, listen=False, owns_client=True)
    command.l2._wait_ms = 500  # type: ignore[attr-defined]
    invalidated = background.submit(command.invalidate, [K])
    eventually(lambda: pair.on_primary.info("clients")["blocked_clients"] == 1, "the wait for the replica")
    sentinels.port = pair.replica.port
    sentinels._look()
    sentinels.discover_master("main")
    invalidated.result(LIMIT_S)
    command.close()
    assert pair.on_replica.get(f"{PREFIX}:{K}") is None
    pair.on_replica.replicaof("127.0.0.1", pair.primary.port)
    eventually(lambda: pair.on_replica.info("replication")["master_link_status"] == "up", "the replication")


def test_a_primary_that_has_just_lost_its_replica_is_not_believed(
    pair: Pair, sentinels: NamedPrimary, worker: Cache
) -> None:
    """The replica may have been promoted. Seen to fail: with no replica to wait for, nobody was asked."""
    pair.on_primary.execute_command("WAIT", 1, 5000)
    monkeypatch(sentinels, "poll", lambda: None)  # they are asked twice a second
    pair.on_replica.replicaof("NO", "ONE")
    eventually(lambda: worker._process.listener.replicas == 0, "a report without replicas")
    sentinels.port = pair.replica.port
    worker.invalidate([K])
    assert pair.on_replica.get(f"{PREFIX}:{K}") is None
    pair.on_replica.replicaof("127.0.0.1", pair.primary.port)
    eventually(lambda: pair.on_replica.info("replication")["master_link_status"] == "up", "the replication")


def test_a_replica_that_answers_is_enough(pair: Pair, sentinels: NamedPrimary, worker: Cache) -> None:
    """Then no sentinel is asked, and a command that does not listen waits for one replica, too."""
    before = _waits(pair)
    command = Cache(sentinels.client(), CODECS, prefix=PREFIX, listen=False, owns_client=True)
    for cache in (command, worker):
        cache.l2._wait_ms = 900  # type: ignore[attr-defined] # a busy machine
    monkeypatch(sentinels, "objection_now", lambda _asked: pytest.fail("a sentinel was asked"))
    command.invalidate([K])
    by_command = _waits(pair)
    worker.invalidate([K])
    command.close()
    assert before < by_command < _waits(pair)


def _waits(pair: Pair) -> int:
    return int(pair.on_primary.info("commandstats").get("cmdstat_wait", {"calls": 0})["calls"])


def test_a_page_waits_for_no_answer_of_a_sentinel(
    sentinels: NamedPrimary, worker: Cache, source: Source, background: Background
) -> None:
    """It uses the last answer, and reads nothing from a server that may not be the primary.

    Seen to fail: a page waited 0.7 s for sentinels that could not be reached.
    """
    with sentinels._lock:  # as while they are asked
        assert background.submit(sentinels.discover_master, "main").result(LIMIT_S)
        worker._process.recovery.suspend_l2()
        monkeypatch(worker.l2, "read", lambda _keys: pytest.fail("L2 was read"))
        worker.l1.flush()
        source.put(K)
        assert worker.get(K, source.load) == V2


def test_replicas_are_counted_once_they_have_a_complete_copy() -> None:
    """A new one has none for as long as its first synchronisation takes."""
    info = (
        b"role:master\r\nconnected_slaves:2\r\nslave0:ip=10.0.0.1,port=1,state=online,offset=9,lag=40\r\n"
        b"slave1:ip=10.0.0.2,port=1,state=wait_bgsave,offset=0,lag=0\r\nmaster_replid:a\r\n"
        b"master_replid2:b\r\nmaster_repl_offset:9\r\nsecond_repl_offset:-1\r\n"
    )
    report = parse(info)
    assert report is not None
    assert report.replicas == 1
