"""A server that has gone back to an earlier state: a restart from a snapshot, a replica that was behind (R20).

Its sequence is behind what was heard. What it holds is not used from the first command that shows this, and is
deleted, however long ago the lost invalidations were.
"""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from benchmarks.redis_commands import command_counts
from servease_appt.cache import election
from servease_appt.cache.messages import STARTS, Invalidation, own_message_parts, sequence_of
from servease_appt.testing.fault_proxy import LinkKind, Proxy
from tests.cache.conftest import Background, MakeCache
from tests.cache.test_races import DATA, V1, V2, K, in_l2
from tests.cache.testbed import LIMIT_S, PREFIX, Cache, Source, eventually, listening, settle, stop_before

SEQUENCE = f"{PREFIX}:__seq"


@pytest.fixture
def snapshot(client: redis.Redis) -> Callable[[], Callable[[], None]]:
    """`restore = snapshot()`: both as the server would, without its connections noticing."""

    def take() -> Callable[[], None]:
        kept: dict[str, Any] = {name: client.get(name) for name in (DATA, SEQUENCE)}

        def restore() -> None:
            for name, value in kept.items():
                client.set(name, value, ex=60)

        return restore

    return take


@pytest.fixture
def rolled_back(
    make_cache: MakeCache, source: Source, proxy: Proxy, snapshot: Callable[[], Callable[[], None]]
) -> Cache:
    """A cache whose server holds v1 again after v2 was announced, and whose listener can't reach the server."""
    cache = listening(make_cache(url=proxy.url()))
    cache.invalidate(["vehicle_1"])
    source.put(K)
    assert cache.get(K, source.load) == V1
    settle(cache)
    restore = snapshot()
    source.put(K)
    cache.invalidate([K])
    settle(cache)
    proxy.pubsub.refuse = True
    proxy.reset(LinkKind.PUBSUB)
    eventually(lambda: not cache._process.listener.confirmed, "the channel's loss")
    restore()
    return cache


def test_a_reader_notices_by_itself(
    rolled_back: Cache, source: Source, proxy: Proxy, client: redis.Redis
) -> None:
    """The listener is away still: the read that brings v1 brings the old sequence as well. Once the listener is
    back, all is deleted, and L2 is used again."""
    assert rolled_back.get(K, source.load) == V2
    proxy.pubsub.refuse = False
    eventually(lambda: in_l2(client) is None, "the deletion of what came back")
    eventually(lambda: not rolled_back._process.recovery.l2_is_old, "the trust in L2")
    rolled_back.invalidate([K])
    assert rolled_back.get(K, source.load) == V2
    assert in_l2(client) is not None


def test_an_invalidation_notices_by_itself(rolled_back: Cache, source: Source) -> None:
    """One invalidation was lost. Another brings the sequence to where it was: no reader could see the loss now."""
    rolled_back.invalidate(["vehicle_1"])
    assert rolled_back.get(K, source.load) == V2


def test_the_listener_notices_by_itself(
    rolled_back: Cache, source: Source, proxy: Proxy, client: redis.Redis
) -> None:
    """Nobody reads or invalidates before it is back."""
    proxy.pubsub.refuse = False
    eventually(lambda: in_l2(client) is None, "the deletion of what came back")
    assert rolled_back.get(K, source.load) == V2


@pytest.mark.parametrize("how", ["write", "increment", "pattern"])
def test_a_write_notices_by_itself(how: str, rolled_back: Cache, source: Source) -> None:
    """Whatever counts the sequence up compares it first. Seen to fail: a write brought it to where it was, and the
    value from before the lost invalidation was served to its end."""
    match how:
        case "write":
            rolled_back.set("vehicle_1", V1, ttl_s=60)
        case "increment":
            rolled_back.increment("vehicle_9", 1)
        case _:
            rolled_back.invalidate_matching("vehicle_*")
    assert rolled_back.get(K, source.load) == V2


def test_a_poll_for_anothers_lease_notices_by_itself(
    rolled_back: Cache, source: Source, client: redis.Redis
) -> None:
    """A waiter asks again and is offered the old value. Seen to fail: it was served."""
    payload = client.get(DATA)
    sequence = client.get(SEQUENCE)
    assert payload is not None
    assert sequence is not None
    client.delete(DATA)
    client.set(SEQUENCE, 10**17)  # for the read; the server goes back behind it
    client.set(rolled_back.keys.lease(K), "another's", px=60_000)
    acquire = rolled_back.l2.acquire
    asked: list[int] = []

    def go_back_and_ask(*args: Any, **options: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            client.set(DATA, payload, ex=60)
            client.set(SEQUENCE, sequence)
        return acquire(*args, **options)

    rolled_back.l2.acquire = go_back_and_ask  # type: ignore[method-assign]
    assert rolled_back.get(K, source.load) == V2
    assert len(asked) == 2


SCANS_OF_ONE = 4
"""Leases, values, stale copies, absences."""


@pytest.fixture
def scans(client: redis.Redis) -> Callable[[], int]:
    """The number of SCANs that the server has answered; these keyspaces need one for each kind of key."""
    return lambda: command_counts(client).get("scan", 0)


def test_one_worker_deletes_for_all(
    make_cache: MakeCache, client: redis.Redis, proxy: Proxy, scans: Callable[[], int]
) -> None:
    """Any number of workers finds the loss; the others use L2 again once the first has deleted everything."""
    caches = [listening(make_cache(url=proxy.url())) for _ in range(4)]
    caches[0].invalidate(["vehicle_1"])
    for cache in caches:
        settle(cache)
    recoveries = [cache._process.recovery for cache in caches]

    def once_all_have_found_it() -> float:
        eventually(lambda: all(r._found_at is not None for r in recoveries), "the heartbeat of each worker")
        return 0.0

    for recovery in recoveries:
        recovery.delay_s = lambda: 2 * LIMIT_S
    recoveries[0].delay_s = once_all_have_found_it
    proxy.pubsub.refuse = True
    proxy.reset(LinkKind.PUBSUB)
    eventually(
        lambda: not any(cache._process.listener.confirmed for cache in caches),
        "the channels' loss",
    )
    client.set(SEQUENCE, 900)
    before = scans()
    proxy.pubsub.refuse = False
    eventually(lambda: all(r._found_at is not None for r in recoveries), "the loss in each worker")
    eventually(lambda: not any(r.l2_is_old for r in recoveries), "the trust in L2 of all")
    assert scans() - before == SCANS_OF_ONE


def test_a_worker_that_comes_later_reads_that_all_is_deleted(
    make_cache: MakeCache, client: redis.Redis, scans: Callable[[], int]
) -> None:
    """It has received no message. What was deleted on a server with another history proves nothing.

    Nor do scans that began before the last invalidation that may be lost.
    """
    cache = make_cache()
    recovery, listener = cache._process.recovery, cache._process.listener
    listener._heartbeat.new_history = "b" * 40
    cache.invalidate([K])
    settle(cache)
    # The age of the note is rounded up by a round trip: right behind an invalidation it may prove nothing.
    listener._heartbeat.histories.counted_at_s -= 10.0
    cache.l2.mark_emptied("b" * 40, began_s_ago=0.0)
    before = scans()
    recovery.distrust_l2()
    eventually(lambda: not recovery.l2_is_old, "the trust in L2")
    assert scans() == before

    listener._heartbeat.new_history = "c" * 40
    recovery.distrust_l2()
    eventually(lambda: not recovery.l2_is_old, "the trust in L2")
    assert scans() == before + SCANS_OF_ONE
    assert client.get(cache.keys.emptied) == b"c" * 40

    cache.l2.mark_emptied("c" * 40, began_s_ago=60.0)
    recovery.distrust_l2()
    eventually(lambda: not recovery.l2_is_old, "the trust in L2")
    assert scans() == before + 2 * SCANS_OF_ONE


def test_a_worker_that_dies_while_it_deletes(
    make_cache: MakeCache, client: redis.Redis, scans: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start keeps the others from beginning for a while; its end does not come, and another one begins."""
    monkeypatch.setattr(election, "CLAIM_S", 0.3)
    cache = make_cache()
    recovery = cache._process.recovery
    recovery.delay_s = lambda: 2 * LIMIT_S if recovery._claimed_until_s < 0 else 0.0
    before = scans()
    recovery.distrust_l2()
    head, tail = own_message_parts(Invalidation(pattern="*", source="dead", began=STARTS))
    client.publish(cache.keys.channel, f"{head}{client.incr(SEQUENCE)}{tail}")
    eventually(lambda: recovery._claimed_until_s > 0, "the start of the other's work")
    assert scans() == before
    assert recovery.l2_is_old
    recovery.close()  # the delay drawn before the message came
    eventually(lambda: not recovery.l2_is_old, "the trust in L2")
    assert scans() == before + SCANS_OF_ONE


def test_scans_that_began_before_the_loss_prove_nothing(make_cache: MakeCache) -> None:
    """They may have passed a key that the server has brought back since."""
    cache = make_cache()
    recovery = cache._process.recovery
    recovery.delay_s = lambda: 2 * LIMIT_S
    recovery.distrust_l2()
    eventually(lambda: recovery._found_at is not None, "the heartbeat after the loss")
    assert recovery._found_at is not None
    recovery.emptied_by(
        Invalidation(pattern="*", sequence=recovery._found_at + 1, began=STARTS, source="other")
    )
    assert recovery._claimed_until_s > 0
    recovery.emptied_by(Invalidation(pattern="*", sequence=recovery._found_at + 2, began=recovery._found_at))
    assert recovery.l2_is_old
    assert recovery._claimed_until_s < 0
    recovery.emptied_by(Invalidation(pattern="customer_*", sequence=9, began=recovery._found_at + 1))
    assert recovery.l2_is_old


def test_scans_that_last_keep_the_others_waiting(
    make_cache: MakeCache, client: redis.Redis, background: Background
) -> None:
    """The start is announced again at each heartbeat, as a claim ends after a second or two."""
    cache = make_cache()
    gate = background.gate()
    stop_before(cache.l2, "carry_out", gate)
    cache._process.recovery.distrust_l2()
    gate.wait_for_arrival()
    before = sequence_of(client.get(SEQUENCE)) or 0
    eventually(lambda: (sequence_of(client.get(SEQUENCE)) or 0) >= before + 2, "two more announcements")
    gate.open()
    eventually(lambda: not cache._process.recovery.l2_is_old, "the trust in L2")
