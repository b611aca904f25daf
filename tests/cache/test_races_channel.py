"""The races that are lost on the way of a message: cut, late, swapped, between two connections, between servers.

Notation as in `test_races.py`.
"""

from typing import Any

import pytest
import redis

from servease_appt.cache import CacheUnavailable, connect
from servease_appt.cache.channel import Channel, Published
from servease_appt.cache.heartbeat import TRUST_S
from servease_appt.cache.l2 import cluster_channel
from servease_appt.testing.fault_proxy import LinkKind, Proxy
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache import mutants
from tests.cache.conftest import Background, MakeCache
from tests.cache.mutants import Mutation
from tests.cache.test_races import DATA, V1, V2, K, as_is, guarded_or, in_l2
from tests.cache.testbed import (
    CODECS,
    LIMIT_S,
    PREFIX,
    Cache,
    Source,
    eventually,
    held_in_l1,
    listening,
    monkeypatch,
    policy,
    settle,
    stop_after,
)

NEVER_S = 10_000.0


@pytest.mark.parametrize("apart", [False, True], ids=["as it is", "deleting, then publishing"])
def test_r5_a_crash_behind_the_delete(
    apart: bool, make_cache: MakeCache, source: Source, proxy: Proxy, client: redis.Redis
) -> None:
    """R5. W sends its invalidation and dies before it knows the end. In one script the others are told or L2 is
    untouched; with two commands W dies between them and B keeps v1."""
    w, b = make_cache(url=proxy.url()), make_cache()
    mutants.deaf_to_changes(b)
    source.put(K)
    assert b.get(K, source.load) == V1
    w.invalidate(["vehicle_1"])
    settle(b)
    source.put(K)
    if apart:

        def delete_then_die(keys: list[str], _identity: str) -> int:
            client.delete(*(name for key in keys for name in w.keys.group(key)))
            raise CacheUnavailable

        monkeypatch(w.l2, "invalidate", delete_then_die)
    else:
        proxy.data.swallow_to_client = True
    with pytest.raises(CacheUnavailable):
        w.invalidate([K])
    proxy.data.heal()
    settle(b)
    assert in_l2(client) is None
    assert (b.get(K, source.load) == V2) is not apart


@guarded_or(mutants.without_flush_at_confirmation)
def test_r6_an_invalidation_while_disconnected(
    mutate: Mutation, make_cache: MakeCache, source: Source, proxy: Proxy
) -> None:
    """R6. B's channel is cut; W: S:=v2, invalidate; B is back. B's L1 must not survive that."""
    w, b = make_cache(), make_cache(url=proxy.url())
    mutate(b)
    source.put(K)
    assert b.get(K, source.load) == V1
    settle(b)
    proxy.refusing = True
    assert proxy.reset(LinkKind.PUBSUB) == 1
    eventually(lambda: not b._process.listener.confirmed)
    source.put(K)
    w.invalidate([K])
    proxy.refusing = False
    settle(b)
    assert (b.get(K, source.load) == V2) is as_is(mutate)


@guarded_or(mutants.without_flush_at_confirmation)
def test_r7_an_invalidation_while_subscribing(
    mutate: Mutation,
    make_cache: MakeCache,
    source: Source,
    proxy: Proxy,
    background: Background,
) -> None:
    """R7. B connects anew (the wrong moment to empty L1); B: MGET→v1, L1:=v1; W: S:=v2, invalidate; now B's
    SUBSCRIBE takes effect. B empties L1 once that is confirmed, so v1 is gone."""
    w, b = make_cache(), make_cache(url=proxy.url())
    mutate(b)
    source.put(K)
    assert w.get(K, source.load) == V1
    gate = background.gate()

    class Slow(Channel):
        def send(self, *command: str | bytes) -> None:
            if command[0] == "SUBSCRIBE":
                gate.pass_through()
            super().send(*command)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_channel, "Channel", Slow)
        proxy.reset(LinkKind.PUBSUB)
        gate.wait_for_arrival()
    b.l1.flush()
    assert b.get(K, source.load) == V1
    source.put(K)
    w.invalidate([K])
    gate.open()
    settle(b)
    assert (b.get(K, source.load) == V2) is as_is(mutate)


@guarded_or(mutants.without_gaps)
def test_a_message_that_is_lost_on_a_link_that_holds(
    mutate: Mutation, make_cache: MakeCache, source: Source
) -> None:
    """R6 without a cut: one message is gone, and nothing follows it. The next heartbeat shows the gap."""
    w, b = make_cache(), make_cache()
    mutate(b)
    source.put(K)
    assert b.get(K, source.load) == V1
    settle(b)
    lost: list[Any] = []
    monkeypatch(b._process.listener, "_on_published", lost.append)
    mutants.deaf_to_changes(b)
    source.put(K)
    w.invalidate([K])
    settle(b)
    assert len(lost) == 1
    assert (b.get(K, source.load) == V2) is as_is(mutate)


@guarded_or(mutants.messages_delete_in_l2)
def test_r10_a_late_message(
    mutate: Mutation, make_cache: MakeCache, source: Source, proxy: Proxy, client: redis.Redis
) -> None:
    """R10. W: S:=v2, invalidate; A: load, fill v2; only now B hears the message. It costs B one look into L2; the
    v2 in there stays."""
    w, b = make_cache(), make_cache(url=proxy.url())
    mutate(b)
    source.put(K)
    assert b.get(K, source.load) == V1
    settle(b)
    with proxy.holding(LinkKind.PUBSUB):
        source.put(K)
        w.invalidate([K])
        assert w.get(K, source.load) == V2
    settle(b)
    assert (in_l2(client) is not None) is as_is(mutate)
    assert b.get(K, source.load) == V2
    assert (source.loads[K] == 2) is as_is(mutate)


def test_r10_swapped_and_doubled_messages(make_cache: MakeCache, source: Source, client: redis.Redis) -> None:
    """R10. Messages that come twice, or in another order than they were sent, only ever cost warmth."""
    b = make_cache()
    listener = b._process.listener
    listener.stop()
    heartbeat = listener._heartbeat
    heartbeat.confirmed, heartbeat.sequence = True, 10
    b._process.handler.on_trust(NEVER_S + b._clock())
    source.put(K)
    source.put("customer_2")
    b.get_many([K, "customer_2"], source.load)

    def hear(sequence: int, key: str) -> None:
        payload = f'{{"v":1,"source":"w","seq":{sequence},"keys":["{key}"]}}'
        listener._handle(Published(f"{PREFIX}:invalidate".encode(), payload.encode()))
        listener._gathered.handle()  # as at the end of what was received together

    hear(11, "customer_2")
    hear(11, "customer_2")
    assert (held_in_l1(b, K), held_in_l1(b, "customer_2")) == (V1, None)
    hear(13, "customer_2")
    assert held_in_l1(b, K) is None, "12 is missing: it may have been about any key"
    b.get(K, source.load)
    hear(12, K)
    assert held_in_l1(b, K) is None
    assert (heartbeat.sequence, heartbeat._announced) == (11, 13), "until the server says so"
    assert in_l2(client) is not None


@pytest.mark.parametrize("first", ["the message", "the answer"])
def test_r19_two_connections_two_orders(
    first: str, make_cache: MakeCache, source: Source, proxy: Proxy, background: Background
) -> None:
    """R19. B's MGET is answered v1; W: S:=v2, invalidate. The answer and the message travel on two connections;
    whichever comes first, B's L1 does not keep v1. (The fence that this needs is taken out in R1.)"""
    w = make_cache()
    b = Cache(connect(proxy.url(), timeout_s=5.0), CODECS, prefix=PREFIX, policy=policy(), owns_client=True)
    try:
        listening(b)
        source.put(K)
        assert w.get(K, source.load) == V1
        settle(b)
        b.get("vehicle_1", source.load)
        late = LinkKind.DATA if first == "the message" else LinkKind.PUBSUB
        sent = proxy.commands(LinkKind.DATA).count("MGET")
        with proxy.holding(late):
            reading = background.submit(b.get, K, source.load)
            proxy.wait_for_command("MGET", LinkKind.DATA, sent + 1)
            if first == "the answer":
                assert reading.result(LIMIT_S) == V1
                assert held_in_l1(b, K) == V1
            source.put(K)
            w.invalidate([K])
            if first == "the message":
                settle(b)
        assert reading.result(LIMIT_S) == V1
        settle(b)
        assert held_in_l1(b, K) is None
        assert b.get(K, source.load) == V2
    finally:
        b.close()


def test_r11_a_source_that_is_behind(make_cache: MakeCache, source: Source, client: redis.Redis) -> None:
    """R11. W invalidates, but S itself still answers v1. No cache can see that: v1 is kept as any value, for
    `ttl_s` at most, and the next invalidation removes it. That is the stated bound."""
    w = make_cache()
    source.put(K)
    assert w.get(K, source.load) == V1
    w.invalidate([K])
    assert w.get(K, source.load) == V1
    left_ms: Any = client.pttl(DATA)
    assert 0 < left_ms <= w.policy.ttl_s * 1000
    source.put(K)
    w.invalidate([K])
    assert w.get(K, source.load) == V2


def test_r20_a_failover_that_loses_the_delete(source: Source) -> None:
    """R20. W: S:=v2, invalidate on the old primary; its replica, which was behind, takes over with v1. Every
    worker sees that the new primary's sequence is behind what it has heard, uses nothing of it, and deletes all
    (see `test_lost_writes.py`). Bound: none, but if every worker died with the old primary, `ttl_s`.
    """
    with (
        EmbeddedValkey(options=["--repl-diskless-sync-delay", "0"]) as primary,
        EmbeddedValkey(options=["--replicaof", "127.0.0.1", str(primary.port)]) as replica,
        Proxy(primary.port) as proxy,
        redis.Redis.from_url(replica.url()) as behind,
    ):
        b = Cache(
            connect(proxy.url()), CODECS, prefix=PREFIX, policy=policy(ttl_s=30, jitter=0.0), owns_client=True
        )
        try:
            listening(b)
            source.put(K)
            assert b.get(K, source.load) == V1
            eventually(lambda: behind.get(DATA) is not None, "the replication of v1")
            behind.replicaof("NO", "ONE")
            source.put(K)
            b.invalidate([K])
            assert held_in_l1(b, K) is None
            listener = b._process.listener
            eventually(lambda: listener.sequence == b._process.recovery._acknowledged, "the message")
            primary.kill()
            proxy.target = replica.port
            proxy.reset()
            settle(b)
            eventually(lambda: behind.get(DATA) is None, "the deletion of what came back")
            settle(b)
            assert b.get(K, source.load) == V2
        finally:
            b.close()


@pytest.mark.parametrize("kept", ["sequence", "no sequence"])
def test_r20_before_anybody_has_heard(kept: str, source: Source) -> None:
    """R20. As above, but the old primary dies after its answer to W and before any listener has the message: only
    the answer itself tells W that the new primary is behind."""
    with (
        EmbeddedValkey(options=["--repl-diskless-sync-delay", "0"]) as primary,
        EmbeddedValkey(options=["--replicaof", "127.0.0.1", str(primary.port)]) as replica,
        Proxy(primary.port) as proxy,
        redis.Redis.from_url(replica.url()) as behind,
    ):
        w = Cache(
            connect(proxy.url()), CODECS, prefix=PREFIX, policy=policy(ttl_s=30, jitter=0.0), owns_client=True
        )
        try:
            listening(w)
            if kept == "sequence":
                w.invalidate([K])
            source.put(K)
            assert w.get(K, source.load) == V1
            settle(w)
            eventually(lambda: behind.get(DATA) is not None, "the replication of v1")
            behind.replicaof("NO", "ONE")
            proxy.rules[LinkKind.PUBSUB].black_hole()
            source.put(K)
            w.invalidate([K])
            primary.kill()
            proxy.target = replica.port
            proxy.reset()
            proxy.rules[LinkKind.PUBSUB].heal()
            eventually(lambda: w.get(K, source.load) == V2, "an answer of the source")
            assert w.get(K, source.load) == V2
        finally:
            w.close()


@pytest.mark.parametrize("kept", ["sequence", "no sequence"])
def test_a_server_with_another_past(kept: str, source: Source, own_valkey: EmbeddedValkey) -> None:
    """A restarted server that lost everything, its sequence included, is noticed by every worker; its numbers
    start anew from the clock, so that none is taken for one of the old."""
    caches = [
        Cache(connect(own_valkey.url()), CODECS, prefix=PREFIX, policy=policy(), owns_client=True)
        for _ in range(2)
    ]
    try:
        w, b = map(listening, caches)
        source.put(K)
        if kept == "sequence":
            w.invalidate([K])
        assert b.get(K, source.load) == V1
        settle(b)
        before = b._process.listener.sequence
        own_valkey.kill()
        source.put(K)
        own_valkey.restart()
        for cache in caches:
            settle(cache)
        assert held_in_l1(b, K) is None
        assert b.get(K, source.load) == V2
        w.invalidate([K])
        settle(b)
        assert b._process.listener.sequence is not None
        assert before is None or b._process.listener.sequence > before
    finally:
        for cache in caches:
            cache.close()


def test_the_trust_ends_before_the_bound(make_cache: MakeCache, source: Source, proxy: Proxy) -> None:
    """A reader that sees in L2 that the sequence is ahead of its listener ends the trust early, and the listener
    asks at once."""
    w, b = make_cache(), make_cache(url=proxy.url())
    source.put(K)
    source.put("vehicle_1")
    assert b.get(K, source.load) == V1
    settle(b)
    with proxy.holding(LinkKind.PUBSUB):
        w.invalidate([K])
        until_s = b.l1.trusted_until_s
        b.get("vehicle_1", source.load)
        eventually(lambda: b.l1.trusted_until_s < until_s, "the early end of the trust")
        assert b.l1.trusted_until_s < b._clock() + TRUST_S / 2
    settle(b)
    assert held_in_l1(b, K) is None


def test_a_request_by_hand_is_carried_out_while_all_loads_hang(
    make_cache: MakeCache, source: Source, client: redis.Redis, background: Background
) -> None:
    """A plain PUBLISH reaches L2 although every loading thread waits for a slow service.

    Seen to fail with loads and background tasks on the same threads.
    """
    cache = make_cache(policy=policy(max_loads=2, load_timeout_s=20.0))
    source.put(K)
    assert cache.get(K, source.load) == V1
    slow = ["vehicle_1", "vehicle_2"]
    gates = [source.hold(key) for key in slow]
    reading = background.submit(cache.get_many, slow, source.load)
    for gate in gates:
        gate.wait_for_arrival()
    done = background.gate()
    done.open()
    stop_after(cache._process.requests, "_carry_out", done)
    client.publish(cache.keys.channel, K)
    done.wait_for_arrival()
    assert not reading.done()
    assert in_l2(client) is None
    for gate in gates:
        gate.open()
    reading.result(LIMIT_S)
