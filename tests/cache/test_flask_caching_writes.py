"""Which `set` of Flask-Caching is a fill and which is a write, and what a write does to the other workers."""

import gc
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from cachelib.serializers import BaseSerializer, JSONSerializer
from flask import Flask, abort, request
from flask_caching import Cache

from servease_appt.cache import CacheUnavailable
from servease_appt.cache.reading import EMPTY_READS
from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.flask_caching_workers import PREFIX, Commands, NewWorker, Worker
from tests.cache.testbed import Gate, eventually, monkeypatch, stop_before


@pytest.fixture
def seen_by(redis_url: str) -> Iterator[Any]:
    """An operator's connection."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


class ForwardingCache(Cache):
    """A host's subclass of Flask-Caching's class."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the base class does."""
        return super().get(*args, **kwargs)

    def set(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the base class does."""
        return super().set(*args, **kwargs)


class TestFences:
    """A fence lives within one request or one decorated call."""

    def test_a_set_in_a_later_request_is_a_write(self, new_worker: NewWorker) -> None:
        """A GET that found nothing says nothing about a later POST, be it on the same thread."""

        def app_of(worker: Worker) -> Any:
            app, cache, _ = worker

            @app.route("/rate", methods=["GET", "POST"])
            def rate() -> str:
                return str(cache.set("rate", request.args["v"]) if request.args else cache.get("rate"))

            return app.test_client()

        first, second = app_of(new_worker()), app_of(new_worker())
        assert first.get("/rate").text == "None"
        assert second.post("/rate?v=100").text == "True"

        assert first.post("/rate?v=250").text == "True"

        assert first.get("/rate").text == "250"
        eventually(lambda: second.get("/rate").text == "250")

    @pytest.mark.parametrize("in_app_context", [False, True])
    def test_a_set_outside_of_requests_always_wins(self, new_worker: NewWorker, in_app_context: bool) -> None:
        """Also where a `get` on the same thread found nothing before it."""
        app, cache, _ = new_worker()
        _, _, other = new_worker()

        def in_turn() -> None:
            assert cache.get("rate") is None
            assert other.set("rate", 100)
            assert cache.set("rate", 250)
            assert cache.get("rate") == 250

        if in_app_context:
            with app.app_context():
                in_turn()
        else:
            in_turn()
        eventually(lambda: other.get("rate") == 250)

    @pytest.mark.parametrize("forget", [lambda cache: cache.delete("key"), lambda cache: cache.clear()])
    def test_an_own_deletion_drops_the_fence(
        self, new_worker: NewWorker, forget: Callable[[Cache], Any]
    ) -> None:
        """What is stored after it was made after it."""
        app, cache, _ = new_worker()
        with app.test_request_context():
            assert cache.get("key") is None
            forget(cache)

            assert cache.set("key", 1)

            assert cache.get("key") == 1

    @pytest.mark.parametrize("cache_class", [Cache, ForwardingCache])
    @pytest.mark.parametrize("in_request", [False, True])
    def test_a_decorated_call_does_not_store_what_it_computed_before_a_deletion(
        self, new_worker: NewWorker, cache_class: type[Cache], in_request: bool
    ) -> None:
        """Wherever it runs: in a request, or in a command or task outside of any."""
        app, cache, _ = new_worker(cache_class=cache_class)
        _, _, other = new_worker()
        deletions = ["list"]

        @cache.cached(key_prefix="list")
        def compute() -> list[int]:
            while deletions:
                other.delete(deletions.pop())
            return [1]

        with app.test_request_context() if in_request else app.app_context():
            assert compute() == [1]
            assert cache.get("list") is None

            assert compute() == [1]
            assert cache.get("list") == [1]

    def test_a_set_inside_a_decorated_function_is_the_applications(self, new_worker: NewWorker) -> None:
        """It is not taken for the decorator's own, so it wins."""
        app, cache, _ = new_worker()
        _, _, other = new_worker()

        @cache.memoize()
        def compute() -> int:
            assert cache.get("side") is None
            other.set("side", 100)
            assert cache.set("side", 250)
            return 1

        with app.app_context():
            compute()

        eventually(lambda: other.get("side") == 250)

    def test_a_slow_view_is_cached(self, new_worker: NewWorker, seen_by: Any) -> None:
        """Its fence lasts for minutes."""
        app, cache, _ = new_worker()
        lives_ms: list[Any] = []

        @app.get("/slow")
        @cache.cached()
        def slow() -> str:
            (lease,) = seen_by.keys(f"{PREFIX}:__lease:*")
            lives_ms.append(seen_by.pttl(lease))
            return "done"

        client = app.test_client()

        assert [client.get("/slow").text, client.get("/slow").text] == ["done", "done"]
        assert len(lives_ms) == 1
        assert lives_ms[0] > 240_000


class TestMemoize:
    """The version of a memoized function."""

    def test_a_call_that_began_before_delete_memoized_does_not_bring_the_old_version_back(
        self, new_worker: NewWorker
    ) -> None:
        """Its result stays out of sight, and so do all results before it.

        Its worker hears of the deletion only after the call, so it still has the old version in memory.
        """
        app, cache, _ = new_worker()
        other_app, other, other_backend = new_worker()
        price, deletions, heard = ["old"], ["once"], Gate()

        def memoized(cache: Cache) -> Any:
            @cache.memoize(50)
            def price_of(_kind: str) -> str:
                found = price[0]
                if cache is other and deletions and _kind == "slow":
                    deletions.clear()
                    price[0] = "new"
                    stop_before(other_backend.tiers._process.handler, "on_changed", heard)
                    stop_before(other_backend.tiers._process.handler, "on_message", heard)
                    with app.app_context():
                        cache_of_app.delete_memoized(own)
                return found

            return price_of

        cache_of_app, own, others = cache, memoized(cache), memoized(other)
        with app.app_context():
            assert own("oil") == "old"
        with other_app.app_context():
            assert others("oil") == "old"
            assert others("slow") == "old"

        with app.app_context():
            assert own("oil") == "new"
        heard.open()
        eventually(_in(other_app, lambda: others("oil") == "new"), "the eviction")

    def test_delete_memoized_wins_over_a_version_that_is_created_meanwhile(
        self, new_worker: NewWorker
    ) -> None:
        """Also in a request, where it found no version: it is an invalidation, and no fill."""
        app, cache, backend = new_worker()
        other_app, other, _ = new_worker()
        calls: list[str] = []

        def memoized(cache: Cache) -> Any:
            @cache.memoize(50)
            def price_of(kind: str) -> str:
                calls.append(kind)
                return kind

            return price_of

        own, others = memoized(cache), memoized(other)
        store = backend.set_many

        def just_before(*args: Any, **kwargs: Any) -> list[str]:
            _in(other_app, lambda: others("oil"))()
            return store(*args, **kwargs)

        monkeypatch(backend, "set_many", just_before)
        with app.test_request_context():
            cache.delete_memoized(own)

        eventually(_in(other_app, lambda: others("oil") and calls == ["oil"] * 2), "the eviction")

    def test_a_miss_tells_nobody_and_a_warm_call_asks_nobody(
        self, new_worker: NewWorker, seen_by: Any
    ) -> None:
        """The version is the same as before, so no worker drops it, and it lives longer."""
        app, cache, backend = new_worker()
        other_app, other, other_backend = new_worker()

        def memoized(cache: Cache) -> Any:
            @cache.memoize(100)
            def double(n: int) -> int:
                return 2 * n

            return double

        double, others = memoized(cache), memoized(other)
        with app.app_context():
            double(1)
            double(1)
        with other_app.app_context():
            others(1)
            held = other_backend.tiers.l1.keys()
            (version,) = [name for name in held if name.endswith("_memver")]
            entry = other_backend.tiers.l1.held([version])[version]
        sequence = seen_by.get(f"{PREFIX}:__seq")
        seen_by.pexpire(f"{PREFIX}:{version}", 50_000)

        with app.app_context():
            assert [double(n) for n in range(2, 12)] == [2 * n for n in range(2, 12)]

        assert seen_by.pttl(f"{PREFIX}:{version}") > 90_000
        assert seen_by.get(f"{PREFIX}:__seq") == sequence
        asked = Commands(backend, other_backend)
        with app.app_context():
            assert {double(7) for _ in range(20)} == {14}
        with other_app.app_context():
            assert {others(1) for _ in range(20)} == {2}
        assert asked.names == []
        assert other_backend.tiers.l1.held([version])[version] is entry


def _in(app: Flask, call: Callable[[], Any]) -> Callable[[], Any]:
    def within() -> Any:
        with app.app_context():
            return call()

    return within


class TestWrites:
    """What a write stores, and whom it tells."""

    def test_the_same_bytes_again_only_live_longer(self, new_worker: NewWorker, seen_by: Any) -> None:
        """Nobody is told; another value is told to all."""
        _, cache, _ = new_worker()
        _, other, _ = new_worker()
        cache.set("key", [1], timeout=50)
        assert other.get("key") == [1]
        sequence = int(seen_by.get(f"{PREFIX}:__seq"))

        assert cache.set("key", [1], timeout=100)

        assert 90_000 < seen_by.pttl(f"{PREFIX}:entry_key") <= 100_000
        assert int(seen_by.get(f"{PREFIX}:__seq")) == sequence
        assert cache.set("key", [1], timeout=0)
        assert seen_by.pttl(f"{PREFIX}:entry_key") == -1
        assert cache.set("key", [2])
        assert int(seen_by.get(f"{PREFIX}:__seq")) == sequence + 1

    def test_a_life_that_ends_before_l1s_is_told(self, new_worker: NewWorker, seen_by: Any) -> None:
        """The other workers would else hold the value past its end."""
        _, cache, _ = new_worker(CACHE_L1_TIMEOUT=10)
        cache.set("key", [1], timeout=100)
        sequence = int(seen_by.get(f"{PREFIX}:__seq"))

        cache.set("key", [1], timeout=20)
        assert int(seen_by.get(f"{PREFIX}:__seq")) == sequence

        cache.set("key", [1], timeout=5)
        assert int(seen_by.get(f"{PREFIX}:__seq")) == sequence + 1
        assert seen_by.pttl(f"{PREFIX}:entry_key") <= 5_000

    def test_l1_ends_where_l2_does(self, new_worker: NewWorker, seen_by: Any) -> None:
        """A worker that reads a value late does not hold it past its timeout, however late the server is."""
        _, cache, _ = new_worker()
        _, other, other_backend = new_worker()
        cache.set("key", [1], timeout=100)
        seen_by.pexpire(f"{PREFIX}:entry_key", 3_000)

        assert other.get("key") == [1]

        entry = other_backend.tiers.l1.held(["entry_key"])["entry_key"]
        assert entry.expires_at_s - entry.loaded_at_s <= 3

    def test_counting_is_atomic_over_workers_and_threads(self, new_worker: NewWorker) -> None:
        """No increment is lost, and no worker keeps an old number."""
        backends = [new_worker()[2] for _ in range(2)]
        backends[0].set("n", 1000)
        assert [backend.get("n") for backend in backends] == [1000, 1000]

        with ThreadPoolExecutor(4) as threads:
            for number in range(4):
                threads.submit(lambda backend: [backend.inc("n") for _ in range(50)], backends[number % 2])

        eventually(lambda: [backend.get("n") for backend in backends] == [1200, 1200])
        assert backends[0].dec("n", 1200) == 0

    def test_counting_keeps_the_timeout_and_refuses_other_values(
        self, new_worker: NewWorker, seen_by: Any
    ) -> None:
        """As Redis' INCRBY: a new number has no end, and a text is an error."""
        _, cache, backend = new_worker()
        cache.set("n", 2**62, timeout=50)
        assert backend.inc("n") == 2**62 + 1
        assert 40_000 < seen_by.pttl(f"{PREFIX}:entry_n") <= 50_000
        assert backend.dec("new", 3) == -3
        assert seen_by.pttl(f"{PREFIX}:entry_new") == -1
        for wrong in ("text", 1.5, True, 2**63 - 1):
            cache.set("wrong", wrong)
            with pytest.raises(ValueError, match="64 bits"):
                backend.inc("wrong")
            assert cache.get("wrong") == wrong

    def test_add_has_one_winner(self, new_worker: NewWorker) -> None:
        """So it can be used as a lock over all workers."""
        backends = [new_worker()[2] for _ in range(2)]
        barrier = threading.Barrier(4)

        def race(backend: Any, name: str) -> bool:
            barrier.wait()
            return bool(backend.add(name, 1, timeout=30))

        with ThreadPoolExecutor(4) as threads:
            for round_ in range(10):
                won = [threads.submit(race, backends[n % 2], f"lock{round_}") for n in range(4)]
                assert sum(each.result() for each in won) == 1

    def test_many_values_are_written_in_one_command(self, new_worker: NewWorker) -> None:
        """However many there are; those found to be fills are stored in one more."""
        app, cache, backend = new_worker()
        commands = Commands(backend)
        values = {f"key{n}": n for n in range(60)}

        assert cache.set_many(values) == list(values)
        assert commands.names == ["write"]
        assert cache.get_many(*values) == list(values.values())

        more = {f"more{n}": n for n in range(60)}
        with app.test_request_context():
            cache.get_many(*more)
            commands.names.clear()
            assert cache.set_many({**more, **values}) == [*more, *values]
        assert commands.names == ["fill", "write"]

    def test_misses_in_a_row_cost_one_command_less(self, new_worker: NewWorker) -> None:
        """While L2 has nothing, its values are not asked for before the fences, whose answer would have them."""
        app, cache, backend = new_worker()
        _, _, other = new_worker()
        with app.test_request_context():
            for n in range(EMPTY_READS):
                assert cache.get(f"missing{n}") is None
            commands = Commands(backend)
            assert cache.get("missing") is None
            assert cache.set("missing", 1)
            assert commands.names == ["acquire", "fill"]

            other.set("there", 2)
            commands.names.clear()
            assert cache.get("there") == 2
            assert cache.get("there") == 2
            assert commands.names == ["acquire", "read"], (
                "the first hit ends it, and a read brings it into memory"
            )
            commands.names.clear()
            assert cache.get("there") == 2
            assert commands.names == []

    def test_a_deletion_by_the_only_worker_is_one_command(
        self, new_worker: NewWorker, client: redis.Redis
    ) -> None:
        """Its answer says that nobody else was told. Seen to fail: two commands more asked how many workers there
        are."""
        _, cache, _ = new_worker()
        cache.set("key", 1)
        before = _commands_sent(client)

        assert cache.delete("key")
        after = _commands_sent(client)
        assert after["pubsub|numsub"] == before["pubsub|numsub"]
        assert after["hlen"] == before["hlen"]

        _, other, _ = new_worker()
        assert other.get("key") is None
        assert cache.delete("key")
        assert _commands_sent(client)["hlen"] == before["hlen"] + 1, "now there is another to wait for"


def _commands_sent(client: redis.Redis) -> Counter[str]:
    stats = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): int(of["calls"]) for name, of in stats.items()})


class TestValues:
    """Large values, values of other types, and serializers of the host's."""

    def test_a_large_value_is_there_for_all(self, new_worker: NewWorker) -> None:
        """Several megabytes, read by another worker."""
        _, cache, _ = new_worker()
        _, other, _ = new_worker()
        value = "x" * 5_000_000

        assert cache.set("large", value)

        assert cache.get("large") == value
        assert other.get("large") == value

    def test_a_large_value_stays_out_of_memory(self, new_worker: NewWorker) -> None:
        """And so do more values than CACHE_L1_MAX_BYTES allows, however they came."""
        _, cache, _ = new_worker()
        _, other, backend = new_worker(CACHE_L1_MAX_VALUE_BYTES=1000, CACHE_L1_MAX_BYTES=3000)
        l1 = backend.tiers.l1
        cache.set_many(
            {f"large{n}": "x" * 999 for n in range(3)} | {f"small{n}": "x" * 900 for n in range(9)}
        )

        other.get_many(*(f"large{n}" for n in range(3)))
        assert l1.keys() == []

        def are_kept() -> bool:
            # The listener may still hear of the writes above, and drop what was read before that.
            other.get_many(*(f"small{n}" for n in range(9)))
            return len(l1.keys()) == 3

        eventually(are_kept, "three of the values in L1")

        @other.memoize()
        def long(n: int) -> str:
            return str(n) * 990

        with other.app.app_context():
            for n in range(9):
                long(n)
        assert 2000 < l1.bytes() <= 3000

    def test_a_value_over_the_limit_is_refused_with_a_log_line(
        self, new_worker: NewWorker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """And what it would have replaced is not served any more."""
        _, cache, _ = new_worker(CACHE_MAX_VALUE_BYTES=100)
        cache.set("key", "short")

        with caplog.at_level(logging.WARNING, "servease_appt"):
            assert not cache.set("key", "x" * 99)

        assert ["'key' has 101 bytes" in each for each in caplog.messages] == [True]
        assert cache.get("key") is None
        assert not cache.add("key", "x" * 99)
        assert cache.set("key", "x" * 98)

    def test_without_redis_too_a_value_over_the_limit_is_only_not_stored(
        self, new_worker: NewWorker, own_valkey: EmbeddedValkey
    ) -> None:
        """`set` raises for no outage."""
        _, cache, _ = new_worker(own_valkey.url(1), CACHE_MAX_VALUE_BYTES=100)
        own_valkey.kill()

        assert not cache.set("key", "x" * 99)

    def test_a_refusal_names_the_key_the_type_and_the_remedy(self, new_worker: NewWorker) -> None:
        """In one line."""
        _, cache, _ = new_worker()
        with pytest.raises(TypeError, match=r"'price'.*complex.*CACHE_SERIALIZER") as refusal:
            cache.set("price", [{"a": 1j}])
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize("debug", [False, True])
    def test_an_abort_in_a_cached_view_is_cached(self, new_worker: NewWorker, debug: bool) -> None:
        """As Flask-Caching does: the view runs once, and the answer is the same."""
        app, cache, _ = new_worker()
        app.debug = debug
        calls = []

        @app.get("/nothing")
        @cache.cached()
        def nothing() -> str:
            calls.append(1)
            abort(404, "no such page")

        client = app.test_client()
        answers = [client.get("/nothing") for _ in range(2)]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].data == answers[1].data
        assert b"no such page" in answers[0].data
        assert calls == [1]

    def test_the_hosts_serializer_is_honoured(self, new_worker: NewWorker) -> None:
        """CACHE_SERIALIZER decides what may be stored, and how."""
        _, cache, _ = new_worker(CACHE_SERIALIZER=BaseSerializer)
        _, other, _ = new_worker(CACHE_SERIALIZER=BaseSerializer)

        cache.set("key", 1j)

        assert other.get("key") == 1j

    def test_a_serializer_that_gives_nothing_is_an_error(self, new_worker: NewWorker) -> None:
        """cachelib's JSONSerializer returns None for what it can't write."""
        _, cache, _ = new_worker(CACHE_SERIALIZER=JSONSerializer)
        with pytest.raises(TypeError, match=r"'key'.*JSONSerializer"):
            cache.set("key", 1j)


class TestDeletions:
    """When a deletion has returned, no worker serves what it deleted."""

    @pytest.mark.parametrize("delete", ["delete", "delete_many", "clear", "delete_memoized"])
    def test_it_waits_until_the_other_workers_have_handled_it(
        self, new_worker: NewWorker, delete: str
    ) -> None:
        """However late they hear of it."""
        app, cache, _ = new_worker()
        other_app, other, other_backend = new_worker()
        value = ["old"]

        def memoized(cache: Cache) -> Any:
            @cache.memoize(50)
            def read() -> str:
                return value[0]

            return read

        own, others = memoized(cache), memoized(other)
        cache.set("key", "old")
        assert other.get("key") == "old"
        with other_app.app_context():
            assert others() == "old"
        value[0] = "new"
        late, deleted = Gate(), threading.Event()
        for name in ("on_changed", "on_message"):
            stop_before(other_backend.tiers._process.handler, name, late)

        def run() -> None:
            with app.app_context():
                if delete == "delete_memoized":
                    cache.delete_memoized(own)
                elif delete == "clear":
                    cache.clear()
                else:
                    getattr(cache, delete)("key")
            deleted.set()

        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(run)
            late.wait_for_arrival()
            assert not deleted.wait(0.05), "it has not waited"
            late.open()
            running.result()

            if delete == "delete_memoized":
                with other_app.app_context():
                    assert others() == "new"
            else:
                assert other.get("key") is None

    def test_a_worker_that_does_not_answer_is_waited_for_once(
        self, new_worker: NewWorker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A frozen one must not make each deletion slow; it serves nothing from memory before long."""
        _, cache, _ = new_worker(CACHE_EVICTION_WAIT=0.05)
        _, _, frozen = new_worker()
        late = Gate()
        for name in ("on_changed", "on_message", "on_query"):
            stop_before(frozen.tiers._process.handler, name, late)

        with caplog.at_level(logging.WARNING, "servease_appt"):
            for _ in range(3):
                cache.delete("key")

        assert len([text for text in caplog.messages if "have not said" in text]) == 1
        late.open()

    def test_a_worker_that_has_just_come_is_waited_for(
        self, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However short the time since there was none."""
        _, cache, _ = new_worker()
        cache.delete("key")
        asked: list[int | None] = []
        answers = WorkerQueries.answers

        def recorded(self: WorkerQueries, what: str, *, timeout_s: float, expected: int | None) -> Any:
            asked.append(expected)
            return answers(self, what, timeout_s=timeout_s, expected=expected)

        monkeypatch.setattr(WorkerQueries, "answers", recorded)
        _, _, other = new_worker()
        eventually(lambda: other.tiers.worker_queries.reachable() == 2, "its registration")

        cache.delete("key")

        assert asked == [2]

    def test_a_lone_worker_does_not_wait(
        self, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is nobody to ask."""
        _, cache, _ = new_worker(CACHE_EVICTION_WAIT=60)
        monkeypatch.setattr(WorkerQueries, "answers", lambda *_, **__: pytest.fail("somebody was asked"))

        cache.delete("key")

    def test_delete_memoized_says_when_redis_does_not_take_it(
        self, new_worker: NewWorker, own_valkey: EmbeddedValkey
    ) -> None:
        """As `delete` and `clear` do."""
        app, cache, _ = new_worker(own_valkey.url(1))

        @cache.memoize(50)
        def read() -> int:
            return 1

        own_valkey.kill()
        with app.app_context(), pytest.raises(CacheUnavailable):
            cache.delete_memoized(read)


def test_an_application_that_is_gone_leaves_nothing_behind(redis_url: str) -> None:
    """Neither a thread nor a connection, though nobody called `close`."""

    def threads() -> int:
        return sum(thread.name.startswith("servease-cache") for thread in threading.enumerate())

    before = threads()
    app = Flask("host")
    app.config.update(
        CACHE_TYPE="servease_appt.cache.flask_caching.TwoTierBackend", CACHE_REDIS_URL=redis_url
    )
    cache = Cache(app)
    assert cache.set("key", 1)
    assert cache.get("key") == 1
    assert threads() > before

    del app, cache
    gc.collect()

    eventually(lambda: threads() == before)
