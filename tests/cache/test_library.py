"""What the cache offers a program of its own: decorator, set, peek, batch loads, lifetimes, tags."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import redis

from servease_appt.cache import (
    CachePolicy,
    Codec,
    Found,
    Lifetimes,
    LoadDenied,
    Loaded,
    LoadFailed,
    NoValue,
    Source,
    TwoTierCache,
    ValueNotFound,
    json_codec,
    with_tags,
)
from servease_appt.cache.errors import CacheError
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.testing import HandClock, MemoryServer
from tests.cache.conftest import Background, MakeCache
from tests.cache.testbed import (
    LIMIT_S,
    PREFIX,
    Versioned,
    eventually,
    held_in_l1,
    policy,
    settle,
)
from tests.cache.testbed import (
    Source as Versions,
)

K = "customer_1"
KEYS = KeySpace(PREFIX)


def returning(value: Any) -> Callable[[str, float], Any]:
    """A loader of one value."""
    return lambda _key, _timeout_s: value


def json_cache(make_cache: MakeCache, *codecs: Codec[Any], **options: Any) -> TwoTierCache[Any]:
    """A cache of JSON objects."""
    return make_cache(codecs=codecs or (json_codec("customer"),), **options)


class TestDecorator:
    """`@cache.cached("customer")`."""

    def test_the_function_runs_once_for_all_workers(self, make_cache: MakeCache) -> None:
        """Two workers, one call, until it is invalidated."""
        calls: list[str] = []
        functions = []
        for cache in (json_cache(make_cache), json_cache(make_cache)):

            @cache.cached("customer")
            def customer(id_: str) -> dict[str, Any]:
                """Return a customer."""
                calls.append(id_)
                return {"n": len(calls)}

            functions.append(customer)
        a, b = functions

        assert a("1") == b("1") == {"n": 1}
        assert a.__doc__ == "Return a customer."
        assert a.invalidate("1") == 1
        assert a("1") == {"n": 2}

    @pytest.mark.parametrize(
        ("raised", "expected"),
        [(ValueNotFound, ValueNotFound), (LoadDenied, LoadDenied), (OSError, LoadFailed)],
    )
    def test_what_a_call_raises(
        self, make_cache: MakeCache, raised: type[Exception], expected: type[Exception]
    ) -> None:
        """Without a value the caller is told why."""
        cache = json_cache(make_cache)

        @cache.cached("customer")
        def customer(id_: str) -> dict[str, Any]:
            raise raised(id_)

        with pytest.raises(expected):
            customer("1")

    def test_a_function_that_cannot_be_called_so_is_refused(self, make_cache: MakeCache) -> None:
        """At the decorator, not at the first call."""
        cache = json_cache(make_cache, ready=False)

        async def later(_id: str) -> dict[str, Any]:
            return {}

        def without_id() -> dict[str, Any]:
            return {}

        with pytest.raises(TypeError, match="takes an id"):
            cache.cached("customer")(without_id)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="async"):
            cache.cached("customer")(later)


class TestSet:
    """`cache.set`."""

    def test_it_replaces_the_value_in_every_worker(self, make_cache: MakeCache, source: Versions) -> None:
        """Also in L1 of another worker, which had the old value."""
        a, b = make_cache(), make_cache()
        source.put(K, 1)
        assert a.get(K, source.load) == b.get(K, source.load) == Versioned("1", 1)

        assert a.set(K, Versioned("1", 2))
        settle(b)

        assert a.get(K, source.load) == b.get(K, source.load) == Versioned("1", 2)

    def test_a_load_that_began_before_does_not_undo_it(
        self, make_cache: MakeCache, source: Versions, background: Background
    ) -> None:
        """Its lease is gone, and L1 refuses what it brings."""
        a = make_cache()
        source.put(K, 1)
        gate = source.hold(K)
        loading = background.submit(a.get, K, source.load)
        gate.wait_for_arrival()

        assert a.set(K, Versioned("1", 2))
        gate.open()
        loading.result(LIMIT_S)

        assert a.peek(K).value == Versioned("1", 2)

    def test_lifetimes(self, make_cache: MakeCache, client: redis.Redis) -> None:
        """The policy's, one of its own, none."""
        cache = make_cache(policy=policy(ttl_s=200))
        for key, ttl_s in ((K, None), ("customer_2", 50.0), ("customer_3", math.inf)):
            assert cache.set(key, Versioned(key.partition("_")[2], 1), ttl_s=ttl_s)

        assert 190 < client.ttl(KEYS.data(K)) <= 200
        assert 40 < client.ttl(KEYS.data("customer_2")) <= 50
        assert client.ttl(KEYS.data("customer_3")) == -1
        with pytest.raises(ValueError, match="ttl_s"):
            cache.set(K, Versioned("1", 1), ttl_s=0)


class TestPeekAndFind:
    """A value with its source and age, loaded or not."""

    def test_sources_and_ages(self) -> None:
        """Nothing, then the loader, then L1 and how long it has been there, then L2."""
        clock = HandClock()
        server = MemoryServer(clock)
        value = {"n": 1}
        with server.cache(json_codec("customer")) as a, server.cache(json_codec("customer")) as b:
            assert a.peek(K) == Found(None, Source.UNKNOWN, 0.0, NoValue.MISS)
            assert a.find(K, returning(value)) == Found(value, Source.UPSTREAM)
            server.settle()
            clock.move(3)
            server.settle()

            assert a.find(K, returning({})) == a.peek(K) == Found(value, Source.L1, 3.0)
            assert b.peek(K) == Found(value, Source.L2)
            assert b.peek(K).source is Source.L1

    def test_why_there_is_none(self, make_cache: MakeCache, source: Versions) -> None:
        """What the source has not is not found, also by a peek."""
        cache = make_cache()

        assert cache.find(K, source.load).no_value is NoValue.NOT_FOUND
        assert cache.peek(K).no_value is NoValue.NOT_FOUND


class TestLoadMany:
    """`get_many(keys, load_many=…)`: one call for all misses of a page."""

    def test_one_call_for_what_no_tier_has(self, make_cache: MakeCache, source: Versions) -> None:
        """A missing key has no value, an exception is that of its key, and all is cached as after single loads."""
        cache = make_cache()
        calls: list[list[str]] = []
        source.put("customer_9")
        cache.get("customer_9", source.load)

        def load_many(keys: Sequence[str], timeout_s: float) -> Mapping[str, Versioned | CacheError]:
            calls.append(list(keys))
            return {
                "customer_1": Versioned("1", 1),
                "customer_3": LoadDenied("customer_3"),
                "customer_4": LoadFailed("customer_4"),
            }

        keys = [f"customer_{n}" for n in (1, 2, 3, 4, 9)]
        lookup = cache.get_many(keys, load_many=load_many)

        assert calls == [keys[:4]]
        assert lookup.values["customer_1"] == Versioned("1", 1)
        assert lookup.no_values == {
            "customer_2": NoValue.NOT_FOUND,
            "customer_3": NoValue.DENIED,
            "customer_4": NoValue.FAILED,
        }
        again = make_cache().get_many(keys, load_many=load_many)
        assert calls[1:] == [["customer_3", "customer_4"]], "values and absences are in L2"
        assert again.sources["customer_1"] is Source.L2

    def test_one_call_for_each_codec(self, make_cache: MakeCache) -> None:
        """So that a source that hangs delays only its own keys."""
        calls: list[list[str]] = []

        def load_many(keys: Sequence[str], timeout_s: float) -> dict[str, Versioned]:
            calls.append(sorted(keys))
            return {key: Versioned(key.partition("_")[2], 1) for key in keys}

        keys = ["customer_1", "vehicle_1", "customer_2", "vehicle_2"]
        make_cache().get_many(keys, load_many=load_many)

        assert sorted(calls) == [["customer_1", "customer_2"], ["vehicle_1", "vehicle_2"]]

    def test_an_invalidated_key_of_the_batch_is_refused_by_both_tiers(
        self, make_cache: MakeCache, background: Background, client: redis.Redis
    ) -> None:
        """The others of the same call are stored."""
        cache, other = make_cache(), make_cache()
        gate = background.gate()

        def load_many(keys: Sequence[str], timeout_s: float) -> dict[str, Versioned]:
            gate.pass_through()
            return {key: Versioned(key.partition("_")[2], 1) for key in keys}

        loading = background.submit(cache.get_many, [K, "customer_2"], load_many=load_many)
        gate.wait_for_arrival()
        other.invalidate([K])
        settle(cache)
        gate.open()
        loading.result(LIMIT_S)

        assert client.get(KEYS.data(K)) is None
        assert client.get(KEYS.data("customer_2")) is not None
        assert held_in_l1(cache, K) is None
        assert held_in_l1(cache, "customer_2") == Versioned("2", 1)

    def test_a_call_that_fails_fails_for_each_key(
        self, make_cache: MakeCache, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged once, with its traceback."""

        def fails(keys: Sequence[str], timeout_s: float) -> dict[str, Versioned]:
            raise OSError("no route")

        def list_of(keys: Sequence[str], timeout_s: float) -> Any:
            return list(keys)

        cache = make_cache()
        lookup = cache.get_many([K, "customer_2"], load_many=fails)
        assert set(lookup.no_values.values()) == {NoValue.FAILED}
        assert [record.message for record in caplog.records if record.exc_info] == [
            f"The load of {K!r} failed"
        ]
        assert cache.get_many(["customer_3"], load_many=list_of).no_values["customer_3"] is NoValue.FAILED
        assert "a dict of values by key" in caplog.text

    def test_exactly_one_loader_is_needed(self, make_cache: MakeCache) -> None:
        """A mistake in the call is no failed load."""
        cache = make_cache(ready=False)
        with pytest.raises(TypeError, match="load or load_many"):
            cache.get_many([K])
        with pytest.raises(TypeError, match="loader is called as"):
            cache.get_many([K], load_many=lambda _keys: {})  # type: ignore[arg-type, misc]

    def test_a_refresh_keeps_what_it_does_not_find(self, make_cache: MakeCache) -> None:
        """A refresh calls the batch loader, too, and a value that it does not return stays until it expires."""
        cache = make_cache(policy=policy(ttl_s=100, l1_ttl_s=0))
        answers: list[dict[str, Versioned]] = [
            {"customer_1": Versioned("1", 1), "customer_2": Versioned("2", 1)},
            {"customer_1": Versioned("1", 2)},
        ]
        loaded = threading.Semaphore(0)

        def load_many(keys: Sequence[str], timeout_s: float) -> dict[str, Versioned]:
            loaded.release()
            return answers.pop(0)

        keys = ["customer_1", "customer_2"]
        cache.get_many(keys, load_many=load_many)
        assert loaded.acquire(timeout=LIMIT_S)
        settle(cache)  # or the report of the own store would schedule the keys again
        for key in keys:
            cache._process.schedule.learned(key, cache._clock(), 0.0)
        cache.get_many(keys, load_many=load_many)
        assert loaded.acquire(timeout=LIMIT_S)
        cache._process.submit(lambda: None).result(LIMIT_S)
        cache.close()

        after = make_cache(policy=policy(l1_ttl_s=0))
        assert after.peek("customer_1").value == Versioned("1", 2)
        assert after.peek("customer_2").value == Versioned("2", 1)


class TestLoaded:
    """A loader that says for how long."""

    def test_a_ttl_of_its_own(self, make_cache: MakeCache, client: redis.Redis) -> None:
        """In L2, and L1 does not hold it longer either."""
        cache = make_cache(policy=policy(ttl_s=300, l1_ttl_s=10))
        cache.get(K, returning(Loaded(Versioned("1", 1), ttl_s=4)))

        assert 3000 < client.pttl(KEYS.data(K)) <= 4000
        entry = cache.l1.held([K])[K]
        assert entry.expires_at_s - entry.loaded_at_s <= 4.001
        with pytest.raises(ValueError, match="keep=False"):
            Loaded(1, ttl_s=0)

    def test_a_value_that_must_not_be_kept(
        self, make_cache: MakeCache, client: redis.Redis, background: Background
    ) -> None:
        """Those who wait get it, no tier does, and the lease is free for the next call."""
        cache = make_cache()
        gate = background.gate()

        def load(key: str, timeout_s: float) -> Loaded[Versioned]:
            gate.pass_through()
            return Loaded(Versioned("1", 1), keep=False)

        callers = [background.submit(cache.get, K, load) for _ in range(2)]
        gate.wait_for_arrival()
        gate.open()

        assert [caller.result(LIMIT_S) for caller in callers] == [Versioned("1", 1)] * 2
        assert held_in_l1(cache, K) is None
        assert client.keys(f"{PREFIX}:*customer*") == []


class TestLifetimes:
    """A policy for each type of value."""

    def test_each_type_has_its_own(self, make_cache: MakeCache, client: redis.Redis) -> None:
        """TTL, absence, stale copy and L1."""
        rate = json_codec("rate", lifetimes=Lifetimes(ttl_s=20, l1_ttl_s=2, negative_ttl_s=5, stale_ttl_s=0))
        cache = json_cache(
            make_cache, json_codec("customer"), rate, policy=CachePolicy(ttl_s=200, l1_ttl_s=10, jitter=0)
        )

        def load(key: str, timeout_s: float) -> dict[str, Any]:
            if key.endswith("404"):
                raise ValueNotFound(key)
            return {}

        cache.get_many(["customer_1", "rate_1", "customer_404", "rate_404"], load)

        assert 190 < client.ttl(KEYS.data("customer_1")) <= 200
        assert 10 < client.ttl(KEYS.data("rate_1")) <= 20
        assert 50 < client.ttl(KEYS.absent("customer_404")) <= 60
        assert 1 < client.ttl(KEYS.absent("rate_404")) <= 5
        assert client.exists(KEYS.stale_copy("customer_1"), KEYS.stale_copy("rate_1")) == 1
        held = cache.l1.held(["customer_1", "rate_1"])
        assert {key: round(entry.expires_at_s - entry.loaded_at_s) for key, entry in held.items()} == {
            "customer_1": 10,
            "rate_1": 2,
        }

    def test_a_lifetime_out_of_range_is_refused(self, make_cache: MakeCache) -> None:
        """By the cache, with the name of the field."""
        with pytest.raises(ValueError, match="ttl_s must be more than 0"):
            json_cache(make_cache, json_codec("rate", lifetimes=Lifetimes(ttl_s=0)))


class TestTags:
    """One round trip invalidates any number of values."""

    def tagged_cache(self, make_cache: MakeCache) -> TwoTierCache[Any]:
        """A cache whose values may have tags."""
        return json_cache(make_cache, *with_tags(json_codec("product")))

    def test_all_values_of_a_tag_go_at_once_in_every_worker(
        self, make_cache: MakeCache, client: redis.Redis
    ) -> None:
        """By one script for 300 values, and values without the tag stay."""
        a, b = self.tagged_cache(make_cache), self.tagged_cache(make_cache)
        version = 1

        def load_many(keys: Sequence[str], timeout_s: float) -> dict[str, dict[str, int]]:
            return {key: {"version": version} for key in keys}

        keys = [f"product_{n}" for n in range(300)]
        for cache in (a, b):
            assert cache.tagged("shop").get_many(keys, load_many=load_many).values == {
                key: {"version": 1} for key in keys
            }
            cache.tagged("other").get_many(keys[:1], load_many=load_many)
        version = 2
        before = client.info("commandstats")

        assert a.invalidate_tags(["shop"]) == 1
        after = client.info("commandstats")
        settle(b)

        scripts = [
            sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))
            for stats in (before, after)
        ]
        assert scripts[1] - scripts[0] == 1
        for cache in (a, b):
            assert cache.tagged("shop").get_many(keys, load_many=load_many).values == {
                key: {"version": 2} for key in keys
            }
            assert cache.tagged("other").get(keys[0], returning({})) == {"version": 1}

    def test_a_load_that_began_before_the_invalidation_is_not_read_after_it(
        self, make_cache: MakeCache, background: Background
    ) -> None:
        """Neither here nor in the other worker. Seen to fail when the generation was read after the load."""
        a, b = self.tagged_cache(make_cache), self.tagged_cache(make_cache)
        gate = background.gate()

        def slow(key: str, timeout_s: float) -> dict[str, int]:
            gate.pass_through()
            return {"version": 1}

        loading = background.submit(a.tagged("shop").get, "product_1", slow)
        gate.wait_for_arrival()
        b.invalidate_tags(["shop"])
        settle(a)
        gate.open()
        assert loading.result(LIMIT_S) == {"version": 1}

        for cache in (a, b):
            assert cache.tagged("shop").get("product_1", returning({"version": 2})) == {"version": 2}

    def test_any_of_several_tags_and_single_keys(self, make_cache: MakeCache) -> None:
        """The order of the tags is no part of the name; the loader sees the plain key."""
        cache = self.tagged_cache(make_cache)
        seen: list[str] = []

        def load(key: str, timeout_s: float) -> dict[str, int]:
            seen.append(key)
            return {"n": len(seen)}

        both = cache.tagged("shop", "season")
        assert (
            both.get("product_1", load) == cache.tagged("season", "shop").get("product_1", load) == {"n": 1}
        )
        cache.invalidate_tags(["season"])
        assert both.get("product_1", load) == {"n": 2}
        assert both.invalidate(["product_1"]) == 1
        assert both.get("product_1", load) == {"n": 3}
        assert both.set("product_1", {"n": 9})
        assert both.get("product_1", load) == {"n": 9}
        assert seen == ["product_1"] * 3

    def test_a_message_of_another_program_invalidates_a_tag(
        self, make_cache: MakeCache, client: redis.Redis
    ) -> None:
        """A tag's generation is a key like others: a plain PUBLISH is enough."""
        cache = self.tagged_cache(make_cache)
        shop = cache.tagged("shop")
        assert shop.get("product_1", returning({"n": 1})) == {"n": 1}

        client.publish(KEYS.channel, "tag_shop")
        eventually(lambda: not client.exists(KEYS.data("tag_shop")), "the deletion of the generation")
        settle(cache)

        assert shop.get("product_1", returning({"n": 2})) == {"n": 2}

    def test_codecs_that_check_ids_see_the_plain_id(self, make_cache: MakeCache) -> None:
        """In `decode` and in `canonical`."""

        def check(rest: str) -> str | None:
            return rest if rest.isdigit() else None

        def decode(payload: bytes, rest: str) -> str:
            if not rest.isdigit():
                raise ValueError(rest)
            return payload.decode()

        codecs = with_tags(Codec("product", str.encode, decode, canonical=check))
        a, b = json_cache(make_cache, *codecs), json_cache(make_cache, *codecs)
        for cache in (a, b):
            assert cache.tagged("shop").get("product_1", returning("one")) == "one"
        a.tagged("shop").invalidate(["product_1"])
        settle(b)
        assert b.tagged("shop").get("product_1", returning("two")) == "two"

    def test_tags_need_a_codec(self, make_cache: MakeCache) -> None:
        """Whoever has none is told at the call."""
        cache = json_cache(make_cache)
        with pytest.raises(ValueError, match="'tag_shop' is no key"):
            cache.invalidate_tags(["shop"])
        with pytest.raises(ValueError, match="tag"):
            cache.tagged()
        with pytest.raises(ValueError, match="'tag'"):
            with_tags(json_codec("tag"))


def test_a_cache_is_closed_by_with(redis_url: str) -> None:
    """A closed cache refuses to read."""
    with TwoTierCache.from_url(redis_url, (json_codec("customer"),), prefix=PREFIX) as cache:
        assert cache.get(K, returning({"n": 1})) == {"n": 1}
    with pytest.raises(RuntimeError, match="closed"):
        cache.get_many(["customer_2"], returning({}))
