"""One worker of each cache: what a process of a deployment would have, used as in the package's documentation.

Each worker has a memory and connections of its own. Values are text, kept in memory for `MEMORY_S` where the
package lets one say so, and in Redis for `REDIS_S`.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from urllib.parse import urlsplit

from redis import Redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from servease_appt.cache import CachePolicy, TwoTierCache, connect, json_codec

MEMORY_S = 2
REDIS_S = 6
LOCK_S = 1
TWO_TIER = "this cache"
PREFIX = "races"
Load = Callable[[], str]


class Worker(Protocol):
    """A worker with a cache. `read` and `invalidate` may be called from several threads."""

    def read(self, key: str, load: Load) -> str | None:
        """Return the cached value, or the loaded one."""

    def invalidate(self, key: str) -> None:
        """Remove a value as the package's documentation says."""

    def close(self) -> None:
        """Close the connections."""


class TwoTier:
    """This cache."""

    def __init__(self, url: str) -> None:
        policy = CachePolicy(ttl_s=REDIS_S, l1_ttl_s=MEMORY_S, load_timeout_s=5)
        self._client = connect(url)
        self._cache = TwoTierCache(self._client, (json_codec("item"),), prefix=PREFIX, policy=policy)

    def read(self, key: str, load: Load) -> str | None:
        found = self._cache.get(key, lambda _key, _timeout_s: {"text": load()})
        return None if found is None else str(found["text"])

    def invalidate(self, key: str) -> None:
        self._cache.invalidate([key])

    def close(self) -> None:
        self._cache.close()
        self._client.close()


class FlaskCaching:
    """Flask-Caching's `get`, `set` and `delete` on RedisCache: no memory."""

    def __init__(self, url: str) -> None:
        from flask import Flask
        from flask_caching import Cache

        cache = Cache(with_jinja2_ext=False)
        app = Flask("races")
        options = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url, "CACHE_DEFAULT_TIMEOUT": REDIS_S}
        cache.init_app(app, config={**options, "CACHE_KEY_PREFIX": f"{PREFIX}:"})
        self._backend = app.extensions["cache"][cache]

    def read(self, key: str, load: Load) -> str | None:
        value = self._backend.get(key)
        if value is None:
            value = load()
            self._backend.set(key, value)
        return str(value)

    def invalidate(self, key: str) -> None:
        self._backend.delete(key)

    def close(self) -> None:
        self._backend._write_client.close()  # noqa: SLF001 - it has no public way
        self._backend._read_client.close()  # noqa: SLF001 - as above


class Dogpile:
    """dogpile.cache on Redis with its distributed lock, behind a proxy that keeps values in a dictionary."""

    def __init__(self, url: str) -> None:
        from dogpile.cache import make_region
        from dogpile.cache.api import NO_VALUE
        from dogpile.cache.proxy import ProxyBackend

        memory: dict[str, tuple[float, Any]] = {}

        class MemoryProxy(ProxyBackend):  # type: ignore[misc] # has no types where the peers are not installed
            """Returns values from memory for their lifetime, and reads the others from Redis."""

            def get_serialized(self, key: str) -> Any:
                held = memory.get(key)
                if held and held[0] > time.monotonic():
                    return held[1]
                found = self.proxied.get_serialized(key)
                if found is not None and found is not NO_VALUE:
                    memory[key] = (time.monotonic() + MEMORY_S, found)
                return found

            def set_serialized(self, key: str, value: Any) -> None:
                self.proxied.set_serialized(key, value)
                memory[key] = (time.monotonic() + MEMORY_S, value)

            def delete(self, key: str) -> None:
                self.proxied.delete(key)
                memory.pop(key, None)

        arguments = {
            "url": url,
            "redis_expiration_time": REDIS_S,
            "distributed_lock": True,
            "lock_timeout": LOCK_S,
            "thread_local_lock": False,
        }
        self._region = make_region(key_mangler=lambda key: f"{PREFIX}:{key}").configure(
            "dogpile.cache.redis", expiration_time=REDIS_S, arguments=arguments, wrap=[MemoryProxy]
        )

    def read(self, key: str, load: Load) -> str | None:
        return str(self._region.get_or_create(key, load))

    def invalidate(self, key: str) -> None:
        self._region.delete(key)

    def close(self) -> None:
        self._region.actual_backend.writer_client.close()


class RedisClientSide:
    """redis-py's client-side cache with `GET`, `SET` and `DEL`. See `benchmarks.peers.RedisClientSide`."""

    def __init__(self, url: str) -> None:
        CacheProxyConnection.DEFAULT_SERVER_NAME = "valkey"
        self._client = Redis.from_url(url, protocol=3, cache_config=CacheConfig(), decode_responses=True)

    def read(self, key: str, load: Load) -> str | None:
        value: Any = self._client.get(f"{PREFIX}:{key}")
        if value is None:
            value = load()
            self._client.set(f"{PREFIX}:{key}", value, ex=REDIS_S)
        return str(value)

    def invalidate(self, key: str) -> None:
        self._client.delete(f"{PREFIX}:{key}")

    def close(self) -> None:
        self._client.close()


class MultilevelCache:
    """multilevel-cache with memory and Redis. Its messages between workers need RabbitMQ, so there are none."""

    def __init__(self, url: str) -> None:
        from multilevel_cache import CacheConfig as Config
        from multilevel_cache import MultiLevelCache

        parts = urlsplit(url)
        config = Config.from_dict(
            {
                "redis": {"host": parts.hostname, "port": parts.port, "db": 1},
                "ttl": {"default": REDIS_S, "l1_ttl": MEMORY_S, "l2_ttl": REDIS_S},
            }
        )
        self._cache = MultiLevelCache(config)

    def read(self, key: str, load: Load) -> str | None:
        return str(self._cache.get(f"{PREFIX}:{key}", loader=load))

    def invalidate(self, key: str) -> None:
        self._cache.delete(f"{PREFIX}:{key}")

    def close(self) -> None:
        if self._cache.l2 is not None:
            self._cache.l2.close()


class Hydict:
    """hydict with memory and Redis. Memory keeps a value as long as Redis does; there are no messages."""

    def __init__(self, url: str) -> None:
        from hydict import HDict, RedisConfig

        parts = urlsplit(url)
        self._cache = HDict(RedisConfig(host=parts.hostname or "localhost", port=parts.port or 6379, db=1))

    def read(self, key: str, load: Load) -> str | None:
        return str(self._cache.get_or_set(f"{PREFIX}:{key}", load, ttl=REDIS_S))

    def invalidate(self, key: str) -> None:
        self._cache.invalidate(f"{PREFIX}:{key}")

    def close(self) -> None:
        self._cache._remote.client.close()  # noqa: SLF001 - it has no public way


class _Asynchronous:
    """A worker whose cache lives on an event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="races-loop")
        self._thread.start()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def read(self, key: str, load: Load) -> str | None:
        return str(self._run(self._read_soon(key, load)))

    async def _read_soon(self, key: str, load: Load) -> str:
        value = await self._get(key)
        if value is None:
            value = await asyncio.to_thread(load)
            await self._set(key, value)
        return str(value)

    async def _get(self, key: str) -> Any:
        raise NotImplementedError

    async def _set(self, key: str, value: str) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Cashews(_Asynchronous):
    """cashews' client-side backend. It subscribes as with RESP2, so it is given RESP2."""

    def __init__(self, url: str) -> None:
        from cashews.backends.memory import Memory
        from cashews.backends.redis.client_side import BcastClientSide

        super().__init__()
        self._cache = BcastClientSide(
            f"{url}?protocol=2", client_side_prefix=f"{PREFIX}:", local_cache=Memory(size=1000)
        )
        self._run(self._cache.init())

    async def _get(self, key: str) -> Any:
        return await self._cache.get(key)

    async def _set(self, key: str, value: str) -> None:
        await self._cache.set(key, value, expire=REDIS_S)

    def invalidate(self, key: str) -> None:
        self._run(self._cache.delete(key))

    async def _close(self) -> None:
        await self._cache.close()


class Aiocache(_Asynchronous):
    """aiocache on Redis: no memory."""

    def __init__(self, url: str) -> None:
        from aiocache import RedisCache

        super().__init__()
        parts = urlsplit(url)
        self._cache = RedisCache(endpoint=parts.hostname, port=parts.port, db=1, namespace=PREFIX)

    async def _get(self, key: str) -> Any:
        return await self._cache.get(key)

    async def _set(self, key: str, value: str) -> None:
        await self._cache.set(key, value, ttl=REDIS_S)

    def invalidate(self, key: str) -> None:
        self._run(self._cache.delete(key))

    async def _close(self) -> None:
        await self._cache.close()


WORKERS: dict[str, Callable[[str], Worker]] = {
    TWO_TIER: TwoTier,
    "Flask-Caching": FlaskCaching,
    "dogpile.cache": Dogpile,
    "cashews": Cashews,
    "aiocache": Aiocache,
    "multilevel-cache": MultilevelCache,
    "redis-py": RedisClientSide,
    "hydict": Hydict,
}
NEEDED_PYTHON = {"hydict": (3, 12)}
"""The oldest Python of a package that does not run on all that this project supports."""


def usable() -> list[str]:
    """Return the caches whose packages run on this Python."""
    return [cache for cache in WORKERS if sys.version_info[:2] >= NEEDED_PYTHON.get(cache, (3, 11))]
