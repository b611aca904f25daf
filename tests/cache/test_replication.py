"""Another server takes over: L2 is used only if the server proves that it has every invalidation that was seen."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from servease_appt.cache import Source, connect
from servease_appt.cache.replication import Continuity, Histories, Replication, parse
from servease_appt.testing.fault_proxy import Proxy
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.replicated_pair import NamedPrimary, Pair, started_pair
from tests.cache.testbed import (
    CODECS,
    LIMIT_S,
    PREFIX,
    Cache,
    Gate,
    Versioned,
    eventually,
    listening,
    settle,
    stop_before,
)
from tests.cache.testbed import Source as Truth

K = "customer_1"
V1, V2 = Versioned("1", 1), Versioned("1", 2)
BOUND_S = 2.0
SEEN = Replication(is_primary=True, id="a", offset=100, previous_id=None, switched_at=-1)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The replica has all that the primary has; the worker listens."""
    with started_pair() as pair:
        yield pair


def test_a_replica_without_the_last_invalidation_is_emptied(pair: Pair, source: Truth) -> None:
    """Later invalidations bring its sequence past the lost number. Seen to fail: K was old for its TTL."""
    worker = pair.worker
    source.put(K)
    assert worker.get(K, source.load) == V1
    worker.invalidate(["customer_2"])
    eventually(lambda: pair.on_replica.get(f"{PREFIX}:{K}") is not None, "the replication of V1")
    pair.on_replica.replicaof("NO", "ONE")
    source.put(K)
    worker.invalidate([K])
    assert worker.get(K, source.load) == V2
    settle(worker)
    other = Cache(connect(pair.replica.url()), CODECS, prefix=PREFIX, listen=False, owns_client=True)
    for _ in range(5):
        other.invalidate(["customer_3"])
    other.close()

    pair.take_over()

    eventually(lambda: worker.get_many([K], source.load).values == {K: V2}, "the new value")
    eventually(lambda: not worker._process.recovery.l2_is_old, "the emptied L2")
    assert worker.get(K, source.load) == V2


def test_a_replica_that_has_everything_keeps_it(pair: Pair, source: Truth) -> None:
    """The offset of the switch is at or past the offset that the worker saw: no value is lost."""
    worker = pair.worker
    worker.invalidate([K])
    source.put(K)
    assert worker.get(K, source.load) == V1
    settle(worker)
    settle(worker)  # the first heartbeat may have been sent before the message was received
    pair.on_primary.execute_command("WAIT", 1, 5000)

    pair.take_over()

    assert not worker._process.recovery.l2_is_old
    assert worker.get_many([K], source.load).sources == {K: Source.L2}


def test_an_acknowledged_invalidation_without_a_later_report_is_no_proof(pair: Pair, source: Truth) -> None:
    """The worker saw the replica's offset before its own invalidation: then it does not know if that is there."""
    worker = pair.worker
    source.put(K)
    settle(worker)
    listener = worker._process.listener
    histories = listener._heartbeat.histories

    def promoted() -> Replication:
        """Of a replica that has all of the last report; the worker's own writes move the offset meanwhile."""
        report = listener._heartbeat._report
        assert report is not None
        return report._replace(id="new", previous_id=report.id, switched_at=report.offset + 1)

    eventually(
        lambda: histories.compare("", promoted(), reconnected=True) is Continuity.CONTINUED, "the report"
    )
    worker._process.recovery.acknowledge(1)
    assert histories.compare("", promoted(), reconnected=True) is Continuity.BROKEN
    eventually(
        lambda: histories.compare("", promoted(), reconnected=True) is Continuity.CONTINUED, "a later report"
    )


@pytest.fixture
def early(pair: Pair) -> Iterator[tuple[Cache, Proxy]]:
    """Another worker, and its own proxy to the primary."""
    with Proxy(pair.primary.port) as proxy:
        cache = Cache(connect(proxy.url(), timeout_s=1.0), CODECS, prefix=PREFIX, owns_client=True)
        try:
            yield listening(cache), proxy
        finally:
            cache.close()


def test_an_invalidation_by_the_old_primary_after_the_new_one_was_emptied(
    pair: Pair, source: Truth, early: tuple[Cache, Proxy]
) -> None:
    """In a planned failover the old primary goes on for seconds, and one worker changes before the other.

    Seen to fail: the last worker to change read that all values had been deleted on the new primary, which was
    before its own invalidation. So K was old in the worker that had changed before, and in L2, for its TTL.
    """
    late, (first, proxy) = pair.worker, early
    source.put(K)
    pair.on_replica.replicaof("NO", "ONE")
    first.invalidate(["customer_2"])  # lost, so this worker has the new primary emptied
    proxy.target = pair.replica.port
    proxy.reset()
    eventually(lambda: pair.on_replica.get(first.keys.emptied) is not None, "the deletion")
    eventually(lambda: not first._process.recovery.l2_is_old, "the trust in L2")
    assert first.get(K, source.load) == V1

    source.put(K)
    late.invalidate([K])
    pair.proxy.target = pair.replica.port
    pair.proxy.reset()
    eventually(lambda: first.get(K, source.load) == V2, "the new value", timeout_s=BOUND_S)
    eventually(lambda: late.get(K, source.load) == V2, "the new value", timeout_s=BOUND_S)


def test_an_acknowledgement_that_arrives_after_the_new_primary_was_compared(
    pair: Pair, source: Truth
) -> None:
    """On a busy machine. Seen to fail: the new primary was held to be complete, and kept the old value."""
    worker = pair.worker
    worker.invalidate(["customer_2"])
    source.put(K)
    assert worker.get(K, source.load) == V1
    settle(worker)
    pair.on_primary.execute_command("WAIT", 1, 5000)
    pair.on_replica.replicaof("NO", "ONE")
    source.put(K)
    gate = Gate()
    l2: Any = worker.l2
    announce = l2._invalidate

    def hold_the_answer(*args: Any, **options: Any) -> Any:
        answer = announce(*args, **options)
        gate.pass_through()
        return answer

    l2._invalidate = hold_the_answer
    pair.proxy.pubsub.swallow_to_client = True  # the message is lost with the connection
    invalidating = threading.Thread(target=worker.invalidate, args=([K],))
    invalidating.start()
    gate.wait_for_arrival()
    pair.primary.kill()  # before it can answer a heartbeat, from which the worker would learn of the invalidation
    pair.proxy.pubsub.heal()
    pair.take_over()
    assert worker.get(K, source.load) == V1
    gate.open()
    invalidating.join(LIMIT_S)
    assert worker.get(K, source.load) == V2


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "planned"])
def test_nothing_is_read_from_a_new_primary_before_it_was_compared(
    killed: bool, pair: Pair, source: Truth
) -> None:
    """The listener may change later than the other connections, or still be connected to the old primary.

    Seen to fail: a worker that had shown a new value, whose invalidation the failing primary had refused, read the
    older one from the new primary, and kept it after another worker had invalidated it there.
    """
    sentinels = NamedPrimary(pair.primary.port)
    client = sentinels.client()
    worker = listening(Cache(client, CODECS, prefix=PREFIX, owns_client=True))
    try:
        source.put(K)
        assert worker.get_many([K], source.load).values == {K: V1}
        pair.on_primary.execute_command("WAIT", 1, 5000)
        settle(worker)
        gate = Gate()
        stop_before(worker._process.listener, "_listen", gate)
        pair.on_replica.replicaof("NO", "ONE")
        if killed:
            pair.primary.kill()
            gate.wait_for_arrival()
            assert worker._process.recovery.l2_is_old  # it may start again with less, at the same address
        sentinels.port = pair.replica.port
        sentinels._look()
        if killed:
            eventually(worker.breaker.allows, "an answer of the new primary")
        else:
            client.connection_pool.disconnect()
        worker.l1.flush()
        source.put(K)
        assert worker.get(K, source.load) == V2
        gate.open()
        eventually(lambda: not worker._process.recovery.l2_is_old, "the trust in L2")
        settle(worker)
        assert worker.get_many([K], source.load).sources == {K: Source.L2}
    finally:
        gate.open()
        worker.close()


@pytest.mark.parametrize("why", ["no replicas", "read-only"])
def test_the_trust_ends_with_a_primary_that_may_not_be_one(
    why: str, source: Truth, own_valkey: EmbeddedValkey
) -> None:
    """The heartbeat is a write: it finds out within 2 s that the server takes no invalidations any more.

    Seen to fail: L1 stayed trusted, and with too few replicas old values came from L2 for their TTL.
    """
    worker = listening(Cache(connect(own_valkey.url()), CODECS, prefix=PREFIX, owns_client=True))
    with redis.Redis.from_url(own_valkey.url()) as operator:
        source.put(K)
        assert worker.get(K, source.load) == V1
        settle(worker)
        began_s = time.monotonic()
        if why == "read-only":
            operator.replicaof("127.0.0.1", "1")
        else:
            operator.config_set("min-replicas-to-write", 1)
        eventually(lambda: not worker.l1.is_trusted(), "the end of the trust", timeout_s=BOUND_S)
        if why == "no replicas":
            source.put(K)
            eventually(lambda: worker.get(K, source.load) == V2, "the new value", timeout_s=BOUND_S)
        assert time.monotonic() - began_s < BOUND_S
        operator.replicaof("NO", "ONE")
        operator.config_set("min-replicas-to-write", 0)
        eventually(worker.l1.is_trusted, "the trust")
        assert not worker._process.recovery.l2_is_old or why == "read-only"
    worker.close()


def test_a_sequence_that_starts_anew_has_a_random_part(source: Truth, own_valkey: EmbeddedValkey) -> None:
    """It is ahead of the clock, by another amount each time: two histories have no equal numbers."""
    worker = Cache(connect(own_valkey.url()), CODECS, prefix=PREFIX, listen=False, owns_client=True)
    ahead_us = set()
    with redis.Redis.from_url(own_valkey.url()) as operator:
        untyped: Any = operator
        for _ in range(8):
            untyped.delete(worker.keys.sequence)
            worker.invalidate([K])
            seconds, microseconds = untyped.time()
            ahead_us.add(int(untyped.get(worker.keys.sequence)) - (seconds * 1_000_000 + microseconds))
    worker.close()
    assert max(ahead_us) > 0
    assert len(ahead_us) > 1


@pytest.mark.parametrize(
    ("report", "reconnected", "expected"),
    [
        (SEEN._replace(offset=100), True, Continuity.SAME),
        (SEEN._replace(offset=99), True, Continuity.BROKEN),
        (SEEN._replace(id="b"), False, Continuity.SAME),
        (SEEN._replace(id="b"), True, Continuity.BROKEN),
        (SEEN._replace(id="b", previous_id="a", switched_at=101), True, Continuity.CONTINUED),
        (SEEN._replace(id="b", previous_id="a", switched_at=101), False, Continuity.CONTINUED),
        (SEEN._replace(id="b", previous_id="a", switched_at=100), True, Continuity.BROKEN),
        (SEEN._replace(id="b", previous_id="c", switched_at=500), True, Continuity.BROKEN),
        (None, True, Continuity.UNKNOWN),
    ],
)
def test_what_two_reports_say(report: Replication | None, reconnected: bool, expected: Continuity) -> None:
    """The offset of the switch is the first one that is not of the old history."""
    histories = Histories()
    assert histories.compare("", SEEN, reconnected=True) is Continuity.UNKNOWN
    histories.accept("", SEEN, 0)
    assert histories.compare("", report, reconnected=reconnected) is expected


@pytest.mark.parametrize("info", [None, b"", b"role:master\r\n", redis.ResponseError("NOPERM")])
def test_a_server_without_a_report(info: object) -> None:
    """INFO may be refused, or lack the fields: then the sequence alone decides."""
    assert parse(info) is None
