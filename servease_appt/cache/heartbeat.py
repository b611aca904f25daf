"""What the answers to a listener's heartbeats prove: nothing was lost, and the server is the primary.

A heartbeat is a write that changes nothing, a question for the replication history, and a read of the sequence
number. The answers prove that the connection works in both directions, that the server is a primary which accepts
writes, and that no message before them was lost (races R6, R7, R9). L1 is trusted for `TRUST_S` from the moment
the heartbeat was *sent*. After a new subscription, L1 is emptied at the first answer. Earlier, a reader could fill
it again (R7).
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from redis.exceptions import ReadOnlyError, RedisError

from servease_appt.cache.callbacks import ListenerCallbacks
from servease_appt.cache.channel import Channel, PushChannel
from servease_appt.cache.l2.cluster_channel import ClusterChannel
from servease_appt.cache.messages import sequence_of
from servease_appt.cache.replication import Continuity, Histories, Replication, parse
from servease_appt.cache.sentinel import Sentinels

log = logging.getLogger(__name__)

TRUST_S = 1.5
# Seconds for which L1 stays trusted after a reader saw a sequence number that this listener has not received.
AHEAD_S = 0.25


class HeartbeatTimeout(Exception):
    """The server has not answered within the limit, or is not the one to listen to."""


class Heartbeat:
    """Checks a server's answers and the sequence of its messages. For the listener's thread.

    Any thread may read the attributes.

    Attributes:
        callbacks: what is called; set before the first answer.
        subscribed: True once the server has confirmed this connection's subscription.
        confirmed: True from the first answered heartbeat of a connection until it is lost.
        sequence: the number of the last invalidation received; None: none yet.
        histories: what was seen of the servers' replication histories.
        new_history: the replication id of this connection's server, if another one was seen before; else None.
        trusted_until_s: the time, on the listener's clock, until which L1 is trusted.
    """

    callbacks: ListenerCallbacks

    def __init__(self, sentinels: Sentinels | None) -> None:
        """Start without a connection. `sentinels`: those that choose the primary; None: there are none."""
        self.subscribed: bool = False
        self.confirmed: bool = False
        self.sequence: int | None = None
        self.histories = Histories()
        self.new_history: str | None = None
        self.trusted_until_s = float("-inf")
        self._sentinels = sentinels
        self._report: Replication | None = None
        self._confirmed_before = False
        self._announced: int | None = None
        """The sequence according to messages after a gap, until the next heartbeat confirms or corrects it."""
        self._flushed = False
        self._before_flush: int | None = None

    @property
    def replicas(self) -> int | None:
        """The number of replicas in the last report; None: there was none."""
        return None if self._report is None else self._report.replicas

    def disconnected(self) -> None:
        """Note the loss of the connection: L1 is not trusted any more.

        Under sentinels the next server may be another one, which lacks invalidations: nothing is read from it
        until its history was compared.
        """
        self.confirmed = self.subscribed = False
        if self._sentinels is not None:
            self.callbacks.on_cut_off()
        self._trust(float("-inf"))

    def poll_sentinels(self) -> None:
        """Have the sentinels asked for the primary, on another thread."""
        if self._sentinels is not None:
            self._sentinels.poll()

    def end_trust_soon(self, now_s: float) -> None:
        """Trust L1 for `AHEAD_S` at most: a reader saw a number that was not received."""
        self._trust(min(self.trusted_until_s, now_s + AHEAD_S))

    def on_sequence(self, sequence: int) -> bool:
        """Follow the sequence number of a message; a number that is not the next one shows a lost message.

        Any client can publish a message, so such a number counts only after a heartbeat has confirmed it.
        Returns True if a heartbeat has to be sent at once.
        """
        self.histories.count()
        if not self.confirmed:
            return False  # the first answer to a heartbeat gives the true number
        expected = self.sequence if self._announced is None else self._announced
        if expected is None:
            self.callbacks.on_sequence_restarted()
        elif sequence > expected + 1:
            self.callbacks.on_gap()
        elif sequence <= expected:
            return False
        elif self._announced is None:
            self.sequence = sequence
            return False
        self._announced = sequence
        return True

    def on_flush(self) -> None:
        """Note the flush of some database; the next heartbeat, to be sent at once, shows if it was this one."""
        if not self._flushed:
            self._flushed, self._before_flush = True, self.sequence
            self.sequence = None  # a sequence deleted by the flush is no loss of invalidations
            self.callbacks.on_flush_somewhere()

    def on_write(self, value: object) -> None:
        """Leave a server that refuses every write because another one is, or may be, the primary.

        Raises the error that `value` is.
        """
        if isinstance(value, ReadOnlyError):
            raise value
        if isinstance(value, RedisError) and str(value).startswith("NOREPLICAS"):
            self.callbacks.on_cut_off()
            raise value

    def on_report(self, value: object) -> None:
        """Note the answer to INFO REPLICATION."""
        self._report = parse(value)

    def on_answer(
        self, value: object, sent_at_s: float, invalidations: int, channel: PushChannel | None
    ) -> None:
        """Handle the answer to a heartbeat's last command, and trust L1 again if nothing was lost.

        Args:
            value: the stored sequence number.
            sent_at_s: when the heartbeat was sent.
            invalidations: `histories.invalidations` at that time.
            channel: the connection.

        Raises:
            HeartbeatTimeout: another connection is needed.
            Exception: `value`, if it is an error.
        """
        if isinstance(value, Exception):
            raise value
        self._check_primary(channel)
        sequence = sequence_of(value)
        server, servers = _server(channel)
        missed = self._has_missed(sequence)
        continuity = self.histories.compare(
            server, self._report, reconnected=not self.confirmed, servers=servers
        )
        if not self.confirmed:
            self._confirm(sequence, server, broken=continuity is Continuity.BROKEN)
        elif continuity in (Continuity.BROKEN, Continuity.CONTINUED):
            raise HeartbeatTimeout("the server was replaced or demoted")
        elif self._flushed:
            self._after_flush(sequence)
        elif sequence != (self.sequence if self._announced is None else self._announced):
            self.callbacks.on_gap()
        # Last, so that no reader uses a server that has lost invalidations.
        self.sequence, self._announced = sequence, None
        self.histories.accept(server, self._report, invalidations, servers)
        if isinstance(channel, ClusterChannel):
            if missed:  # what the other nodes reported before may lack them
                self.histories.invalidations += 1
            channel.on_heartbeat(sent_at_s)
        self._trust(sent_at_s + TRUST_S)
        self.callbacks.on_beat()

    def _confirm(self, sequence: int | None, server: str, *, broken: bool) -> None:
        """Handle the first answered heartbeat of a connection."""
        if not self.subscribed:
            raise HeartbeatTimeout("the subscription was not confirmed")
        received = self._before_flush if self._flushed else self.sequence
        self._flushed = False
        reconnected, self.confirmed, self._confirmed_before = self._confirmed_before, True, True
        regressed = received is not None and (sequence is None or sequence < received)
        self.new_history = self.histories.new_id(self._report)
        # Without a sequence, before and now, nothing was ever invalidated: nothing is lost.
        any_seen = received is not None or sequence is not None or self.histories.invalidations > 0
        lost_all = regressed or (broken and any_seen and not server)
        self.callbacks.on_confirmed(reconnected=reconnected, invalidations_lost=lost_all)
        if broken and server:
            self.callbacks.on_node_back(server, invalidations_lost=True)
        if reconnected:
            log.warning("Invalidation channel is back")

    def _has_missed(self, sequence: int | None) -> bool:
        """Return whether invalidations were counted whose messages have not been received."""
        received = self.sequence if self._announced is None else self._announced
        return sequence is not None and received is not None and sequence > received

    def _after_flush(self, sequence: int | None) -> None:
        """Find out by the sequence if our database was flushed: the server reports flushes of any database."""
        self._flushed = False
        if sequence is not None and sequence == self._before_flush:
            self.callbacks.on_flush_elsewhere()
        else:
            self.callbacks.on_changed(None)

    def _check_primary(self, channel: PushChannel | None) -> None:
        """Leave a server that is not the primary, and use neither tier while it is not known which one is."""
        if self._report is not None and not self._report.is_primary:
            raise HeartbeatTimeout("the server is not the primary")
        if self._sentinels is None or not isinstance(channel, Channel):
            return
        objection = self._sentinels.objection(channel.address)
        if objection is not None:
            self.callbacks.on_cut_off()
            raise HeartbeatTimeout(objection)

    def _trust(self, until_s: float) -> None:
        self.trusted_until_s = until_s
        self.callbacks.on_trust(until_s)


def _server(channel: PushChannel | None) -> tuple[str, Collection[str]]:
    """Return the name of the connected server, and those of all servers; empty but for a cluster."""
    return (channel.server, channel.servers) if isinstance(channel, ClusterChannel) else ("", ())
