"""The two-tier cache: L1 in this process, L2 in Redis, then a loader. The public class, and the read path.

Read
    L1 under one lock for all keys → the loads that are under way here are joined → one MGET for the rest, the
    sequence number riding along → for what is still missing, one round trip for the lease of each key, then the
    loads side by side (`batch_load.py`, `loading.py`).
Fill
    L2 takes a value only under the lease that was taken before its load began; L1 only if L2 took it and no
    invalidation of the key was handled since before the read was sent (`loading.py`, `keeping.py`).
Invalidate
    One script deletes, counts the sequence up and publishes; this process drops its own L1 last
    (`invalidation.py`).
Listen
    One thread follows the sequence, empties L1 when it has missed something, and says until when L1 may be
    trusted (`listener.py`). The server tells of every change under the tracked prefixes, this process's own fills
    included: what L1 holds of them is compared with L2 (`keeping.py`).
Recover
    Nothing is used of a server that has lost invalidations (`recovery.py`).
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

from redis import Redis

from servease_appt.cache.batch_load import BatchLoad
from servease_appt.cache.codecs import Codec, Codecs
from servease_appt.cache.direct import Fence
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.forks import after_fork
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import MISS, Epoch
from servease_appt.cache.listener import Listener
from servease_appt.cache.loading import Load
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.process import Process
from servease_appt.cache.redis_client import DEFAULT_TIMEOUT_S, connect
from servease_appt.cache.results import Lookup, NoValue, Source
from servease_appt.cache.stats import Event, Observer, Recorder, Stats, Tier
from servease_appt.cache.status import Mode, describe, mode_of
from servease_appt.cache.worker_queries import WorkerQueries

V = TypeVar("V")


class TwoTierCache(Generic[V]):
    """A cache in two tiers that keeps invalidated values out of both. Thread-safe and fork-safe.

    Keys are `kind_id`. The listener starts with the first read of a process; `listen=False` (for commands that
    run once) leaves it out, and L1 then holds a value for a second at most. Nothing here raises because Redis
    does not answer but `invalidate` and `invalidate_matching`.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy or CachePolicy()
        self.codecs = Codecs(codecs)
        self.keys = KeySpace(prefix)
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
        """Make a cache with a Redis client of its own, which `close` closes."""
        return cls(connect(url, timeout_s=timeout_s), codecs, owns_client=True, **options)

    def _set_up(self) -> None:
        """Make everything that belongs to one process; again in the child after a fork."""
        self._start_lock = threading.Lock()
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
        self.identity = self._process.identity
        self.breaker = self._process.breaker
        self.l1 = self._process.l1
        self.l2 = self._process.l2

    # Read

    def get(self, key: str, load: Load[V], *, timeout_s: float | None = None) -> V | None:
        """Return one value, or None where the source has none or can't be asked. As `get_many`."""
        value = self.l1.get(key)
        if value is not MISS:
            return value
        return self.get_many((key,), load, timeout_s=timeout_s).values[key]

    def get_many(self, keys: Sequence[str], load: Load[V], *, timeout_s: float | None = None) -> Lookup[V]:
        """Answer all keys, each given once, from the nearest tier that has it; never raises for an outage.

        `load(key, timeout_s)` is called on the cache's threads, at most once a key in all processes together,
        and raises ValueNotFound, LoadDenied, or anything else when it fails. `timeout_s` bounds all loads of this
        call (`policy.load_timeout_s` by default). Raises ValueError for a key of no codec.
        """
        if not self._process.listener.started:
            self.start()
        read = self.l1.get_many(keys)
        lookup = Lookup(read.values)
        if read.missing:
            self._read_through(lookup, read.missing, read.epoch, load, timeout_s)
        if read.not_found:
            _note_not_found(lookup, read.not_found)
        self._count_reads(keys, lookup)
        return lookup

    def _read_through(
        self, lookup: Lookup[V], missing: list[str], epoch: Epoch, load: Load[V], timeout_s: float | None
    ) -> None:
        started_s = time.monotonic()
        self.codecs.check(missing)
        batch = BatchLoad(self._process.loader, load, started_s + (timeout_s or self.policy.load_timeout_s))
        unled = batch.join(missing)
        if unled:
            missing, l2_answers = self._read_l2(lookup, unled, epoch)
        else:
            missing, l2_answers = [], not self._process.recovery.l2_is_old
        self._refresh_what_is_due(
            [key for key, source in lookup.sources.items() if source is Source.L2], load
        )
        lookup.cache_s = time.monotonic() - started_s
        if missing or batch.joined:
            for key, (value, source) in batch.run(missing, epoch, use_l2=l2_answers).items():
                lookup.sources[key] = source
                if isinstance(value, NoValue):
                    lookup.values[key] = None
                    lookup.no_values[key] = value
                else:
                    lookup.values[key] = value
            lookup.cache_s += batch.cache_s
            lookup.upstream_s = max(0.0, time.monotonic() - started_s - lookup.cache_s)

    def _read_l2(self, lookup: Lookup[V], missing: list[str], epoch: Epoch) -> tuple[list[str], bool]:
        """One command. Returns what is missing still, and whether L2 may be used at all."""
        process = self._process
        seen = process.recovery.highest_sequence_seen()
        lives_ms: dict[str, int] | None = None
        try:
            if self.policy.l1_within_l2:
                payloads, lives, sequence = self.l2.read_timed(missing)
                lives_ms = dict(zip(missing, lives, strict=True))
            else:
                payloads, sequence = self.l2.read(missing)
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")
            return missing, False
        process.recovery.compare(seen, sequence)
        if process.recovery.l2_is_old:
            return missing, False
        process.listener.observe_sequence(sequence)
        found: list[tuple[str, V]] = []
        corrupt: list[tuple[str, bytes]] = []
        decode = self.codecs.decode
        for key, payload in zip(missing, payloads, strict=True):
            if payload is None:
                continue
            value = decode(key, payload)
            if value is None:
                corrupt.append((key, payload))
                continue
            found.append((key, value))
        lookup.values.update(found)
        lookup.sources.update(dict.fromkeys([key for key, _ in found], Source.L2))
        process.loader.keep_from_l2(found, epoch, lives_ms)
        if corrupt:
            self._discard(corrupt)
        return [key for key in missing if key not in lookup.values], True

    def _discard(self, corrupt: list[tuple[str, bytes]]) -> None:
        """Bytes that are no value are a miss, counted and deleted, so that they hide nothing for long."""
        self._process.event_log.note(Tier.L2, Event.CORRUPT, [key for key, _ in corrupt])
        try:
            self.l2.discard(corrupt)
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")

    def _refresh_what_is_due(self, keys: list[str], load: Load[V]) -> None:
        due, unknown = self._process.schedule.hit(keys, self._clock())
        if due:
            self._process.loader.refresh(due, load)
        if unknown:
            self._process.loader.learn_lifetimes(unknown)

    def _count_reads(self, keys: Sequence[str], lookup: Lookup[V]) -> None:
        sources = lookup.sources
        hits = keys if not sources else [key for key in keys if key not in sources]
        for name, n in self.codecs.tally(hits):
            self.recorder.count(Tier.L1, Event.HIT, name, n)
        if not sources:
            return
        for source, found_there in _by_source(sources).items():
            for name, n in self.codecs.tally(found_there):
                self.recorder.count(Tier.L1, Event.MISS, name, n)
                self.recorder.count(Tier.L2, Event.HIT if source is Source.L2 else Event.MISS, name, n)
                if source is Source.UNKNOWN:
                    self.recorder.count(Tier.UPSTREAM, Event.NOT_FOUND, name, n)
        self._count_hits_of_get()

    def _count_hits_of_get(self) -> None:
        """Hand the recorder the hits that `get` has left in L1, since counting each would cost more than a hit."""
        for name, n in self.l1.take_hits():
            self.recorder.count(Tier.L1, Event.HIT, name, n)

    # Read and store by hand, where no loader can be given

    def peek_many(self, keys: Sequence[str], *, fenced: bool = True) -> tuple[dict[str, V], dict[str, Fence]]:
        """Return what the tiers hold, and for each missing key the fence to hand to `fill`.

        A fence is the lease that stands, whoever took it: that it stands proves that no invalidation came
        between. None is given while Redis does not answer, and none without `fenced`, which saves a round trip.
        Raises ValueError for a key of no codec.
        """
        if not self._process.listener.started:
            self.start()
        read = self.l1.get_many(keys)
        self.codecs.check(read.missing)
        lookup = Lookup(read.values)
        missing, l2_answers = self._read_l2(lookup, read.missing, read.epoch) if read.missing else ([], True)
        fences: dict[str, Fence] = {}
        if fenced and missing and l2_answers:
            values, fences = self._process.direct.take_fences(missing)
            lookup.values.update(values)
        lookup.sources.update(dict.fromkeys(missing, Source.UNKNOWN))
        self._count_reads(keys, lookup)
        return {key: value for key, value in lookup.values.items() if value is not None}, fences

    def fill(self, key: str, value: V, fence: Fence, ttl_s: float | None) -> bool:
        """Keep what was made after a miss. See `fill_many`."""
        return bool(self.fill_many({key: (value, fence)}, ttl_s))

    def fill_many(self, fills: Mapping[str, tuple[V, Fence]], ttl_s: float | None) -> list[str]:
        """Keep what was made after misses, each value only if its key was not invalidated since.

        Args:
            fills: by key the value, and the fence that `peek_many` gave.
            ttl_s: seconds that the values live; None: without an end.

        Returns:
            The keys that were stored; none while Redis does not answer.
        """
        return self._process.direct.fill_many(fills, ttl_s)

    def write(self, key: str, value: V, ttl_s: float | None) -> bool:
        """Replace a value in L2, and drop it from every worker's L1; False when Redis does not answer."""
        return self.write_many({key: value}, ttl_s)

    def write_many(self, values: Mapping[str, V], ttl_s: float | None) -> bool:
        """Replace values in L2, and drop them from every worker's L1.

        A value whose bytes are in L2 already only gets its new life, and stays in every L1.

        Args:
            values: by key.
            ttl_s: seconds that the values live; None: without an end.

        Returns:
            False when Redis does not answer or took no writes.
        """
        return self._process.direct.write_many(values, ttl_s)

    def renew_many(self, values: Mapping[str, V], ttl_s: float | None) -> list[str]:
        """Give values a new life if L2 still holds just these. Returns the keys of which it does."""
        return self._process.direct.renew_many(values, ttl_s)

    def add(self, key: str, value: V, ttl_s: float | None) -> bool:
        """Store a value if L2 holds none, atomically. Returns whether it was; False when Redis does not answer."""
        return self._process.direct.add(key, value, ttl_s)

    def increment(self, key: str, delta: int) -> int | None:
        """Add to a number in L2, atomically, and drop it from every worker's L1.

        A missing one is 0 without an end.

        Returns:
            The new number; None when Redis does not answer or takes no writes.

        Raises:
            ValueError: the value is no number of 64 bits in decimal digits, or would become none.
        """
        return self._process.direct.increment(key, delta)

    # Invalidate

    def invalidate(self, keys: Iterable[str]) -> int:
        """Drop keys from both tiers of every worker, with their stale copies. Returns how many keys.

        Once this has returned, no fetch that began before it can write an older value. Raises CacheUnavailable
        when L2 did not take it (this process has dropped its own all the same), ValueError for a key of no codec.
        """
        return self._process.invalidator.invalidate(keys)

    def invalidate_matching(self, pattern: str) -> None:
        """Drop all keys that match a glob pattern such as `customer_*`. Raises as `invalidate` does."""
        self._process.invalidator.invalidate_matching(pattern)

    # Life

    def in_background(self, work: Callable[[], None]) -> None:
        """Run something short on a thread of the cache. Raises RuntimeError once the cache is closed."""
        self._process.submit(work)

    @property
    def mode(self) -> Mode:
        """What the cache does right now."""
        return mode_of(
            self.breaker,
            l1_is_on=bool(self.policy.l1_ttl_s),
            l1_is_trusted=self._clock() < self.l1.trusted_until_s,
        )

    @property
    def listener(self) -> Listener | None:
        """This process's listener; None before the first read, and where none is wanted."""
        listener = self._process.listener
        return listener if listener.started and not self._closed else None

    @property
    def worker_queries(self) -> WorkerQueries:
        """The way to ask all workers."""
        return WorkerQueries(self._client, self.keys)

    def describe(self) -> dict[str, Any]:
        """Return the state of this process's cache, as JSON."""
        self._count_hits_of_get()
        own = describe(self.identity, self.mode, self.l1, self._process.listener, self.breaker)
        return own | self.describe_more()

    def _pulse(self) -> None:
        self._count_hits_of_get()
        if self.on_pulse is not None:
            self.on_pulse()

    def start(self) -> None:
        """Start listening now rather than with the first read. Idempotent."""
        if not self._listens:
            return
        with self._start_lock:
            if self._closed:
                raise RuntimeError("the cache is closed")
            if not self._process.listener.started:
                self._process.start()

    def close(self) -> None:
        """Stop the listener and wait for the loads under way. Idempotent.

        A client that was given to the cache stays open, unless the cache was told that it owns it; one that
        `from_url` made is closed.
        """
        with self._start_lock:
            if self._closed:
                return
            self._closed = True
        self._process.close()
        self._count_hits_of_get()
        if self._owns_client:
            self._client.close()
        _living.discard(self)

    def _after_fork(self) -> None:
        """In the child: no thread, lock, socket, identity or value of the parent is used (race R13)."""
        parents_listener = self._process.listener
        self._set_up()
        parents_listener.abandon()


def _note_not_found(lookup: Lookup[V], keys: Iterable[str]) -> None:
    """A remembered absence in L1 is no hit of a value: say so."""
    for key in keys:
        lookup.sources[key] = Source.UNKNOWN
        lookup.no_values[key] = NoValue.NOT_FOUND


def _by_source(sources: dict[str, Source]) -> dict[Source, list[str]]:
    keys: dict[Source, list[str]] = {}
    for key, source in sources.items():
        keys.setdefault(source, []).append(key)
    return keys


_living: weakref.WeakSet[TwoTierCache[Any]] = weakref.WeakSet()


def _close_all() -> None:
    for cache in list(_living):
        cache.close()


atexit.register(_close_all)
