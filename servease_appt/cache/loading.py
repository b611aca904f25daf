"""Loads on threads of the cache, and the fenced storing of their values in both tiers."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

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
from servease_appt.cache.load_threads import LoadThreads
from servease_appt.cache.loaders import BatchLoader, Load
from servease_appt.cache.refresh import RefreshSchedule
from servease_appt.cache.single_flight import Completion, Flight, Flights, Outcome, complete_all
from servease_appt.cache.stats import Event, Recorder, Tier

V = TypeVar("V")

UNSHARED_S = 1.0
"""L1 lifetime of a value that was not stored in L2: Redis sends no tracking message for such a key."""


class PendingLoad(NamedTuple, Generic[V]):
    """A load to start, after `epoch` was taken. Only with a lease in `token` is its value stored in L2."""

    flight: Flight[V]
    load: Load[V] | BatchLoader[V]
    token: bytes | None
    epoch: Epoch
    deadline_s: float


class _CompletedLoad(NamedTuple, Generic[V]):
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
        fills_are_reported: Callable[[], bool],
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
        self._fills_are_reported = fills_are_reported
        self._clock = clock
        self._identity = identity
        self._calls = LoadCalls(codecs, event_log, clock)
        self._numbers = itertools.count(1)
        self._submit = submit
        self.patience_s = policy.patience_s
        self._commits: GroupCommit[_CompletedLoad[V]] = GroupCommit(self._commit)
        self._threads: LoadThreads[list[PendingLoad[V]]] = LoadThreads(
            codecs.names, policy.max_loads, run=self._run, finish=self._commits.drain
        )
        self.hand_out = self._threads.hand_out

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
        self._threads.close()

    def start(self, loads: Sequence[PendingLoad[V]]) -> bool:
        """Start loads, one or more, of one loader.

        Returns:
            True if the caller has to call `hand_out`; see `LoadThreads.start`.
        """
        if not isinstance(loads[0].load, BatchLoader):
            return self._threads.start([(load.flight.key.partition("_")[0], [load]) for load in loads])
        together: dict[str, list[PendingLoad[V]]] = {}
        for load in loads:
            together.setdefault(load.flight.key.partition("_")[0], []).append(load)
        return self._threads.start(list(together.items()))

    def refresh(self, keys: Sequence[str], load: Load[V] | BatchLoader[V]) -> None:
        """Reload values that have not expired, each by one worker, in the background (fenced: R8)."""
        self._submit(partial(self._refresh, list(keys), load))

    def learn_lifetimes(self, keys: Sequence[str]) -> None:
        """Read the remaining TTL of keys from L2 in the background."""
        self._submit(partial(self._learn, list(keys)))

    def _refresh(self, keys: list[str], load: Load[V] | BatchLoader[V]) -> None:
        token, epoch = self.new_token(), self.l1.epoch()
        try:
            if not self._fills_are_reported():
                keys = self._still_due(keys)
            leases = self.l2.acquire(keys, token, self.policy.lease_ms, refresh=True) if keys else []
        except L2Unavailable:
            return
        deadline_s = time.monotonic() + self.policy.load_timeout_s
        load = keep_on_not_found(load)
        loads = [
            PendingLoad(Flight[V](key, Completion(), deadline_s), load, lease.payload, epoch, deadline_s)
            for key, lease in zip(keys, leases, strict=True)
            if lease.state is LeaseState.GRANTED
        ]
        self.event_log.note(Tier.UPSTREAM, Event.REFRESH, [pending.flight.key for pending in loads])
        if loads and self.start(loads):
            self.hand_out()

    def _learn(self, keys: list[str]) -> None:
        try:
            lifetimes_ms = self.l2.ttl_ms(keys)
        except L2Unavailable:
            return
        now = self._clock()
        for key, left_ms in zip(keys, lifetimes_ms, strict=True):
            if left_ms > 0:
                self._schedule.learned(key, now, left_ms / 1000)

    def _still_due(self, keys: list[str]) -> list[str]:
        """Return the keys that are due by their remaining TTL in L2, and schedule the others by it.

        Without tracking messages, a worker does not know that another one has refreshed a key.
        """
        lifetimes_ms = dict(zip(keys, self.l2.ttl_ms(keys), strict=True))
        now = self._clock()
        due_below_ms = {key: self._policies.of(key).refresh_below_s * 1000 for key in keys}
        for key, left_ms in lifetimes_ms.items():
            if left_ms > due_below_ms[key]:
                self._schedule.learned(key, now, left_ms / 1000)
        return [key for key, left_ms in lifetimes_ms.items() if 0 < left_ms <= due_below_ms[key]]

    def _run(self, loads: list[PendingLoad[V]]) -> None:
        """Call a loader for one key, or a batch loader for several keys of a codec."""
        first = loads[0]
        if isinstance(first.load, BatchLoader):
            keys = [pending.flight.key for pending in loads]
            results = self._calls.call_many(keys, first.load, first.deadline_s)
        else:
            key = first.flight.key
            results = {key: self._calls.call(key, first.load, first.deadline_s)}
        for flight, _, token, epoch, _ in loads:
            self._commits.add(_CompletedLoad(flight, results[flight.key], token, epoch))

    def _commit(self, batch: list[_CompletedLoad[V]]) -> None:
        """Store a batch, then complete its flights, even if storing failed."""
        try:
            self._store(batch)
        finally:
            self.flights.finish([completed.flight for completed in batch])
            complete_all(
                (
                    completed.flight,
                    completed.result.outcome,
                    None if completed.result.value is NOT_FOUND else completed.result.value,
                )
                for completed in batch
            )

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
