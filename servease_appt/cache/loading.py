"""Loads on threads of the cache, and the fenced storing of their values in both tiers."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.codecs import Codecs
from servease_appt.cache.epochs import Epoch
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.group_commit import GroupCommit
from servease_appt.cache.l1 import L1, NOT_FOUND, Entry, NotFound
from servease_appt.cache.l2.protocol import L2, Fill, LeaseState
from servease_appt.cache.lifetimes import Policies
from servease_appt.cache.load_calls import LoadCalls, LoadResult, keep_on_not_found
from servease_appt.cache.loaders import BatchLoader, Load
from servease_appt.cache.refresh import RefreshSchedule
from servease_appt.cache.single_flight import Completion, Flight, Flights, Outcome
from servease_appt.cache.stats import Event, Recorder, Tier

V = TypeVar("V")

ToLoad = tuple[Flight[V], bytes | None]
"""A flight to load, and the lease under which L2 stores its value; None: L2 does not store it."""

UNSHARED_S = 1.0
"""L1 lifetime of a value that was not stored in L2: Redis sends no tracking message for such a key."""


@dataclass(frozen=True, slots=True)
class _CompletedLoad(Generic[V]):
    """A completed load that waits to be stored in L2; without a token it is not stored there."""

    flight: Flight[V]
    result: LoadResult[V]
    token: bytes | None
    epoch: Epoch


class Loader(Generic[V]):
    """Runs loads on its own threads and stores their values, fenced. Thread-safe.

    A value is stored in L2 first, under the lease. It is then stored in L1 if L2 accepted it or was unavailable,
    and if no invalidation of its key was handled since the load began. The flights complete last.
    """

    def __init__(
        self,
        *,
        l1: L1[V],
        l2: L2,
        flights: Flights[V],
        codecs: Codecs[V],
        policies: Policies,
        schedule: RefreshSchedule,
        recorder: Recorder,
        event_log: EventLog,
        identity: str,
        submit: Callable[[Callable[[], None]], object],
        keep: Callable[[list[tuple[str, Entry[V]]], Epoch], None],
        clock: Callable[[], float],
    ) -> None:
        self.l1 = l1
        self.l2 = l2
        self.codecs = codecs
        self.policy = policy = policies.default
        self._policies = policies
        self.recorder = recorder
        self.event_log = event_log
        self.flights = flights
        self._schedule = schedule
        self._keep = keep
        self._clock = clock
        self._identity = identity
        self._calls = LoadCalls(codecs, event_log, clock)
        self._numbers = itertools.count(1)
        self._submit = submit
        # Each codec has its own threads, so that a source that hangs delays only its own loads.
        self._loads = {
            name: ThreadPoolExecutor(policy.max_loads, f"servease-cache-load-{name}") for name in codecs.names
        }
        self.patience_s = policy.patience_s
        self._commits: GroupCommit[_CompletedLoad[V]] = GroupCommit(self._commit)

    def new_token(self) -> str:
        """Return a lease token that is unique among all calls of all processes."""
        return f"{self._identity}:{next(self._numbers)}"

    def joinable_after_s(self) -> float:
        """Return the time at or after which a load must have begun to be joined.

        While L1 is not trusted, an invalidation may have been missed. The age limit of L1's entries then also
        applies to loads.
        """
        return -math.inf if self.l1.is_trusted() else elapsed_s() - UNSHARED_S

    def keep_from_l2(
        self,
        values: Sequence[tuple[str, V | NotFound]],
        sizes: Sequence[int],
        epoch: Epoch,
        lives_ms: Mapping[str, int] | None = None,
    ) -> None:
        """Store in L1 values that were read from L2 after `epoch` was taken, at most until they expire in L2.

        Args:
            values: by key.
            sizes: size of each payload in bytes, in the same order.
            epoch: the epoch taken before the read was sent.
            lives_ms: remaining TTL of each value in milliseconds, -1: no expiry; None: not requested.
        """
        entries = self._entries(values, sizes, epoch, math.inf)
        if lives_ms is not None:
            for key, entry in entries:
                if lives_ms[key] >= 0:
                    entry.expires_at_s = min(entry.expires_at_s, epoch.at_s + lives_ms[key] / 1000)
        self._keep(entries, epoch)

    def close(self) -> None:
        """Wait for running loads; loads that have not begun are dropped."""
        for threads in self._loads.values():
            threads.shutdown(wait=True, cancel_futures=True)

    def start(
        self,
        to_load: Sequence[ToLoad[V]],
        load: Load[V] | BatchLoader[V],
        epoch: Epoch,
        deadline_s: float,
    ) -> None:
        """Start loads: one call for each key, or one for all keys of a codec."""
        if isinstance(load, BatchLoader):
            by_codec: dict[str, list[ToLoad[V]]] = {}
            for flight, token in to_load:
                by_codec.setdefault(self.codecs.of(flight.key).name, []).append((flight, token))
            for name, together in by_codec.items():
                self._loads[name].submit(self._run_many, together, load, epoch, deadline_s)
            return
        for flight, token in to_load:
            threads = self._loads[self.codecs.of(flight.key).name]
            threads.submit(self._run, flight, load, token, epoch, deadline_s)

    def refresh(self, keys: Sequence[str], load: Load[V] | BatchLoader[V]) -> None:
        """Reload values that have not expired, each by one worker, in the background (fenced: R8)."""
        self._submit(partial(self._refresh, list(keys), load))

    def learn_lifetimes(self, keys: Sequence[str]) -> None:
        """Read the remaining TTL of keys from L2 in the background."""
        self._submit(partial(self._learn, list(keys)))

    def _refresh(self, keys: list[str], load: Load[V] | BatchLoader[V]) -> None:
        token, epoch = self.new_token(), self.l1.epoch()
        try:
            leases = self.l2.acquire(keys, token, self.policy.lease_ms, refresh=True)
        except L2Unavailable:
            return
        deadline_s = time.monotonic() + self.policy.load_timeout_s
        to_load: list[ToLoad[V]] = []
        for key, lease in zip(keys, leases, strict=True):
            if lease.state is LeaseState.GRANTED:
                self.event_log.note(Tier.UPSTREAM, Event.REFRESH, (key,))
                to_load.append((Flight[V](key, Completion(), deadline_s), lease.payload))
        self.start(to_load, keep_on_not_found(load), epoch, deadline_s)

    def _learn(self, keys: list[str]) -> None:
        try:
            lifetimes_ms = self.l2.ttl_ms(keys)
        except L2Unavailable:
            return
        now = self._clock()
        for key, left_ms in zip(keys, lifetimes_ms, strict=True):
            if left_ms > 0:
                self._schedule.learned(key, now, left_ms / 1000)

    def _run(
        self, flight: Flight[V], load: Load[V], token: bytes | None, epoch: Epoch, deadline_s: float
    ) -> None:
        result = self._calls.call(flight.key, load, deadline_s)
        self._commits.bring([_CompletedLoad(flight, result, token, epoch)])

    def _run_many(
        self, to_load: Sequence[ToLoad[V]], load: BatchLoader[V], epoch: Epoch, deadline_s: float
    ) -> None:
        results = self._calls.call_many([flight.key for flight, _ in to_load], load, deadline_s)
        self._commits.bring(
            [_CompletedLoad(flight, results[flight.key], token, epoch) for flight, token in to_load]
        )

    def _commit(self, batch: list[_CompletedLoad[V]]) -> None:
        """Store a batch, then complete its flights, even if storing failed."""
        try:
            self._store(batch)
        finally:
            for completed in batch:
                self.flights.finish(completed.flight)
                value = completed.result.value
                completed.flight.complete(completed.result.outcome, None if value is NOT_FOUND else value)

    def _store(self, batch: list[_CompletedLoad[V]]) -> None:
        """Store a batch in L2, store in L1 what L2 did not refuse, and release the other leases."""
        fills: list[tuple[_CompletedLoad[V], Fill]] = []
        unshared: list[_CompletedLoad[V]] = []
        released: list[tuple[str, bytes]] = []
        for completed in batch:
            result = completed.result
            fillable = result.keep and result.outcome in (Outcome.LOADED, Outcome.NOT_FOUND)
            if fillable and completed.token is None:
                unshared.append(completed)
            elif fillable and completed.token is not None:
                fills.append((completed, self._fill(completed, completed.token)))
            elif completed.token is not None:
                released.append((completed.flight.key, completed.token))
        stored, unasked = self._fill_l2(fills)
        if released:
            self._release(released)
        self._keep_in_l1(stored, math.inf)
        self._keep_in_l1(unshared + unasked, UNSHARED_S)

    def _fill(self, completed: _CompletedLoad[V], token: bytes) -> Fill:
        key, result = completed.flight.key, completed.result
        policy = self._policies.of(key)
        if result.outcome is Outcome.NOT_FOUND:
            return Fill(key, token, None, int(policy.negative_ttl_s * 1000), 0)
        ttl_ms = policy.draw_ttl_ms() if result.ttl_s is None else max(1, int(result.ttl_s * 1000))
        stale_ms = ttl_ms + int(policy.stale_ttl_s * 1000) if policy.stale_ttl_s else 0
        return Fill(key, token, result.payload, ttl_ms, stale_ms)

    def _fill_l2(
        self, fills: list[tuple[_CompletedLoad[V], Fill]]
    ) -> tuple[list[_CompletedLoad[V]], list[_CompletedLoad[V]]]:
        """Return the loads that L1 may store: those stored in L2, and those for which L2 was unavailable."""
        if not fills:
            return [], []
        try:
            stored = self.l2.fill([fill for _, fill in fills])
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")
            return [], [completed for completed, _ in fills]
        accepted = [completed for (completed, _), taken in zip(fills, stored, strict=True) if taken]
        keys = [completed.flight.key for completed in accepted]
        self.event_log.note(Tier.L2, Event.FILL, keys)
        refused = [
            completed.flight.key for (completed, _), taken in zip(fills, stored, strict=True) if not taken
        ]
        if refused:
            self.event_log.note(Tier.L2, Event.REFUSED_FILL, refused, "its lease is gone")
        self._schedule.filled(keys, self._clock())
        for completed in accepted:
            if completed.result.ttl_s is not None:
                self._schedule.filled((completed.flight.key,), self._clock(), completed.result.ttl_s)
        return accepted, []

    def _keep_in_l1(self, kept: list[_CompletedLoad[V]], longest_s: float) -> None:
        by_epoch: dict[Epoch, list[_CompletedLoad[V]]] = {}
        for completed in kept:
            by_epoch.setdefault(completed.epoch, []).append(completed)
        for epoch, together in by_epoch.items():
            values = [(completed.flight.key, completed.result.value) for completed in together]
            sizes = [len(completed.result.payload) for completed in together]
            entries = self._entries(values, sizes, epoch, longest_s)
            for completed, (_, entry) in zip(together, entries, strict=True):
                if completed.result.ttl_s is not None:
                    entry.expires_at_s = min(entry.expires_at_s, epoch.at_s + completed.result.ttl_s)
            self._keep(entries, epoch)

    def _entries(
        self,
        values: Sequence[tuple[str, V | NotFound]],
        sizes: Sequence[int],
        epoch: Epoch,
        longest_s: float,
    ) -> list[tuple[str, Entry[V]]]:
        """Return L1 entries. Their lifetimes start before the read was sent, since a slow answer arrives old."""
        at_s = epoch.at_s
        untils_s = self._schedule.l1_until_s([key for key, _ in values], at_s, longest_s)
        return [
            (
                key,
                Entry(
                    value,
                    at_s,
                    until_s
                    if value is not NOT_FOUND
                    else min(until_s, at_s + self._policies.of(key).negative_ttl_s),
                    size,
                ),
            )
            for (key, value), until_s, size in zip(values, untils_s, sizes, strict=True)
        ]

    def _release(self, leases: list[tuple[str, bytes]]) -> None:
        try:
            self.l2.release(leases)
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")
