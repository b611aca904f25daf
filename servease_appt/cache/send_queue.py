"""What a listener sends: comparisons of L1's entries with L2, heartbeats, and other parts' commands.

Answers arrive in the order of the commands, so each command that was sent is kept here until it is answered.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from servease_appt.cache.channel import PushChannel
from servease_appt.cache.heartbeat import TRUST_S, Heartbeat, HeartbeatTimeout
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import Entry

BEAT_S = 0.5
VERIFY_BATCH = 500
VERIFY_EVERY_S = 0.002
"""A change is compared at once, and changes that follow closely are compared together."""
MAX_QUEUED_COMMANDS = 1000


@dataclass(slots=True)
class HeartbeatWrite:
    """The first command of a heartbeat: a write that changes nothing."""

    sent_at_s: float


@dataclass(slots=True)
class HistoryReport:
    """The second command of a heartbeat: the question for the replication history."""

    sent_at_s: float


@dataclass(slots=True)
class SequenceRead:
    """The last command of a heartbeat. `invalidations`: `Histories.invalidations` when it was sent."""

    sent_at_s: float
    invalidations: int


@dataclass(slots=True)
class Verification:
    """The read of the values of some of L1's entries."""

    sent_at_s: float
    entries: dict[str, Entry[Any]]


@dataclass(slots=True)
class TurnTrackingOn:
    """The request for tracking messages."""

    sent_at_s: float


@dataclass(slots=True)
class OtherCommand:
    """A command whose answer is only looked at for errors."""

    sent_at_s: float
    name: str


Sent = HeartbeatWrite | HistoryReport | SequenceRead | Verification | TurnTrackingOn | OtherCommand


class SendQueue:
    """Sends what is due on one connection, in one order. For the listener's thread, unless a method says more."""

    def __init__(self, keys: KeySpace, heartbeat: Heartbeat, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._heartbeat = heartbeat
        self._clock = clock
        self._lock = threading.Lock()
        self._to_verify: dict[str, Entry[Any]] = {}
        self._verified_at_s = float("-inf")
        self._beat_now = False
        self._last_beat_s = 0.0
        self._commands: deque[tuple[str | bytes, ...]] = deque(maxlen=MAX_QUEUED_COMMANDS)
        self._unanswered: deque[Sent] = deque()

    def verify(self, entries: dict[str, Entry[Any]]) -> None:
        """Have entries compared with L2. Thread-safe."""
        with self._lock:
            self._to_verify.update(entries)

    def add(self, *command: str | bytes) -> None:
        """Have a command sent whose answer is ignored. Thread-safe."""
        self._commands.append(command)

    def beat_now(self) -> bool:
        """Have a heartbeat sent at once. Returns False if that was asked for already. Thread-safe."""
        with self._lock:
            if self._beat_now:
                return False
            self._beat_now = True
        return True

    def clear(self) -> None:
        """Drop everything: the connection is lost."""
        self._unanswered.clear()
        self._commands.clear()
        with self._lock:
            self._to_verify.clear()
            self._beat_now = False

    def answered(self) -> Sent:
        """Return the oldest unanswered command, and forget it."""
        return self._unanswered.popleft()

    def seconds_to_next_step(self) -> float:
        """Return the seconds until something is due, if nothing is added meanwhile."""
        next_s = self._last_beat_s + BEAT_S
        if self._to_verify:
            next_s = min(next_s, self._verified_at_s + VERIFY_EVERY_S)
        return next_s - self._clock()

    def turn_tracking_on(self, channel: PushChannel, prefixes: tuple[str, ...]) -> None:
        """Send the request for messages about changes of keys with these prefixes."""
        words = [word for prefix in prefixes for word in ("PREFIX", self._keys.data(prefix))]
        self._unanswered.append(TurnTrackingOn(self._clock()))
        channel.send("CLIENT", "TRACKING", "ON", "BCAST", *words)

    def send_beat(self, channel: PushChannel) -> None:
        """Send a heartbeat."""
        self._heartbeat.poll_sentinels()
        now = self._last_beat_s = self._clock()
        self._unanswered += (
            HeartbeatWrite(now),
            HistoryReport(now),
            SequenceRead(now, self._heartbeat.histories.invalidations),
        )
        channel.send_heartbeat(
            ("UNLINK", self._keys.beat), ("INFO", "REPLICATION"), ("GET", self._keys.sequence)
        )

    def send_what_is_due(self, channel: PushChannel) -> None:
        """Send what is due. Raises HeartbeatTimeout if the oldest command was not answered in time."""
        now = self._clock()
        if self._unanswered and now - self._unanswered[0].sent_at_s > TRUST_S:
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
            self._heartbeat.end_trust_soon(now)
        # Before the heartbeat: once that is answered and L1 is trusted again, the changed keys have been compared.
        if entries:
            self._verified_at_s = now
            self._unanswered.append(Verification(now, entries))
            channel.send("MGET", *(self._keys.data(key) for key in entries))
        if beats:
            self.send_beat(channel)
        while self._commands:
            command = self._commands.popleft()
            self._unanswered.append(OtherCommand(now, str(command[0])))
            channel.send(*command)
