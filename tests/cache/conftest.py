"""Caches on a real Valkey, closed at the end; a source of versions; threads that a test can wait for."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest
import redis

from servease_appt.cache import CachePolicy, connect
from servease_appt.demo.servers import EmbeddedValkey
from tests.cache.world import KINDS, POLICY, PREFIX, Cache, Gate, Source, listening
from tests.support.proxy import Proxy


class MakeCache(Protocol):
    """Makes the cache of one more worker."""

    def __call__(
        self, *, url: str | None = None, policy: CachePolicy = POLICY, ready: bool = True, **options: Any
    ) -> Cache:
        """A cache on `url` (the run's Valkey by default), listening and trusted unless `ready` is False."""


@pytest.fixture
def make_cache(redis_url: str) -> Iterator[MakeCache]:
    """Makes caches, each the worker's own as in a process of its own."""
    caches: list[Cache] = []

    def make(
        *, url: str | None = None, policy: CachePolicy = POLICY, ready: bool = True, **options: Any
    ) -> Cache:
        cache: Cache = Cache(connect(url or redis_url), KINDS, prefix=PREFIX, policy=policy, **options)
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


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Threads of the test's own, waited for at its end."""
    with ThreadPoolExecutor(32, thread_name_prefix="test-background") as executor:
        yield executor


@pytest.fixture
def gates() -> Iterator[Callable[[], Gate]]:
    """Makes gates that are opened at the end, so that a failed test leaves nobody waiting."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for gate in made:
        gate.open()
