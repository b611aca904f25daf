"""The same reads with packages from PyPI, each used as in its documentation, with JSON if it supports that.

The asynchronous ones run in an event loop of their own and are timed inside it.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from benchmarks.contenders import L1_TTL_S, L2_TTL_S, PREFIX, Contender, record

MEMORY_ENTRIES = 10_000


class FlaskCaching(Contender):
    """Flask-Caching's `get_many` and `set_many` on one of its backends."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        from flask import Flask
        from flask_caching import Cache

        self.name = name
        self.has_l1 = "SIMPLE" in options["CACHE_TYPE"].upper()
        self.has_l2 = not self.has_l1
        self._cache = Cache(with_jinja2_ext=False)
        app = Flask("peer")
        self._cache.init_app(app, config={"CACHE_DEFAULT_TIMEOUT": L2_TTL_S, **options})
        self._backend = app.extensions["cache"][self._cache]

    @classmethod
    def redis(cls, url: str) -> "FlaskCaching":
        """On Redis."""
        options = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url, "CACHE_KEY_PREFIX": f"{PREFIX}_flask:"}
        return cls("Flask-Caching, Redis", options)

    @classmethod
    def simple(cls, _url: str) -> "FlaskCaching":
        """In this process."""
        return cls("Flask-Caching, Simple", {"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": MEMORY_ENTRIES})

    def read(self, keys: Sequence[str]) -> None:
        values = self._backend.get_many(*keys)
        if None in values:
            self._backend.set_many(
                {key: record(key) for key, value in zip(keys, values, strict=True) if value is None}
            )


class Dogpile(Contender):
    """dogpile.cache on Redis, behind a proxy that keeps values in a dictionary."""

    name = "dogpile.cache, Redis + memory proxy"

    def __init__(self, url: str) -> None:
        from dogpile.cache import make_region
        from dogpile.cache.api import NO_VALUE
        from dogpile.cache.proxy import ProxyBackend

        memory: dict[str, tuple[float, Any]] = {}

        class MemoryProxy(ProxyBackend):  # type: ignore[misc] # has no types where the peers are not installed
            """Returns values from memory for the lifetime of L1, and reads the others from Redis."""

            def get_serialized_multi(self, keys: Sequence[str]) -> list[Any]:
                now = time.monotonic()
                kept = {key: held[1] for key in keys if (held := memory.get(key)) and held[0] > now}
                missing = [key for key in keys if key not in kept]
                if missing:
                    found = self.proxied.get_serialized_multi(missing)
                    fresh = {
                        key: value
                        for key, value in zip(missing, found, strict=True)
                        if value is not None and value is not NO_VALUE
                    }
                    memory.update({key: (now + L1_TTL_S, value) for key, value in fresh.items()})
                    kept |= fresh
                return [kept.get(key, NO_VALUE) for key in keys]

        self._memory = memory
        self._region = make_region().configure(
            "dogpile.cache.redis",
            expiration_time=L2_TTL_S,
            arguments={"url": url, "redis_expiration_time": L2_TTL_S},
            wrap=[MemoryProxy],
        )

    def read(self, keys: Sequence[str]) -> None:
        self._region.get_or_create_multi(keys, lambda *missing: [record(key) for key in missing])

    def drop_l1(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._memory.pop(key, None)


class RedisClientSide(Contender):
    """redis-py's own client-side cache.

    It refuses any server that is not called Redis. Valkey's tracking is the same protocol, so the expected name is
    changed in this process. With several threads it blocks until the socket's timeout of 5 s, so it takes no part
    there.
    """

    name = "redis-py client-side cache"
    threads = False

    def __init__(self, url: str) -> None:
        CacheProxyConnection.DEFAULT_SERVER_NAME = "valkey"
        self._config = CacheConfig(max_size=MEMORY_ENTRIES)
        self._client = Redis.from_url(url, protocol=3, cache_config=self._config)

    def read(self, keys: Sequence[str]) -> None:
        import orjson

        names = [f"{PREFIX}_csc:{key}" for key in keys]
        values = cast("list[bytes | None]", self._client.mget(names))
        if None in values:
            self._client.mset(
                {name: orjson.dumps(record(key)) for name, key in zip(names, keys, strict=True)}
            )
            return
        for value in values:
            orjson.loads(value or b"null")

    def drop_l1(self, keys: Sequence[str]) -> None:  # noqa: ARG002 - it can drop all or nothing
        cache = self._client.get_cache()
        if cache is not None:
            cache.flush()

    def close(self) -> None:
        self._client.close()


class Asynchronous(Contender):
    """A contender on an event loop. One thread has one loop, so it takes no part in cases with threads."""

    threads = False

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    async def read_soon(self, keys: Sequence[str]) -> None:
        """As `read`."""
        raise NotImplementedError

    def read(self, keys: Sequence[str]) -> None:
        self._run(self.read_soon(keys))

    def time_reads(self, pages: Iterator[Sequence[str]], calls: int, *, drop_l1: bool) -> float:
        async def timed() -> float:
            total_s = 0.0
            for keys in itertools.islice(pages, calls):
                if drop_l1:
                    await self.drop_soon(keys)
                started_s = time.perf_counter()
                await self.read_soon(keys)
                total_s += time.perf_counter() - started_s
            return total_s

        return float(self._run(timed()))

    async def drop_soon(self, keys: Sequence[str]) -> None:
        """As `drop_l1`."""

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def close(self) -> None:
        self._runner.close()


class Cashews(Asynchronous):
    """cashews' client-side backend. It subscribes as with RESP2, so it is given RESP2."""

    name = "cashews, client side"

    def __init__(self, url: str) -> None:
        from cashews.backends.memory import Memory
        from cashews.backends.redis.client_side import BcastClientSide
        from cashews.picklers import PicklerType
        from cashews.serialize import get_serializer

        super().__init__()
        self._local = Memory(size=MEMORY_ENTRIES)
        prefix = f"{PREFIX}_cashews:"
        self._cache = BcastClientSide(
            f"{url}?protocol=2",
            client_side_prefix=prefix,
            local_cache=self._local,
            serializer=get_serializer(pickle_type=PicklerType.JSON),
        )
        self._run(self._cache.init())

    async def read_soon(self, keys: Sequence[str]) -> None:
        values = await self._cache.get_many(*keys)
        missing = {key: record(key) for key, value in zip(keys, values, strict=True) if value is None}
        if missing:
            await self._cache.set_many(missing, expire=L2_TTL_S)

    async def drop_soon(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._local.delete(key)

    def close(self) -> None:
        self._run(self._cache.close())
        super().close()


class Aiocache(Asynchronous):
    """aiocache with its JSON serializer on Redis, or in memory."""

    def __init__(self, name: str, cache: Any, *, in_memory: bool) -> None:
        super().__init__()
        self.name = name
        self.has_l1, self.has_l2 = in_memory, not in_memory
        self._cache = cache

    @classmethod
    def redis(cls, url: str) -> "Aiocache":
        """On Redis."""
        from aiocache import RedisCache
        from aiocache.serializers import JsonSerializer

        parts = urlsplit(url)
        cache = RedisCache(
            endpoint=parts.hostname,
            port=parts.port,
            db=1,
            namespace=f"{PREFIX}_aio",
            serializer=JsonSerializer(),
        )
        return cls("aiocache, Redis", cache, in_memory=False)

    @classmethod
    def memory(cls, _url: str) -> "Aiocache":
        """In this process."""
        from aiocache import SimpleMemoryCache

        return cls("aiocache, memory", SimpleMemoryCache(), in_memory=True)

    async def read_soon(self, keys: Sequence[str]) -> None:
        values = await self._cache.multi_get(keys)
        missing = [(key, record(key)) for key, value in zip(keys, values, strict=True) if value is None]
        if missing:
            await self._cache.multi_set(missing, ttl=L2_TTL_S)

    def close(self) -> None:
        self._run(self._cache.close())
        super().close()


PEERS: tuple[Callable[[str], Contender], ...] = (
    FlaskCaching.redis,
    FlaskCaching.simple,
    Dogpile,
    Cashews,
    Aiocache.redis,
    Aiocache.memory,
    RedisClientSide,
)


def quiet() -> None:
    """Let the packages log nothing while they are measured."""
    for name in ("aiocache", "cashews", "dogpile", "flask_caching"):
        logging.getLogger(name).setLevel(logging.ERROR)
