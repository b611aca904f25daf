"""A worker that waits for another's load takes the lease over once, and the first load that ends is kept."""

from typing import Any

import pytest
import redis

from servease_appt.cache.stats import Event, Tier
from tests.cache.conftest import Background, MakeCache
from tests.cache.testbed import LIMIT_S, PREFIX, Cache, Source, Versioned, eventually, monkeypatch, policy

K = "customer_1"
DATA = f"{PREFIX}:{K}"
V1 = Versioned("1", 1)
IMPATIENT = policy(load_timeout_s=8.0)


def count(caches: list[Cache], tier: Tier, event: Event) -> int:
    """What all workers have counted."""
    return sum(cache.recorder.get(tier, event) for cache in caches)  # type: ignore[attr-defined]


def polls_of(cache: Cache) -> list[int]:
    """A list that grows with each question for a lease."""
    asked: list[int] = []
    acquire = cache.l2.acquire

    def note_and_ask(*args: Any, **options: Any) -> Any:
        answer = acquire(*args, **options)
        asked.append(1)
        return answer

    monkeypatch(cache.l2, "acquire", note_and_ask)
    return asked


def hurry(cache: Cache) -> None:
    """Have the cache's patience end at once."""
    cache._process.loader.patience_s = 0.05


def test_the_first_load_that_ends_is_kept(
    make_cache: MakeCache, source: Source, background: Background, client: redis.Redis
) -> None:
    """Four workers, a service that is slow and healthy: two loads, and the first one's value is stored.

    Seen to fail while a takeover voided the first holder's fill: nothing was ever stored.
    """
    caches = [make_cache(policy=IMPATIENT) for _ in range(4)]
    for cache in caches:
        hurry(cache)
    source.put(K)
    first = source.hold(K)
    reading = [background.submit(caches[0].get, K, source.load)]
    first.wait_for_arrival()
    second = source.hold(K)
    reading.append(background.submit(caches[1].get, K, source.load))
    second.wait_for_arrival()
    asked = [polls_of(cache) for cache in caches[2:]]
    reading += [background.submit(cache.get, K, source.load) for cache in caches[2:]]
    eventually(lambda: all(len(polls) > 6 for polls in asked), "waiting beyond all patience")
    assert source.loads[K] == 2
    first.open()
    assert reading[0].result(LIMIT_S) == V1
    assert [reader.result(LIMIT_S) for reader in reading[2:]] == [V1, V1]
    assert client.get(DATA) is not None
    second.open()
    assert reading[1].result(LIMIT_S) == V1
    assert source.loads[K] == 2
    assert count(caches, Tier.L2, Event.TAKEOVER) == 1
    assert count(caches, Tier.L2, Event.FILL) == 1


def test_a_takeover_is_no_way_past_an_invalidation(
    make_cache: MakeCache, source: Source, background: Background, client: redis.Redis
) -> None:
    """The fence that both holders have goes with the invalidation: neither may store what it loaded before."""
    w, a, b = (make_cache(policy=IMPATIENT) for _ in range(3))
    hurry(b)
    source.put(K)
    first = source.hold(K)
    reading = [background.submit(a.get, K, source.load)]
    first.wait_for_arrival()
    second = source.hold(K)
    reading.append(background.submit(b.get, K, source.load))
    second.wait_for_arrival()
    source.put(K)
    w.invalidate([K])
    first.open()
    second.open()
    assert [reader.result(LIMIT_S) for reader in reading] == [V1, V1]
    assert client.get(DATA) is None
    assert count([a, b], Tier.L2, Event.REFUSED_FILL) == 2


def test_a_holder_that_fails_leaves_the_next_ones_lease(
    make_cache: MakeCache, source: Source, background: Background, client: redis.Redis
) -> None:
    """Whoever was taken over from gives back nothing: the lease is the other's now, whose value is stored."""
    a, b = make_cache(policy=IMPATIENT), make_cache(policy=IMPATIENT)
    hurry(b)
    source.put(K)
    first = source.hold(K)
    source.fail(K, RuntimeError("overloaded"))
    reading = background.submit(a.get, K, source.load)
    first.wait_for_arrival()
    source.fail(K, None)
    second = source.hold(K)
    taking_over = background.submit(b.get, K, source.load)
    second.wait_for_arrival()
    first.open()
    assert reading.result(LIMIT_S) is None
    assert client.get(a.keys.lease(K)) is not None
    second.open()
    assert taking_over.result(LIMIT_S) == V1
    assert client.get(DATA) is not None


@pytest.mark.parametrize("lease", [b"\xff\xfe", b"", b"forged#twice"])
def test_a_lease_of_any_bytes_stops_no_reader(
    lease: bytes, make_cache: MakeCache, source: Source, client: redis.Redis
) -> None:
    """What somebody has put under a lease's key is data: the key is loaded and stored all the same."""
    cache = make_cache(policy=policy(load_timeout_s=8.0))
    hurry(cache)
    source.put(K)
    client.set(cache.keys.lease(K), lease)
    assert cache.get(K, source.load) == V1
    assert client.get(DATA) is not None
