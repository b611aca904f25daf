"""What grows with the number of workers, and what does not."""

import json
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import redis

from benchmarks.redis_commands import command_counts
from servease_appt.cache import Event, Stats, Tier
from servease_appt.cache.channel import Channel
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
    stop_before,
)

WORKERS = 100
KEYS = ["customer_1", "customer_2", "vehicle_3"]
PATIENT = policy(load_timeout_s=60.0)
"""So that no lease is taken over while a busy machine starts a hundred workers."""


def note_call(owner: object, name: str, note: Callable[[], None]) -> None:
    """Call `note` after each call of a method of one object."""
    call = getattr(owner, name)

    def noted(*args: Any, **options: Any) -> Any:
        result = call(*args, **options)
        note()
        return result

    monkeypatch(owner, name, noted)


def test_workers_that_start_at_once_on_an_empty_l2(make_cache: MakeCache, source: Source) -> None:
    """A deployment after a flush: the source is called once for each key, not once for each worker."""
    caches = [make_cache(ready=False, policy=PATIENT, timeout_s=LIMIT_S) for _ in range(WORKERS)]
    have_asked: set[int] = set()
    for number, cache in enumerate(caches):
        note_call(cache.l2, "acquire", partial(have_asked.add, number))
    gates = [source.hold(key) for key in KEYS]
    for key in KEYS:
        source.put(key)
    with ThreadPoolExecutor(WORKERS) as threads:
        pages = [threads.submit(cache.get_many, KEYS, source.load) for cache in caches]
        try:
            eventually(lambda: len(have_asked) == WORKERS, "a request for the leases by each worker")
        finally:
            for gate in gates:
                gate.open()
        values = [page.result().values for page in pages]
    assert values == [{key: Versioned(key.partition("_")[2], 1) for key in KEYS}] * WORKERS
    assert dict(source.loads) == dict.fromkeys(KEYS, 1)


def test_what_a_fill_of_the_same_value_costs_its_holders(
    make_cache: MakeCache, source: Source, client: redis.Redis
) -> None:
    """Each worker that holds the key compares it once, and keeps it. One that does not hold it sends nothing."""
    holders = [make_cache() for _ in range(5)]
    others = [make_cache() for _ in range(3)]
    key = KEYS[0]
    source.put(key)
    for cache in holders:
        cache.get(key, source.load)
    for cache in (*holders, *others):
        settle(cache)
    payload = client.get(f"{PREFIX}:{key}")
    assert isinstance(payload, bytes)
    before = command_counts(client).get("mget", 0)
    client.set(f"{PREFIX}:{key}", json.dumps(json.loads(payload)).encode(), ex=60)
    for cache in (*holders, *others):
        settle(cache)
    assert command_counts(client)["mget"] - before == len(holders)
    assert all(held_in_l1(cache, key) for cache in holders)


BURST = 50


def await_unread(cache: Cache, text: bytes) -> None:
    """Wait until the connection of a listener that is held up has the burst, which nobody has read."""
    channel = cache._process.listener._channel
    assert isinstance(channel, Channel)
    link = channel.link
    eventually(lambda: link.recv(65_536, socket.MSG_PEEK).count(text) == BURST, "the arrival of the burst")


def test_a_burst_of_invalidations_of_one_key_costs_one_eviction(
    make_cache: MakeCache, source: Source, background: Background, client: redis.Redis
) -> None:
    """What arrives while a worker is busy is handled together: dropped and logged once, and counted as often."""
    stats, dropped = Stats(), []
    w, b = make_cache(), make_cache(recorder=stats)
    key, other = KEYS[:2]
    source.put(key)
    b.get(key, source.load)
    settle(b)
    gate, drop = background.gate(), b._process.invalidator.drop

    def note_drop(keys: Sequence[str]) -> None:
        dropped.append(list(keys))
        drop(keys)

    monkeypatch(b._process.invalidator, "drop", note_drop)
    stop_before(b._process.handler, "on_message", gate)
    w.invalidate([other])
    gate.wait_for_arrival()
    for _ in range(BURST):
        w.invalidate([key])
    await_unread(b, f'"keys":["{key}"]'.encode())
    gate.open()
    settle(b)
    assert dropped == [[other], [key]]
    assert held_in_l1(b, key) is None
    assert stats.get(Tier.CHANNEL, Event.INVALIDATION) == 1 + BURST
    assert [event.event for event in b._process.event_log.last_of(key)].count("invalidation") == 1


def test_a_burst_of_changes_of_one_key_costs_one_read(
    make_cache: MakeCache, source: Source, background: Background, client: redis.Redis
) -> None:
    """A worker that holds the key compares it once with its last value."""
    b, (key, other) = make_cache(), KEYS[:2]
    source.put(key)
    b.get(key, source.load)
    settle(b)
    payload = client.get(f"{PREFIX}:{key}")
    assert isinstance(payload, bytes)
    gate = background.gate()
    stop_before(b._process.handler, "on_changed", gate)
    before = command_counts(client)["mget"]
    client.set(f"{PREFIX}:{other}", b"{}", ex=60)
    gate.wait_for_arrival()
    for _ in range(BURST):
        client.set(f"{PREFIX}:{key}", payload, ex=60)
    await_unread(b, f"{PREFIX}:{key}".encode())
    gate.open()
    settle(b)
    assert command_counts(client)["mget"] - before == 1
    assert held_in_l1(b, key)
