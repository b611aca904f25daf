"""What happens to the keys that neither tier has: who loads, who waits, and where a loaded value may be kept.

One `Loader` a process runs the loads; one `BatchLoad` for each call of `get_many` follows its own keys until
they are there or its deadline is over.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.errors import L2Unavailable, LoadDenied, ValueNotFound
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.group_commit import GroupCommit
from servease_appt.cache.l1 import L1, Entry, Epoch
from servease_appt.cache.l2.single_server import Fill, Lease, LeaseState, SingleServerL2
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.refresh import RefreshSchedule
from servease_appt.cache.single_flight import Completion, Flight, Flights, Outcome
from servease_appt.cache.stats import Event, Recorder, Tier
from servease_appt.cache.threads import Threads

V = TypeVar("V")

Load = Callable[[str, float], V]
"""`load(key, timeout_s)` returns a value, or raises ValueNotFound, LoadDenied, or anything else for a failure."""

POLL_S = 0.05
BACKGROUND_THREADS = 2
UNSHARED_S = 1.0
"""How long L1 holds what L2 has not taken: the server has nothing to tell of it when another hand deletes it."""


class Source(StrEnum):
    """Where one value of an answer came from."""

    L1 = "l1"
    L2 = "l2"
    UPSTREAM = "upstream"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Lookup(Generic[V]):
    """The answer of `get_many`: every key asked for is in `values`, with None where there is no value to be had.

    `sources` has the keys that did not come from L1 as values; `cache_s` and `upstream_s` are where time went.
    """

    values: dict[str, V | None]
    sources: dict[str, Source] = field(default_factory=dict)
    cache_s: float = 0.0
    upstream_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _CompletedLoad(Generic[V]):
    """A load that is over and waits for its place in L2; without a token it has none."""

    flight: Flight[V]
    outcome: Outcome
    value: V | None
    payload: bytes
    token: str | None
    epoch: Epoch


class Loader(Generic[V]):
    """Runs loads on threads of its own and keeps what they bring, fenced. Thread-safe.

    The order is a sentence: L2 first, under the lease; L1 only if L2 took it (or could not be asked), and only if
    no invalidation was handled since before the load began; then the callers are told.
    """

    def __init__(
        self,
        *,
        l1: L1[V],
        l2: SingleServerL2,
        codecs: Codecs[V],
        policy: CachePolicy,
        schedule: RefreshSchedule,
        recorder: Recorder,
        event_log: EventLog,
        identity: str,
        keep: Callable[[list[tuple[str, Entry[V]]], Epoch], None],
        clock: Callable[[], float],
    ) -> None:
        self.l1 = l1
        self.l2 = l2
        self.codecs = codecs
        self.policy = policy
        self.recorder = recorder
        self.event_log = event_log
        self.flights: Flights[V] = Flights()
        self._schedule = schedule
        self._keep = keep
        self._clock = clock
        self._identity = identity
        self._numbers = itertools.count(1)
        self._loads = Threads(policy.max_loads, "servease-cache-load")
        self._background = Threads(BACKGROUND_THREADS, "servease-cache-background")
        self._commits: GroupCommit[_CompletedLoad[V]] = GroupCommit(self._commit)

    def new_token(self) -> str:
        """A lease token that no other call of any process has."""
        return f"{self._identity}:{next(self._numbers)}"

    def keep_from_l2(self, values: Sequence[tuple[str, V | None]], epoch: Epoch) -> None:
        """Keep in L1 what was read from L2 after `epoch` was taken."""
        self._keep(self._entries(values, epoch, self.policy.l1_ttl_s), epoch)

    def submit(self, work: Callable[..., None], *args: object) -> None:
        """Run something short soon, however many loads are under way."""
        self._background.submit(work, *args)

    def close(self) -> None:
        """Wait for the loads under way; those not begun are dropped."""
        self._background.close()
        self._loads.close()

    def start(
        self, flight: Flight[V], load: Load[V], token: str | None, epoch: Epoch, deadline_s: float
    ) -> None:
        """Begin a load. With a token its value may be kept in L2."""
        self._loads.submit(self._run, flight, load, token, epoch, deadline_s)

    def refresh(self, keys: Sequence[str], load: Load[V]) -> None:
        """Load values anew that are still there, each by one worker, in the background (fenced as any: R8)."""
        self.submit(self._refresh, list(keys), load)

    def learn_lifetimes(self, keys: Sequence[str]) -> None:
        """Ask L2 in the background what is left of the lives of keys."""
        self.submit(self._learn, list(keys))

    def _refresh(self, keys: list[str], load: Load[V]) -> None:
        token, epoch = self.new_token(), self.l1.epoch()
        try:
            leases = self.l2.acquire(keys, token, self.policy.lease_ms, refresh=True)
        except L2Unavailable:
            return
        deadline_s = time.monotonic() + self.policy.load_timeout_s
        for key, lease in zip(keys, leases, strict=True):
            if lease.state is LeaseState.GRANTED:
                self.event_log.note(Tier.UPSTREAM, Event.REFRESH, (key,))
                self.start(Flight(key, Completion()), load, token, epoch, deadline_s)

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
        self, flight: Flight[V], load: Load[V], token: str | None, epoch: Epoch, deadline_s: float
    ) -> None:
        value: V | None = None
        payload = b""
        try:
            loaded = load(flight.key, max(0.001, deadline_s - time.monotonic()))
            payload = self.codecs.of(flight.key).encode(loaded)
            value, outcome = loaded, Outcome.LOADED
        except ValueNotFound:
            outcome = Outcome.NOT_FOUND
        except LoadDenied:
            outcome = Outcome.DENIED
            self.event_log.note(Tier.UPSTREAM, Event.DENIED, (flight.key,))
        except Exception as error:  # noqa: BLE001 - here a failed load becomes a fallback, whatever it failed of
            outcome = Outcome.FAILED
            self.event_log.note(Tier.UPSTREAM, Event.ERROR, (flight.key,), type(error).__name__)
        self._commits.bring(_CompletedLoad(flight, outcome, value, payload, token, epoch))

    def _commit(self, batch: list[_CompletedLoad[V]]) -> None:
        """Store a batch in L2, keep in L1 what was not refused, give other leases back, complete the flights."""
        fills: list[tuple[_CompletedLoad[V], Fill]] = []
        unshared: list[_CompletedLoad[V]] = []
        released: list[tuple[str, str]] = []
        for completed in batch:
            fillable = completed.outcome in (Outcome.LOADED, Outcome.NOT_FOUND)
            if fillable and completed.token is None:
                unshared.append(completed)
            elif fillable and completed.token is not None:
                fills.append((completed, self._fill(completed, completed.token)))
            elif completed.token is not None:
                released.append((completed.flight.key, completed.token))
        stored, unasked = self._fill_l2(fills)
        if released:
            self._release(released)
        self._keep_in_l1(stored, self.policy.l1_ttl_s)
        self._keep_in_l1(unshared + unasked, UNSHARED_S)
        for completed in batch:
            self.flights.finish(completed.flight)
            completed.flight.complete(completed.outcome, completed.value)

    def _fill(self, completed: _CompletedLoad[V], token: str) -> Fill:
        key, policy = completed.flight.key, self.policy
        if completed.value is None:
            return Fill(key, token, b"", int(policy.negative_ttl_s * 1000), 0)
        ttl_ms = policy.draw_ttl_ms()
        stale_ms = ttl_ms + int(policy.stale_ttl_s * 1000) if policy.stale_ttl_s else 0
        return Fill(key, token, completed.payload, ttl_ms, stale_ms)

    def _fill_l2(
        self, fills: list[tuple[_CompletedLoad[V], Fill]]
    ) -> tuple[list[_CompletedLoad[V]], list[_CompletedLoad[V]]]:
        """Return those that L1 may keep: stored in L2, and those for which L2 could not be asked."""
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
        return accepted, []

    def _keep_in_l1(self, kept: list[_CompletedLoad[V]], longest_s: float) -> None:
        by_epoch: dict[Epoch, list[tuple[str, V | None]]] = {}
        for completed in kept:
            by_epoch.setdefault(completed.epoch, []).append((completed.flight.key, completed.value))
        for epoch, values in by_epoch.items():
            self._keep(self._entries(values, epoch, longest_s), epoch)

    def _entries(
        self, values: Sequence[tuple[str, V | None]], epoch: Epoch, longest_s: float
    ) -> list[tuple[str, Entry[V]]]:
        """Entries of L1, whose lives count from before the read was sent: a slow answer is old when it comes."""
        at_s = epoch.at_s
        absent_until_s = at_s + min(longest_s, self.policy.negative_ttl_s)
        untils_s = self._schedule.l1_until_s([key for key, _ in values], at_s, longest_s)
        return [
            (key, Entry(value, at_s, until_s if value is not None else min(until_s, absent_until_s)))
            for (key, value), until_s in zip(values, untils_s, strict=True)
        ]

    def _release(self, leases: list[tuple[str, str]]) -> None:
        try:
            self.l2.release(leases)
        except L2Unavailable:
            self.recorder.count(Tier.L2, Event.ERROR, "-")


class BatchLoad(Generic[V]):
    """One call's way from L2's misses to answers. Used by one thread.

    Each key is led by one call of the process, which loads it under a lease of L2, or waits for the worker that
    holds the lease; every other call joins it. A failure is its key's alone.
    """

    def __init__(self, loader: Loader[V], load: Load[V], deadline_s: float) -> None:
        self._loader = loader
        self._load = load
        self._deadline_s = deadline_s
        self._use_l2 = True
        self._token = loader.new_token()
        self._holders: dict[str, tuple[str, float]] = {}
        self._completion = Completion()
        self.joined: dict[str, Flight[V]] = {}
        self.cache_s = 0.0

    def join(self, keys: list[str]) -> list[str]:
        """Join the loads that are under way, whose keys L2 need not be asked for. Returns the other keys."""
        self.joined = self._loader.flights.join(keys, self._completion)
        return [key for key in keys if key not in self.joined] if self.joined else keys

    def run(
        self, keys: Sequence[str], joined_at: Epoch, *, use_l2: bool, alone: bool = False
    ) -> dict[str, tuple[V | None, Source]]:
        """Answer `keys` and those `joined` at that epoch, or later, by the deadline at the latest."""
        loader, completion = self._loader, self._completion
        self._use_l2 = use_l2
        started_s = time.monotonic()
        # Before joining: a load joined behind an invalidation's back would be taken for one that began after it.
        epoch = loader.l1.epoch()
        led, joined = loader.flights.join_or_lead(keys, completion, alone=alone)
        joined |= self.joined
        flights = {**led, **joined}
        try:
            self._lead(self._not_completed_meanwhile(led), epoch)
            self._wait(completion, flights, epoch, started_s)
        except BaseException:
            self._give_up(led.values())
            raise
        self._give_up([led[key] for key in self._holders])
        answers = {
            key: self._answer(flight, joined_at if key in self.joined else epoch)
            for key, flight in flights.items()
        }
        # What another caller was refused says nothing about this one.
        refused_to_others = [key for key, flight in joined.items() if flight.outcome is Outcome.DENIED]
        if refused_to_others:
            answers |= self._run_alone(refused_to_others)
        if joined:
            loader.recorder.count(Tier.UPSTREAM, Event.JOINED, "-", len(joined))
        return answers

    def _run_alone(self, keys: Sequence[str]) -> dict[str, tuple[V | None, Source]]:
        alone = BatchLoad(self._loader, self._load, self._deadline_s)
        answers = alone.run(keys, self._loader.l1.epoch(), use_l2=self._use_l2, alone=True)
        self.cache_s += alone.cache_s
        return answers

    def _not_completed_meanwhile(self, led: dict[str, Flight[V]]) -> dict[str, Flight[V]]:
        """A load that completed between this call's look into L1 and its own flight need not be repeated."""
        completed = self._loader.l1.get_many(list(led)).values
        for key, value in completed.items():
            self._loader.flights.finish(led[key])
            led[key].complete(Outcome.REMEMBERED_NOT_FOUND if value is None else Outcome.LOADED, value)
        return {key: flight for key, flight in led.items() if key not in completed}

    def _give_up(self, flights: Iterable[Flight[V]]) -> None:
        """Nobody will complete these but this call, whose time is over: let those who joined go."""
        for flight in flights:
            self._loader.flights.finish(flight)
            flight.complete(Outcome.FAILED)

    def _lead(self, flights: dict[str, Flight[V]], epoch: Epoch) -> None:
        if not flights:
            return
        leases = self._request_leases(flights)
        for key, flight in flights.items():
            if leases is None:
                self._loader.start(flight, self._load, None, epoch, self._deadline_s)
            else:
                self._follow(flight, leases[key], epoch)

    def _request_leases(
        self, flights: dict[str, Flight[V]], take_over: dict[str, str] | None = None
    ) -> dict[str, Lease] | None:
        if not self._use_l2:
            return None
        started_s = time.monotonic()
        keys = list(flights)
        try:
            leases = self._loader.l2.acquire(
                keys, self._token, self._loader.policy.lease_ms, take_over=take_over
            )
        except L2Unavailable:
            self._use_l2 = False
            self._loader.recorder.count(Tier.L2, Event.ERROR, "-")
            return None
        finally:
            self.cache_s += time.monotonic() - started_s
        return dict(zip(keys, leases, strict=True))

    def _follow(self, flight: Flight[V], lease: Lease, epoch: Epoch) -> None:
        """Do what L2's answer for one key asks for."""
        loader, key = self._loader, flight.key
        if lease.stale is not None and flight.stale_value is None:
            flight.stale_value = loader.codecs.decode(key, lease.stale)
        if lease.state is LeaseState.HELD:
            holder = lease.payload.decode()
            if self._holders.get(key, ("", 0.0))[0] != holder:
                self._holders[key] = (holder, time.monotonic())
            return
        self._holders.pop(key, None)
        if lease.state is LeaseState.GRANTED:
            loader.start(flight, self._load, self._token, epoch, self._deadline_s)
            return
        value = loader.codecs.decode(key, lease.payload) if lease.state is LeaseState.VALUE else None
        if lease.state is LeaseState.VALUE and value is None:
            loader.start(flight, self._load, None, epoch, self._deadline_s)
            return
        outcome = Outcome.REMEMBERED_NOT_FOUND if value is None else Outcome.FROM_L2
        loader.keep_from_l2([(key, value)], epoch)
        loader.flights.finish(flight)
        flight.complete(outcome, value)

    def _wait(
        self,
        completion: Completion,
        flights: dict[str, Flight[V]],
        epoch: Epoch,
        started_s: float,
    ) -> None:
        soft_deadline_s = min(started_s + self._loader.policy.soft_timeout_s, self._deadline_s)
        while True:
            now = time.monotonic()
            deadline_s = self._deadline_s if now >= soft_deadline_s else soft_deadline_s
            next_look_s = min(deadline_s, now + POLL_S) if self._holders else deadline_s
            if completion.wait(next_look_s - now):
                return
            now = time.monotonic()
            if now >= self._deadline_s:
                return
            if now >= soft_deadline_s and all(
                f.outcome or f.stale_value is not None for f in flights.values()
            ):
                return
            if self._holders:
                self._poll(flights, epoch)

    def _poll(self, flights: dict[str, Flight[V]], epoch: Epoch) -> None:
        """Look whether the workers that hold leases are done; take over from those that seem dead."""
        now, patience_s = time.monotonic(), self._loader.policy.patience_s
        take_over = {
            key: holder for key, (holder, since_s) in self._holders.items() if now - since_s > patience_s
        }
        waiting = {key: flights[key] for key in self._holders}
        leases = self._request_leases(waiting, take_over)
        if take_over:
            self._loader.recorder.count(Tier.L2, Event.TAKEOVER, "-", len(take_over))
        for key, flight in waiting.items():
            if leases is None:
                self._holders.pop(key)
                self._loader.start(flight, self._load, None, epoch, self._deadline_s)
            else:
                self._follow(flight, leases[key], epoch)

    def _answer(self, flight: Flight[V], epoch: Epoch) -> tuple[V | None, Source]:
        match flight.outcome:
            case Outcome.LOADED:
                return flight.value, Source.UPSTREAM
            case Outcome.FROM_L2:
                return flight.value, Source.L2
            case Outcome.NOT_FOUND | Outcome.REMEMBERED_NOT_FOUND | Outcome.DENIED:
                return None, Source.UNKNOWN
        # A hard invalidation is never undone by the stale copy (race R16).
        if flight.stale_value is None or self._loader.l1.invalidated_since(flight.key, epoch):
            return None, Source.UNKNOWN
        self._loader.event_log.note(Tier.UPSTREAM, Event.STALE, (flight.key,))
        return flight.stale_value, Source.STALE
