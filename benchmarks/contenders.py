"""What the cache is compared with, as a library: ways to read many references at once.

A contender reads a page's keys. What its first tier holds can be dropped, so that the next read comes from Redis.
"""

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import orjson
from cachetools import TTLCache
from redis import Redis

from servease_appt.cache import CachePolicy, TwoTierCache
from servease_appt.references.entities import CODECS, Reference, customer, employee, vehicle

L1_TTL_S = 10.0
L2_TTL_S = 300
PREFIX = "bench"
Record = dict[str, object]

_numbers = itertools.count(1)


def new_keys(count: int) -> list[str]:
    """Keys that nobody has read yet: as many customers as vehicles as employees; a single one is a customer."""
    kinds = ("customer", "vehicle", "employee")
    return [f"{kinds[i % 3]}_00000000-0000-4000-8000-{next(_numbers):012x}" for i in range(count)]


def record(key: str) -> Record:
    """What the service that owns a key would answer."""
    kind, _, id_ = key.partition("_")
    match kind:
        case "customer":
            return {"id": id_, "full_name": "Amelia Fernando", "email": "amelia.fernando@example.com"}
        case "vehicle":
            return {"id": id_, "year": 2020, "make": "Toyota", "model": "Corolla"}
    return {"id": id_, "full_name": "Nimal Perera"}


class Contender(ABC):
    """One way to read. `threads` says whether it may be asked by several at once."""

    name: str
    has_l1 = True
    has_l2 = True
    threads = True

    @abstractmethod
    def read(self, keys: Sequence[str]) -> None:
        """Read all keys, loading and keeping what is missing."""

    def drop_l1(self, keys: Sequence[str]) -> None:  # noqa: B027 - not everybody has something to forget
        """Forget keys in this process alone."""

    def close(self) -> None:  # noqa: B027 - nor to close
        """Give back what it holds."""

    def time_reads(self, pages: Iterator[Sequence[str]], calls: int, *, drop_l1: bool) -> float:
        """Seconds that `calls` reads take, one page each; what is dropped before a read is not in it."""
        read = self.read
        if not drop_l1:
            wanted = list(itertools.islice(pages, calls))
            started_s = time.perf_counter()
            for keys in wanted:
                read(keys)
            return time.perf_counter() - started_s
        total_s = 0.0
        for keys in itertools.islice(pages, calls):
            self.drop_l1(keys)
            started_s = time.perf_counter()
            read(keys)
            total_s += time.perf_counter() - started_s
        return total_s


class Ours(Contender):
    """The service's own cache, as the service sets it up."""

    name = "TwoTierCache"

    def __init__(self, url: str) -> None:
        self.cache: TwoTierCache[Reference] = TwoTierCache.from_url(
            url,
            CODECS,
            prefix=f"{PREFIX}_ours",
            policy=CachePolicy(l1_ttl_s=L1_TTL_S, ttl_s=L2_TTL_S),
        )
        self.cache.start()

    def read(self, keys: Sequence[str]) -> None:
        if len(keys) == 1:
            self.cache.get(keys[0], load_reference)
        else:
            self.cache.get_many(keys, load_reference)

    def drop_l1(self, keys: Sequence[str]) -> None:
        self.cache.l1.invalidate(keys)

    def close(self) -> None:
        self.cache.close()


_MAKERS: dict[str, Callable[..., Reference]] = {
    "customer": customer,
    "vehicle": vehicle,
    "employee": employee,
}


def load_reference(key: str, _timeout_s: float) -> Reference:
    """What the cache would be given by the service that owns a key."""
    return _MAKERS[key.partition("_")[0]](**record(key))


class OneLock(Contender):
    """cachetools' TTLCache under one lock for the whole page: the least that a first tier can cost."""

    name = "TTLCache under one lock"
    has_l2 = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache: TTLCache[str, Record] = TTLCache(10_000, L1_TTL_S)

    def read(self, keys: Sequence[str]) -> None:
        cache = self._cache
        with self._lock:
            for key in keys:
                try:
                    cache[key]
                except KeyError:
                    cache[key] = record(key)


class BareMget(Contender):
    """One MGET by redis-py, its bytes thrown away: the least that a second tier can cost."""

    name = "redis-py MGET"
    has_l1 = False

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url)

    def read(self, keys: Sequence[str]) -> None:
        names = [f"{PREFIX}_mget:{key}" for key in keys]
        if None in cast("list[bytes | None]", self._client.mget(names)):
            self._client.mset(
                {name: orjson.dumps(record(key)) for name, key in zip(names, keys, strict=True)}
            )

    def close(self) -> None:
        self._client.close()


class HandWritten(Contender):
    """The two tiers without any of the protections: TTLCache under a lock, one MGET, JSON, a pipeline of SETs."""

    name = "hand-written L1 + MGET + JSON"

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url)
        self._lock = threading.Lock()
        self._cache: TTLCache[str, Record] = TTLCache(10_000, L1_TTL_S)

    def read(self, keys: Sequence[str]) -> None:
        found: dict[str, Record] = {}
        missing: list[str] = []
        with self._lock:
            for key in keys:
                try:
                    found[key] = self._cache[key]
                except KeyError:
                    missing.append(key)
        if not missing:
            return
        names = [f"{PREFIX}_hand:{key}" for key in missing]
        payloads = cast("list[bytes | None]", self._client.mget(names))
        fresh = {
            key: orjson.loads(payload) for key, payload in zip(missing, payloads, strict=True) if payload
        }
        absent = [key for key in missing if key not in fresh]
        if absent:
            with self._client.pipeline(transaction=False) as pipeline:
                for key in absent:
                    fresh[key] = record(key)
                    pipeline.set(f"{PREFIX}_hand:{key}", orjson.dumps(fresh[key]), ex=L2_TTL_S)
                pipeline.execute()
        with self._lock:
            self._cache.update(fresh)
        found |= fresh

    def drop_l1(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._cache.pop(key, None)

    def close(self) -> None:
        self._client.close()
