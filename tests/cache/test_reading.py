"""Reading: how many commands it takes, how long things live, what is remembered, and what is not believed."""

import time
from typing import Any, NoReturn

import pytest
import redis

from servease_appt.cache import Event, Source, Tier
from servease_appt.cache.reading import EMPTY_READS
from servease_appt.testing.fault_proxy import LinkKind, Proxy
from tests.cache.conftest import Background, MakeCache
from tests.cache.testbed import (
    LIMIT_S,
    PREFIX,
    Cache,
    Versioned,
    eventually,
    held_in_l1,
    monkeypatch,
    policy,
    settle,
    stop_after,
)
from tests.cache.testbed import Source as Truth

K = "customer_1"
DATA = f"{PREFIX}:{K}"
V1, V2 = Versioned("1", 1), Versioned("1", 2)
PAGE = [f"{kind}_{n}" for kind in ("customer", "vehicle", "employee") for n in range(20)]


def count(cache: Cache, tier: Tier, event: Event) -> int:
    """What the cache's own Stats say."""
    number: int = cache.recorder.get(tier, event)  # type: ignore[attr-defined]
    return number


def expire_by_hand(client: redis.Redis, cache: Cache, key: str = K) -> None:
    """Delete a value as an operator or its end of life would, and wait until L1 has followed. The copy stays."""
    client.delete(cache.keys.data(key))
    eventually(lambda: held_in_l1(cache, key) is None, "the drop of what was deleted by hand")


class TestCommands:
    """How many round trips a page costs, counted on the wire."""

    def test_a_warm_page_sends_nothing(self, make_cache: MakeCache, source: Truth, proxy: Proxy) -> None:
        """Sixty references in L1 cost no command at all, a hundred times over."""
        cache = make_cache(url=proxy.url())
        for key in PAGE:
            source.put(key)
        cache.get_many(PAGE, source.load)
        settle(cache)
        settle(cache)
        before = proxy.commands(LinkKind.DATA)
        for _ in range(100):
            lookup = cache.get_many(PAGE, source.load)
        assert lookup.sources == {}
        assert proxy.commands(LinkKind.DATA) == before

    def test_what_l1_lacks_costs_one_command(
        self, make_cache: MakeCache, source: Truth, proxy: Proxy
    ) -> None:
        """All that is in L2 alone comes with a single MGET, of which L1 then keeps everything."""
        other, cache = make_cache(), make_cache(url=proxy.url())
        for key in PAGE:
            source.put(key)
        other.get_many(PAGE, source.load)
        settle(cache)
        before = len(proxy.commands(LinkKind.DATA))
        lookup = cache.get_many(PAGE, source.load)
        sent = [name for name in proxy.commands(LinkKind.DATA)[before:] if name not in ("HELLO", "SELECT")]
        assert sent == ["MGET"]
        assert set(lookup.sources.values()) == {Source.L2}
        assert cache.get_many(PAGE, source.load).sources == {}
        assert sum(source.loads.values()) == len(PAGE)

    def test_a_cold_page_costs_few_commands(
        self, make_cache: MakeCache, source: Truth, proxy: Proxy, background: Background
    ) -> None:
        """Sixty loads that end side by side: an MGET, one request for all leases, and far fewer fills than
        loads."""
        cache = make_cache(url=proxy.url())
        for key in PAGE:
            source.put(key)
        gates = [source.hold(key) for key in PAGE]
        reading = background.submit(cache.get_many, PAGE, source.load)
        for gate in gates:
            gate.wait_for_arrival()
        for gate in gates:
            gate.open()
        lookup = reading.result(LIMIT_S)
        assert set(lookup.sources.values()) == {Source.UPSTREAM}
        sent = proxy.commands(LinkKind.DATA)
        assert sent.count("MGET") == 1
        assert sent.count("EVALSHA") < len(PAGE) / 2

    def test_no_command_wants_keys_scanned(self, make_cache: MakeCache, source: Truth, proxy: Proxy) -> None:
        """KEYS is never sent, not by an invalidation of everything either."""
        cache = make_cache(url=proxy.url())
        source.put(K)
        cache.get(K, source.load)
        cache.invalidate_matching("*")
        assert "KEYS" not in proxy.commands()
        assert "SCAN" in proxy.commands(LinkKind.DATA)


class TestLifetimes:
    """Nothing lives longer than it may."""

    def test_no_value_outlives_its_ttl_in_l2(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """Every value has an end, at most `ttl_s` ahead, and they do not all have the same one; what else lies
        there ends, too, but for the sequence and the list of workers."""
        cache = make_cache(policy=policy(ttl_s=300))
        for key in PAGE:
            source.put(key)
        cache.get_many([*PAGE, "customer_none"], source.load)
        lives: dict[str, Any] = {key: client.pttl(cache.keys.data(key)) for key in PAGE}
        assert all(0 < life <= 300_000 for life in lives.values())
        assert len({life // 1000 for life in lives.values()}) > 5
        names: Any = client.keys(f"{PREFIX}:*")
        endless = [name.decode() for name in names if client.ttl(name) == -1]
        assert set(endless) <= {cache.keys.sequence, cache.keys.workers}

    def test_l1_outlives_l2_by_its_own_life_at_most(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """R12. A value with no life left in L2 is kept in L1 for `l1_ttl_s` from the reading at the most; and as
        the server tells when it ends, in fact not even that long."""
        other, cache = make_cache(), make_cache(policy=policy(l1_ttl_s=10))
        source.put(K)
        other.get(K, source.load)
        settle(cache)
        client.persist(DATA)
        before_s = cache._clock()
        assert cache.get(K, source.load) == V1
        entry = cache.l1.held([K])[K]
        assert before_s <= entry.loaded_at_s <= cache._clock()
        assert entry.expires_at_s <= entry.loaded_at_s + 10
        client.pexpire(DATA, 1)
        eventually(lambda: held_in_l1(cache, K) is None, "the end of the entry in L1")

    @pytest.mark.parametrize("off", ["l1_ttl_s", "negative_ttl_s", "stale_ttl_s"])
    def test_what_is_turned_off_is_not_there(
        self, off: str, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """L1, the remembered absence and the stale copy can each be done without."""
        cache = make_cache(policy=policy(**{off: 0}))
        source.put(K)
        cache.get_many([K, "customer_none"], source.load)
        cache.get_many([K, "customer_none"], source.load)
        assert (held_in_l1(cache, K) is None) is (off == "l1_ttl_s")
        assert (source.loads["customer_none"] == 2) is (off == "negative_ttl_s")
        assert bool(client.exists(cache.keys.stale_copy(K))) is (off != "stale_ttl_s")

    def test_a_key_in_steady_use_is_never_waited_for(
        self, make_cache: MakeCache, source: Truth, background: Background
    ) -> None:
        """With a TTL of a second a key is read for three of them: after the first load no reader waits for
        another, for each comes before the value ends."""
        cache = make_cache(policy=policy(ttl_s=1.0, l1_ttl_s=10))
        source.put(K)
        assert cache.get(K, source.load) == V1
        waited: list[str] = []
        refreshed = background.gate()
        refreshed.open()
        stop_after(cache._process.loader, "refresh", refreshed)
        until_s = time.monotonic() + LIMIT_S
        while source.loads[K] < 4 and time.monotonic() < until_s:
            lookup = cache.get_many([K], source.load)
            waited += [origin.value for origin in lookup.sources.values() if origin is not Source.L2]
        assert source.loads[K] == 4
        assert waited == []
        assert count(cache, Tier.UPSTREAM, Event.REFRESH) >= 3


class TestAbsence:
    """What the source does not have."""

    def test_an_absence_is_remembered_for_everybody(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """One 404 serves this worker and the others, is no value in L2, and ends with its own TTL."""
        a, b = make_cache(), make_cache()
        for cache in (a, a, b, b):
            lookup = cache.get_many([K], source.load)
            assert lookup.values == {K: None}
            assert lookup.sources == {K: Source.UNKNOWN}
        assert source.loads[K] == 1
        assert client.get(DATA) is None
        left_ms: Any = client.pttl(a.keys.absent(K))
        assert 0 < left_ms <= a.policy.negative_ttl_s * 1000

    def test_an_absence_goes_at_once_with_an_invalidation(self, make_cache: MakeCache, source: Truth) -> None:
        """A customer who has just been created is seen by all as soon as that is told."""
        a, b = make_cache(), make_cache()
        assert a.get(K, source.load) is None
        assert b.get(K, source.load) is None
        source.put(K)
        a.invalidate([K])
        settle(b)
        assert a.get(K, source.load) == V1
        assert b.get(K, source.load) == V1

    def test_a_value_that_ends_takes_its_copy_along(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """Once the source has said that there is none, the stale copy stands in for nobody."""
        cache = make_cache()
        source.put(K)
        cache.get(K, source.load)
        expire_by_hand(client, cache)
        source.remove(K)
        assert cache.get(K, source.load) is None
        assert not client.exists(cache.keys.stale_copy(K))


class TestCorruption:
    """Whatever somebody writes under a key."""

    @pytest.mark.parametrize(
        "payload",
        [
            b"{bad json",
            b"[]",
            b"null",
            b"\xff\xfe\x00",
            b"",
            b'{"id": "2", "version": 9}',
            b'{"id": "1", "version": 9, "role": "admin"}',
            b'{"id": "1"}',
            b'{"id": "1", "version": 9}' + b" " * 5_000_000,
        ],
        ids=["json", "list", "null", "utf-8", "empty", "other id", "extra", "lacking", "5 MB"],
    )
    def test_what_is_no_value_is_a_miss(
        self, payload: bytes, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """It is not shown, counted, and replaced by what the source says."""
        cache = make_cache(timeout_s=2.0)
        source.put(K)
        client.set(DATA, payload)
        lookup = cache.get_many([K], source.load)
        assert lookup.values == {K: V1}
        assert lookup.sources == {K: Source.UPSTREAM}
        assert count(cache, Tier.L2, Event.CORRUPT) == 1
        stored: Any = client.get(DATA)
        assert stored == b'{"id": "1", "version": 1}'

    @pytest.mark.parametrize("payload", [b"[]", b"x" * 2_000_000])
    def test_it_is_deleted_also_when_nothing_replaces_it(
        self, payload: bytes, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """With the source down, the bytes are gone all the same."""
        cache = make_cache(timeout_s=2.0)
        source.fail(K, OSError("down"))
        client.set(DATA, payload)
        assert cache.get(K, source.load) is None
        assert not client.exists(DATA)

    @pytest.mark.parametrize("name", ["data", "lease", "absent", "stale_copy"])
    def test_a_key_of_another_type_hides_nothing(
        self, name: str, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """A list under any of an entry's names is cleared away by the first reader."""
        cache = make_cache()
        source.put(K)
        where = getattr(cache.keys, name)(K)
        client.lpush(where, "x")
        assert cache.get(K, source.load) == V1
        assert client.type(where) in (b"string", b"none")
        assert client.get(DATA) is not None

    @pytest.mark.parametrize("stored", [b"abc", b"-1", b"9" * 30, b""])
    def test_an_overwritten_sequence_stops_nothing(
        self, stored: bytes, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """Reading goes on, an invalidation goes through, and the listeners go with it.

        Seen to fail before the scripts and the readers expected anything but a number there.
        """
        a, b = make_cache(), make_cache()
        source.put(K)
        assert a.get(K, source.load) == V1
        client.set(a.keys.sequence, stored)
        assert b.get(K, source.load) == V1
        source.put(K)
        assert a.invalidate([K]) == 1
        settle(b)
        assert b.get(K, source.load) == V2

    def test_a_list_under_the_sequence_is_healed_by_an_invalidation(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """Until then the channel is unsure; pages are served."""
        cache = make_cache()
        source.put(K)
        client.delete(cache.keys.sequence)
        client.lpush(cache.keys.sequence, "x")
        assert cache.get(K, source.load) == V1
        source.put(K)
        assert cache.invalidate([K]) == 1
        assert cache.get(K, source.load) == V2
        settle(cache)

    def test_a_corrupt_copy_does_not_stand_in(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """A stale copy is checked as any value is."""
        cache = make_cache()
        client.set(cache.keys.stale_copy(K), b'{"id": "2", "version": 1}')
        source.fail(K, OSError("down"))
        assert cache.get(K, source.load) is None


class TestStale:
    """The stale copy."""

    def test_it_stands_in_when_the_load_fails(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """A value that was deleted by hand or has expired is still there for a source that is down, and is kept
        nowhere as data; when the source is back, so is the truth."""
        a, b = make_cache(), make_cache()
        source.put(K)
        a.get(K, source.load)
        expire_by_hand(client, a)
        source.fail(K, OSError("down"))
        for cache in (a, b):
            lookup = cache.get_many([K], source.load)
            assert lookup.values == {K: V1}
            assert lookup.sources == {K: Source.STALE}
            assert held_in_l1(cache, K) is None
            assert count(cache, Tier.UPSTREAM, Event.STALE) == 1
        assert client.get(DATA) is None
        source.put(K)
        source.fail(K, None)
        assert a.get(K, source.load) == V2

    def test_it_stands_in_when_the_load_is_slow(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """At the soft deadline a page goes out with the copy; the load goes on and is kept for the next one."""
        cache = make_cache(policy=policy(soft_timeout_s=0.05, load_timeout_s=5.0))
        source.put(K)
        cache.get(K, source.load)
        expire_by_hand(client, cache)
        source.put(K)
        held = source.hold(K)
        assert cache.get_many([K], source.load).sources == {K: Source.STALE}
        source.release(K)
        held.open()
        eventually(lambda: held_in_l1(cache, K) == V2, "the end of the load")
        assert client.get(DATA) is not None
        assert source.loads[K] == 2

    def test_without_it_the_hard_deadline_counts(self, make_cache: MakeCache, source: Truth) -> None:
        """Nothing known and a source that hangs: nothing, at the deadline and not before."""
        cache = make_cache(policy=policy(soft_timeout_s=0.05, load_timeout_s=0.4))
        source.put(K)
        held = source.hold(K)
        began_s = time.monotonic()
        lookup = cache.get_many([K], source.load)
        assert lookup.values == {K: None}
        assert 0.4 <= time.monotonic() - began_s < 2.0
        held.open()

    def test_one_slow_key_does_not_hold_up_the_copies_of_others(
        self, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """A key with nothing to stand in for it is waited for; the others' values come with it, fresh."""
        cache = make_cache(policy=policy(soft_timeout_s=0.05, load_timeout_s=0.4))
        source.put(K)
        cache.get(K, source.load)
        expire_by_hand(client, cache)
        source.put(K)
        source.put("vehicle_1")
        held = source.hold("vehicle_1")
        lookup = cache.get_many([K, "vehicle_1"], source.load)
        assert lookup.values == {K: V2, "vehicle_1": None}
        held.open()

    @pytest.mark.parametrize("how", ["code", "pattern", "publish", "flushdb"])
    def test_every_way_but_del_removes_it(
        self, how: str, make_cache: MakeCache, source: Truth, client: redis.Redis
    ) -> None:
        """After any invalidation but a DEL by hand, a source that is down means nothing rather than the old."""
        cache = make_cache()
        source.put(K)
        cache.get(K, source.load)
        source.fail(K, OSError("down"))
        match how:
            case "code":
                cache.invalidate([K])
            case "pattern":
                cache.invalidate_matching("customer_*")
            case "publish":
                client.publish(cache.keys.channel, K)
            case "flushdb":
                client.flushdb()
        eventually(lambda: not client.exists(cache.keys.stale_copy(K)), "the end of the copy")
        settle(cache)
        assert cache.get(K, source.load) is None


class TestEmptyL2:
    """A process whose reads of L2 find nothing asks for leases at once, which saves a round trip."""

    @pytest.fixture
    def expecting_nothing(self, make_cache: MakeCache, source: Truth) -> Cache:
        """A cache whose last reads of L2 found nothing."""
        cache = make_cache()
        for n in range(100, 100 + EMPTY_READS):
            source.put(f"customer_{n}")
            cache.get(f"customer_{n}", source.load)
        return cache

    def test_no_read_comes_before_the_leases(self, expecting_nothing: Cache, source: Truth) -> None:
        """And the value is loaded and stored as always."""
        monkeypatch(expecting_nothing.l2, "read", _never)
        source.put(K)
        assert expecting_nothing.get_many([K], source.load).sources == {K: Source.UPSTREAM}

    def test_a_value_is_found_all_the_same(
        self, expecting_nothing: Cache, source: Truth, client: redis.Redis
    ) -> None:
        """By the request for the lease. After that, L2 is read first again."""
        client.set(DATA, b'{"id": "1", "version": 9}')
        assert expecting_nothing.get_many([K], source.load).sources == {K: Source.L2}
        monkeypatch(expecting_nothing.l2, "acquire", _never)
        expecting_nothing.l1.flush()
        assert expecting_nothing.get_many([K], source.load).sources == {K: Source.L2}

    def test_bytes_that_are_no_value_are_replaced(
        self, expecting_nothing: Cache, source: Truth, client: redis.Redis
    ) -> None:
        """By the next read, as the lease's answer does not say that they may be deleted."""
        client.set(DATA, b"{bad json")
        source.put(K)
        assert expecting_nothing.get(K, source.load) == V1
        expecting_nothing.l1.flush()
        assert expecting_nothing.get(K, source.load) == V1
        assert client.get(DATA) == b'{"id": "1", "version": 1}'

    def test_a_number_that_the_listener_lacks_is_looked_into(
        self, expecting_nothing: Cache, source: Truth, client: redis.Redis
    ) -> None:
        """A lost message shows in the answer to a request for leases, too."""
        listener = expecting_nothing._process.listener
        seen: list[int | None] = []
        monkeypatch(listener, "observe_sequence", seen.append)
        sequence = client.incr(f"{PREFIX}:__seq")
        source.put(K)
        expecting_nothing.get(K, source.load)
        assert seen == [sequence]


def _never(*_: object, **__: object) -> NoReturn:
    raise AssertionError("not to be called")
