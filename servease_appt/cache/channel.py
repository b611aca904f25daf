"""One RESP3 connection for answers to commands and for push messages, in one total order.

redis-py's PubSub re-subscribes silently after a lost connection and does not detect a half-open one, so this class
uses redis-py's Connection directly. All private names that it needs are in this file, and a test checks them.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis import Redis
from redis._parsers import _RESP3Parser
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from servease_appt.cache.wire import pack


@dataclass(frozen=True, slots=True)
class Published:
    """A published message."""

    channel: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The server's confirmation of a subscription: messages published from now on arrive."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A tracking message: keys under a tracked prefix were set, deleted or expired; None: a database flush."""

    names: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the oldest unanswered command; `value` is an exception for an error reply."""

    value: Any


@dataclass(frozen=True, slots=True)
class NodeLost:
    """Tracking messages of a cluster's node no longer arrive; with `gone`, it serves no keys any more."""

    name: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class NodeBack:
    """Tracking messages of a cluster's node arrive from now on; some may have been missed before."""

    name: str
    invalidations_lost: bool


Frame = Published | Subscribed | Changed | Reply | NodeLost | NodeBack | None


class PushChannel(Protocol):
    """What the listener needs of a connection. For one thread. Methods raise redis-py's errors or OSError."""

    def send(self, *command: str | bytes) -> None:
        """Send a command without waiting for its answer."""

    def send_heartbeat(self, *commands: Sequence[str | bytes]) -> None:
        """Send a heartbeat's commands in this order, together."""

    def wait(self, wake: socket.socket, timeout_s: float) -> None:
        """Wait until a frame can be received, `wake` has a byte, or the time is up; read what `wake` has."""

    def has_frame(self) -> bool:
        """Return True if `receive` would return a frame, or a part of one, without reading from the network."""

    def receive(self) -> tuple[bool, Frame]:
        """Return the next received frame as (True, frame), or (False, None) if there is none. Does not wait."""

    def close(self) -> None:
        """Close the connection; in a forked child only the child's copy of it."""


class Channel:
    """A connection in push mode. For one thread. Every method raises redis-py's errors or OSError."""

    def __init__(self, client: Redis) -> None:
        pool = client.connection_pool
        # Not `pool.make_connection()`: the pool counts the connections it makes, and never discounts one that it
        # did not hand out. An outage of a few minutes would exhaust the pool permanently.
        connection: Any = pool.connection_class(**pool.connection_kwargs)
        connection.set_parser(_RESP3Parser)
        connection.connect()
        self._connection = connection
        parser = self._connection._parser  # noqa: SLF001 - see the module's docstring
        parser.set_pubsub_push_handler(_from_pubsub)
        parser.set_invalidation_push_handler(_from_tracking)
        self._unread_bytes: Callable[[], int] = parser._buffer.unread_bytes  # noqa: SLF001 - as above

    def send(self, *command: str | bytes) -> None:
        """Send a command without waiting for its answer."""
        self.send_together(command)

    def send_heartbeat(self, *commands: Sequence[str | bytes]) -> None:
        """See `PushChannel.send_heartbeat`."""
        self.send_together(*commands)

    def send_together(self, *commands: Sequence[str | bytes]) -> None:
        """Send commands in one packet without waiting for their answers."""
        self._connection.send_packed_command([b"".join(map(pack, commands))], check_health=False)

    @property
    def link(self) -> socket.socket:
        """The socket to wait for."""
        connected: socket.socket = self._connection._sock  # noqa: SLF001 - as above
        return connected

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of the server. Only for a connection by TCP."""
        return str(self._connection.host), int(self._connection.port)

    @property
    def server_version(self) -> tuple[str, str]:
        """The server's kind and version according to HELLO, such as `("valkey", "9.1.2")`; empty if unknown."""
        metadata = self._connection.handshake_metadata
        known = metadata if isinstance(metadata, dict) else {}
        kind, version = (known.get(name, b"") for name in (b"server", b"version"))
        return _text(kind), _text(version)

    def has_frame(self) -> bool:
        """See `PushChannel.has_frame`. `poll` does not report such bytes. Makes no system call."""
        undeciphered = getattr(self.link, "pending", None)  # of a connection by TLS
        return self._unread_bytes() > 0 or (undeciphered is not None and undeciphered() > 0)

    def wait(self, wake: socket.socket, timeout_s: float, also: Sequence[socket.socket] = ()) -> None:
        """Wait until this connection or one of `also` can be read, `wake` has a byte, or the time is up."""
        if self.has_frame():
            return
        poll = select.poll()  # select() takes no descriptor above 1023
        for waited_for in (self.link, wake, *also):
            poll.register(waited_for, select.POLLIN)
        if wake.fileno() in dict(poll.poll(max(0.0, timeout_s) * 1000)):
            wake.recv(4096)

    def receive(self) -> tuple[bool, Frame]:
        """Return the next received frame as (True, frame), or (False, None) if there is none. Does not wait."""
        if not self._connection.can_read(0):
            return False, None
        try:
            answer = self._connection.read_response(
                disable_decoding=True, push_request=True, timeout=0.5, disconnect_on_error=False
            )
        except RedisTimeoutError:
            return False, None
        except ResponseError as error:
            return True, Reply(error)
        if answer is None or isinstance(answer, (Published, Subscribed, Changed)):
            return True, answer if answer is not None else Reply(None)
        return True, Reply(answer)

    def close(self) -> None:
        """Close the connection; in a forked child only the child's copy of it."""
        self._connection.disconnect()


def _from_pubsub(push: list[Any]) -> Published | Subscribed | Reply:
    kind = push[0]
    if kind == b"message":
        return Published(push[1], push[2])
    return Subscribed()


def _from_tracking(push: list[Any]) -> Changed:
    names = push[1]
    return Changed(None if names is None else tuple(names))


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
