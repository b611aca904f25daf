"""The listener: one thread a process that receives invalidations and detects lost ones.

It uses one RESP3 connection, whose frames arrive in one order. Twice a second it sends a heartbeat: a write that
changes nothing, a question for the replication history, and a read of the sequence number. The answers prove that
the connection works in both directions, that the server is a primary which accepts writes, and that no message
before them was lost (races R6, R7, R9). L1 is trusted for `TRUST_S` from the moment the heartbeat was *sent*.
After a new subscription, L1 is emptied at the first answer. Earlier, a reader could fill it again (R7).
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, ReadOnlyError, RedisError

from servease_appt.cache.callbacks import ListenerCallbacks
from servease_appt.cache.channel import (
    Changed,
    Channel,
    NodeBack,
    NodeLost,
    Published,
    PushChannel,
    Reply,
    Subscribed,
)
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import Entry
from servease_appt.cache.l2.cluster_channel import ClusterChannel, open_channel
from servease_appt.cache.l2.protocol import Backend
from servease_appt.cache.messages import UnreadableMessage, decode, sequence_of
from servease_appt.cache.replication import Continuity, Histories, Replication, parse
from servease_appt.cache.sentinel import sentinels_of

log = logging.getLogger(__name__)

BEAT_S = 0.5
TRUST_S = 1.5
# Seconds for which L1 stays trusted after a reader saw a sequence number that this listener has not received.
AHEAD_S = 0.25
BACKOFF_S = (0.05, 1.0)
VERIFY_BATCH = 500
GATHER_S = 0.001
"""While keys change all the time, changes are received together, this many seconds apart: each time that the
thread wakes, readers have to pass it the interpreter."""
GATHER_BELOW_S = 0.002
VERIFY_EVERY_S = 0.002
"""A change is compared at once, and changes that follow closely are compared together."""
MAX_QUEUED_COMMANDS = 1000


@dataclass(slots=True)
class _Write:
    sent_at_s: float


@dataclass(slots=True)
class _Report:
    sent_at_s: float


@dataclass(slots=True)
class _Beat:
    sent_at_s: float
    invalidations: int


@dataclass(slots=True)
class _Verification:
    sent_at_s: float
    entries: dict[str, Entry[Any]]


@dataclass(slots=True)
class _Tracking:
    sent_at_s: float


@dataclass(slots=True)
class _QueuedCommand:
    sent_at_s: float
    name: str


class HeartbeatTimeout(Exception):
    """The server has not answered within the limit."""


class Listener:
    """Receives invalidations for one process, from `start()` to `stop()`. Thread-safe."""

    def __init__(
        self,
        client: Redis | Backend,
        keys: KeySpace,
        tracked: tuple[str, ...],
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        """Prepare the listener; nothing is sent before `start`.

        `tracked` has the prefixes of the keys whose changes the server reports; empty: none are reported (see
        `CachePolicy.tracking`).
        """
        self._client = client
        self._keys = keys
        self._tracked = tracked
        self._clock = clock
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._to_verify: dict[str, Entry[Any]] = {}
        self._verified_at_s = float("-inf")
        self._beat_now = False
        self._reconnect = False
        self._queued_commands: deque[tuple[str | bytes, ...]] = deque(maxlen=MAX_QUEUED_COMMANDS)
        self._callbacks: ListenerCallbacks
        self._wake_out: socket.socket
        self._wake_in: socket.socket
        self._thread = threading.Thread(target=self._run, name="servease-cache-listener", daemon=True)
        self._channel: PushChannel | None = None
        self._pending: deque[_Write | _Report | _Beat | _Verification | _Tracking | _QueuedCommand] = deque()
        self._subscribed = False
        self._confirmed_before = False
        self._last_beat_s = 0.0
        self._trusted_until_s = float("-inf")
        self._reconnect = False
        self.started: bool = False
        self.confirmed: bool = False
        self.tracking: bool = False
        self.sequence: int | None = None
        self.last_answer_at_s: float = clock()
        self._announced: int | None = None
        """The sequence according to messages after a gap, until the next heartbeat confirms or corrects it."""
        self._flushed = False
        self._before_flush: int | None = None
        self._sentinels = sentinels_of(client)
        self._histories = Histories()
        self.new_history: str | None = None
        """The replication id of this connection's server, if another one was seen before; else None."""
        self._report: Replication | None = None

    def start(self, callbacks: ListenerCallbacks) -> None:
        """Start the thread, which calls `callbacks`. Call it once at most."""
        self._callbacks = callbacks
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self.started = True
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop the thread and wait for it. Idempotent; does nothing before `start`."""
        if not self.started:
            return
        self._stopping.set()
        self._wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        self._wake_in.close()
        self._wake_out.close()

    def abandon(self) -> None:
        """Close the child's copies of the sockets after a fork; the thread does not exist in the child.

        Takes no lock: a thread of the parent may have held it at the fork.
        """
        if not self.started:
            return
        self._wake_in.close()
        self._wake_out.close()
        if self._channel is not None:
            self._channel.close()

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    @property
    def silent_s(self) -> float:
        """Seconds since the server last answered, or since the start if it never has."""
        return self._clock() - self.last_answer_at_s

    def verify(self, entries: dict[str, Entry[Any]]) -> None:
        """Compare entries of L1 with L2, in the connection's order; the callbacks receive the answers.

        Nothing is compared before `start`.
        """
        if not self.started:
            return
        with self._lock:
            self._to_verify.update(entries)
        if threading.current_thread() is not self._thread:  # which sends what is due before it waits again
            self._wake()

    def send_soon(self, *command: str | bytes) -> None:
        """Queue a command whose answer is ignored; it is dropped while the server does not answer."""
        if self.confirmed:
            self._queued_commands.append(command)
            self._wake()

    def observe_sequence(self, sequence: int | None) -> None:
        """Send a heartbeat at once if a reader saw a higher sequence number in L2: a message may be lost."""
        if not self.confirmed:  # as after the end of the thread
            if self.started and not self._thread.is_alive():
                self._revive()
            return
        if sequence is None or (self.sequence is not None and sequence <= self.sequence):
            return
        with self._lock:
            if self._beat_now:
                return
            self._beat_now = True
        self._wake()

    def note_own_invalidation(self) -> None:
        """Note that the server acknowledged an invalidation, which the last report of its history may lack."""
        self._histories.invalidations += 1

    def reconnect(self) -> None:
        """Open the connection again: its host name may now lead to another server."""
        if not self.started:
            return
        self._reconnect = True
        self._wake()

    def _revive(self) -> None:
        """Replace a thread that ended by an error: without it L1 serves almost nothing."""
        with self._lock:
            if self._stopping.is_set() or self._thread.is_alive():
                return
            self._thread = threading.Thread(target=self._run, name="servease-cache-listener", daemon=True)
            self._thread.start()
        log.error("The invalidation listener had ended; it was restarted")
        self._callbacks.on_restarted()

    def _wake(self) -> None:
        try:
            self._wake_in.send(b"\0")
        except (BlockingIOError, OSError):
            return  # full: it will wake anyway; closed: it has stopped

    def _run(self) -> None:
        backoff_s = BACKOFF_S[0]
        while not self._stopping.is_set():
            try:
                self._listen()
            except (HeartbeatTimeout, RedisError, OSError) as error:
                if self.confirmed:
                    log.warning("Invalidation channel lost: %s", str(error) or type(error).__name__)
                    backoff_s = BACKOFF_S[0]
            except Exception:
                log.exception("Invalidation listener failed; restarting it")
            finally:
                try:
                    self._disconnect()
                except Exception:
                    log.exception("The invalidation channel could not be closed cleanly")
            self._stopping.wait(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(backoff_s * 2, BACKOFF_S[1])

    def _disconnect(self) -> None:
        self.confirmed = self._subscribed = self.tracking = False
        self._trust(float("-inf"))
        self._pending.clear()
        self._queued_commands.clear()
        with self._lock:
            self._to_verify.clear()
            self._beat_now = False
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _listen(self) -> None:
        channel = self._channel = open_channel(
            self._client, self._keys, histories=self._histories, clock=self._clock
        )
        channel.send("SUBSCRIBE", self._keys.channel, self._keys.queries)
        if self._tracked:
            prefixes = [word for prefix in self._tracked for word in ("PREFIX", self._keys.data(prefix))]
            self._pending.append(_Tracking(self._clock()))
            channel.send("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
        self._send_beat(channel)
        changed_at_s = float("-inf")
        while not self._stopping.is_set():
            channel.wait(self._wake_out, self._seconds_to_next_step())
            if self._handle_received(channel):
                before_s, changed_at_s = changed_at_s, self._clock()
                if changed_at_s - before_s < GATHER_BELOW_S:
                    time.sleep(GATHER_S)
            self._send_what_is_due(channel)

    def _handle_received(self, channel: PushChannel) -> bool:
        """Handle all received frames. Returns True if keys have changed, and no message was published."""
        changes = published = False
        while not self._stopping.is_set():
            there, frame = channel.receive()
            if not there:
                break
            changes |= isinstance(frame, Changed)
            published |= isinstance(frame, Published)
            self._handle(frame)
        return changes and not published

    def _seconds_to_next_step(self) -> float:
        next_s = self._last_beat_s + BEAT_S
        if self._to_verify:
            next_s = min(next_s, self._verified_at_s + VERIFY_EVERY_S)
        return next_s - self._clock()

    def _send_beat(self, channel: PushChannel) -> None:
        if self._sentinels is not None:
            self._sentinels.poll()
        now = self._last_beat_s = self._clock()
        self._pending += (_Write(now), _Report(now), _Beat(now, self._histories.invalidations))
        channel.send("UNLINK", self._keys.beat)
        channel.send("INFO", "REPLICATION")
        channel.send("GET", self._keys.sequence)

    def _send_what_is_due(self, channel: PushChannel) -> None:
        now = self._clock()
        if self._reconnect:
            self._reconnect = False
            raise HeartbeatTimeout("the server is not the primary")
        if self._pending and now - self._pending[0].sent_at_s > TRUST_S:
            raise HeartbeatTimeout(f"no answer for {TRUST_S} s")
        with self._lock:
            ahead, self._beat_now = self._beat_now, False
            beats = ahead or now - self._last_beat_s >= BEAT_S
            entries: dict[str, Entry[Any]] = {}
            if self._to_verify and (beats or now - self._verified_at_s >= VERIFY_EVERY_S):
                entries = dict(list(self._to_verify.items())[:VERIFY_BATCH])
                for key in entries:
                    del self._to_verify[key]
        if ahead:
            self._trust(min(self._trusted_until_s, now + AHEAD_S))
        # Before the heartbeat: once that is answered and L1 is trusted again, the changed keys have been compared.
        if entries:
            self._verified_at_s = now
            self._pending.append(_Verification(now, entries))
            channel.send("MGET", *(self._keys.data(key) for key in entries))
        if beats:
            self._send_beat(channel)
        while self._queued_commands:
            command = self._queued_commands.popleft()
            self._pending.append(_QueuedCommand(now, str(command[0])))
            channel.send(*command)

    def _trust(self, until_s: float) -> None:
        self._trusted_until_s = until_s
        self._callbacks.on_trust(until_s)

    def _handle(self, frame: object) -> None:
        match frame:
            case Published(channel, payload) if channel.decode() == self._keys.queries:
                self._callbacks.on_query(payload)
            case Published(_, payload):
                self._on_published(payload)
            case Subscribed():
                self._subscribed = True
            case Changed(names):
                self._on_changed(names)
            case NodeLost(name, gone):
                self._callbacks.on_node_lost(name, gone=gone)
            case NodeBack(name, invalidations_lost):
                self._callbacks.on_node_back(name, invalidations_lost=invalidations_lost)
            case Reply(value):
                self._on_reply(value)

    def _on_published(self, payload: bytes) -> None:
        try:
            invalidation = decode(payload, self._keys.prefix)
        except UnreadableMessage as error:
            log.debug("Ignored an unreadable message: %s", error)
            self._callbacks.on_unreadable()
            return
        if invalidation.sequence is not None:
            self._follow(invalidation.sequence)
        self._callbacks.on_message(invalidation)

    def _follow(self, sequence: int) -> None:
        """Follow the sequence number of a message; a number that is not the next one shows a lost message.

        Any client can publish a message, so such a number counts only after a heartbeat has confirmed it.
        """
        self._histories.invalidations += 1
        if not self.confirmed:
            return  # the first answer to a heartbeat gives the true number
        expected = self.sequence if self._announced is None else self._announced
        if expected is None:
            self._callbacks.on_sequence_restarted()
        elif sequence > expected + 1:
            self._callbacks.on_gap()
        elif sequence <= expected:
            return
        elif self._announced is None:
            self.sequence = sequence
            return
        self._announced = sequence
        with self._lock:
            self._beat_now = True

    def _on_changed(self, names: tuple[bytes, ...] | None) -> None:
        if names is None:
            if not self._flushed:
                self._flushed, self._before_flush = True, self.sequence
                self.sequence = None  # a sequence deleted by the flush is no loss of invalidations
                self._callbacks.on_flush_somewhere()
            with self._lock:
                self._beat_now = True
            return
        own = f"{self._keys.prefix}:__"
        full = [name.decode(errors="replace") for name in names]
        keys = [self._keys.plain(name) for name in full if not name.startswith(own)]
        if keys:
            self._callbacks.on_changed(keys)

    def _after_flush(self, sequence: int | None) -> None:
        """Find out by the sequence if our database was flushed: the server reports flushes of any database."""
        self._flushed = False
        if sequence is not None and sequence == self._before_flush:
            self._callbacks.on_flush_elsewhere()
        else:
            self._callbacks.on_changed(None)

    def _on_reply(self, value: object) -> None:
        self.last_answer_at_s = self._clock()
        if not self._subscribed and isinstance(value, NoPermissionError) and "channel" in str(value):
            self._callbacks.on_command_reply("subscribe", value)
            raise value  # an accepted subscription has no answer of this kind, so the others would be mistaken
        asked = self._pending.popleft()
        match asked:
            case _Tracking():
                self.tracking = value == b"OK"
                self._callbacks.on_command_reply("subscribe", None)
                self._callbacks.on_command_reply("client tracking", value)
            case _Verification(_, entries):
                payloads = value if isinstance(value, list) else [None] * len(entries)
                for (key, entry), payload in zip(entries.items(), payloads, strict=True):
                    self._callbacks.on_compared(key, entry, payload)
            case _Write():
                self._callbacks.on_command_reply("heartbeat", value)
                self._on_write(value)
            case _Report():
                self._report = parse(value)
            case _QueuedCommand(_, name):
                self._callbacks.on_command_reply(name, value)
            case _Beat(sent_at_s, invalidations):
                self._on_beat(value, sent_at_s, invalidations)

    def _on_write(self, value: object) -> None:
        """Leave a server that refuses every write because another one is, or may be, the primary."""
        if isinstance(value, ReadOnlyError):
            raise value
        if isinstance(value, RedisError) and str(value).startswith("NOREPLICAS"):
            self._callbacks.on_cut_off()
            raise value

    def _check_primary(self) -> None:
        """Leave a server that is not the primary, and use neither tier while it is not known which one is."""
        if self._report is not None and not self._report.is_primary:
            raise HeartbeatTimeout("the server is not the primary")
        if self._sentinels is None or not isinstance(self._channel, Channel):
            return
        objection = self._sentinels.objection(self._channel.address)
        if objection is not None:
            self._callbacks.on_cut_off()
            raise HeartbeatTimeout(objection)

    def _server(self) -> tuple[str, Collection[str]]:
        """Return the name of the connected server, and those of all servers; empty but for a cluster."""
        channel = self._channel
        return (channel.server, channel.servers) if isinstance(channel, ClusterChannel) else ("", ())

    def _on_beat(self, value: object, sent_at_s: float, invalidations: int) -> None:
        if isinstance(value, Exception):
            raise value
        self._check_primary()
        sequence = sequence_of(value)
        server, servers = self._server()
        continuity = self._histories.compare(
            server, self._report, reconnected=not self.confirmed, servers=servers
        )
        broken = continuity is Continuity.BROKEN
        if not self.confirmed:
            if not self._subscribed:
                raise HeartbeatTimeout("the subscription was not confirmed")
            heard = self._before_flush if self._flushed else self.sequence
            self._flushed = False
            reconnected, self.confirmed, self._confirmed_before = self._confirmed_before, True, True
            regressed = heard is not None and (sequence is None or sequence < heard)
            self.new_history = self._histories.new_id(self._report)
            # Without a sequence, before and now, nothing was ever invalidated: nothing is lost.
            any_seen = heard is not None or sequence is not None or self._histories.invalidations > 0
            lost_all = regressed or (broken and any_seen and not server)
            self._callbacks.on_confirmed(reconnected=reconnected, invalidations_lost=lost_all)
            if broken and server:
                self._callbacks.on_node_back(server, invalidations_lost=True)
            if reconnected:
                log.warning("Invalidation channel is back")
        elif continuity in (Continuity.BROKEN, Continuity.CONTINUED):
            raise HeartbeatTimeout("the server was replaced or demoted")
        elif self._flushed:
            self._after_flush(sequence)
        elif sequence != (self.sequence if self._announced is None else self._announced):
            self._callbacks.on_gap()
        # Last, so that no reader uses a server that has lost invalidations.
        self.sequence, self._announced = sequence, None
        self._histories.accept(server, self._report, invalidations, servers)
        self._trust(sent_at_s + TRUST_S)
        self._callbacks.on_beat()
