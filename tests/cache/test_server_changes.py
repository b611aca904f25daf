"""What becomes of the cache when its server, or something on it, is not what it was."""

import json
from typing import Any

import pytest
import redis

from servease_appt.cache import CacheUnavailable, Event, Source, Tier, connect
from servease_appt.testing.fault_proxy import Proxy
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.conftest import MakeCache
from tests.cache.testbed import (
    CODECS,
    PREFIX,
    Cache,
    Versioned,
    eventually,
    held_in_l1,
    listening,
    policy,
    settle,
)
from tests.cache.testbed import Source as Truth

K = "customer_1"
CHANNEL = f"{PREFIX}:invalidate"
V1 = Versioned("1", 1)


def count(cache: Cache, event: Event) -> int:
    """How often something happened on the channel."""
    counts: Any = cache.recorder
    return int(counts.get(Tier.CHANNEL, event))


def test_a_flush_turns_l2_off_for_no_command(
    make_cache: MakeCache, source: Truth, client: redis.Redis
) -> None:
    """Without a listener, too, L2 is used again after a flush. Seen to fail: never again in that process."""
    cache = make_cache(ready=False, listen=False, policy=policy(l1_ttl_s=0))
    source.put(K)
    cache.invalidate([K])
    client.flushdb()
    cache.get(K, source.load)
    eventually(lambda: not cache._process.recovery.l2_is_old, "the trust in L2")
    cache.get(K, source.load)
    assert cache.get_many([K], source.load).sources == {K: Source.L2}


def test_a_flush_of_another_database_is_none(
    make_cache: MakeCache, source: Truth, client: redis.Redis, redis_url: str
) -> None:
    """L1 keeps what it has, and no message is counted as lost; an invalidation is heard as before."""
    cache = make_cache()
    source.put(K)
    assert cache.get(K, source.load) == V1
    settle(cache)
    settle(cache)
    with redis.Redis.from_url(redis_url.rpartition("/")[0] + "/5") as other:
        for _ in range(3):
            other.set("a", "1")
            other.flushdb()
            settle(cache)
            settle(cache)
    assert held_in_l1(cache, K) == V1
    assert count(cache, Event.GAP) == 0
    make_cache().invalidate([K])
    eventually(lambda: held_in_l1(cache, K) is None, "the invalidation")


@pytest.mark.parametrize("sequence", [2**62, 10**30])
def test_a_message_with_a_huge_number_wipes_nothing(
    sequence: int, make_cache: MakeCache, source: Truth, client: redis.Redis
) -> None:
    """It empties this L1, as a gap does; what L2 holds stays, and stays in use."""
    cache = make_cache()
    source.put(K)
    assert cache.get(K, source.load) == V1
    settle(cache)
    client.publish(CHANNEL, json.dumps({"v": 1, "source": "x", "seq": sequence, "keys": ["customer_9"]}))
    settle(cache)
    assert cache.get_many([K], source.load).sources == {K: Source.L2}
    settle(cache)
    assert not cache._process.recovery.l2_is_old
    assert client.exists(f"{PREFIX}:{K}")
    assert count(cache, Event.GAP) >= 1
    make_cache().invalidate([K])
    eventually(lambda: held_in_l1(cache, K) is None, "the invalidation")


def test_signs_in_a_prefix_mean_themselves(redis_url: str, source: Truth, client: redis.Redis) -> None:
    """A pattern clears one's own keys, and not those of a neighbour whose prefix the signs would match."""
    own = listening(Cache.from_url(redis_url, CODECS, prefix="app[1]*"))
    neighbour = listening(Cache.from_url(redis_url, CODECS, prefix="app1x"))
    try:
        source.put(K)
        assert own.get(K, source.load) == neighbour.get(K, source.load) == V1
        assert list(own.l2.scan("*")) == [K]
        own.invalidate_matching("customer_*")
        assert not client.exists(f"app[1]*:{K}")
        assert client.exists(f"app1x:{K}")
    finally:
        own.close()
        neighbour.close()


def test_a_demoted_server_is_left(valkey: EmbeddedValkey, own_valkey: EmbeddedValkey, source: Truth) -> None:
    """Behind the same name there is another server now. Seen to fail: each invalidation failed for ever."""
    with Proxy(own_valkey.port) as name, redis.Redis.from_url(own_valkey.url()) as old:
        cache = listening(Cache(connect(name.url()), CODECS, prefix=PREFIX, owns_client=True))
        try:
            source.put(K)
            assert cache.get(K, source.load) == V1
            name.target = valkey.port
            old.replicaof("127.0.0.1", "1")

            def invalidated() -> bool:
                try:
                    return cache.invalidate([K]) == 1
                except CacheUnavailable:
                    return False

            eventually(invalidated, "the invalidation")
            eventually(lambda: count(cache, Event.RECONNECT) == 1, "the new channel")
        finally:
            cache.close()
