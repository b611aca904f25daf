"""Each worker stands in the list that commands go by, from the moment that it listens."""

import pytest
import redis

from servease_appt.cache import invalidation
from servease_appt.cache.callbacks import ListenerCallbacks
from servease_appt.cache.listener import Listener
from servease_appt.cache.worker_queries import WorkerQueries
from tests.cache.conftest import MakeCache
from tests.cache.testbed import Cache, eventually


def is_registered(cache: Cache, client: redis.Redis) -> bool:
    return bool(client.hexists(cache.keys.workers, cache.identity))


def test_a_channel_that_is_confirmed_before_start_returns(
    make_cache: MakeCache, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the thread may be that far before its starter goes on; the worker is on the list."""
    start = Listener.start

    def start_slowly(listener: Listener, callbacks: ListenerCallbacks) -> None:
        start(listener, callbacks)
        eventually(lambda: listener._heartbeat.trusted_until_s > 0, "the first answer")

    monkeypatch.setattr(Listener, "start", start_slowly)
    cache = make_cache()

    eventually(lambda: is_registered(cache, client), "the registration")


def test_a_flush_by_hand_takes_nobody_off_the_list(make_cache: MakeCache, client: redis.Redis) -> None:
    """The list goes with the database; each worker puts itself on it anew, and off it at its end."""
    cache = make_cache()
    eventually(lambda: is_registered(cache, client), "the registration")

    client.flushdb()
    eventually(lambda: is_registered(cache, client), "the registration after the flush")

    cache.close()
    assert not is_registered(cache, client)


def test_a_register_that_was_evicted_comes_back(
    make_cache: MakeCache, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server under `allkeys-lru` may evict it, and tells nobody: it is renewed with the heartbeat."""
    monkeypatch.setattr(invalidation, "REGISTER_EVERY_S", 0.0)
    cache = make_cache()
    eventually(lambda: is_registered(cache, client), "the registration")

    client.delete(cache.keys.workers)

    eventually(lambda: is_registered(cache, client), "the registration after the eviction")


def test_a_worker_of_another_database_does_not_answer(make_cache: MakeCache, client: redis.Redis) -> None:
    """Messages reach every database; what a worker holds belongs to its own."""
    cache = make_cache()
    eventually(lambda: is_registered(cache, client), "the registration")
    given = client.connection_pool.connection_kwargs
    with redis.Redis(host=given["host"], port=given["port"], db=given["db"] + 1) as elsewhere:
        there = WorkerQueries(elsewhere, cache.keys).query("heard", timeout_s=0.2)
    here = WorkerQueries(client, cache.keys).query("heard")

    assert there == []
    assert [answer["worker"] for answer in here] == [cache.identity]
