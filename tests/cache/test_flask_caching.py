"""The two-tier cache as a backend of Flask-Caching, each application standing for one worker."""

from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import redis
from flask import Flask, Response
from flask_caching import Cache
from markupsafe import Markup

from servease_appt.cache import CacheUnavailable
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.flask_caching_workers import NewWorker


@pytest.mark.parametrize(
    "value",
    [
        "text",
        "",
        0,
        3.5,
        True,
        [1, "a", None],
        {"a": {"b": 1}},
        (1, (2,)),
        b"\x00\xff",
        datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
        UUID("bcee5755-2c9f-4c0a-8720-1592b75edf96"),
        Markup("<b>"),
    ],
)
def test_values_come_back_as_they_were(new_worker: NewWorker, value: object) -> None:
    """From this worker's memory and from Redis alike."""
    _, cache, _ = new_worker()
    _, other, _ = new_worker()

    cache.set("key", value)

    assert cache.get("key") == value
    assert other.get("key") == value
    assert type(other.get("key")) is type(value)


def test_what_json_can_not_hold_is_refused_loudly(new_worker: NewWorker) -> None:
    """Never a pickle, and never a value that comes back as something else."""
    _, cache, _ = new_worker()

    with pytest.raises(TypeError):
        cache.set("key", object())


def test_a_cached_view_runs_once_for_all_workers(new_worker: NewWorker) -> None:
    """`@cached` stores a view's response, which another worker serves from Redis."""
    calls = []

    def page(app: Flask, cache: Cache) -> None:
        @app.get("/page")
        @cache.cached(timeout=50)
        def view() -> Response:
            calls.append(1)
            return Response("hello", 201, {"X-Thing": "1"})

    app, cache, _ = new_worker()
    page(app, cache)
    second_app, second_cache, _ = new_worker()
    page(second_app, second_cache)

    answers = [one.test_client().get("/page") for one in (app, app, second_app)]

    assert len(calls) == 1
    assert [(a.status_code, a.data, a.headers["X-Thing"]) for a in answers] == [(201, b"hello", "1")] * 3


def test_memoize_and_delete_memoized_reach_every_worker(new_worker: NewWorker) -> None:
    """A memoized function's version is a cached value like any other, so its deletion is heard everywhere."""
    calls = []

    def memoized(cache: Cache) -> Any:
        @cache.memoize(50)
        def double(n: int) -> int:
            calls.append(n)
            return 2 * n

        return double

    app, cache, _ = new_worker()
    other_app, other_cache, _ = new_worker()
    double, other_double = memoized(cache), memoized(other_cache)
    with app.app_context():
        assert [double(2), double(2)] == [4, 4]
    with other_app.app_context():
        assert other_double(2) == 4
    assert calls == [2]

    with app.app_context():
        cache.delete_memoized(double)

    def loads_again() -> bool:
        with other_app.app_context():
            other_double(2)
        return len(calls) == 2

    assert wait_until(loads_again, timeout_s=5)


def test_a_deletion_reaches_the_other_workers_memory(new_worker: NewWorker) -> None:
    """The other worker has the value in its own memory and drops it."""
    _, cache, _ = new_worker()
    _, other, _ = new_worker()
    cache.set("key", 1)
    assert other.get("key") == 1

    cache.delete("key")

    assert wait_until(lambda: other.get("key") is None, timeout_s=5)
    assert cache.get("key") is None


def test_a_write_replaces_what_other_workers_hold(new_worker: NewWorker) -> None:
    """A second `set` is news for everybody."""
    _, cache, _ = new_worker()
    _, other, _ = new_worker()
    cache.set("key", 1)
    assert other.get("key") == 1

    cache.set("key", 2)

    assert wait_until(lambda: other.get("key") == 2, timeout_s=5)


def test_what_was_made_before_a_deletion_is_not_stored_after_it(new_worker: NewWorker) -> None:
    """Miss, deletion by another worker, store, all in one request: the store is refused, in both tiers (R2)."""
    app, cache, _ = new_worker()
    _, _, other = new_worker()
    with app.test_request_context():
        assert cache.get("key") is None

        other.delete("key")

        assert cache.set("key", "made before") is False
        assert cache.get("key") is None
    assert other.get("key") is None


def test_two_misses_at_once_may_both_be_filled(new_worker: NewWorker) -> None:
    """Who comes second is refused, since a value is there, and reads that one."""
    app, cache, _ = new_worker()
    other_app, other, _ = new_worker()
    request, other_request = app.test_request_context(), other_app.test_request_context()
    with request:
        assert cache.get("key") is None
        with other_request:
            assert other.get("key") is None
        assert cache.set("key", "first") is True
        with other_request:
            assert other.set("key", "second") is False

            assert other.get("key") == "first"


def test_a_value_is_its_readers_own(new_worker: NewWorker) -> None:
    """Changing what `get` gave changes nothing for the next one."""
    _, cache, _ = new_worker()
    cache.set("key", {"list": [1]})
    cache.get("key")["list"].append(2)

    assert cache.get("key") == {"list": [1]}


def test_none_can_be_cached(new_worker: NewWorker) -> None:
    """A cached None is there, though `get` can't tell it from a miss."""
    _, cache, _ = new_worker()
    cache.set("key", None)

    assert cache.has("key")
    assert not cache.has("other")


def test_timeouts_are_kept(new_worker: NewWorker, redis_url: str) -> None:
    """Seconds, a timedelta, and 0 for no end."""
    _, cache, _ = new_worker(CACHE_KEY_PREFIX="host")
    cache.set("a", 1, timeout=20)
    cache.set("b", 1, timeout=timedelta(seconds=30))
    cache.set("c", 1, timeout=0)

    with redis.Redis.from_url(redis_url) as client:
        lives = [client.pttl(f"host:entry_{name}") for name in "abc"]

    assert 19_000 < lives[0] <= 20_000
    assert 29_000 < lives[1] <= 30_000
    assert lives[2] == -1


def test_clear_drops_what_is_ours_and_nothing_else(new_worker: NewWorker, redis_url: str) -> None:
    """Another application's keys on the same server stay."""
    _, cache, _ = new_worker(CACHE_KEY_PREFIX="ours")
    _, neighbour, _ = new_worker(CACHE_KEY_PREFIX="theirs")
    cache.set_many({"a": 1, "b": 2})
    neighbour.set("a", 3)

    cache.clear()

    assert cache.get_many("a", "b") == [None, None]
    assert neighbour.get("a") == 3


def test_long_and_strange_keys_work_like_any_other(new_worker: NewWorker) -> None:
    """A key that can't travel in a message goes by its hash, and is dropped everywhere all the same."""
    _, cache, _ = new_worker()
    _, other, _ = new_worker()

    def missing(key: str) -> bool:
        return other.get(key) is None

    for key in ("x" * 5000, "line\nbreak", "view//path?*[a]", "ünï cödé"):
        cache.set(key, key)
        assert other.get(key) == key

        cache.delete(key)

        assert wait_until(partial(missing, key), timeout_s=5)


def test_without_redis_pages_work_and_deletions_say_so(
    new_worker: NewWorker, own_valkey: EmbeddedValkey
) -> None:
    """Reading and storing go on without it; a deletion that can't be made sure of raises."""
    app, cache, _ = new_worker(own_valkey.url(1))
    own_valkey.kill()

    @app.get("/page")
    @cache.cached()
    def view() -> str:
        return str(date.today())  # noqa: DTZ011

    assert app.test_client().get("/page").status_code == 200
    assert cache.get("key") is None
    assert cache.set("key", 1) is False
    with pytest.raises(CacheUnavailable):
        cache.delete("key")
    with pytest.raises(CacheUnavailable):
        cache.clear()
