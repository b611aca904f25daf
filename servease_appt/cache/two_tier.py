"""The two-tier cache: L1 in this process, L2 in Redis, then a loader. The public class.

The parts of the protocol
    `reading.py`: the read path. `batch_load.py` and `loading.py`: single-flight loads and fills. `direct.py`:
    stores without a loader. `invalidation.py`: invalidations and the messages about them. `listener.py`: the
    channel. `keeping.py`: stores in L1. `recovery.py`: a server that has lost invalidations.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

from redis import Redis

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.codecs import Codec, Codecs
from servease_appt.cache.direct import Fence
from servease_appt.cache.forks import after_fork
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import L1, MISS
from servease_appt.cache.l2.protocol import L2
from servease_appt.cache.listener import Listener
from servease_appt.cache.loading import Load
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.process import Process
from servease_appt.cache.redis_client import DEFAULT_TIMEOUT_S, check_client, connect
from servease_appt.cache.results import Lookup
from servease_appt.cache.stats import Observer, Recorder, Stats
from servease_appt.cache.status import Mode, describe, mode_of
from servease_appt.cache.worker_queries import WorkerQueries

V = TypeVar("V")


class TwoTierCache(Generic[V]):
    """A cache in two tiers that keeps invalidated values out of both. Thread-safe and fork-safe.

    A key is a codec's name, an underscore and an id: `customer_17`. The first read of a process starts a thread
    that listens for invalidations. While Redis does not answer, reads are served from the loader, and from L1 if
    the entry was loaded within the last second. Only `invalidate` and `invalidate_matching` raise then.

    Example:
        >>> cache = TwoTierCache.from_url(url, (json_codec("customer"),), prefix="my_service")
        >>> cache.get("customer_17", lambda key, timeout_s: {"name": "Ada"})["name"]
        'Ada'
        >>> cache.invalidate(["customer_17"])
        1
        >>> cache.close()

    Args:
        client: a redis-py client, preferably made by `connect`. Nothing is sent before the first read.
        codecs: one codec for each type of value; their names must differ.
        prefix: the prefix of all keys in Redis. Caches with the same prefix and database share their values.
        policy: lifetimes and deadlines; None: the defaults of `CachePolicy`.
        recorder: counts the cache's events; None: a new `Stats`, which the attribute `recorder` holds.
        observer: receives the duration of each operation on Redis; None: durations are not reported.
        listen: False for a command that runs once. The cache then receives no invalidations, and L1 serves a value
            for one second at most.
        owns_client: True if `close` closes `client`.
        clock: returns seconds, and never goes back.

    Raises:
        ValueError: two codecs have the same name, a name contains an underscore, or the client decodes responses
            or uses RESP2.
    """

    def __init__(
        self,
        client: Redis,
        codecs: tuple[Codec[V], ...],
        *,
        prefix: str,
        policy: CachePolicy | None = None,
        recorder: Recorder | None = None,
        observer: Observer | None = None,
        listen: bool = True,
        owns_client: bool = False,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        check_client(client)
        self.policy: CachePolicy = policy or CachePolicy()
        self.codecs: Codecs[V] = Codecs(codecs)
        self.keys: KeySpace = KeySpace(prefix)
        self.recorder: Recorder = recorder or Stats()
        self._observer = observer
        self._client = client
        self._owns_client = owns_client
        self._listens = listen
        self._clock = clock
        self._closed = False
        self.describe_more: Callable[[], dict[str, Any]] = dict
        self.on_pulse: Callable[[], None] | None = None
        self._set_up()
        after_fork(self, TwoTierCache._after_fork)
        _living.add(self)

    @classmethod
    def from_url(
        cls, url: str, codecs: tuple[Codec[V], ...], *, timeout_s: float = DEFAULT_TIMEOUT_S, **options: Any
    ) -> Self:
        """Return a cache with a Redis client of its own, which `close` closes.

        Args:
            url: see `connect`.
            codecs: as for the class.
            timeout_s: limit for connecting to Redis and for one operation, in seconds.
            options: all other arguments of the class.

        Raises:
            ValueError: `connect` does not support the URL.
        """
        return cls(connect(url, timeout_s=timeout_s), codecs, owns_client=True, **options)

    def _set_up(self) -> None:
        """Make the parts that belong to one process. Called again in the child after a fork."""
        self._start_lock = threading.Lock()
        self._started = False
        self._process: Process[V] = Process(
            client=self._client,
            codecs=self.codecs,
            keys=self.keys,
            policy=self.policy,
            recorder=self.recorder,
            observer=self._observer,
            describe=self.describe,
            on_pulse=self._pulse,
            clock=self._clock,
        )
        self.identity: str = self._process.identity
        self.breaker: Breaker = self._process.breaker
        self.l1: L1[V] = self._process.l1
        self.l2: L2 = self._process.l2

    # Read

    def get(self, key: str, load: Load[V], *, timeout_s: float | None = None) -> V | None:
        """Return one value from the nearest tier that has it. Thread-safe; never raises because of an outage.

        Args:
            key: a codec's name, an underscore and an id.
            load: see `get_many`.
            timeout_s: see `get_many`.

        Returns:
            The value. None if the source has no value, denied the caller, or failed; `get_many` tells these apart.

        Raises:
            ValueError: the key belongs to no codec.
            RuntimeError: the cache is closed.
        """
        value = self.l1.get(key)
        if value is not MISS:
            return value
        return self.get_many((key,), load, timeout_s=timeout_s).values[key]

    def get_many(self, keys: Sequence[str], load: Load[V], *, timeout_s: float | None = None) -> Lookup[V]:
        """Return many values, each from the nearest tier that has it. Thread-safe; never raises for an outage.

        Example:
            >>> with_one = TwoTierCache.from_url(url, (json_codec("vehicle"),), prefix="my_service")
            >>> def load(key, timeout_s):
            ...     if key == "vehicle_2":
            ...         raise ValueNotFound(key)
            ...     return {"make": "Toyota"}
            >>> lookup = with_one.get_many(["vehicle_1", "vehicle_2"], load)
            >>> lookup.values["vehicle_1"]["make"], lookup.no_values["vehicle_2"]
            ('Toyota', <NoValue.NOT_FOUND: 'not_found'>)
            >>> with_one.close()

        Args:
            keys: the keys, without duplicates.
            load: `load(key, timeout_s)` returns the value of one key. The cache calls it on its own threads, for
                several keys in parallel, and at most once a key in all processes together. It raises ValueNotFound
                if there is no value, LoadDenied if the source refused the caller, and anything else if it fails.
            timeout_s: limit for all loads of this call together, in seconds; None: `policy.load_timeout_s`.

        Returns:
            For every key its value, the source of the value, and the reason if there is none. While Redis does not
            answer, values come from L1 and from `load`.

        Raises:
            ValueError: a key belongs to no codec.
            RuntimeError: the cache is closed.
        """
        if not self._started:
            self.start()
        return self._process.reader.read(keys, load, timeout_s)

    # Read and store without a loader

    def peek_many(self, keys: Sequence[str], *, fenced: bool = True) -> tuple[dict[str, V], dict[str, Fence]]:
        """Return the cached values, and for each miss the fence that `fill` needs. Thread-safe.

        A fence is the lease of the key, even if another caller holds the lease. As long as the lease exists, the
        key has not been invalidated.

        Args:
            keys: the keys, without duplicates.
            fenced: False to take no fences, which saves a round trip.

        Returns:
            The values that were found, and the fences of the missing keys. No fences while Redis does not answer.

        Raises:
            ValueError: a key belongs to no codec.
            RuntimeError: the cache is closed.
        """
        if not self._started:
            self.start()
        return self._process.reader.peek(keys, fenced=fenced)

    def fill(self, key: str, value: V, fence: Fence, ttl_s: float | None) -> bool:
        """Store a value that was computed after a miss. See `fill_many`. Returns True if it was stored."""
        return bool(self.fill_many({key: (value, fence)}, ttl_s))

    def fill_many(self, fills: Mapping[str, tuple[V, Fence]], ttl_s: float | None) -> list[str]:
        """Store values that were computed after misses, unless their keys were invalidated since. Thread-safe.

        Args:
            fills: by key, the value and the fence that `peek_many` returned.
            ttl_s: TTL of the values in seconds; None: no expiry.

        Returns:
            The keys that were stored; none while Redis does not answer.
        """
        return self._process.direct.fill_many(fills, ttl_s)

    def release(self, fences: Mapping[str, Fence]) -> None:
        """Release fences that will not be used, so that the next miss of each key is granted the lease.

        Args:
            fences: by key, as `peek_many` returned them. Fences that were not granted to that call are ignored.
        """
        self._process.direct.release(fences)

    def write(self, key: str, value: V, ttl_s: float | None) -> bool:
        """Store a value unconditionally. See `write_many`. Returns False if Redis did not accept it."""
        return self.write_many({key: value}, ttl_s)

    def write_many(self, values: Mapping[str, V], ttl_s: float | None) -> bool:
        """Store values in L2 unconditionally, and drop them from every worker's L1.

        If L2 already holds the same bytes, only the TTL is set, and every L1 keeps the value.

        Args:
            values: by key.
            ttl_s: TTL of the values in seconds; None: no expiry.

        Returns:
            False if Redis did not answer or refused the write.
        """
        return self._process.direct.write_many(values, ttl_s)

    def renew_many(self, values: Mapping[str, V], ttl_s: float | None) -> list[str]:
        """Set the TTL of values that L2 still holds unchanged. Returns the keys of these values."""
        return self._process.direct.renew_many(values, ttl_s)

    def add(self, key: str, value: V, ttl_s: float | None) -> bool:
        """Store a value if L2 holds none, atomically. Returns True if stored; False if not, or in an outage."""
        return self._process.direct.add(key, value, ttl_s)

    def increment(self, key: str, delta: int) -> int | None:
        """Add `delta` to a number in L2, atomically, and drop it from every worker's L1.

        A missing number counts as 0 and is stored without expiry.

        Returns:
            The new number; None if Redis does not answer or refuses writes.

        Raises:
            ValueError: the value is not a 64-bit integer in decimal digits, or the sum does not fit into one.
        """
        return self._process.direct.increment(key, delta)

    # Invalidate

    def invalidate(self, keys: Iterable[str]) -> int:
        """Drop keys from both tiers of every worker, with their stale copies. Thread-safe.

        Once this has returned, no fetch that began before it can write an older value. Other workers drop theirs
        when they receive the message, and within 2 s whatever fails. Call it after the source has committed the
        change.

        Args:
            keys: the keys; duplicates are allowed.

        Returns:
            The number of distinct keys.

        Raises:
            CacheUnavailable: Redis did not accept it; this process has dropped its own values anyway.
            ValueError: a key belongs to no codec; nothing was dropped.
        """
        return self._process.invalidator.invalidate(keys)

    def invalidate_matching(self, pattern: str) -> None:
        """Drop all keys that match a pattern, as `invalidate` does. Thread-safe. Scans the whole database.

        Args:
            pattern: a glob pattern as Redis reads it, such as `customer_*`.

        Raises:
            CacheUnavailable: Redis did not accept it; this process has dropped its own values anyway.
        """
        self._process.invalidator.invalidate_matching(pattern)

    # Lifecycle

    def in_background(self, work: Callable[[], None]) -> None:
        """Run a short task on a thread of the cache. Raises RuntimeError once the cache is closed."""
        self._process.submit(work)

    @property
    def mode(self) -> Mode:
        """The mode the cache is in now."""
        return mode_of(
            self.breaker,
            l1_is_on=bool(self.policy.l1_ttl_s),
            l1_is_trusted=self._clock() < self.l1.trusted_until_s,
        )

    @property
    def listener(self) -> Listener | None:
        """The listener of this process; None before the first read, and if the cache does not listen."""
        return self._process.listener if self._started else None

    @property
    def worker_queries(self) -> WorkerQueries:
        """A client for queries to all workers."""
        return WorkerQueries(self._client, self.keys)

    def describe(self) -> dict[str, Any]:
        """Return the state of this process's cache, as JSON."""
        self._process.reader.count_hits_of_get()
        own = describe(
            self.identity,
            self.mode,
            self.l1,
            self._process.listener,
            self.breaker,
            refusal=self.l2.refusals.current,
        )
        return own | self.describe_more()

    def _pulse(self) -> None:
        self._process.reader.count_hits_of_get()
        if self.on_pulse is not None:
            self.on_pulse()

    def start(self) -> None:
        """Start the listener now instead of at the first read. Idempotent. Raises RuntimeError once closed."""
        if not self._listens:
            return
        with self._start_lock:
            if self._closed:
                raise RuntimeError("the cache is closed")
            if not self._started:
                self._process.start()
                self._started = True

    def close(self) -> None:
        """Stop the listener and wait for running loads. Idempotent.

        A client that was passed in stays open unless `owns_client` is True. A client made by `from_url` is closed.
        """
        with self._start_lock:
            if self._closed:
                return
            self._closed, self._started = True, False
        self._process.close()
        self._process.reader.count_hits_of_get()
        if self._owns_client:
            self._client.close()
        _living.discard(self)

    def _after_fork(self) -> None:
        """Make new parts in the child: no thread, lock, socket, identity or value of the parent is used (R13)."""
        parents_listener = self._process.listener
        self._set_up()
        parents_listener.abandon()


_living: weakref.WeakSet[TwoTierCache[Any]] = weakref.WeakSet()


def _close_all() -> None:
    for cache in list(_living):
        cache.close()


atexit.register(_close_all)
