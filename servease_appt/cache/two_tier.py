"""The two-tier cache: L1 in this process, L2 in Redis, then a loader. The protocol in one file.

Read
    L1 under one lock for all keys → the loads that are under way here are joined → one MGET for the rest, the
    sequence number riding along → for what is still missing, one round trip for the lease of each key, then the
    loads side by side (`loading.py`).
Fill
    L2 takes a value only under the lease that was taken before its load began; L1 only if L2 took it and no
    invalidation of the key was handled since before the read was sent.
Invalidate
    One script deletes value, lease, absence and stale copy, counts the sequence up and publishes. This
    process drops its own L1 last, so that it can't be refilled from an L2 that still had the old value (race R3).
Listen
    One thread follows the sequence, empties L1 when it has missed something, and says until when L1 may be
    trusted (`listener.py`).
Other hands
    The server tells of every change under the tracked prefixes, this process's own fills included. What L1 holds
    of them is compared with L2, and dropped when it differs; what is put after the news came is compared, too.

Nothing here but `TwoTierCache` decides to go on without L2.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from redis import Redis
from redis.exceptions import RedisError

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.codecs import Codec, Codecs
from servease_appt.cache.errors import CacheUnavailable, L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.forks import after_fork
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import L1, Entry, Epoch
from servease_appt.cache.l2.cluster import Cluster, ClusterL2
from servease_appt.cache.l2.single_server import Fill, LeaseState, SingleServerL2, distinct
from servease_appt.cache.listener import Listener
from servease_appt.cache.loading import BatchLoad, Load, Loader, Lookup, Source
from servease_appt.cache.messages import Invalidation
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.redis_client import database_of
from servease_appt.cache.refresh import RefreshSchedule
from servease_appt.cache.stats import Event, Observer, Recorder, Stats, Tier
from servease_appt.cache.worker_queries import QueryResponder, WorkerQueries

log = logging.getLogger(__name__)
V = TypeVar("V")

INVALIDATE_BATCH = 500
L2_COOL_DOWN_S = 2.0
MANUAL_LEASE_MS = 30_000
REGISTER_EVERY_S = 5.0
"""Renewed, since a server under `allkeys-lru` may evict the register of workers."""


class Mode(StrEnum):
    """What the cache does right now; named in health, metrics and the doctor."""

    BOTH = "both"
    """Both tiers serve."""
    L2_ONLY = "l2_only"
    """The channel is unsure: L1 serves only what it loaded within the last second."""
    L1_ONLY = "l1_only"
    """Redis is away: what was loaded within the last second, else the source."""
    DIRECT = "direct"
    """Redis is away and L1 is off: every read goes to the source."""


class Fence(NamedTuple):
    """What proves to `TwoTierCache.fill` that no invalidation came since a miss."""

    token: str
    epoch: Epoch


class TwoTierCache(Generic[V]):
    """A cache in two tiers that keeps invalidated values out of both. Thread-safe and fork-safe.

    Keys are `kind_id`. The listener starts with the first read of a process; `listen=False` (for commands that
    run once) leaves it out, and L1 then holds a value for a second at most. Nothing here raises because Redis is
    away but `invalidate` and `invalidate_matching`.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy or CachePolicy()
        self.codecs = Codecs(codecs)
        self.keys = KeySpace(prefix)
        self.recorder: Recorder = recorder or Stats()
        self._observer = observer
        self._client = client
        self._listens = listen
        self._clock = clock
        self._closed = False
        self.describe_more: Callable[[], dict[str, Any]] = dict
        self.on_pulse: Callable[[], None] | None = None
        self._set_up()
        after_fork(self, TwoTierCache._after_fork)
        _living.add(self)

    def _set_up(self) -> None:
        """Make everything that belongs to one process; again in the child after a fork."""
        self.identity = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.breaker = Breaker(
            threshold=1, cool_down_s=L2_COOL_DOWN_S, on_change=self._on_breaker, clock=self._clock
        )
        self.l2 = _l2(self._client, self.keys, self.breaker, self._observer)
        self.l1: L1[V] = L1(maxsize=self.policy.l1_maxsize, clock=self._clock)
        self._schedule = RefreshSchedule(self.policy)
        self._event_log = EventLog(self.recorder, self.codecs.name_of)
        self._query_responder: QueryResponder[V] = QueryResponder(
            self,
            self.identity,
            l1=self.l1,
            event_log=self._event_log,
            keys=self.keys,
            codecs=self.codecs,
            database=database_of(self._client),
        )
        self._loader: Loader[V] = Loader(
            l1=self.l1,
            l2=self.l2,
            codecs=self.codecs,
            policy=self.policy,
            schedule=self._schedule,
            recorder=self.recorder,
            event_log=self._event_log,
            identity=self.identity,
            keep=self._keep_in_l1,
            clock=self._clock,
        )
        self._acknowledged = 0
        self._l2_is_old = False
        self._emptying_l2 = False
        self._probing = False
        self._start_lock = threading.Lock()
        self._started_at_s = time.time()
        self._registered_at_s = float("-inf")
        self._listener: Listener | None = None

    # Read

    def get(self, key: str, load: Load[V], *, timeout_s: float | None = None) -> V | None:
        """One value, or None where the source has none or can't be asked. As `get_many`."""
        return self.get_many((key,), load, timeout_s=timeout_s).values[key]

    def get_many(self, keys: Sequence[str], load: Load[V], *, timeout_s: float | None = None) -> Lookup[V]:
        """Answer all keys, each given once, from the nearest tier that has it; never raises for what is away.

        `load(key, timeout_s)` is called on the cache's threads, at most once a key in all processes together,
        and raises ValueNotFound, LoadDenied, or anything else when it fails. `timeout_s` bounds all loads of this
        call (`policy.load_timeout_s` by default). Raises ValueError for a key of no codec.
        """
        if self._listener is None:
            self._start()
        read = self.l1.get_many(keys)
        if not read.missing:
            lookup = Lookup(read.values)
        else:
            lookup = self._read_through(read.values, read.missing, read.epoch, load, timeout_s)
        if not all(lookup.values.values()):
            self._note_absent(lookup)
        self._count_reads(keys, lookup)
        return lookup

    def _read_through(
        self,
        values: dict[str, V | None],
        missing: list[str],
        epoch: Epoch,
        load: Load[V],
        timeout_s: float | None,
    ) -> Lookup[V]:
        started_s = time.monotonic()
        self.codecs.check(missing)
        lookup = Lookup(values)
        batch_load = BatchLoad(self._loader, load, started_s + (timeout_s or self.policy.load_timeout_s))
        unled = batch_load.join(missing)
        missing, l2_answers = self._read_l2(lookup, unled, epoch) if unled else ([], not self._l2_is_old)
        self._refresh_what_is_due(
            [key for key, source in lookup.sources.items() if source is Source.L2], load
        )
        lookup.cache_s = time.monotonic() - started_s
        if missing or batch_load.joined:
            for key, (value, source) in batch_load.run(missing, epoch, use_l2=l2_answers).items():
                values[key] = value
                lookup.sources[key] = source
            lookup.cache_s += batch_load.cache_s
            lookup.upstream_s = max(0.0, time.monotonic() - started_s - lookup.cache_s)
        return lookup

    def _read_l2(self, lookup: Lookup[V], missing: list[str], epoch: Epoch) -> tuple[list[str], bool]:
        """One MGET. Returns what is missing still, and whether L2 may be used at all."""
        heard = self._highest_sequence_seen()
        try:
            payloads, sequence = self.l2.read(missing)
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")
            return missing, False
        self._compare_sequences(heard, sequence)
        if self._l2_is_old:
            return missing, False
        if self._listener is not None:
            self._listener.observe_sequence(sequence)
        found: list[tuple[str, V | None]] = []
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
        self._loader.keep_from_l2(found, epoch)
        if corrupt:
            self._discard(corrupt)
        return [key for key in missing if key not in lookup.values], True

    def _discard(self, corrupt: list[tuple[str, bytes]]) -> None:
        """Bytes that are no value are a miss, counted and deleted, so that they hide nothing for long."""
        self._event_log.note(Tier.L2, Event.CORRUPT, [key for key, _ in corrupt])
        try:
            self.l2.discard(corrupt)
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")

    def _refresh_what_is_due(self, keys: list[str], load: Load[V]) -> None:
        due, unknown = self._schedule.hit(keys, self._clock())
        if due:
            self._loader.refresh(due, load)
        if unknown:
            self._loader.learn_lifetimes(unknown)

    def _keep_in_l1(self, entries: list[tuple[str, Entry[V]]], epoch: Epoch) -> None:
        if not self.policy.l1_ttl_s:
            return
        refused, to_verify = self.l1.put_many(entries, epoch)
        if refused:
            self._event_log.note(Tier.L1, Event.REFUSED_FILL, refused, "invalidated while it was read")
        if to_verify and self._listener is not None:
            wanted = set(to_verify)
            self._verify({key: entry for key, entry in entries if key in wanted})

    def _note_absent(self, lookup: Lookup[V]) -> None:
        """A remembered absence in L1 is no hit of a value: say so."""
        for key, value in lookup.values.items():
            if value is None:
                lookup.sources.setdefault(key, Source.UNKNOWN)

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

    # Read and store by hand, where no loader can be given

    def peek_many(self, keys: Sequence[str]) -> tuple[dict[str, V], dict[str, Fence]]:
        """Return what the tiers hold, and for each missing key the fence to hand to `fill`.

        A fence is the lease that stands, whoever took it: that it stands proves that no invalidation came
        between. None is given while Redis is away. Raises ValueError for a key of no codec.
        """
        if self._listener is None:
            self._start()
        read = self.l1.get_many(keys)
        lookup = Lookup(read.values)
        missing, l2_answers = self._read_l2(lookup, read.missing, read.epoch) if read.missing else ([], True)
        fences: dict[str, Fence] = {}
        if missing and l2_answers:
            fences = self._take_fences(lookup, missing)
        self._count_reads(
            keys, Lookup(lookup.values, lookup.sources | dict.fromkeys(missing, Source.UNKNOWN))
        )
        return {key: value for key, value in lookup.values.items() if value is not None}, fences

    def _take_fences(self, lookup: Lookup[V], missing: list[str]) -> dict[str, Fence]:
        epoch, token = self.l1.epoch(), self._loader.new_token()
        try:
            leases = self.l2.acquire(missing, token, MANUAL_LEASE_MS)
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")
            return {}
        fences = {}
        for key, lease in zip(missing, leases, strict=True):
            value = self.codecs.decode(key, lease.payload) if lease.state is LeaseState.VALUE else None
            if value is not None:
                lookup.values[key] = value
            elif lease.state in (LeaseState.GRANTED, LeaseState.HELD):
                fences[key] = Fence(lease.payload.decode(), epoch)
        return fences

    def fill(self, key: str, value: V, fence: Fence, ttl_s: float) -> bool:
        """Keep what was made after a miss; False when it was refused or Redis is away. Never raises for that."""
        fill = Fill(key, fence.token, self.codecs.of(key).encode(value), int(ttl_s * 1000), 0)
        try:
            (stored,) = self.l2.fill([fill])
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")
            return False
        self._event_log.note(Tier.L2, Event.FILL if stored else Event.REFUSED_FILL, (key,))
        if stored:
            read_at_s = fence.epoch.at_s
            entry = Entry(value, read_at_s, read_at_s + min(self.policy.l1_ttl_s, ttl_s))
            self._keep_in_l1([(key, entry)], fence.epoch)
        return stored

    def write(self, key: str, value: V, ttl_s: float) -> bool:
        """Replace a value in L2, and drop it from every worker's L1; False when Redis is away."""
        try:
            self.l2.write(key, self.codecs.of(key).encode(value), int(ttl_s * 1000), self.identity)
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")
            return False
        finally:
            self._forget((key,))
        self._event_log.note(Tier.L2, Event.FILL, (key,), "written")
        return True

    # Invalidate

    def invalidate(self, keys: Iterable[str]) -> int:
        """Drop keys from both tiers of every worker, with their stale copies. Returns how many keys.

        Once this has returned, no fetch that began before it can write an older value. Raises CacheUnavailable
        when L2 did not take it (this process has dropped its own all the same), ValueError for a key of no codec.
        """
        wanted = distinct(keys)
        for key in wanted:
            self.codecs.of(key)
        try:
            for start in range(0, len(wanted), INVALIDATE_BATCH):
                heard = self._highest_sequence_seen()
                batch = wanted[start : start + INVALIDATE_BATCH]
                sequence = self.l2.invalidate(batch, self.identity)
                self._compare_sequences(heard, sequence - 1)
                self._acknowledged = max(self._acknowledged, sequence)
        except L2Unavailable as error:
            self._event_log.note(Tier.L2, Event.FAILED_INVALIDATION, wanted, str(error))
            raise CacheUnavailable(f"Redis did not take the invalidation: {error}") from error
        finally:
            self._forget(wanted)
        self._event_log.note(Tier.L2, Event.INVALIDATION, wanted)
        return len(wanted)

    def invalidate_matching(self, pattern: str) -> None:
        """Drop all keys that match a glob pattern such as `customer_*`. Raises as `invalidate` does."""
        try:
            self.l2.invalidate_matching(pattern, self.identity)
        except L2Unavailable as error:
            self._event_log.note_all(Tier.L2, Event.FAILED_INVALIDATION, str(error))
            raise CacheUnavailable(f"Redis did not take the invalidation: {error}") from error
        finally:
            self._forget_matching(pattern)
        self._event_log.note_all(Tier.L2, Event.INVALIDATION, pattern)

    def _forget(self, keys: Sequence[str]) -> None:
        """Drop keys from this process: L1, and the loads under way that nobody may join any more."""
        self.l1.invalidate(keys)
        self._loader.flights.detach(keys)

    def _forget_matching(self, pattern: str) -> None:
        if any(sign in pattern for sign in "[\\"):
            self.l1.flush()  # Redis and Python read these signs differently; nothing is lost but warmth
        else:
            self.l1.invalidate_matching(pattern)
        self._loader.flights.detach()

    def _forget_all(self, event: Event, why: str) -> None:
        self.l1.flush()
        self._loader.flights.detach()
        self._event_log.note_all(Tier.CHANNEL, event, why)

    # Listen (called on the listener's thread)

    def on_confirmed(self, *, reconnected: bool, sequence_regressed: bool) -> None:
        """A new subscription: what was kept before it may be old (R6, R7).

        A server whose sequence regressed has lost invalidations: a replica that was behind when it took over, or a
        restart from a snapshot. Nobody can say how far back, so nothing that it holds is used until all is
        deleted (R20).
        """
        if sequence_regressed:
            self._distrust_l2()
        self._forget_all(Event.RECONNECT if reconnected else Event.FLUSH, "subscribed")
        self._register()

    def on_gap(self) -> None:
        """A message was lost."""
        self._forget_all(Event.GAP, "a message was lost")

    def on_counted_anew(self) -> None:
        """Invalidations are counted anew, as after a flush."""
        self._forget_all(Event.FLUSH, "invalidations are counted anew")

    def on_trust(self, until_s: float) -> None:
        """How long L1 may be trusted. The listener says so at each beat, and at each failure to connect."""
        self.l1.trusted_until_s = until_s
        if until_s == float("-inf"):
            self._see_whether_l2_is_back()
        if self.on_pulse is not None:
            self.on_pulse()

    def on_message(self, invalidation: Invalidation) -> None:
        """An invalidation, or a request for one from outside, which this process then carries out in L2."""
        ours = tuple(filter(None, map(self.codecs.canonical, invalidation.keys)))
        if invalidation.unreadable or len(ours) < len(invalidation.keys):
            self.on_unreadable()
        if invalidation.keys and not ours:
            return
        invalidation = replace(invalidation, keys=ours)
        if invalidation.pattern is not None:
            self._forget_matching(invalidation.pattern)
        else:
            self._forget(invalidation.keys)
        why = f"from {invalidation.source}" if invalidation.source else "from outside"
        self._event_log.note(Tier.CHANNEL, Event.INVALIDATION, invalidation.keys or ("*",), why)
        if invalidation.sequence is None:
            self._loader.submit(self._carry_out, invalidation)

    def on_unreadable(self) -> None:
        """A message of no known form."""
        self._event_log.note_all(Tier.CHANNEL, Event.UNREADABLE)

    def on_query(self, payload: bytes) -> None:
        """A command or a dashboard asks."""
        self._query_responder.answer(payload)

    def on_changed(self, keys: list[str] | None) -> None:
        """The server's news of changes by any hand."""
        if keys is None:
            self._acknowledged = 0
            self._forget_all(Event.FLUSH, "the database was flushed")
            self._register()
            return
        self._schedule.changed(keys, self._clock())
        self._loader.flights.wake(keys)
        held = self.l1.suspect(keys)
        if held:
            self._verify(held)

    def on_compared(self, key: str, entry: Entry[Any], payload: bytes | None) -> None:
        """L1 keeps an entry that the server has changed only if it is the same as what L2 holds now."""
        value = None if payload is None else self.codecs.decode(key, payload)
        if value != entry.value and self.l1.drop_if_same(key, entry):
            event = Event.EXPIRY if payload is None else Event.OVERWRITTEN
            self._event_log.note(
                Tier.L1, event, (key,), "L2 has none" if payload is None else "L2 has another"
            )

    def _verify(self, entries: dict[str, Entry[V]]) -> None:
        """Have entries compared with L2, by a read that is sent after the news of their change came."""
        if not self.l2.listens_where_it_reads:
            self._loader.submit(self._compare, entries)
        elif self._listener is not None:
            self._listener.verify(entries)

    def _compare(self, entries: dict[str, Entry[V]]) -> None:
        try:
            payloads, _ = self.l2.read(list(entries))
        except L2Unavailable:
            payloads = [None] * len(entries)
        for (key, entry), payload in zip(entries.items(), payloads, strict=True):
            self.on_compared(key, entry, payload)

    def on_beat(self) -> None:
        """The server answers on the channel."""
        self._see_whether_l2_is_back()
        if self._clock() - self._registered_at_s >= REGISTER_EVERY_S:
            self._register()
        if self._l2_is_old and not self._emptying_l2:
            self._emptying_l2 = True
            self._loader.submit(self._empty_l2)

    def _on_breaker(self, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            log.warning("Redis does not answer: going on without it")
        else:
            log.warning("Redis answers again")
        if self._observer is not None:
            self._observer.breaker_changed("redis", state)

    def _see_whether_l2_is_back(self) -> None:
        if self.breaker.state is not BreakerState.CLOSED and not (self._probing or self._closed):
            self._probing = True
            try:
                self._loader.submit(self._probe)
            except RuntimeError:
                log.debug("The interpreter ends: nothing is begun any more")

    def _probe(self) -> None:
        try:
            self.l2.ping()
        except L2Unavailable:
            log.debug("Redis does not answer on the data path yet")
        finally:
            self._probing = False

    def _highest_sequence_seen(self) -> int:
        """The highest sequence number heard, or given for an invalidation of ours; 0: none yet.

        To be taken before a command is sent. A server may die between its answer to an invalidation and the
        listener's hearing of it, so that the listener alone would not miss it.
        """
        heard = self._listener.sequence if self._listener is not None else None
        return max(heard or 0, self._acknowledged)

    def _compare_sequences(self, heard: int, sequence: int | None) -> None:
        """A sequence that is gone, or behind what was heard before it was asked for, tells of lost invalidations.

        Readers and writers look themselves, since they may reach a restarted server before the listener does.
        """
        if heard and (sequence is None or sequence < heard):
            self._distrust_l2()

    def _distrust_l2(self) -> None:
        if not self._l2_is_old:
            self._l2_is_old = True
            log.warning("Redis has lost invalidations: its values are not used, and are deleted")

    def _empty_l2(self) -> None:
        try:
            self._acknowledged = self.l2.invalidate_matching("*", self.identity)
            self._l2_is_old = False
        except L2Unavailable as error:
            self._event_log.note_all(Tier.L2, Event.FAILED_INVALIDATION, str(error))
        finally:
            self._emptying_l2 = False

    def _carry_out(self, request: Invalidation) -> None:
        try:
            if request.pattern is not None:
                self.l2.invalidate_matching(request.pattern, self.identity)
            else:
                self.l2.invalidate(request.keys, self.identity)
        except L2Unavailable as error:
            self._event_log.note(Tier.L2, Event.FAILED_INVALIDATION, request.keys or ("*",), str(error))
            log.warning("An invalidation could not be carried out: %s", error)

    # Life

    def in_background(self, work: Callable[[], None]) -> None:
        """Run something short on a thread of the cache. Raises RuntimeError once the cache is closed."""
        self._loader.submit(work)

    @property
    def mode(self) -> Mode:
        """What the cache does right now."""
        if self.breaker.state is BreakerState.CLOSED:
            trusted = self._clock() < self.l1.trusted_until_s
            return Mode.BOTH if trusted and self.policy.l1_ttl_s else Mode.L2_ONLY
        return Mode.L1_ONLY if self.policy.l1_ttl_s else Mode.DIRECT

    @property
    def listener(self) -> Listener | None:
        """This process's listener; None before the first read, and where none is wanted."""
        return self._listener

    def describe(self) -> dict[str, Any]:
        """The state of this process's cache, as JSON."""
        listener = self._listener
        return {
            "id": self.identity,
            "mode": self.mode.value,
            "l1_entries": self.l1.size(),
            "l1_evictions": self.l1.evictions,
            "listening": listener is not None and listener.alive,
            "l1_entries_by_entity": self.l1.sizes(),
            "heard_s_ago": round(listener.silent_s, 3) if listener is not None else None,
            "channel_confirmed": listener is not None and listener.confirmed,
            "tracking": listener is not None and listener.tracking,
            "sequence": listener.sequence if listener is not None else None,
            "redis_breaker": self.breaker.state.value,
            **self.describe_more(),
        }

    @property
    def worker_queries(self) -> WorkerQueries:
        """The way to ask all workers."""
        return WorkerQueries(self._client, self.keys)

    def _register(self) -> None:
        """Tell commands that this worker is there. Called on the listener's thread."""
        about = {"pid": os.getpid(), "host": socket.gethostname(), "started_at_s": self._started_at_s}
        self._registered_at_s = self._clock()
        if self._listener is not None:
            self._listener.send_soon("HSET", self.keys.workers, self.identity, json.dumps(about))

    def start(self) -> None:
        """Start listening now rather than with the first read. Idempotent."""
        self._start()

    def _start(self) -> None:
        if not self._listens or self._listener is not None:
            return
        with self._start_lock:
            if self._closed:
                raise RuntimeError("the cache is closed")
            if self._listener is None:
                listener = Listener(
                    self._client, self.keys, tuple(f"{n}_" for n in self.codecs.names), self, self._clock
                )
                # First, since the thread may be confirmed, and register, before start() has returned.
                self._listener = listener
                listener.start()
                # It comes by often enough to see that L2 is back; no reader has to spend a timeout on it.
                self.breaker.callers_try = False

    def close(self) -> None:
        """Stop the listener, wait for the loads under way, close the connections. Idempotent."""
        with self._start_lock:
            if self._closed:
                return
            self._closed = True
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
            self._sign_off()
        self._loader.close()
        self._client.close()
        _living.discard(self)

    def _sign_off(self) -> None:
        try:
            self._client.hdel(self.keys.workers, self.identity)
        except (RedisError, OSError):
            log.debug("Redis is away: this worker stays registered until a command finds it gone")

    def _after_fork(self) -> None:
        """In the child: no thread, lock, socket, identity or value of the parent is used (race R13)."""
        listener = self._listener
        self._set_up()
        if listener is not None:
            listener.abandon()


def _l2(client: Redis, keys: KeySpace, breaker: Breaker, observer: Observer | None) -> SingleServerL2:
    if isinstance(client, Cluster):
        return ClusterL2(client, keys, breaker, observer)
    return SingleServerL2(client, keys, breaker, observer)


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
