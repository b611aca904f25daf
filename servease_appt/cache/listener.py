"""The listener: one thread a process that receives invalidations and detects lost ones.

It uses one RESP3 connection, whose frames arrive in one order, and connects again when it is lost. `heartbeat.py`
has what the answers prove, `send_queue.py` what is sent, and when.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

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
from servease_appt.cache.gathered import Gathered
from servease_appt.cache.heartbeat import Heartbeat, HeartbeatTimeout
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import Entry
from servease_appt.cache.l2.cluster_channel import ClusterChannel, open_channel
from servease_appt.cache.l2.protocol import Backend
from servease_appt.cache.messages import UnreadableMessage, decode
from servease_appt.cache.refusals import CONNECT, SCRIPTS, check_version
from servease_appt.cache.send_queue import (
    HeartbeatWrite,
    HistoryReport,
    OtherCommand,
    SendQueue,
    SequenceRead,
    TurnTrackingOn,
    Verification,
)
from servease_appt.cache.sentinel import sentinels_of

log = logging.getLogger(__name__)

BACKOFF_S = (0.05, 1.0)
GATHER_S = 0.001
"""Seconds between two receptions while keys change all the time: each time that the thread wakes, readers have to
give it the interpreter."""
GATHER_BELOW_S = 0.002


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
        self._queries = keys.queries.encode()
        self._tracked = tracked
        self._clock = clock
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._reconnect = False
        self._lost_connections = 0
        self._heartbeat = Heartbeat(sentinels_of(client))
        self._queue = SendQueue(keys, self._heartbeat, clock)
        self._callbacks: ListenerCallbacks
        self._wake_out: socket.socket
        self._wake_in: socket.socket
        self._thread = threading.Thread(target=self._run, name="servease-cache-listener", daemon=True)
        self._channel: PushChannel | None = None
        self._gathered = Gathered(keys, self._follow_sequence)
        self.started: bool = False
        self.tracking: bool = False
        self.last_answer_at_s: float = clock()

    def start(self, callbacks: ListenerCallbacks) -> None:
        """Start the thread, which calls `callbacks`. Call it once at most."""
        self._callbacks = self._heartbeat.callbacks = self._gathered.callbacks = callbacks
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
    def confirmed(self) -> bool:
        """True from the first answered heartbeat of a connection until it is lost."""
        return self._heartbeat.confirmed

    @property
    def sequence(self) -> int | None:
        """The number of the last invalidation received; None: none yet."""
        return self._heartbeat.sequence

    @property
    def new_history(self) -> str | None:
        """The replication id of this connection's server, if another one was seen before; else None."""
        return self._heartbeat.new_history

    @property
    def connection(self) -> int:
        """The number of the connection. It changes with its loss, before the next server is compared."""
        return self._lost_connections

    @property
    def invalidation_counted_at_s(self) -> float:
        """The time of the last invalidation received or acknowledged, by `elapsed_s`; minus infinity: never."""
        return self._heartbeat.histories.counted_at_s

    @property
    def replicas(self) -> int | None:
        """The number of replicas that the server last reported; None: unknown."""
        return self._heartbeat.replicas

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
        self._queue.verify(entries)
        self._send_what_was_added()

    def send_soon(self, *command: str | bytes) -> None:
        """Queue a command whose answer is ignored; it is dropped while the server does not answer."""
        if self.confirmed:
            self._queue.add(*command)
            self._send_what_was_added()

    def observe_sequence(self, sequence: int | None) -> None:
        """Send a heartbeat at once if a reader saw a higher sequence number in L2: a message may be lost."""
        heartbeat = self._heartbeat
        if not heartbeat.confirmed:  # as after the end of the thread
            if self.started and not self._thread.is_alive():
                self._revive()
            return
        if sequence is None or (heartbeat.sequence is not None and sequence <= heartbeat.sequence):
            return
        if self._queue.beat_now():
            self._wake()

    def note_own_invalidation(self) -> None:
        """Note that the server acknowledged an invalidation, which the last report of its history may lack."""
        self._heartbeat.histories.count()

    def reconnect(self) -> None:
        """Open the connection again: its host name may now lead to another server.

        Does nothing on the listener's own thread, which is about to connect.
        """
        if not self.started or threading.current_thread() is self._thread:
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

    def _send_what_was_added(self) -> None:
        if threading.current_thread() is not self._thread:  # which sends what is due before it waits again
            self._wake()

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
                if self._channel is None and isinstance(error, (ResponseError, AuthenticationError)):
                    self._callbacks.on_command_reply(CONNECT, error)
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
        self.tracking = False
        self._lost_connections += 1
        self._heartbeat.disconnected()
        self._queue.clear()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _listen(self) -> None:
        self._reconnect = False
        channel = self._channel = open_channel(
            self._client, self._keys, histories=self._heartbeat.histories, clock=self._clock
        )
        self._callbacks.on_command_reply(CONNECT, None)
        if isinstance(channel, (Channel, ClusterChannel)):
            self._callbacks.on_command_reply(SCRIPTS, check_version(*channel.server_version))
        channel.send("SUBSCRIBE", self._keys.channel, self._keys.queries)
        if self._tracked:
            self._queue.turn_tracking_on(channel, self._tracked)
        self._queue.send_beat(channel)
        changed_at_s = float("-inf")
        while not self._stopping.is_set():
            channel.wait(self._wake_out, self._queue.seconds_to_next_step())
            if self._handle_received(channel):
                before_s, changed_at_s = changed_at_s, self._clock()
                if changed_at_s - before_s < GATHER_BELOW_S:
                    time.sleep(GATHER_S)
            self._send_what_is_due(channel)

    def _handle_received(self, channel: PushChannel) -> bool:
        """Handle all received frames. Returns True if keys have changed, and no message was published."""
        changes = published = False
        try:
            while not self._stopping.is_set():
                if not channel.has_frame():
                    # Reading from the network gives up the interpreter, which a busy worker may keep for a while.
                    self._gathered.handle()
                there, frame = channel.receive()
                if not there:
                    break
                changes |= isinstance(frame, Changed)
                published |= isinstance(frame, Published)
                self._handle(frame)
        finally:
            self._gathered.handle()  # even if the connection is lost
        return changes and not published

    def _send_what_is_due(self, channel: PushChannel) -> None:
        if self._reconnect:
            self._reconnect = False
            raise HeartbeatTimeout("the server is not the primary")
        self._queue.send_what_is_due(channel)

    def _handle(self, frame: object) -> None:
        match frame:
            case Published(channel, payload) if channel != self._queries:
                self._on_published(payload)
                return
            case Changed(names) if names is not None:
                self._gathered.add_changed(names)
                return
        self._gathered.handle()  # what follows may rely on the effect
        match frame:
            case Published(_, payload):
                self._callbacks.on_query(payload)
            case Subscribed():
                self._heartbeat.subscribed = True
            case Changed():
                self._heartbeat.on_flush()
                self._queue.beat_now()
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
        if invalidation.can_coalesce:
            self._gathered.add(invalidation)
            return
        self._gathered.handle()
        if invalidation.sequence is not None:
            self._follow_sequence(invalidation.sequence)
        self._callbacks.on_message(invalidation)

    def _follow_sequence(self, sequence: int) -> None:
        if self._heartbeat.on_sequence(sequence):
            self._queue.beat_now()

    def _on_reply(self, value: object) -> None:
        self.last_answer_at_s = self._clock()
        if (
            not self._heartbeat.subscribed
            and isinstance(value, NoPermissionError)
            and "channel" in str(value)
        ):
            self._callbacks.on_command_reply("subscribe", value)
            raise value  # an accepted subscription has no answer of this kind, so the others would be mistaken
        sent = self._queue.answered()
        match sent:
            case TurnTrackingOn():
                self.tracking = value == b"OK"
                self._callbacks.on_command_reply("subscribe", None)
                self._callbacks.on_command_reply("client tracking", value)
            case Verification(_, entries):
                payloads = value if isinstance(value, list) else [None] * len(entries)
                for (key, entry), payload in zip(entries.items(), payloads, strict=True):
                    self._callbacks.on_compared(key, entry, payload)
            case HeartbeatWrite():
                self._callbacks.on_command_reply("heartbeat", value)
                self._heartbeat.on_write(value)
            case HistoryReport():
                self._heartbeat.on_report(value)
            case OtherCommand(_, name):
                self._callbacks.on_command_reply(name, value)
            case SequenceRead(sent_at_s, invalidations):
                self._heartbeat.on_answer(value, sent_at_s, invalidations, self._channel)
