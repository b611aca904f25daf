"""What a caller's loader may be, what becomes of its values, and what is said of its failures."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
from flask import Flask, jsonify

from servease_appt.cache import CachePolicy, LoadFailed, TwoTierCache, json_codec
from servease_appt.cache.load_failures import MAX_LINES, FailureLog

Customers = TwoTierCache[Any]


@pytest.fixture
def new_cache(redis_url: str) -> Iterator[Callable[[], Customers]]:
    """Makes the cache of one more worker."""
    made: list[Customers] = []

    def make() -> Customers:
        policy = CachePolicy(stale_ttl_s=0)
        made.append(
            TwoTierCache.from_url(redis_url, (json_codec("customer"),), prefix="loaders", policy=policy)
        )
        return made[-1]

    yield make
    for cache in made:
        cache.close()


def test_every_worker_hands_out_the_same_types(new_cache: Callable[[], Customers]) -> None:
    """The worker that loaded a value does not share the loader's own object with its readers."""
    loaded = {"id": "1", "tags": ["a"]}
    caches = [new_cache(), new_cache()]

    values: list[Any] = [cache.get("customer_1", lambda _key, _timeout_s: loaded) for cache in caches]

    loaded["id"] = "changed"
    values.append(caches[0].get("customer_1", lambda _key, _timeout_s: {}))
    assert values == [{"id": "1", "tags": ["a"]}] * 3
    assert len({type(value) for value in values}) == 1
    with pytest.raises(TypeError):
        values[0]["id"] = "2"
    with Flask("host").app_context():
        assert jsonify(values[0]).get_json() == {"id": "1", "tags": ["a"]}


async def coroutine(_key: str, _timeout_s: float) -> dict[str, str]:
    """Not a loader: it would have to be awaited."""
    return {}


class AsyncCallable:
    """Not a loader either."""

    async def __call__(self, _key: str, _timeout_s: float) -> dict[str, str]:
        """Has to be awaited."""
        return {}


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        (coroutine, "async"),
        (partial(coroutine, "customer_1"), "async"),
        (AsyncCallable(), "async"),
        (lambda: None, "timeout_s"),
        (lambda _key: {}, "timeout_s"),
        (lambda _key, _timeout_s, _more: {}, "timeout_s"),
        ({"customer_1": {}}, "function"),
    ],
)
def test_a_wrong_loader_is_an_error_at_the_call(
    new_cache: Callable[[], Customers], loader: Any, says: str
) -> None:
    """Rather than a None for ever."""
    cache = new_cache()
    for _ in range(2):
        with pytest.raises(TypeError, match=says):
            cache.get("customer_1", loader)


@pytest.mark.parametrize(
    "loader",
    [lambda _key, _timeout_s: {}, lambda *_: {}, partial(lambda _extra, _key, _timeout_s: {}, 1), dict],
)
def test_whatever_takes_a_key_and_a_time_is_a_loader(new_cache: Callable[[], Customers], loader: Any) -> None:
    """However it is made."""
    cache = new_cache()
    cache.get_many(["customer_1"], loader)


def test_a_failed_load_is_logged_with_its_traceback(
    new_cache: Callable[[], Customers], caplog: pytest.LogCaptureFixture
) -> None:
    """Once a key; the reader gets None."""

    def load(key: str, _timeout_s: float) -> dict[str, str]:
        raise LookupError(f"nothing to read {key} from")

    cache = new_cache()
    with caplog.at_level(logging.WARNING, "servease_appt"):
        for key in ("customer_1", "customer_2", "customer_1"):
            assert cache.get(key, load) is None

    failures = [record for record in caplog.records if "failed" in record.message]
    assert ["customer_1" in failures[0].message, "customer_2" in failures[1].message] == [True, True]
    assert len(failures) == 2
    assert failures[0].exc_info is not None
    assert failures[0].exc_info[0] is LookupError


def test_a_failure_that_is_reported_elsewhere_is_not_logged(
    new_cache: Callable[[], Customers], caplog: pytest.LogCaptureFixture
) -> None:
    """The service's own loader counts its failures and reports breakers: a traceback a key would hide them."""

    def load(key: str, _timeout_s: float) -> dict[str, str]:
        raise LoadFailed(key)

    with caplog.at_level(logging.WARNING, "servease_appt"):
        assert new_cache().get("customer_1", load) is None

    assert caplog.messages == []


def test_a_failure_is_logged_again_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """And a source that is down does not fill the log, whatever the number of keys."""
    now_s = [0.0]
    failures = FailureLog(lambda: now_s[0])

    def logged(keys: range) -> list[str]:
        caplog.clear()
        for key in keys:
            failures.note(f"customer_{key}", LookupError())
        return caplog.messages

    assert len(logged(range(MAX_LINES + 5))) == MAX_LINES
    assert logged(range(MAX_LINES)) == []
    now_s[0] = 60.0
    assert logged(range(1)) == ["5 other loads failed since, too", "The load of 'customer_0' failed"]


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 2}])
def test_a_client_that_the_cache_can_not_use_is_refused(redis_url: str, options: dict[str, Any]) -> None:
    """Else it would be without its first or second tier, and nobody would see why."""
    client = redis.Redis.from_url(redis_url, **options)
    with pytest.raises(ValueError, match="a client with"):
        TwoTierCache(client, (json_codec("customer"),), prefix="loaders")
