"""Recovery of L2: from a server that has lost invalidations, and from one that did not answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.election import draw_claim_s, draw_delay_s
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.l2.protocol import L2
from servease_appt.cache.listener import Listener
from servease_appt.cache.messages import STARTS, Invalidation
from servease_appt.cache.stats import Event, Tier

log = logging.getLogger(__name__)

Submit = Callable[[Callable[[], None]], object]


class Recovery:
    """Detects a server that has lost invalidations, and deletes all its values (R20). Thread-safe.

    A lagging replica that became the primary, or a restart from a snapshot, brings back values that were
    invalidated. How many is unknown, so no value is used until all are deleted. The server's sequence has
    regressed, too: an answer with a lower number than was seen before its command was sent shows the loss.

    One worker deletes for all (see `election.py`). Another one uses L2 again when it receives the end of scans
    that began after the loss, or reads that they are done: the deletion is noted with the server's replication id,
    which no server had before, and with its age. Scans that began before the last invalidation that may be lost
    prove nothing: the old primary of a planned failover takes some after the new one was emptied. A worker that
    dies half-way leaves neither.
    """

    def __init__(
        self, l2: L2, listener: Listener, event_log: EventLog, identity: str, submit: Submit
    ) -> None:
        self._l2 = l2
        self._listener = listener
        self._event_log = event_log
        self._identity = identity
        self._submit = submit
        self._acknowledged = 0
        self._emptying = self._scanning = False
        self._suspended = False
        self._lost = False
        self._lost_before_s = float("-inf")
        """When the last invalidation was counted that may be lost, by `clocks.elapsed_s`."""
        self._found_at: int | None = None
        """The sequence of the first heartbeat after the loss was found."""
        self._claimed_until_s = float("-inf")
        self._closing = threading.Event()
        self.delay_s: Callable[[], float] = draw_delay_s if l2.listens_where_it_reads else lambda: 0.0
        self.l2_is_old = False

    def highest_sequence_seen(self) -> int:
        """Return the highest sequence number received, or returned for our own invalidations; 0: none yet.

        Take it before a command is sent. Our own invalidations count because a server may die after it answered
        one and before the listener received its message.
        """
        return 0 if self._suspended else max(self._listener.sequence or 0, self._acknowledged)

    def acknowledge(self, sequence: int) -> None:
        """Note the number that the server gave to an invalidation of ours."""
        self._acknowledged = max(self._acknowledged, sequence)
        self._listener.note_own_invalidation()

    def compare(self, seen: int, sequence: int | None) -> None:
        """Compare `seen`, taken before a command was sent, with the sequence in its answer; None: no sequence.

        Readers and writers compare, too, since they may reach a restarted server before the listener does.
        """
        if seen and (sequence is None or sequence < seen):
            self.distrust_l2()

    def observe(self, seen: int, sequence: int | None) -> None:
        """Compare as `compare` does, after a read. A higher number makes the listener check for a lost message."""
        self.compare(seen, sequence)
        if not self.l2_is_old:
            self._listener.observe_sequence(sequence)

    def replicas(self) -> int | None:
        """Return the number of replicas that the server last reported; None: unknown."""
        return self._listener.replicas

    def suspend(self) -> None:
        """Suspend comparisons: a flush deletes the sequence, which is no loss of invalidations."""
        self._suspended = True

    def resume(self) -> None:
        """Resume comparisons: the sequence is unchanged."""
        self._suspended = False

    def database_was_flushed(self) -> None:
        """Reset the highest number seen: the flush deleted the sequence."""
        self._acknowledged = 0
        self._suspended = False

    def distrust_l2(self) -> None:
        """Stop using L2's values until all of them are deleted."""
        if not self._lost:
            self._lost = self.l2_is_old = True
            self._found_at = None
            self._lost_before_s = self._listener.invalidation_counted_at_s
            log.warning("Redis has lost invalidations: its values are not used, and are deleted")
            if not self._listener.started:
                self.empty_l2_if_old()  # else the listener does it at the next heartbeat

    def suspend_l2(self) -> None:
        """Stop using L2's values until `confirm_l2`: another server may be the primary."""
        self.l2_is_old = True

    def confirm_l2(self, *, invalidations_lost: bool) -> None:
        """Use L2 again after `suspend_l2`, unless it has lost invalidations."""
        if invalidations_lost:
            self.distrust_l2()
            self._found_at = None  # scans on the server of the last connection prove nothing about this one
            self._lost_before_s = self._listener.invalidation_counted_at_s
        self.l2_is_old = self._lost

    def distrust_node(self, name: str) -> None:
        """Stop using the values of one node of a cluster until all of them are deleted."""
        if name not in self._l2.old_nodes:
            self._l2.old_nodes.add(name)
            log.warning("%s has lost invalidations: its values are not used, and are deleted", name)

    def empty_l2_if_old(self) -> None:
        """Have all values of an L2 or a node that has lost invalidations deleted. Called at each heartbeat."""
        if not self._lost and not self._l2.old_nodes:
            return
        if self._lost and self._found_at is None:
            self._found_at = self._listener.sequence or 0
        if not self._emptying and time.monotonic() < self._claimed_until_s:
            return
        try:
            if self._scanning:  # so that the others keep waiting, however long the scans last
                self._submit(self._announce_start)
            elif not self._emptying:
                self._emptying = True
                self._submit(self._empty_l2 if self._lost else self._empty_nodes)
        except RuntimeError:
            log.debug("The cache is closed: no new work is started")

    def emptied_by(self, message: Invalidation) -> None:
        """Leave the deletion to the other worker whose message says that it has begun, or has ended.

        The end of our own is the server's answer, which may come after the message.
        """
        if not self._lost or message.pattern != "*" or not self._l2.listens_where_it_reads:
            return
        if message.source == self._identity:
            return
        if message.began == STARTS:
            self._claimed_until_s = time.monotonic() + draw_claim_s()
        elif message.began is not None and self._found_at is not None:
            if message.began > self._found_at:
                self._use_l2_again(message.sequence or 0)
            else:
                self._claimed_until_s = float("-inf")  # it began too early, so another one is needed at once

    def close(self) -> None:
        """End the random delay, so that closing the cache does not wait for it."""
        self._closing.set()

    def _empty_l2(self) -> None:
        try:
            if self._listener.started:
                self._closing.wait(self.delay_s())
                if not self._lost or time.monotonic() < self._claimed_until_s:
                    return
            connection, history = self._listener.connection, self._listener.new_history
            began_s = elapsed_s()
            if history is not None and self._l2.is_emptied(history, began_s - self._lost_before_s):
                sequence = 0
            else:
                self._scanning = True
                sequence = self._l2.carry_out(Invalidation(pattern="*"), self._identity) or 0
                if history is not None:
                    self._l2.mark_emptied(history, elapsed_s() - began_s)
            if self._listener.connection == connection:  # else it may have been the server before
                self._use_l2_again(sequence)
        except L2Unavailable as error:
            self._event_log.note_all(Tier.L2, Event.FAILED_INVALIDATION, str(error))
        finally:
            self._emptying = self._scanning = False

    def _announce_start(self) -> None:
        try:
            self._l2.announce_start("*", self._identity)
        except L2Unavailable as error:
            log.debug("The start of scans could not be announced again: %s", error)

    def _empty_nodes(self) -> None:
        try:
            for name in list(self._l2.old_nodes):
                self._l2.empty_node(name, self._identity)
        except L2Unavailable as error:
            self._event_log.note_all(Tier.L2, Event.FAILED_INVALIDATION, str(error))
        finally:
            self._emptying = False

    def _use_l2_again(self, sequence: int) -> None:
        self._acknowledged = sequence
        self._lost = self.l2_is_old = False
        self._l2.old_nodes.clear()


class OutageProbe:
    """Probes an L2 whose breaker is open, so that no reader has to wait for a timeout. For one thread."""

    def __init__(self, l2: L2, breaker: Breaker, submit: Submit) -> None:
        self._l2 = l2
        self._breaker = breaker
        self._submit = submit
        self._probing = False

    def probe_if_open(self) -> None:
        """Send a PING to an L2 that did not answer, on a thread of the cache."""
        if self._breaker.state is BreakerState.CLOSED or self._probing:
            return
        self._probing = True
        try:
            self._submit(self._probe)
        except RuntimeError:
            log.debug("The cache is closed, or the interpreter ends: no new work is started")

    def _probe(self) -> None:
        try:
            self._l2.ping()
        except L2Unavailable:
            log.debug("Redis does not answer on the data path yet")
        finally:
            self._probing = False
