"""A port in front of a server on which TLS ends: Valkey's wheel has none.

A connection that does not begin with a TLS handshake is relayed as it is, because the servers themselves reach
each other at the port that is announced to clients. The certificates in `certificates/` are valid until 2120;
`server.pem` is for 127.0.0.1 and ::1, and signed by `ca.pem`, not by `other-ca.pem`.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

CERTIFICATES: Final = Path(__file__).with_name("certificates")
CA: Final = CERTIFICATES / "ca.pem"
OTHER_CA: Final = CERTIFICATES / "other-ca.pem"
_HANDSHAKE: Final = b"\x16"


class TlsProxy:
    """Accepts connections on `host` and relays them to a server's port. A context manager that closes them.

    Attributes:
        port: where it listens.
        encrypted: the number of connections that began with a TLS handshake.
    """

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._target = (host, target)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(CERTIFICATES / "server.pem")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.encrypted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop: Callable[[], object] = lambda: None
        self._started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="tls-proxy", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._thread.join()
        self._listener.close()

    async def _serve(self) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._stop = partial(loop.call_soon_threadsafe, stopped.set)
        self._start(self._accept())
        self._started.set()
        await stopped.wait()  # `asyncio.run` then cancels the others, and waits for them

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._relay(client))

    async def _relay(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, asyncio.IncompleteReadError):
            loop = asyncio.get_running_loop()
            await _readable(client)
            first = client.recv(1, socket.MSG_PEEK)
            if first == _HANDSHAKE:
                self.encrypted += 1
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self._context if first == _HANDSHAKE else None
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            behind: asyncio.StreamWriter | None = None
            try:
                answers, behind = await asyncio.open_connection(*self._target)
                ways = [self._start(_pump(reader, behind)), self._start(_pump(answers, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in (writer, behind):
                    if one is not None:
                        one.transport.abort()


async def _readable(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(client, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(client)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
