"""An L2 that can't be used as it is: a server that has lost invalidations, or one that does not answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.l2.protocol import L2
from servease_appt.cache.listener import Listener
from servease_appt.cache.stats import Event, Tier

log = logging.getLogger(__name__)

Submit = Callable[[Callable[[], None]], object]


class Recovery:
    """Notices that a server has lost invalidations, and has all that it holds deleted (R20). Thread-safe.

    A replica that was behind when it took over, or a restart from a snapshot, brings values back that were
    invalidated. Nobody can say how far back, so nothing that it holds is used until all is deleted. Its sequence
    is behind, too: an answer with a lower number than was seen before its question was sent shows it.
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
        self._emptying = False
        self._suspended = False
        self.l2_is_old = False

    def highest_sequence_seen(self) -> int:
        """Return the highest sequence number heard, or given for an invalidation of ours; 0: none yet.

        To be taken before a command is sent. A server may die between its answer to an invalidation and the
        listener's hearing of it, so that the listener alone would not miss it.
        """
        return 0 if self._suspended else max(self._listener.sequence or 0, self._acknowledged)

    def acknowledge(self, sequence: int) -> None:
        """Note the number that the server gave to an invalidation of ours."""
        self._acknowledged = max(self._acknowledged, sequence)

    def compare(self, seen: int, sequence: int | None) -> None:
        """Compare what was seen before a command was sent with the sequence that its answer tells of.

        Readers and writers look themselves, since they may reach a restarted server before the listener does.
        """
        if seen and (sequence is None or sequence < seen):
            self.distrust_l2()

    def suspend(self) -> None:
        """Compare nothing for a moment: a flush takes the sequence along, which is no loss of invalidations."""
        self._suspended = True

    def resume(self) -> None:
        """Compare again: the sequence is still there."""
        self._suspended = False

    def database_was_flushed(self) -> None:
        """Begin anew: the sequence went with all the rest."""
        self._acknowledged = 0
        self._suspended = False

    def distrust_l2(self) -> None:
        """Use nothing that L2 holds until all of it is deleted."""
        if not self.l2_is_old:
            self.l2_is_old = True
            log.warning("Redis has lost invalidations: its values are not used, and are deleted")
            if not self._listener.started:
                self.empty_l2_if_old()  # else the next heartbeat does, behind which others are told, too

    def empty_l2_if_old(self) -> None:
        """Begin to delete what an L2 that has lost invalidations holds, on a thread of the cache."""
        if self.l2_is_old and not self._emptying:
            self._emptying = True
            try:
                self._submit(self._empty_l2)
            except RuntimeError:
                log.debug("The cache is closed: nothing is begun any more")

    def _empty_l2(self) -> None:
        try:
            self._acknowledged = self._l2.invalidate_matching("*", self._identity)
            self.l2_is_old = False
        except L2Unavailable as error:
            self._event_log.note_all(Tier.L2, Event.FAILED_INVALIDATION, str(error))
        finally:
            self._emptying = False


class OutageProbe:
    """Tries an L2 whose breaker is open, so that no reader has to spend a timeout on it. For one thread."""

    def __init__(self, l2: L2, breaker: Breaker, submit: Submit) -> None:
        self._l2 = l2
        self._breaker = breaker
        self._submit = submit
        self._probing = False

    def probe_if_open(self) -> None:
        """Begin to ask an L2 that did not answer, on a thread of the cache."""
        if self._breaker.state is BreakerState.CLOSED or self._probing:
            return
        self._probing = True
        try:
            self._submit(self._probe)
        except RuntimeError:
            log.debug("The cache is closed, or the interpreter ends: nothing is begun any more")

    def _probe(self) -> None:
        try:
            self._l2.ping()
        except L2Unavailable:
            log.debug("Redis does not answer on the data path yet")
        finally:
            self._probing = False
