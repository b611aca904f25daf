"""Invalidation by every way there is, on servers that are full, read-only or being emptied by hand."""

import json
from typing import Any

import pytest
import redis

from servease_appt.cache import CacheUnavailable, Event, Tier
from servease_appt.cache.l2.protocol import Fill
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.conftest import MakeCache
from tests.cache.test_reading import count
from tests.cache.testbed import (
    PREFIX,
    Cache,
    Source,
    Versioned,
    eventually,
    held_in_l1,
    policy,
    settle,
)

K, OTHER = "customer_1", "customer_2"
DATA = f"{PREFIX}:{K}"
V1, V2 = Versioned("1", 1), Versioned("1", 2)

LIST_KEYS_AND_DELETE = """
local n = 0
for _, key in ipairs(redis.call('keys', ARGV[1])) do n = n + redis.call('del', key) end
return n
"""


def warm(source: Source, *caches: Cache, keys: tuple[str, ...] = (K,)) -> None:
    """Have all caches hold the keys in L1, and then a newer version in the source."""
    for key in keys:
        source.put(key)
    for cache in caches:
        cache.get_many(keys, source.load)
        settle(cache)
        settle(cache)
    for cache in caches:
        assert all(held_in_l1(cache, key) is not None for key in keys)
    for key in keys:
        source.put(key)


def see_new(source: Source, *caches: Cache, key: str = K, version: int = 2) -> None:
    """All caches serve the new version before long."""
    for cache in caches:
        eventually(
            lambda cache=cache: cache.get(key, source.load) == Versioned(key[-1], version),  # type: ignore[misc]
            "the end of the old value",
        )


class TestFromCode:
    """`invalidate` and `invalidate_matching`."""

    def test_own_reads_see_it_at_once(self, make_cache: MakeCache, source: Source) -> None:
        """K2. The worker that invalidates serves nothing older from the moment it returns, a thousand times."""
        cache = make_cache()
        source.put(K)
        for _ in range(300):
            cache.get(K, source.load)
            new = source.put(K)
            cache.invalidate([K])
            assert cache.get(K, source.load) == new

    def test_others_see_it_within_milliseconds(self, make_cache: MakeCache, source: Source) -> None:
        """K1. Every other worker has dropped its own as soon as the message is there: long before a heartbeat."""
        a, b, c = make_cache(), make_cache(), make_cache()
        warm(source, a, b, c)
        assert a.invalidate([K]) == 1
        for cache in (b, c):
            eventually(lambda cache=cache: held_in_l1(cache, K) is None, timeout_s=0.4)  # type: ignore[misc]
        see_new(source, a, b, c)

    def test_many_keys_and_double_ones(
        self, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """A thousand and more keys go in several messages; the number that is returned is that of distinct keys,
        whether anything was held or not."""
        a, b = make_cache(), make_cache()
        keys = tuple(f"customer_{n:04}" for n in range(1200))
        for key in keys:
            source.put(key)
        a.get_many(keys[:50], source.load)
        assert a.invalidate([*keys, *keys]) == len(keys)
        assert a.invalidate([]) == 0
        settle(b)
        assert client.exists(*(a.keys.data(key) for key in keys[:50])) == 0
        assert count(b, Tier.CHANNEL, Event.INVALIDATION) >= len(keys)

    def test_a_key_of_no_kind_is_an_error_and_nothing_is_done(
        self, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """All keys are looked at before the first is touched."""
        cache = make_cache()
        warm(source, cache)
        with pytest.raises(ValueError, match="invoice_1"):
            cache.invalidate([K, "invoice_1"])
        assert held_in_l1(cache, K) == V1
        assert client.exists(DATA)

    @pytest.mark.parametrize("pattern", ["customer_*", "customer_?", "customer_[1]", "*"])
    def test_by_pattern(
        self, pattern: str, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """Everything that matches goes from both tiers of all workers; the sequence and, unless it matches, the
        rest stay."""
        a, b = make_cache(), make_cache()
        warm(source, a, b, keys=(K, "vehicle_1"))
        a.invalidate_matching(pattern)
        settle(b)
        assert not client.exists(DATA)
        assert held_in_l1(b, K) is None
        assert bool(client.exists(a.keys.data("vehicle_1"))) is (pattern != "*")
        assert client.exists(a.keys.sequence)
        see_new(source, a, b)

    @pytest.mark.parametrize("pattern", ["__*", "?_seq", "_*"])
    def test_a_pattern_never_reaches_the_caches_own_keys(
        self, pattern: str, make_cache: MakeCache, client: redis.Redis
    ) -> None:
        """The sequence is no value, however cleverly it is asked for. Seen to fail for `__*`."""
        cache = make_cache()
        before: Any = client.get(cache.keys.sequence)
        cache.invalidate_matching(pattern)
        after: Any = client.get(cache.keys.sequence)
        assert int(after) == int(before) + 1


class TestByHand:
    """An operator's `redis-cli`."""

    @pytest.mark.parametrize("how", ["DEL", "UNLINK", "EVAL", "EXPIRE", "SET"])
    def test_what_is_done_to_the_value_every_l1_follows(
        self, how: str, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """Gone or changed in L2, it is gone from all L1; the stale copy stays."""
        a, b = make_cache(), make_cache()
        warm(source, a, b)
        match how:
            case "DEL":
                client.delete(DATA)
            case "UNLINK":
                client.unlink(DATA)
            case "EVAL":
                client.eval(LIST_KEYS_AND_DELETE, 0, f"{PREFIX}:customer_*")
            case "EXPIRE":
                client.pexpire(DATA, 1)
            case "SET":
                client.set(DATA, '{"id": "1", "version": 2}', px=60_000)
        see_new(source, a, b)
        assert client.exists(a.keys.stale_copy(K))

    def test_flushdb_empties_every_l1_and_stops_fills(
        self, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """Everything is gone, the stale copies, too; the load under way stores nothing."""
        a, b = make_cache(), make_cache()
        warm(source, a, b)
        client.flushdb()
        see_new(source, a, b)
        # The sequence went as well: the next message is not taken for the next in the old row.
        source.put(K)
        a.invalidate([K])
        see_new(source, a, b, version=3)

    def test_the_first_invalidation_after_a_flush_is_no_lost_message(
        self, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """It begins a new row of numbers: what a worker holds by then goes, and nothing is said to be lost."""
        a, b = make_cache(), make_cache()
        client.flushdb()
        eventually(lambda: count(b, Tier.CHANNEL, Event.FLUSH) == 2, "the flush is heard")
        warm(source, b, keys=(OTHER,))
        a.invalidate([K])
        settle(a, b)

        assert count(b, Tier.CHANNEL, Event.FLUSH) == 3
        assert held_in_l1(b, OTHER) is None
        assert [count(cache, Tier.CHANNEL, Event.GAP) for cache in (a, b)] == [0, 0]

    def test_other_peoples_keys_do_not_matter(
        self, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """What happens outside the tracked prefixes, also to the cache's own side keys, costs L1 nothing."""
        cache = make_cache()
        warm(source, cache)
        client.set("session:1", "x")
        client.delete(cache.keys.stale_copy(K))
        client.set(f"{PREFIX}:appointments", "x")
        settle(cache)
        assert held_in_l1(cache, K) == V1

    def test_the_same_value_again_costs_nothing(
        self, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """A change that changes nothing, as another worker's refresh mostly is, leaves L1 warm."""
        cache = make_cache()
        warm(source, cache)
        client.set(DATA, '{"id": "1", "version": 1}', px=60_000)
        settle(cache)
        settle(cache)
        assert held_in_l1(cache, K) == V1


class TestPublished:
    """Requests from any Redis client."""

    @pytest.mark.parametrize(
        "payload",
        [
            K,
            f"{PREFIX}:{K}",
            json.dumps({"keys": [K, "vehicle_9"]}),
            json.dumps({"pattern": "customer_*"}),
            json.dumps({"keys": ["invoice_1", K]}),
            json.dumps({"keys": [5, K, ""]}),
        ],
    )
    def test_it_drops_l2_and_every_l1(
        self, payload: str, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """Plain and as JSON, the message alone is enough."""
        a, b = make_cache(), make_cache()
        warm(source, a, b)
        assert client.publish(f"{PREFIX}:invalidate", payload) == 2
        eventually(lambda: not client.exists(a.keys.stale_copy(K)), "the end of the copy")
        see_new(source, a, b)

    def test_it_stops_a_load_under_way(self, make_cache: MakeCache, client: redis.Redis) -> None:
        """From the moment a worker has handled it, what was being loaded can be stored no more."""
        cache = make_cache()
        (lease,) = cache.l2.acquire([K], "somebody's", 60_000)
        assert lease.state == "granted"
        client.publish(f"{PREFIX}:invalidate", K)
        eventually(lambda: not client.exists(cache.keys.lease(K)), "the end of the lease")
        assert cache.l2.fill([Fill(K, b"somebody's", b"{}", 1000, 1000)]) == [False]

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"hello",
            b"__seq",
            b"invoice_1",
            b"\xff\xfe",
            b"{",
            b'{"keys": []}',
            b'{"v": 9, "keys": ["customer_1"]}',
            b'{"keys": ["__seq", "__lease:x"]}',
            b"x" * 1_000_000,
            b"[" * 1_000_000,
            b'{"keys": ["' + b"x" * 1_100_000 + b'"]}',
        ],
        ids=range(12),
    )
    def test_what_can_not_be_read_is_counted_and_passed_over(
        self, payload: bytes, make_cache: MakeCache, source: Source, client: redis.Redis
    ) -> None:
        """Nothing is lost, nothing stops; the next message is heard. Keys of no kind were carried out once."""
        cache = make_cache()
        warm(source, cache)
        sequence: Any = client.get(cache.keys.sequence)
        client.publish(f"{PREFIX}:invalidate", payload)
        settle(cache)
        assert count(cache, Tier.CHANNEL, Event.UNREADABLE) == 1
        assert held_in_l1(cache, K) == V1
        assert client.get(cache.keys.sequence) == sequence
        client.publish(f"{PREFIX}:invalidate", K)
        see_new(source, cache)

    def test_a_storm_is_survived(self, make_cache: MakeCache, source: Source, client: redis.Redis) -> None:
        """Ten thousand messages at once, half of them unreadable: afterwards the worker hears as before."""
        cache = make_cache()
        warm(source, cache)
        with client.pipeline(transaction=False) as pipeline:
            for n in range(5000):
                pipeline.publish(
                    f"{PREFIX}:invalidate", f'{{"v":1,"seq":1,"source":"x","keys":["customer_{n}"]}}'
                )
                pipeline.publish(f"{PREFIX}:invalidate", b"{")
            pipeline.execute()
        settle(cache)
        assert count(cache, Tier.CHANNEL, Event.UNREADABLE) == 5000
        client.publish(f"{PREFIX}:invalidate", K)
        see_new(source, cache)


class TestServersThatRefuse:
    """Full and read-only."""

    def test_a_full_server_takes_an_invalidation_and_pages_work(
        self, make_cache: MakeCache, source: Source, own_valkey: EmbeddedValkey
    ) -> None:
        """`maxmemory` with `noeviction`: values can't be stored, an invalidation goes through, pages are answered
        from the source."""
        a, b = (make_cache(url=own_valkey.url(), policy=policy(stale_ttl_s=0)) for _ in range(2))
        warm(source, a, b)
        with redis.Redis.from_url(own_valkey.url()) as operator:
            operator.config_set("maxmemory-policy", "noeviction")
            operator.config_set("maxmemory", "1")
            with pytest.raises(redis.OutOfMemoryError):
                operator.set("a", "1")
            assert a.invalidate([K]) == 1
            settle(b)
            assert held_in_l1(b, K) is None
            assert not operator.exists(DATA)
            source.put(OTHER)
            for cache in (a, b):
                assert cache.get_many([K, OTHER], source.load).values == {K: V2, OTHER: Versioned("2", 1)}
            assert not operator.exists(DATA)
            a.invalidate_matching("customer_*")
            operator.delete(a.keys.sequence)
            assert a.invalidate([K]) == 1, "also where the sequence has to be made anew"
            operator.config_set("maxmemory", "0")
        source.put(K)
        assert b.invalidate([K]) == 1
        assert b.get(K, source.load) == Versioned("1", 3)

    def test_a_read_only_server_makes_an_invalidation_fail(
        self, make_cache: MakeCache, source: Source, own_valkey: EmbeddedValkey
    ) -> None:
        """The caller is told, and this worker's own L1 is dropped all the same; pages are still answered."""
        cache = make_cache(url=own_valkey.url())
        warm(source, cache, keys=(K, OTHER))
        with redis.Redis.from_url(own_valkey.url()) as operator:
            operator.replicaof("127.0.0.1", "1")
            for attempt in (lambda: cache.invalidate([K]), lambda: cache.invalidate_matching("customer_*")):
                with pytest.raises(CacheUnavailable):
                    attempt()
                assert held_in_l1(cache, K) is None
            assert count(cache, Tier.L2, Event.FAILED_INVALIDATION) == 2
            assert cache.get(K, source.load) == V1, "L2 still has it, and nobody could delete it"
            source.put("vehicle_1")
            assert cache.get("vehicle_1", source.load) == Versioned("1", 1)
            operator.replicaof("NO", "ONE")
        assert cache.invalidate([K]) == 1
        assert cache.get(K, source.load) == V2

    def test_no_permission_is_a_refusal(
        self, make_cache: MakeCache, source: Source, own_valkey: EmbeddedValkey
    ) -> None:
        """An ACL that forbids scripts: pages work, an invalidation says that it did not happen."""
        cache = make_cache(url=own_valkey.url())
        source.put(K)
        assert cache.get(K, source.load) == V1
        with redis.Redis.from_url(own_valkey.url()) as operator:
            operator.execute_command("ACL", "SETUSER", "default", "-@scripting")
            with pytest.raises(CacheUnavailable):
                cache.invalidate([K])
            source.put(OTHER)
            assert cache.get(OTHER, source.load) == Versioned("2", 1)
