"""The contenders of the library benchmark: ways to read many references at once.

A contender reads a page's keys. Its first tier can be emptied, so that the next read comes from Redis.
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
    """Return unread keys: equally many customers, vehicles and employees; a single one is a customer."""
    kinds = ("customer", "vehicle", "employee")
    return [f"{kinds[i % 3]}_00000000-0000-4000-8000-{next(_numbers):012x}" for i in range(count)]


def record(key: str) -> Record:
    """Return the answer of the service that owns a key."""
    kind, _, id_ = key.partition("_")
    match kind:
        case "customer":
            return {"id": id_, "full_name": "Amelia Fernando", "email": "amelia.fernando@example.com"}
        case "vehicle":
            return {"id": id_, "year": 2020, "make": "Toyota", "model": "Corolla"}
    return {"id": id_, "full_name": "Nimal Perera"}


class Contender(ABC):
    """One way to read. `threads` says whether several threads may use it at once."""

    name: str
    has_l1 = True
    has_l2 = True
    threads = True

    @abstractmethod
    def read(self, keys: Sequence[str]) -> None:
        """Read all keys; load and store missing values."""

    def drop_l1(self, keys: Sequence[str]) -> None:  # noqa: B027 - not everybody has something to forget
        """Drop keys from the first tier alone."""

    def close(self) -> None:  # noqa: B027 - nor to close
        """Close connections and threads."""

    def time_reads(self, pages: Iterator[Sequence[str]], calls: int, *, drop_l1: bool) -> float:
        """Return the seconds of `calls` reads of one page each, without the time of dropping keys."""
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
    """The service's own cache with the service's settings."""

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
    """Load the reference of a key as the service would."""
    return _MAKERS[key.partition("_")[0]](**record(key))


class OneLock(Contender):
    """cachetools' TTLCache under one lock for the whole page: the minimal cost of a first tier."""

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
    """One MGET by redis-py, whose bytes are not used: the minimal cost of a second tier."""

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
