"""The loads of one call for keys that neither tier has: leases, single-flight and deadlines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar, cast

from servease_appt.cache.epochs import Epoch
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.l1 import NOT_FOUND
from servease_appt.cache.l2.protocol import Lease, LeaseState
from servease_appt.cache.load_threads import LOOK_AGAIN_S
from servease_appt.cache.loaders import BatchLoader, Load
from servease_appt.cache.loading import Loader, PendingLoad
from servease_appt.cache.results import NoValue, Source
from servease_appt.cache.single_flight import Completion, Flight, Outcome
from servease_appt.cache.stats import Event, Tier

V = TypeVar("V")

POLL_S = 0.05


class Answer(NamedTuple, Generic[V]):
    """The answer for one key."""

    value: V | NoValue
    source: Source


class BatchLoad(Generic[V]):
    """The loads that one call needs, until they complete or its deadline passes. For one thread.

    For each key, one call of the process leads. It loads under a lease of L2, or waits for the worker that holds
    the lease. Every other call joins it. A failed load affects only its own key.
    """

    def __init__(self, loader: Loader[V], load: Load[V] | BatchLoader[V], deadline_s: float) -> None:
        self._loader = loader
        self._load = load
        self._deadline_s = deadline_s
        self._use_l2 = True
        self._token = ""
        self._holders: dict[str, tuple[bytes, float]] = {}
        self._completion: Completion | None = None
        self._loads_wait = False
        self.joined: dict[str, Flight[V]] = {}
        self.found_in_l2 = False
        """True if L2 had bytes for one of the keys after all."""
        self.cache_s = 0.0

    def join(self, keys: list[str]) -> list[str]:
        """Join running loads, whose keys need no read of L2. Returns the other keys."""
        if not self._loader.flights.are_running:
            return keys
        completion = self._completion = Completion()
        began_after_s = self._loader.joinable_after_s()
        self.joined = self._loader.flights.join(keys, completion, began_after_s=began_after_s)
        return [key for key in keys if key not in self.joined] if self.joined else keys

    def run(
        self, keys: Sequence[str], joined_at: Epoch, *, use_l2: bool, alone: bool = False
    ) -> dict[str, Answer[V]]:
        """Return answers for `keys` and for those `joined` at `joined_at`, by the deadline at the latest."""
        loader, completion = self._loader, self._completion or Completion()
        self._use_l2 = use_l2
        started_s = time.monotonic()
        # Before joining: else a load from before an invalidation would count as one that began after it.
        epoch = loader.l1.epoch()
        led, joined = loader.flights.join_or_lead(
            keys,
            completion,
            deadline_s=self._deadline_s,
            began_after_s=loader.joinable_after_s(),
            alone=alone,
        )
        joined |= self.joined
        flights = {**led, **joined}
        try:
            if led:
                self._token = loader.new_token()
                self._lead(self._not_completed_meanwhile(led), epoch)
            self._wait(completion, flights, epoch, started_s)
        except BaseException:
            self._give_up(list(led.values()))
            raise
        self._give_up([led[key] for key in self._holders])
        answers = {
            key: self._answer(flight, joined_at if key in self.joined else epoch)
            for key, flight in flights.items()
        }
        # A denial applies only to the caller whose load was denied, so this call loads by itself.
        refused_to_others = [key for key, flight in joined.items() if flight.outcome is Outcome.DENIED]
        if refused_to_others:
            answers |= self._run_alone(refused_to_others)
        if joined:
            loader.recorder.count(Tier.UPSTREAM, Event.JOINED, "-", len(joined))
        return answers

    def _run_alone(self, keys: Sequence[str]) -> dict[str, Answer[V]]:
        alone = BatchLoad(self._loader, self._load, self._deadline_s)
        answers = alone.run(keys, self._loader.l1.epoch(), use_l2=self._use_l2, alone=True)
        self.cache_s += alone.cache_s
        return answers

    def _not_completed_meanwhile(self, led: dict[str, Flight[V]]) -> dict[str, Flight[V]]:
        """Complete flights whose values reached L1 after this call's lookup; return the others."""
        completed = self._loader.l1.get_many(list(led)).values
        if not completed:
            return led
        self._loader.flights.finish([led[key] for key in completed])
        for key, value in completed.items():
            led[key].complete(Outcome.REMEMBERED_NOT_FOUND if value is None else Outcome.LOADED, value)
        return {key: flight for key, flight in led.items() if key not in completed}

    def _give_up(self, flights: Sequence[Flight[V]]) -> None:
        """Fail the flights that this call leads, so that callers who joined them stop waiting."""
        self._loader.flights.finish(flights)
        for flight in flights:
            flight.complete(Outcome.FAILED)

    def _lead(self, flights: dict[str, Flight[V]], epoch: Epoch) -> None:
        if flights:
            self._loads_wait = self._start(self._handle(flights, self._request_leases(flights), epoch))

    def _start(self, loads: list[PendingLoad[V]]) -> bool:
        return bool(loads) and self._loader.start(loads)

    def _request_leases(
        self, flights: dict[str, Flight[V]], take_over: dict[str, bytes] | None = None
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

    def _handle(
        self, flights: dict[str, Flight[V]], leases: dict[str, Lease] | None, epoch: Epoch
    ) -> list[PendingLoad[V]]:
        """Handle L2's answer, None: it has none. Returns the loads to start."""
        loads: list[PendingLoad[V]] = []
        for key, flight in flights.items():
            token: bytes | None = None
            if leases is None:
                self._holders.pop(key, None)
            else:
                lease = leases[key]
                if not self._has_to_load(flight, lease, epoch):
                    continue
                if lease.state is LeaseState.GRANTED:
                    token = lease.payload
            flight.loads = True
            loads.append(PendingLoad(flight, self._load, token, epoch, self._deadline_s))
        return loads

    def _has_to_load(self, flight: Flight[V], lease: Lease, epoch: Epoch) -> bool:
        """Use the value in L2's answer for one key, or note who holds its lease. Returns True if neither."""
        loader, key = self._loader, flight.key
        if lease.stale is not None and flight.stale_value is None:
            flight.stale_value = loader.codecs.decode(key, lease.stale)
        if lease.state is LeaseState.HELD:
            holder = lease.payload
            if self._holders.get(key, (b"", 0.0))[0] != holder:
                self._holders[key] = (holder, time.monotonic())
            return False
        self._holders.pop(key, None)
        if lease.state in (LeaseState.GRANTED, LeaseState.UNAVAILABLE):
            return True
        self.found_in_l2 |= lease.state is LeaseState.VALUE
        value = loader.codecs.decode(key, lease.payload) if lease.state is LeaseState.VALUE else None
        if lease.state is LeaseState.VALUE and value is None:
            return True  # bytes that can't be decoded: load, and store nothing in their place
        outcome = Outcome.REMEMBERED_NOT_FOUND if value is None else Outcome.FROM_L2
        loader.keep_from_l2([(key, NOT_FOUND if value is None else value)], [len(lease.payload)], epoch)
        loader.flights.finish((flight,))
        flight.complete(outcome, value)
        return False

    def _wait(
        self,
        completion: Completion,
        flights: dict[str, Flight[V]],
        epoch: Epoch,
        started_s: float,
    ) -> None:
        soft_deadline_s = min(started_s + self._loader.policy.soft_timeout_s, self._deadline_s)
        threads = 1
        while self._loads_wait:
            if completion.wait(LOOK_AGAIN_S):
                return
            self._loads_wait = self._loader.hand_out(threads)
            threads *= 2
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
        """Check if the workers that hold leases are done; take over leases whose holders seem dead."""
        now, patience_s = time.monotonic(), self._loader.patience_s
        take_over = {
            key: holder for key, (holder, since_s) in self._holders.items() if now - since_s > patience_s
        }
        waiting = {key: flights[key] for key in self._holders}
        leases = self._request_leases(waiting, take_over)
        taken = [key for key in take_over if leases is not None and leases[key].state is LeaseState.GRANTED]
        if taken:
            self._loader.event_log.note(Tier.L2, Event.TAKEOVER, taken)
        if self._start(self._handle(waiting, leases, epoch)):
            self._loader.hand_out()

    def _answer(self, flight: Flight[V], epoch: Epoch) -> Answer[V]:
        match flight.outcome:
            case Outcome.LOADED:
                return Answer(cast("V", flight.value), Source.UPSTREAM)
            case Outcome.FROM_L2:
                return Answer(cast("V", flight.value), Source.L2)
            case Outcome.NOT_FOUND | Outcome.REMEMBERED_NOT_FOUND:
                return Answer(NoValue.NOT_FOUND, Source.UNKNOWN)
            case Outcome.DENIED:
                return Answer(NoValue.DENIED, Source.UNKNOWN)
        # A stale copy must not undo an invalidation (race R16).
        if flight.stale_value is None or self._loader.l1.invalidated_since(flight.key, epoch):
            return Answer(NoValue.FAILED, Source.UNKNOWN)
        self._loader.event_log.note(Tier.UPSTREAM, Event.STALE, (flight.key,))
        return Answer(flight.stale_value, Source.STALE)
