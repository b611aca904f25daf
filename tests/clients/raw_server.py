"""A server that does on each connection exactly what a test writes: answers that no HTTP library would send."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def read_request(connection: socket.socket) -> bytes:
    """The next request's head; b"" when the client has closed."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65_536)
        if not piece:
            return b""
        received += piece
    return received


def whole(body: bytes, *headers: bytes) -> bytes:
    """A well-formed answer with this body."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


class RawServer:
    """Runs `script(connection, number)` for each connection, in a thread of its own; numbers begin at 1.

    Attributes:
        requests: the heads that were read by `answering` scripts.
        closing: set at the end, so that a script that drips stops.
    """

    def __init__(self, script: Callable[["RawServer", socket.socket, int], None]) -> None:
        self._script = script
        self.requests: list[bytes] = []
        self.closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    @classmethod
    def answering(cls, *answers: bytes) -> Self:
        """Each connection answers its requests with these bytes, one by one, and is closed after the last."""

        def script(server: RawServer, connection: socket.socket, _number: int) -> None:
            for answer in answers:
                request = read_request(connection)
                if not request:
                    return
                server.requests.append(request)
                connection.sendall(answer)

        return cls(script)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            self._spawn(lambda connection=connection, number=number: self._serve(connection, number))  # type: ignore[misc]

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(10)
        with connection, contextlib.suppress(OSError):
            self._script(self, connection, number)
