"""Invalidations by this process, and the handling of messages about other workers' invalidations.

A script deletes value, lease, absence and stale copy, increments the sequence and publishes. This process drops
its own L1 entries last, so that L1 can't be refilled from an L2 that still had the old value (race R3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
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
from servease_appt.cache.refusals import Refusals
from servease_appt.cache.results import Invalidated
from servease_appt.cache.single_flight import Flights
from servease_appt.cache.stats import Event, Tier
from servease_appt.cache.worker_queries import QueryResponder

V = TypeVar("V")
T = TypeVar("T")

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
        listener: Listener,
        identity: str,
    ) -> None:
        self._l1 = l1
        self._l2 = l2
        self._flights = flights
        self._codecs = codecs
        self._event_log = event_log
        self._listener = listener
        self._identity = identity

    def invalidate(self, keys: Iterable[str]) -> Invalidated:
        """See `TwoTierCache.invalidate_and_count`."""
        wanted = list(dict.fromkeys(keys))
        self._codecs.check(wanted)
        listeners: int | None = 0
        try:
            for start in range(0, len(wanted), INVALIDATE_BATCH):
                batch = wanted[start : start + INVALIDATE_BATCH]
                announce = partial(self._l2.invalidate, batch, self._identity)
                listeners = self._by_the_compared_server(announce).listeners
        except L2Unavailable as error:
            self._event_log.note(Tier.L2, Event.FAILED_INVALIDATION, wanted, str(error))
            raise CacheUnavailable(f"Redis did not accept the invalidation: {error}") from error
        finally:
            self.drop(wanted)
        self._event_log.note(Tier.L2, Event.INVALIDATION, wanted)
        return Invalidated(len(wanted), listeners)

    def invalidate_matching(self, pattern: str) -> None:
        """See `TwoTierCache.invalidate_matching`."""
        try:
            self._by_the_compared_server(partial(self._l2.invalidate_matching, pattern, self._identity))
        except L2Unavailable as error:
            self._event_log.note_all(Tier.L2, Event.FAILED_INVALIDATION, str(error))
            raise CacheUnavailable(f"Redis did not accept the invalidation: {error}") from error
        finally:
            self.drop_matching(pattern)
        self._event_log.note_all(Tier.L2, Event.INVALIDATION, pattern)

    def _by_the_compared_server(self, announce: Callable[[], T]) -> T:
        """Announce an invalidation, and again if the channel was lost meanwhile.

        The server that acknowledged it may be the old primary, and the new one may have been compared before this
        process knew of the acknowledgement. What is acknowledged from now on is counted before that.
        """
        connection = self._listener.connection
        announced = announce()
        return announced if self._listener.connection == connection else announce()

    def carry_out(self, request: Invalidation, if_at: int | None = None) -> int | None:
        """Carry out in L2 a request that a client made by a plain PUBLISH. See `L2.carry_out`."""
        return self._l2.carry_out(request, self._identity, if_at=if_at)

    def announce_start(self, pattern: str) -> int | None:
        """Announce that this worker scans for a pattern. Raises L2Unavailable."""
        return self._l2.announce_start(pattern, self._identity)

    def drop(self, keys: Sequence[str]) -> None:
        """Drop keys from L1 of this process, and detach their running loads so that no call joins them."""
        self._l1.invalidate(keys)
        self._flights.detach(keys)

    def drop_matching(self, pattern: str) -> None:
        """Drop keys that match a glob pattern from L1 of this process, and detach all running loads."""
        if any(sign in pattern for sign in "[\\"):
            self._l1.flush()  # Redis and Python read these characters differently; flushed entries are reloaded
        else:
            self._l1.invalidate_matching(pattern)
        self._flights.detach()

    def drop_all(self, event: Event, why: str) -> None:
        """Empty L1 of this process and detach all running loads: an invalidation may have been missed."""
        self._l1.flush()
        self._flights.detach()
        self._event_log.note_all(Tier.CHANNEL, event, why)


class InvalidationHandler(Generic[V]):
    """The `ListenerCallbacks` of the cache: handles each message and answer that the listener receives."""

    def __init__(
        self,
        *,
        l1: L1[V],
        l2: L2,
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
        refusals: Refusals,
        on_pulse: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._l1 = l1
        self._l2 = l2
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
        self._refusals = refusals
        self._on_pulse = on_pulse
        self._clock = clock
        self._pulse_guard = Guard("The heartbeat callback")
        self._answer_guard = Guard("The answer to a query")
        self._registered_at_s = float("-inf")

    def on_confirmed(self, *, reconnected: bool, invalidations_lost: bool) -> None:
        """Drop everything that was cached before a new subscription, since it may be stale (R6, R7)."""
        self._recovery.confirm_l2(invalidations_lost=invalidations_lost)
        self._invalidator.drop_all(Event.RECONNECT if reconnected else Event.FLUSH, "subscribed")
        self._register()

    def on_cut_off(self) -> None:
        """Stop using L2 until its server is confirmed as the primary."""
        self._recovery.suspend_l2()

    def on_node_lost(self, name: str, *, gone: bool) -> None:
        """Drop the values of a node whose tracking messages do not arrive; the other nodes' values stay."""
        if gone:
            self._l2.unheard_nodes.discard(name)
            self._l2.old_nodes.discard(name)
            return
        self._l2.unheard_nodes.add(name)
        held = self._l1.keys()
        self._invalidator.drop([key for key in held if self._l2.node_of(key) == name])
        self._flights.detach()
        self._event_log.note_all(Tier.CHANNEL, Event.ERROR, f"no messages from {name}")

    def on_node_back(self, name: str, *, invalidations_lost: bool) -> None:
        """Drop everything that was cached before the node's messages arrived."""
        if invalidations_lost:
            self._recovery.distrust_node(name)
        self._l2.unheard_nodes.discard(name)
        self._invalidator.drop_all(Event.RECONNECT, f"messages from {name}")

    def on_restarted(self) -> None:
        """Count a restart of a listener that ended by an error."""
        self._event_log.note_all(Tier.CHANNEL, Event.ERROR, "the listener had ended, and was restarted")

    def on_gap(self) -> None:
        """Drop everything: a message was lost."""
        self._invalidator.drop_all(Event.GAP, "a message was lost")

    def on_sequence_restarted(self) -> None:
        """Drop everything: the sequence has started again, as after a flush."""
        self._invalidator.drop_all(Event.FLUSH, "the sequence has started again")

    def on_trust(self, until_s: float) -> None:
        """Set the time until which L1 is trusted. Called at each heartbeat, and when connecting fails."""
        self._l1.trusted_until_s = until_s
        if until_s == float("-inf"):
            self._l2.unheard_nodes.clear()  # no node is heard now; the next connection begins with those unheard
            self._flights.detach()  # without the channel, an invalidation of these loads' keys would be missed
            self._probe.probe_if_open()
        self._pulse_guard.call(self._on_pulse)

    def on_message(self, invalidation: Invalidation) -> None:
        """Drop the keys of a message; a request from another client is carried out in L2, too.

        A key may occur more than once: it is counted so often, and dropped once.
        """
        if invalidation.sequence is not None:
            self._requests.covered(invalidation)
            self._recovery.emptied_by(invalidation)
            if invalidation.began == STARTS:
                return  # the message at the end of the scans drops the keys
        spelled = {key: self._codecs.canonical(key) for key in dict.fromkeys(invalidation.keys)}
        ours = tuple(ours for key in invalidation.keys if (ours := spelled[key]) is not None)
        if invalidation.unreadable or len(ours) < len(invalidation.keys):
            self.on_unreadable()
        if invalidation.keys and not ours:
            return
        if ours != invalidation.keys:
            invalidation = replace(invalidation, keys=ours)
        if invalidation.pattern is not None:
            self._invalidator.drop_matching(invalidation.pattern)
        else:
            self._invalidator.drop(tuple(dict.fromkeys(ours)))
        why = f"from {invalidation.source}" if invalidation.source else "from outside"
        self._event_log.note(Tier.CHANNEL, Event.INVALIDATION, invalidation.keys or ("*",), why)
        if invalidation.sequence is None:
            self._requests.add(invalidation, self._listener.sequence)

    def on_unreadable(self) -> None:
        """Count a message that has none of the known forms."""
        self._event_log.note_all(Tier.CHANNEL, Event.UNREADABLE)

    def on_query(self, payload: bytes) -> None:
        """Answer a command or a dashboard."""
        self._answer_guard.call(lambda: self._responder.answer(payload))

    def on_changed(self, keys: list[str] | None) -> None:
        """Compare L1's entries of changed keys with L2; None: the database was flushed."""
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
        """Suspend the comparison of sequences until it is known which database was flushed."""
        self._recovery.suspend()

    def on_flush_elsewhere(self) -> None:
        """Resume the comparison of sequences: another database was flushed."""
        self._recovery.resume()

    def on_compared(self, key: str, entry: Entry[Any], payload: bytes | None) -> None:
        """Drop an entry that differs from L2's value."""
        self._keeper.compared(key, entry, payload)

    def on_command_reply(self, command: str, reply: object) -> None:
        """Note whether the server takes what this worker sends about itself, and act on the switch of L1."""
        if isinstance(reply, Exception):
            self._refusals.refused(command, reply)
        else:
            self._refusals.accepted(command)
            if command == "EXISTS":
                self._keeper.switch(off=bool(reply))

    def on_beat(self) -> None:
        """Probe L2, empty an old L2, carry out pending requests and register, since the server answers."""
        self._probe.probe_if_open()
        self._recovery.empty_l2_if_old()
        self._requests.on_beat()
        if self._clock() - self._registered_at_s >= REGISTER_EVERY_S:
            self._register()

    def _register(self) -> None:
        """Register this worker, so that commands know of it."""
        self._registered_at_s = self._clock()
        self._register_worker()
