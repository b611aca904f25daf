"""A small HTTP client with little overhead that records send times and can wait for many answers at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import time
from dataclasses import dataclass, field

HOST = "127.0.0.1"
TIMEOUT_S = 20.0
_numbers = itertools.count(1)


@dataclass(slots=True)
class Answer:
    """An answer; status 0 and the reason in `error` if no complete one was received."""

    status: int
    t_call: int
    t_return: int
    request: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""


class Slot:
    """One connection with one request at a time. For one thread.

    Args:
        port: where the service listens.
        token: bearer token of every request.
        host: the address where the service listens.
        keep_alive: reuse the connection; otherwise each request opens its own.
        resend: send a request again where the server ended a kept connection before it answered. Only for requests
            that may be carried out twice, since it may have been carried out.
    """

    def __init__(
        self, port: int, token: str, *, host: str = HOST, keep_alive: bool = True, resend: bool = True
    ) -> None:
        self._resend = resend
        self._host = host
        self._port = port
        self._token = token
        self._keep_alive = keep_alive
        self._socket: socket.socket | None = None
        self._answers = 0
        self._received = bytearray()
        self._sent = b""
        self._request = ""
        self._t_call = 0
        self.worker = 0
        """The worker that the connection belongs to, where somebody found out; 0 once it is gone."""
        self.busy = False
        self.resent = 0

    def fileno(self) -> int:
        """Return the socket's file number, for `select`."""
        assert self._socket is not None
        return self._socket.fileno()

    @property
    def connected(self) -> bool:
        """Return whether a connection is open."""
        return self._socket is not None

    @property
    def waited_s(self) -> float:
        """Return the seconds since the present request was sent."""
        return (time.monotonic_ns() - self._t_call) / 1e9

    def start(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer | None:
        """Send a request. Returns an answer only if sending failed."""
        self._request = f"f-{os.getpid():x}-{next(_numbers):x}"
        lines = [
            f"{method} /api/v1{path} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            f"Authorization: Bearer {self._token}",
            f"X-Request-Id: {self._request}",
            f"Content-Length: {len(body)}",
            *(["Content-Type: application/json"] if body else []),
            *([] if self._keep_alive else ["Connection: close"]),
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        self._sent = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        self.busy = True
        return self._send()

    def _send(self) -> Answer | None:
        self._received.clear()
        self._t_call = time.monotonic_ns()
        try:
            if self._socket is None:
                self._socket = socket.create_connection((self._host, self._port), timeout=TIMEOUT_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._answers = 0
                self._t_call = time.monotonic_ns()
            self._socket.sendall(self._sent)
        except OSError as error:
            return self._failed(error)
        return None

    def receive(self) -> Answer | None:
        """Read available bytes and return the answer once it is complete. Blocks if there is nothing to read."""
        assert self._socket is not None
        try:
            chunk = self._socket.recv(262_144)
            if not chunk:
                raise ConnectionError("closed")
        except OSError as error:
            return self._failed(error)
        self._received += chunk
        return self._complete()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """Send a request and wait for its answer."""
        return self.start(method, path, body, headers) or self.wait(timeout_s)

    def wait(self, timeout_s: float = TIMEOUT_S) -> Answer:
        """Wait for the answer to the present request, up to a time since it was sent."""
        answer = None
        while answer is None:
            left_s = timeout_s - self.waited_s
            if left_s <= 0 or not select.select([self], [], [], left_s)[0]:
                return self.give_up()
            answer = self.receive()
        return answer

    def give_up(self) -> Answer:
        """Stop waiting and close the connection."""
        self.close()
        return self._answer(0, error="no answer in time")

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None
        self._answers = 0
        self.worker = 0

    def _failed(self, error: OSError) -> Answer | None:
        """Send again on a new connection if the server had closed a kept one before it answered."""
        again = (
            self._resend and self._answers > 0 and not self._received and not isinstance(error, TimeoutError)
        )
        self.close()
        if again:
            self.resent += 1
            return self._send()
        return self._answer(0, error=f"{type(error).__name__}: {error}")

    def _complete(self) -> Answer | None:
        head, end, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not end:
            return None
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(rest) < int(headers.get("content-length", "0")):
            return None
        self._answers += 1
        if not self._keep_alive or headers.get("connection", "").lower() == "close":
            self.close()
        return self._answer(int(status_line.split(" ")[1]), headers, rest)

    def _answer(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", error: str = ""
    ) -> Answer:
        self.busy = False
        return Answer(status, self._t_call, time.monotonic_ns(), self._request, headers or {}, body, error)
