"""Protections that no other test would miss: each was taken out, and only the test here failed."""

import time
from typing import Any

import pytest
import redis

from servease_appt.cache.batch_load import BatchLoad
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.l2.protocol import Lease, LeaseState
from servease_appt.cache.single_flight import Completion, Flight
from tests.cache.conftest import Background, MakeCache
from tests.cache.testbed import (
    LIMIT_S,
    PREFIX,
    Cache,
    Source,
    Versioned,
    eventually,
    held_in_l1,
    monkeypatch,
    policy,
    settle,
    stop_after,
)

K = "customer_1"
V1, V2 = Versioned("1", 1), Versioned("1", 2)


def hears_no_changes(cache: Cache) -> None:
    """The server's news would correct what a protection lets through."""
    monkeypatch(cache._process.handler, "on_changed", lambda *_: None)


@pytest.mark.parametrize("how", ["pattern", "gap"])
def test_nobody_joins_a_load_from_before_all_was_dropped(
    how: str, make_cache: MakeCache, source: Source, background: Background, client: redis.Redis
) -> None:
    """A load that began before a pattern, or before a message that was lost, is not joined by later readers."""
    cache = make_cache(policy=policy(load_timeout_s=8.0))
    cache._process.loader.patience_s = 0.0
    source.put(K)
    held = source.hold(K)
    loading = background.submit(cache.get, K, source.load)
    held.wait_for_arrival()
    source.put(K)
    if how == "pattern":
        cache.invalidate_matching("customer_*")
    else:
        settle(cache)
        client.incr(f"{PREFIX}:__seq")  # whose message nobody hears
        settle(cache)
    assert K not in cache._process.flights._by_key
    source.release(K)
    assert cache.get(K, source.load) == V2
    held.open()
    assert loading.result(LIMIT_S) == V1


def test_a_write_drops_its_own_l1_at_once(make_cache: MakeCache, source: Source) -> None:
    """Not only when its message comes back."""
    cache = make_cache()
    source.put(K)
    assert cache.get(K, source.load) == V1
    settle(cache)
    hears_no_changes(cache)
    monkeypatch(cache._process.handler, "on_message", lambda *_: None)
    assert cache.set(K, V2, ttl_s=60)
    assert held_in_l1(cache, K) is None


def test_a_write_is_announced(make_cache: MakeCache, source: Source) -> None:
    """Workers that are told of no changes hear of it as well."""
    w, b = make_cache(), make_cache()
    hears_no_changes(b)
    source.put(K)
    assert b.get(K, source.load) == V1
    assert w.set(K, V2, ttl_s=60)
    eventually(lambda: held_in_l1(b, K) is None, "the message")


def test_a_write_voids_the_fence_of_a_fill(make_cache: MakeCache, source: Source) -> None:
    """What was made from older data does not replace what was written since."""
    w, b = make_cache(), make_cache()
    _, fences = b.peek_many([K])
    assert w.set(K, V2, ttl_s=60)
    assert not b.fill(K, V1, fences[K], 60)
    assert w.get(K, source.load) == V2


def test_a_fill_by_hand_keeps_the_epoch_of_its_miss(
    make_cache: MakeCache, source: Source, background: Background
) -> None:
    """R1 for `fill`: L2 has taken the value; an invalidation is handled; then the value is put into L1."""
    w, b = make_cache(), make_cache()
    hears_no_changes(b)
    _, fences = b.peek_many([K])
    gate = background.gate()
    stop_after(b.l2, "fill", gate)
    filling = background.submit(b.fill, K, V1, fences[K], 60)
    gate.wait_for_arrival()
    w.invalidate([K])
    settle(b)
    gate.open()
    assert filling.result(LIMIT_S)
    assert held_in_l1(b, K) is None


def test_a_value_that_a_lease_question_brings_keeps_its_epoch(
    make_cache: MakeCache, source: Source, background: Background
) -> None:
    """R1 for the value that has come while the lease was asked for: its answer is late, too."""
    w, b = make_cache(), make_cache()
    source.put(K)
    assert w.get(K, source.load) == V1
    settle(b)
    hears_no_changes(b)
    read = b.l2.read
    monkeypatch(b.l2, "read", lambda keys: ([None] * len(keys), read(keys)[1]))
    gate = background.gate()
    stop_after(b.l2, "acquire", gate)
    reading = background.submit(b.get, K, source.load)
    gate.wait_for_arrival()
    w.invalidate([K])
    settle(b)
    gate.open()
    assert reading.result(LIMIT_S) == V1
    assert held_in_l1(b, K) is None


def test_what_may_not_be_in_l2_stays_a_second_in_l1(make_cache: MakeCache, source: Source) -> None:
    """A fill that timed out may have been stored or not: nobody will tell of its end."""
    cache = make_cache()
    source.put(K)

    def lost(*_: object) -> Any:
        raise L2Unavailable("timed out")

    monkeypatch(cache.l2, "fill", lost)
    assert cache.get(K, source.load) == V1
    entry = cache.l1.held([K])[K]
    assert entry.expires_at_s - entry.loaded_at_s <= 1.0


def test_a_server_that_lost_invalidations_is_known_before_its_number(
    make_cache: MakeCache, client: redis.Redis
) -> None:
    """While `on_confirmed` runs, readers still compare with what was heard before the connection was lost."""
    cache = make_cache()
    settle(cache)
    listener: Any = cache._process.listener
    seen: list[tuple[int, bool]] = []
    confirmed = cache._process.handler.on_confirmed

    def note(*, reconnected: bool, invalidations_lost: bool) -> None:
        confirmed(reconnected=reconnected, invalidations_lost=invalidations_lost)
        seen.append((listener.sequence, invalidations_lost))

    monkeypatch(cache._process.handler, "on_confirmed", note)
    client.set(f"{PREFIX}:__seq", 900)
    client.client_kill_filter(_type="pubsub")
    eventually(lambda: seen, "the new connection")
    assert seen[0] == (1000, True)


def test_a_refresh_takes_no_lease_from_anybody(make_cache: MakeCache, client: redis.Redis) -> None:
    """Somebody is loading the key already."""
    cache = make_cache()
    cache.l2.acquire([K], "loader", 5000)
    (lease,) = cache.l2.acquire([K], "refresher", 5000, refresh=True)
    assert (lease.state, lease.payload) == (LeaseState.HELD, b"loader")
    assert client.get(cache.keys.lease(K)) == b"loader"


def test_patience_begins_anew_with_each_holder(make_cache: MakeCache, source: Source) -> None:
    """A worker that has just got the lease is not taken for dead since another one was."""
    cache = make_cache()
    loader = cache._process.loader
    batch = BatchLoad(loader, source.load, time.monotonic() + 5.0)
    flight: Flight[Versioned] = Flight(K, Completion())
    batch._has_to_load(flight, Lease(LeaseState.HELD, b"first"), cache.l1.epoch())
    batch._holders[K] = (b"first", 1.0)
    batch._has_to_load(flight, Lease(LeaseState.HELD, b"first"), cache.l1.epoch())
    assert batch._holders[K] == (b"first", 1.0)
    batch._has_to_load(flight, Lease(LeaseState.HELD, b"second"), cache.l1.epoch())
    holder, since_s = batch._holders[K]
    assert holder == b"second"
    assert since_s > 1.0
