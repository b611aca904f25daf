"""Invalidations: those of this process, and what it does with each message about others'.

A script deletes value, lease, absence and stale copy, counts the sequence up and publishes. This process drops its
own L1 last, so that it can't be refilled from an L2 that still had the old value (race R3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.errors import CacheUnavailable, L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.guards import Guard
from servease_appt.cache.keeping import L1Keeper
from servease_appt.cache.l1 import L1, Entry
from servease_appt.cache.l2.protocol import L2
from servease_appt.cache.listener import Listener
from servease_appt.cache.messages import STARTS, Invalidation
from servease_appt.cache.plain_requests import PlainRequests
from servease_appt.cache.recovery import OutageProbe, Recovery
from servease_appt.cache.refresh import RefreshSchedule
from servease_appt.cache.single_flight import Flights
from servease_appt.cache.stats import Event, Tier
from servease_appt.cache.worker_queries import QueryResponder

V = TypeVar("V")

INVALIDATE_BATCH = 500
REGISTER_EVERY_S = 5.0
"""A server under `allkeys-lru` may evict the register of workers, so each entry is renewed."""


class Invalidator(Generic[V]):
    """Drops keys from both tiers of every worker, and from this process alone. Thread-safe."""

    def __init__(
        self,
        *,
        l1: L1[V],
        l2: L2,
        flights: Flights[V],
        codecs: Codecs[V],
        event_log: EventLog,
        identity: str,
    ) -> None:
        self._l1 = l1
        self._l2 = l2
        self._flights = flights
        self._codecs = codecs
        self._event_log = event_log
        self._identity = identity

    def invalidate(self, keys: Iterable[str]) -> int:
        """See `TwoTierCache.invalidate`."""
        wanted = list(dict.fromkeys(keys))
        self._codecs.check(wanted)
        try:
            for start in range(0, len(wanted), INVALIDATE_BATCH):
                self._l2.invalidate(wanted[start : start + INVALIDATE_BATCH], self._identity)
        except L2Unavailable as error:
            self._event_log.note(Tier.L2, Event.FAILED_INVALIDATION, wanted, str(error))
            raise CacheUnavailable(f"Redis did not take the invalidation: {error}") from error
        finally:
            self.drop(wanted)
        self._event_log.note(Tier.L2, Event.INVALIDATION, wanted)
        return len(wanted)

    def invalidate_matching(self, pattern: str) -> None:
        """See `TwoTierCache.invalidate_matching`."""
        try:
            self._l2.invalidate_matching(pattern, self._identity)
        except L2Unavailable as error:
            self._event_log.note_all(Tier.L2, Event.FAILED_INVALIDATION, str(error))
            raise CacheUnavailable(f"Redis did not take the invalidation: {error}") from error
        finally:
            self.drop_matching(pattern)
        self._event_log.note_all(Tier.L2, Event.INVALIDATION, pattern)

    def carry_out(self, request: Invalidation) -> None:
        """Do in L2 what a client has asked for that knows nothing of the scripts. Raises L2Unavailable."""
        if request.pattern is not None:
            self._l2.invalidate_matching(request.pattern, self._identity, announce_start=True)
        else:
            self._l2.invalidate(request.keys, self._identity)

    def drop(self, keys: Sequence[str]) -> None:
        """Drop keys from this process: L1, and the loads under way that nobody may join any more."""
        self._l1.invalidate(keys)
        self._flights.detach(keys)

    def drop_matching(self, pattern: str) -> None:
        """Drop what matches a glob pattern from this process, with all the loads under way."""
        if any(sign in pattern for sign in "[\\"):
            self._l1.flush()  # Redis and Python read these signs differently; nothing is lost but warmth
        else:
            self._l1.invalidate_matching(pattern)
        self._flights.detach()

    def drop_all(self, event: Event, why: str) -> None:
        """Drop everything from this process, which may have missed an invalidation."""
        self._l1.flush()
        self._flights.detach()
        self._event_log.note_all(Tier.CHANNEL, event, why)


class InvalidationHandler(Generic[V]):
    """What one worker does with each thing that it hears: the `ListenerCallbacks` of the cache."""

    def __init__(
        self,
        *,
        l1: L1[V],
        keeper: L1Keeper[V],
        invalidator: Invalidator[V],
        flights: Flights[V],
        codecs: Codecs[V],
        schedule: RefreshSchedule,
        recovery: Recovery,
        probe: OutageProbe,
        responder: QueryResponder[V],
        event_log: EventLog,
        listener: Listener,
        register: Callable[[], None],
        requests: PlainRequests,
        on_pulse: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._l1 = l1
        self._keeper = keeper
        self._invalidator = invalidator
        self._flights = flights
        self._codecs = codecs
        self._schedule = schedule
        self._recovery = recovery
        self._probe = probe
        self._responder = responder
        self._event_log = event_log
        self._listener = listener
        self._register_worker = register
        self._requests = requests
        self._on_pulse = on_pulse
        self._clock = clock
        self._pulse_guard = Guard("What is done at each heartbeat")
        self._answer_guard = Guard("The answer to a command's question")
        self._registered_at_s = float("-inf")

    def on_confirmed(self, *, reconnected: bool, sequence_regressed: bool) -> None:
        """Drop all that was kept before a new subscription, which may be old (R6, R7)."""
        if sequence_regressed:
            self._recovery.distrust_l2()
        self._invalidator.drop_all(Event.RECONNECT if reconnected else Event.FLUSH, "subscribed")
        self._register()

    def on_restarted(self) -> None:
        """Count a listener that had ended by a fault."""
        self._event_log.note_all(Tier.CHANNEL, Event.ERROR, "the listener had ended, and was started anew")

    def on_gap(self) -> None:
        """Drop everything: a message was lost."""
        self._invalidator.drop_all(Event.GAP, "a message was lost")

    def on_counted_anew(self) -> None:
        """Drop everything: invalidations are counted anew, as after a flush."""
        self._invalidator.drop_all(Event.FLUSH, "invalidations are counted anew")

    def on_trust(self, until_s: float) -> None:
        """Set how long L1 may be trusted. Called at each beat, and at each failure to connect."""
        self._l1.trusted_until_s = until_s
        if until_s == float("-inf"):
            self._flights.detach()  # nobody will hear which of these loads an invalidation voids
            self._probe.probe_if_open()
        self._pulse_guard.call(self._on_pulse)

    def on_message(self, invalidation: Invalidation) -> None:
        """Drop what a message names; one from outside has to be carried out in L2, too."""
        if invalidation.sequence is not None:
            self._requests.covered(invalidation)
            if invalidation.began == STARTS:
                return  # what its scans find is dropped at their end
        ours = tuple(filter(None, map(self._codecs.canonical, invalidation.keys)))
        if invalidation.unreadable or len(ours) < len(invalidation.keys):
            self.on_unreadable()
        if invalidation.keys and not ours:
            return
        invalidation = replace(invalidation, keys=ours)
        if invalidation.pattern is not None:
            self._invalidator.drop_matching(invalidation.pattern)
        else:
            self._invalidator.drop(invalidation.keys)
        why = f"from {invalidation.source}" if invalidation.source else "from outside"
        self._event_log.note(Tier.CHANNEL, Event.INVALIDATION, invalidation.keys or ("*",), why)
        if invalidation.sequence is None:
            self._requests.add(invalidation, self._listener.sequence)

    def on_unreadable(self) -> None:
        """Count a message of no known form."""
        self._event_log.note_all(Tier.CHANNEL, Event.UNREADABLE)

    def on_query(self, payload: bytes) -> None:
        """Answer a command or a dashboard."""
        self._answer_guard.call(lambda: self._responder.answer(payload))

    def on_changed(self, keys: list[str] | None) -> None:
        """Compare what L1 holds of keys that have changed on the server."""
        if keys is None:
            self._recovery.database_was_flushed()
            self._invalidator.drop_all(Event.FLUSH, "the database was flushed")
            self._register()
            return
        self._schedule.changed(keys, self._clock())
        self._flights.wake(keys)
        held = self._l1.suspect(keys)
        if held:
            self._keeper.verify(held)

    def on_flush_somewhere(self) -> None:
        """Compare no sequences until it is known which database was flushed."""
        self._recovery.suspend()

    def on_flush_elsewhere(self) -> None:
        """Go on: the flush was of another database."""
        self._recovery.resume()

    def on_compared(self, key: str, entry: Entry[Any], payload: bytes | None) -> None:
        """Drop an entry that is not what L2 holds."""
        self._keeper.compared(key, entry, payload)

    def on_beat(self) -> None:
        """Use the sign of life: the server answers on the channel."""
        self._probe.probe_if_open()
        self._recovery.empty_l2_if_old()
        self._requests.begin()
        if self._clock() - self._registered_at_s >= REGISTER_EVERY_S:
            self._register()

    def _register(self) -> None:
        """Tell commands that this worker is there."""
        self._registered_at_s = self._clock()
        self._register_worker()
