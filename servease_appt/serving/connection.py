"""One client's connection, as the worker's event loop sees it and as gunicorn's parser and response use it."""

from __future__ import annotations

import contextlib
import socket
from enum import Enum, auto
from typing import Any, Final

from gunicorn.workers.gthread import TConn

from servease_appt.serving.framing import RequestFrame

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class State(Enum):
    """What a connection is doing."""

    IDLE = auto()
    """Open, with no byte of a request."""
    READING = auto()
    SERVING = auto()
    """Queued for a thread, or on it."""
    WRITING = auto()
    LINGERING = auto()
    """Answered and half closed, until the client closes too, so that it can read the answer."""


class BufferedSocket:
    """Stands in for a socket on a request thread: reads what has arrived, keeps what the client does not take yet.

    No call blocks, so a client that sends or reads slowly never holds a thread.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.raw = sock
        self._unread = b""
        self.unsent = bytearray()

    def hand_over(self, request: bytes) -> None:
        """Set what `recv` returns from now on."""
        self._unread = request

    def recv(self, size: int) -> bytes:
        """Return received bytes, and `b""` behind the last of this request."""
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    def sendall(self, data: bytes) -> None:
        """Send what the client takes now and keep the rest for the event loop. Raises OSError."""
        if not self.unsent:
            data = data[self._send(data) :]
        self.unsent += data

    def flush(self) -> bool:
        """Send more of what was kept. Returns whether all of it is sent. Raises OSError."""
        del self.unsent[: self._send(self.unsent)]
        return not self.unsent

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self.raw.send(data)
        except BlockingIOError:
            return 0

    def send(self, data: bytes) -> int:
        """Accept gunicorn's own `100 Continue`: the event loop has sent it before the body came."""
        return len(data)

    def fileno(self) -> int:
        """Return the descriptor, for the selector."""
        return self.raw.fileno()

    def gettimeout(self) -> float:
        """Return 0: it never blocks."""
        return 0.0

    def settimeout(self, _seconds: float | None) -> None:
        """Do nothing: it never blocks."""

    def setblocking(self, _flag: bool) -> None:
        """Do nothing: it never blocks."""

    def shutdown(self, how: int) -> None:
        """Close one direction. Raises OSError."""
        self.raw.shutdown(how)

    def close(self) -> None:
        """Close the descriptor."""
        self.raw.close()


class Connection(TConn):  # type: ignore[misc] # gunicorn is not typed
    """A connection with its state, its deadline and the request that is arriving.

    Attributes:
        deadline_s: when the event loop ends the present state, on the monotonic clock; infinity while serving.
        queued_at_s: when the request was handed to the threads.
    """

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, BufferedSocket(sock), client, server)
        sock.setblocking(False)
        self.state = State.IDLE
        self.frame = RequestFrame()
        self.deadline_s = float("inf")
        self.queued_at_s = 0.0
        self.data_ready = True  # a thread gets it only with a whole request

    def next_frame(self) -> None:
        """Hand the complete request to the threads, and begin the next one with what came behind it."""
        request, rest = self.frame.take()
        self.body_is_cut = self.frame.body_is_cut
        self.sock.hand_over(request)
        self.frame = RequestFrame(rest)

    def invite_body(self) -> None:
        """Send `100 Continue` to a client that waits for it."""
        self.frame.wants_continue = False
        with contextlib.suppress(OSError):
            self.sock.raw.send(_CONTINUE)
