"""A server that has gone back to an earlier state: a restart from a snapshot, a replica that was behind (R20).

Its sequence is behind what was heard. What it holds is not used from the first command that shows this, and is
deleted, however long ago the lost invalidations were.
"""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from servease_appt.testing.fault_proxy import LinkKind, Proxy
from tests.cache.conftest import MakeCache
from tests.cache.test_races import DATA, V1, V2, K, in_l2
from tests.cache.testbed import PREFIX, Cache, Source, eventually, listening, settle

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
