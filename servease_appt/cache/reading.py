"""The read path: L1, then running loads, then L2, then a loader.

1. Look up all keys in L1 under one lock.
2. Join the running loads of this process.
3. Read the other keys from L2 with one command, together with the sequence number. A process whose last reads of
   L2 found nothing leaves this out, since the next step returns values, too.
4. Request the leases of the missing keys in one round trip, then load in parallel (`batch_load.py`, `loading.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from servease_appt.cache.batch_load import BatchLoad
from servease_appt.cache.codecs import Codecs
from servease_appt.cache.direct import DirectStore, Fence
from servease_appt.cache.epochs import Epoch
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.l1 import L1
from servease_appt.cache.l2.protocol import L2
from servease_appt.cache.load_failures import check_loader
from servease_appt.cache.loaders import BatchLoader, Load
from servease_appt.cache.loading import Loader
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.recovery import Recovery
from servease_appt.cache.refresh import RefreshSchedule
from servease_appt.cache.results import Lookup, NoValue, Source
from servease_appt.cache.stats import Event, Recorder, Tier

V = TypeVar("V")

EMPTY_READS = 8
"""Reads of L2 in a row that found nothing, after which leases are requested at once."""


class Reader(Generic[V]):
    """Reads through the tiers, and counts hits and misses. Thread-safe."""

    def __init__(
        self,
        *,
        l1: L1[V],
        l2: L2,
        codecs: Codecs[V],
        policy: CachePolicy,
        loader: Loader[V],
        direct: DirectStore[V],
        schedule: RefreshSchedule,
        recovery: Recovery,
        recorder: Recorder,
        event_log: EventLog,
        clock: Callable[[], float],
    ) -> None:
        self._l1 = l1
        self._l2 = l2
        self._codecs = codecs
        self._policy = policy
        self._loader = loader
        self._direct = direct
        self._schedule = schedule
        self._recovery = recovery
        self._recorder = recorder
        self._event_log = event_log
        self._clock = clock
        self._empty_reads = 0

    def read(self, keys: Sequence[str], load: Load[V] | BatchLoader[V], timeout_s: float | None) -> Lookup[V]:
        """See `TwoTierCache.get_many`."""
        read = self._l1.get_many(keys)
        lookup = Lookup(read.values)
        if read.missing:
            self._read_through(lookup, read.missing, read.epoch, load, timeout_s)
        if read.not_found:
            _note_not_found(lookup, read.not_found)
        self._count_reads(keys, lookup)
        return lookup

    def peek(self, keys: Sequence[str], *, fenced: bool) -> tuple[dict[str, V], dict[str, Fence]]:
        """See `TwoTierCache.peek_many`."""
        read = self._l1.get_many(keys)
        self._codecs.check(read.missing)
        lookup = Lookup(read.values)
        missing, l2_answers = read.missing, not self._recovery.l2_is_old
        if missing and not (fenced and self._empty_reads >= EMPTY_READS):
            missing, l2_answers = self._read_l2(lookup, missing, read.epoch)
        fences: dict[str, Fence] = {}
        if fenced and missing and l2_answers:
            values, fences = self._direct.take_fences(missing)
            lookup.values.update(values)
            if values:
                self._empty_reads = 0
        lookup.sources.update(dict.fromkeys(missing, Source.UNKNOWN))
        self._count_reads(keys, lookup)
        return {key: value for key, value in lookup.values.items() if value is not None}, fences

    def _read_through(
        self,
        lookup: Lookup[V],
        missing: list[str],
        epoch: Epoch,
        load: Load[V] | BatchLoader[V],
        timeout_s: float | None,
    ) -> None:
        started_s = time.monotonic()
        self._codecs.check(missing)
        check_loader(load.load_many if isinstance(load, BatchLoader) else load)
        batch = BatchLoad(self._loader, load, started_s + (timeout_s or self._policy.load_timeout_s))
        unled = batch.join(missing)
        # The answer to a request for leases has no TTLs, which `l1_within_l2` needs.
        reads_l2 = self._empty_reads < EMPTY_READS or self._policy.l1_within_l2
        if unled and reads_l2:
            missing, l2_answers = self._read_l2(lookup, unled, epoch)
        else:
            missing, l2_answers = unled, not self._recovery.l2_is_old
        if lookup.sources:  # all of them from L2
            self._refresh_what_is_due(lookup.sources, load)
        lookup.cache_s = time.monotonic() - started_s
        if missing or batch.joined:
            for key, (value, source) in batch.run(missing, epoch, use_l2=l2_answers).items():
                lookup.sources[key] = source
                if isinstance(value, NoValue):
                    lookup.values[key] = None
                    lookup.no_values[key] = value
                else:
                    lookup.values[key] = value
            if batch.found_in_l2:
                self._empty_reads = 0
            lookup.cache_s += batch.cache_s
            lookup.upstream_s = max(0.0, time.monotonic() - started_s - lookup.cache_s)

    def _read_l2(self, lookup: Lookup[V], missing: list[str], epoch: Epoch) -> tuple[list[str], bool]:
        """Read L2 with one command. Returns the keys still missing, and False if L2 must not be used."""
        if self._recovery.l2_is_old:
            return missing, False
        seen = self._recovery.highest_sequence_seen()
        lives_ms: dict[str, int] | None = None
        try:
            if self._policy.l1_within_l2:
                payloads, lives, sequence = self._l2.read_timed(missing)
                lives_ms = dict(zip(missing, lives, strict=True))
            else:
                payloads, sequence = self._l2.read(missing)
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
            return missing, False
        self._recovery.observe(seen, sequence)
        if self._recovery.l2_is_old:
            return missing, False
        found: list[tuple[str, V]] = []
        sizes: list[int] = []
        corrupt: list[tuple[str, bytes]] = []
        decode = self._codecs.decode
        for key, payload in zip(missing, payloads, strict=True):
            if payload is None:
                continue
            value = decode(key, payload)
            if value is None:
                corrupt.append((key, payload))
                continue
            found.append((key, value))
            sizes.append(len(payload))
        self._empty_reads = 0 if found or corrupt else self._empty_reads + 1
        lookup.values.update(found)
        lookup.sources.update(dict.fromkeys([key for key, _ in found], Source.L2))
        self._loader.keep_from_l2(found, sizes, epoch, lives_ms)
        if corrupt:
            self._discard(corrupt)
        return [key for key in missing if key not in lookup.values], True

    def _discard(self, corrupt: list[tuple[str, bytes]]) -> None:
        """Count and delete payloads that can't be decoded; their keys are misses."""
        self._event_log.note(Tier.L2, Event.CORRUPT, [key for key, _ in corrupt])
        try:
            self._l2.discard(corrupt)
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")

    def _refresh_what_is_due(self, keys: Iterable[str], load: Load[V] | BatchLoader[V]) -> None:
        due, unknown = self._schedule.hit(keys, self._clock())
        if due:
            self._loader.refresh(due, load)
        if unknown:
            self._loader.learn_lifetimes(unknown)

    def _count_reads(self, keys: Sequence[str], lookup: Lookup[V]) -> None:
        sources = lookup.sources
        if len(sources) < len(keys):
            hits = keys if not sources else [key for key in keys if key not in sources]
            for name, n in self._codecs.tally(hits):
                self._recorder.count(Tier.L1, Event.HIT, name, n)
        if not sources:
            return
        for source, found_there in _by_source(sources).items():
            for name, n in self._codecs.tally(found_there):
                self._recorder.count(Tier.L1, Event.MISS, name, n)
                self._recorder.count(Tier.L2, Event.HIT if source is Source.L2 else Event.MISS, name, n)
                if source is Source.UNKNOWN:
                    self._recorder.count(Tier.UPSTREAM, Event.NOT_FOUND, name, n)
        self.count_hits_of_get()

    def count_hits_of_get(self) -> None:
        """Pass the hits that `L1.get` counted to the recorder: one call for each would cost more than the hit."""
        for name, n in self._l1.take_hits():
            self._recorder.count(Tier.L1, Event.HIT, name, n)


def _note_not_found(lookup: Lookup[V], keys: Iterable[str]) -> None:
    """Mark keys whose absence is cached in L1 as not found: they are no hits."""
    for key in keys:
        lookup.sources[key] = Source.UNKNOWN
        lookup.no_values[key] = NoValue.NOT_FOUND


def _by_source(sources: dict[str, Source]) -> dict[Source, list[str]]:
    keys: dict[Source, list[str]] = {}
    for key, source in sources.items():
        keys.setdefault(source, []).append(key)
    return keys
