"""The channel between a server in memory and a listener, and the bus that all channels of a server share."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from servease_appt.cache.channel import Changed, Frame, Published, Reply, Subscribed

MAX_WAIT_S = 1.0


class Bus:
    """What happens to messages and answers on their way from a server in memory to the listeners.

    Example:
        >>> server = MemoryServer()
        >>> with server.cache(json_codec("customer")) as cache, server.bus.losing():
        ...     cache.invalidate(["customer_17"])
        1
    """

    def __init__(self) -> None:
        self.delay_s: float = 0.0
        """Seconds, on the server's clock, that every message and answer sent from now on is on its way."""
        self.copies: int = 1
        """The number of times that each message is delivered; 0: it is lost. Answers are not lost or repeated."""

    def losing(self) -> AbstractContextManager[None]:
        """Lose all messages that are sent in the `with` block: invalidations and tracking messages."""
        return self._with_copies(0)

    def repeating(self) -> AbstractContextManager[None]:
        """Deliver all messages that are sent in the `with` block twice."""
        return self._with_copies(2)

    @contextmanager
    def _with_copies(self, copies: int) -> Iterator[None]:
        before, self.copies = self.copies, copies
        try:
            yield
        finally:
            self.copies = before


class MemoryChannel:
    """See `PushChannel`. A channel keeps the order of what is sent on it."""

    def __init__(
        self,
        bus: Bus,
        clock: Callable[[], float],
        carry_out: Callable[[MemoryChannel, tuple[str | bytes, ...]], Any],
        closed: Callable[[MemoryChannel], None],
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._carry_out = carry_out
        self._closed = closed
        self._changed = threading.Condition()
        self._frames: deque[tuple[float, Frame]] = deque()
        self._notified = True
        self._idle = False
        self._cut = False
        self._own_out, self._own_in = socket.socketpair()
        self._own_in.setblocking(False)
        self.topics: set[str] = set()
        self.tracked: tuple[str, ...] = ()

    def send(self, *command: str | bytes) -> None:
        """See `PushChannel.send`. The server carries the command out at once."""
        if self._cut:
            raise RedisConnectionError("the channel was cut")
        match command:
            case ("SUBSCRIBE", *topics):
                self.topics.update(map(str, topics))
                self.push(Subscribed())
            case ("CLIENT", "TRACKING", "ON", "BCAST", *prefixes):
                self.tracked = tuple(map(str, prefixes[1::2]))
                self.push(Reply(b"OK"))
            case _:
                try:
                    self.push(Reply(self._carry_out(self, command)))
                except ResponseError as error:
                    self.push(Reply(error))

    def send_heartbeat(self, *commands: Sequence[str | bytes]) -> None:
        """See `PushChannel.send_heartbeat`."""
        for command in commands:
            self.send(*command)

    def publish(self, topic: str, payload: bytes) -> None:
        """Deliver a message if the listener subscribes to its topic."""
        if topic in self.topics:
            for _ in range(self._bus.copies):
                self.push(Published(topic.encode(), payload))

    def report_change(self, name: str | None) -> None:
        """Deliver a tracking message about a key, if it is tracked; None: the database was flushed."""
        if self.tracked and (name is None or name.startswith(self.tracked)):
            for _ in range(self._bus.copies):
                self.push(Changed(None if name is None else (name.encode(),)))

    def push(self, frame: Frame) -> None:
        """Put a frame on its way."""
        with self._changed:
            self._frames.append((self._clock() + self._bus.delay_s, frame))
        self.notify()

    def notify(self) -> None:
        """Let the listener look again at its frames and at the clock."""
        with self._changed:
            self._notified = True
            self._changed.notify_all()
        with suppress(OSError):  # full, so it will look; or closed
            self._own_in.send(b"\0")

    def cut(self) -> None:
        """End the connection: the listener must open another."""
        self._cut = True
        self.notify()

    def wait(self, wake: socket.socket, timeout_s: float) -> None:
        """See `PushChannel.wait`."""
        poll = select.poll()
        for waited_for in (self._own_out, wake):
            poll.register(waited_for, select.POLLIN)
        ready = dict(poll.poll(0))
        if not ready:
            with self._changed:
                self._idle = not self._notified
                self._changed.notify_all()
            ready = dict(poll.poll(max(0.0, min(timeout_s, MAX_WAIT_S)) * 1000))
        with self._changed:
            self._idle = self._notified = False
        for waited_for in (self._own_out, wake):
            if waited_for.fileno() in ready:
                waited_for.recv(4096)

    def has_frame(self) -> bool:
        """See `PushChannel.has_frame`."""
        return bool(self._frames) and self._frames[0][0] <= self._clock()

    def receive(self) -> tuple[bool, Frame]:
        """See `PushChannel.receive`."""
        if self._cut:
            raise RedisConnectionError("the channel was cut")
        with self._changed:
            if self.has_frame():
                return True, self._frames.popleft()[1]
        return False, None

    def settled(self, timeout_s: float) -> bool:
        """Wait until the listener has handled everything that is due. Returns False if it takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle and not self._notified, timeout_s)

    def close(self) -> None:
        """See `PushChannel.close`."""
        self._closed(self)
        with self._changed:
            self._idle, self._notified = True, False
            self._changed.notify_all()
        self._own_out.close()
        self._own_in.close()
