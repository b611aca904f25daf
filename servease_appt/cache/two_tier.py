"""The two-tier cache: L1 in this process, L2 in Redis, then a loader. The public class.

The other public methods are in `stores.py` and `shortcuts.py`. The parts of the protocol:
    `reading.py`: the read path. `batch_load.py` and `loading.py`: single-flight loads and fills. `direct.py`:
    stores without a loader. `invalidation.py`: invalidations and the messages about them. `listener.py`,
    `heartbeat.py` and `send_queue.py`: the channel. `keeping.py`: stores in L1. `recovery.py`: a server that has
    lost invalidations.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar, cast

from redis import Redis

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.codecs import Codec, Codecs
from servease_appt.cache.companion import Companion, NoCompanion
from servease_appt.cache.forks import after_fork
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import L1, MISS
from servease_appt.cache.l2.protocol import L2, Backend
from servease_appt.cache.lifetimes import Policies
from servease_appt.cache.loaders import BatchLoader, Load, LoadMany
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.process import Process
from servease_appt.cache.redis_client import DEFAULT_TIMEOUT_S, check_client, connect
from servease_appt.cache.results import Invalidated, Lookup
from servease_appt.cache.shortcuts import Shortcuts
from servease_appt.cache.stats import Observer, Recorder, Stats
from servease_appt.cache.status import ChannelState, Mode, channel_state, describe, mode_of
from servease_appt.cache.stores import Stores
from servease_appt.cache.worker_queries import WorkerQueries

V = TypeVar("V")


class TwoTierCache(Stores[V], Shortcuts[V]):
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
        client: a redis-py client, preferably made by `connect`; or, in tests, a `testing.MemoryServer`. Nothing is
            sent before the first read.
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
        client: Redis | Backend,
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
        self.policies: Policies = Policies(self.policy, self.codecs.lifetimes)
        self.keys: KeySpace = KeySpace(prefix)
        self.recorder: Recorder = recorder or Stats()
        self._observer = observer
        self._client = client
        self._owns_client = owns_client
        self._listens = listen
        self._clock = clock
        self._closed = False
        self._companion: Companion = NoCompanion()
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
            policies=self.policies,
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

    def get_many(
        self,
        keys: Sequence[str],
        load: Load[V] | None = None,
        *,
        load_many: LoadMany[V] | None = None,
        timeout_s: float | None = None,
    ) -> Lookup[V]:
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
                It may return `Loaded` to set a TTL, or to have the value stored nowhere.
            load_many: in place of `load`: `load_many(keys, timeout_s)` returns a dict of values by key. The cache
                calls it once with all missing keys of a codec. A key that the dict lacks has no value. In place of
                a value, the dict may hold one of the exceptions above.
            timeout_s: limit for all loads of this call together, in seconds; None: `policy.load_timeout_s`.

        Returns:
            For every key its value, the source of the value, and the reason if there is none. While Redis does not
            answer, values come from L1 and from `load`.

        Raises:
            ValueError: a key belongs to no codec.
            RuntimeError: the cache is closed.
            TypeError: neither or both of `load` and `load_many` are given, or can't be called like that.
        """
        if (load is None) is (load_many is None):
            raise TypeError("get_many needs load or load_many, and not both")
        self.start()
        loader = load if load is not None else BatchLoader(cast("LoadMany[V]", load_many))
        return self._process.reader.read(keys, loader, timeout_s)

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
        return self.invalidate_and_count(keys).keys

    def invalidate_and_count(self, keys: Iterable[str]) -> Invalidated:
        """Do the same as `invalidate`, and return the number of listeners as well."""
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
            l2_is_used=self.breaker.state is BreakerState.CLOSED and not self._process.recovery.l2_is_old,
            l1_is_on=self._process.keeper.l1_is_on,
            l1_is_trusted=self._clock() < self.l1.trusted_until_s,
        )

    @property
    def channel(self) -> ChannelState | None:
        """The state of the channel now; None before the first read, and if the cache does not listen."""
        return channel_state(self._process.listener) if self._started else None

    @property
    def worker_queries(self) -> WorkerQueries:
        """A client for queries to all workers."""
        return WorkerQueries(cast("Redis", self._client), self.keys)

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
            l1_switched_off=self._process.keeper.switched_off,
        )
        return own | self._companion.describe()

    def attach(self, companion: Companion) -> None:
        """Let a companion work at each pulse and add its state to `describe`. It replaces the one before."""
        self._companion = companion

    def _pulse(self) -> None:
        self._process.reader.count_hits_of_get()
        self._companion.pulse()

    def start(self) -> None:
        """Start the listener now instead of at the first read. Idempotent. Raises RuntimeError once closed."""
        if self._started or not self._listens:
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
