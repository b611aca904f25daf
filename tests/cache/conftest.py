"""Caches on a real Valkey, closed at the end; a source of versions; threads that a test can wait for."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import pytest
import redis

from servease_appt.cache import CachePolicy
from servease_appt.cache.keys import KeySpace
from servease_appt.testing.fault_proxy import Proxy
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.flask_caching_workers import new_worker  # noqa: F401 - a fixture
from tests.cache.testbed import CODECS, POLICY, PREFIX, Cache, Gate, Source, listening

pytest.register_assert_rewrite("servease_appt.cache.testing.contract")


class MakeCache(Protocol):
    """Makes the cache of one more worker."""

    def __call__(
        self, *, url: str | None = None, policy: CachePolicy = POLICY, ready: bool = True, **options: Any
    ) -> Cache:
        """A cache on `url` (the run's Valkey by default), listening and trusted unless `ready` is False."""


@pytest.fixture
def make_cache(redis_url: str) -> Iterator[MakeCache]:
    """Makes caches, each the worker's own as in a process of its own, on a server that knows invalidations.

    The first invalidation that an empty server takes empties every L1 (its sequence starts anew), which would
    hide what a test is after.
    """
    with redis.Redis.from_url(redis_url) as operator:
        operator.set(KeySpace(PREFIX).sequence, 1000)
    caches: list[Cache] = []

    def make(
        *, url: str | None = None, policy: CachePolicy = POLICY, ready: bool = True, **options: Any
    ) -> Cache:
        codecs = options.pop("codecs", CODECS)
        cache: Cache = Cache.from_url(url or redis_url, codecs, prefix=PREFIX, policy=policy, **options)
        caches.append(cache)
        return listening(cache) if ready else cache

    yield make
    for cache in caches:
        cache.close()


@pytest.fixture
def source() -> Source:
    """What all workers load from."""
    return Source()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """An operator's connection to database 1 of the run's Valkey."""
    with redis.Redis.from_url(redis_url) as operator:
        yield operator


@pytest.fixture
def proxy(valkey: EmbeddedValkey, redis_url: str) -> Iterator[Proxy]:
    """A proxy in front of the run's Valkey."""
    with Proxy(valkey.port) as between:
        yield between


class Background:
    """Threads of the test's own, and gates to stop them at."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._gates: list[Gate] = []

    def submit(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        """Begin now, on another thread; `.result(LIMIT_S)` waits for the end."""
        return self._executor.submit(call, *args, **kwargs)

    def gate(self) -> Gate:
        """A new gate."""
        self._gates.append(Gate())
        return self._gates[-1]

    def open_all(self) -> None:
        """Leave nobody waiting, also after a failed test."""
        for gate in self._gates:
            gate.open()


@pytest.fixture
def background() -> Iterator[Background]:
    """Threads of the test's own, waited for at its end."""
    with ThreadPoolExecutor(32, thread_name_prefix="test-background") as executor:
        own = Background(executor)
        yield own
        own.open_all()
