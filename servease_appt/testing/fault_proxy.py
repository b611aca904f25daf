"""A TCP proxy between the cache and Redis that causes network faults on request, deterministically.

It distinguishes links for invalidations (a SUBSCRIBE was sent over them) from links for data, so that each
kind can be broken separately, and it records which commands were sent.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_CHUNK = 65536
_LIMIT_S = 15.0


class LinkKind(Enum):
    """What a link is used for."""

    DATA = "data"
    PUBSUB = "pubsub"


@dataclass
class Rules:
    """The faults of the links of one kind. They may be changed at any time and apply to later bytes."""

    delay_s: float = 0.0
    """Seconds that each chunk is delayed, in each direction."""
    swallow_to_server: bool = False
    """Accept bytes for the server and forward none: the client sees an open link."""
    swallow_to_client: bool = False
    """Accept the server's bytes and forward none."""
    refuse: bool = False
    """Close a link as soon as its kind is known."""
    cut_after: int | None = None
    """Forward so many of the server's bytes, then reset the link; counted over all links of the kind."""
    hold_to_client: threading.Event = field(default_factory=threading.Event)
    """While it is clear, the server's bytes wait and lose nothing; see `Proxy.holding`."""

    def __post_init__(self) -> None:
        self.hold_to_client.set()

    def black_hole(self) -> None:
        """Stop forwarding in both directions."""
        self.swallow_to_server = self.swallow_to_client = True

    def heal(self) -> None:
        """Let new links work again. Dropped bytes stay lost, and the links that lost them stay broken."""
        self.delay_s, self.cut_after = 0.0, None
        self.swallow_to_server = self.swallow_to_client = self.refuse = False


class _Commands:
    """Reads the names of commands out of a client's bytes (RESP arrays of bulk strings)."""

    def __init__(self) -> None:
        self._rest = b""
        self.names: list[str] = []
        self.forwarded = 0
        """The number of commands that were forwarded, or kept back by a rule."""

    def feed(self, chunk: bytes) -> None:
        self._rest += chunk
        while (words := self._next()) is not None:
            self.names.append(words[0].decode(errors="replace").upper())

    def count_forwarded(self, name: str) -> int:
        return self.names[: self.forwarded].count(name)

    def _next(self) -> list[bytes] | None:
        line, found, rest = self._rest.partition(b"\r\n")
        if not found or not line.startswith(b"*"):
            return None
        words = []
        for _ in range(int(line[1:])):
            size, found, rest = rest.partition(b"\r\n")
            if not found or len(rest) < int(size[1:]) + 2:
                return None
            words.append(rest[: int(size[1:])])
            rest = rest[int(size[1:]) + 2 :]
        self._rest = rest
        return words


class _Link:
    """One client's connection and the server's, with a thread for each direction."""

    def __init__(self, proxy: "Proxy", client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._lossy = False
        self.kind = LinkKind.DATA
        self.commands = _Commands()
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.threads = [
            threading.Thread(target=self._pump, args=way, daemon=True, name="proxy-link")
            for way in ((client, server, True), (server, client, False))
        ]

    def _pump(self, source: socket.socket, sink: socket.socket, to_server: bool) -> None:
        try:
            while chunk := source.recv(_CHUNK):
                if to_server and self.kind is LinkKind.DATA and b"SUBSCRIBE" in chunk:
                    self.kind = LinkKind.PUBSUB
                if to_server:
                    # Before it is forwarded: a test that has the answer finds the command.
                    self.commands.feed(chunk)
                goes_on = self._forward(chunk, sink, to_server)
                if to_server:
                    # After it was forwarded: a test that waits for it may then change what the server answers.
                    self.commands.forwarded = len(self.commands.names)
                    self._proxy.noticed()
                if not goes_on:
                    return
        except OSError:
            pass
        finally:
            # Keep both sockets open while bytes are dropped: the other side would notice an end.
            if not self._lossy:
                self.close()

    def _forward(self, chunk: bytes, sink: socket.socket, to_server: bool) -> bool:
        """Apply the rules to one chunk. Returns False when the link has ended."""
        rules = self._proxy.rules[self.kind]
        if rules.refuse:
            self.reset()
            return False
        if rules.delay_s:
            self._proxy.ended.wait(rules.delay_s)
        if not to_server:
            rules.hold_to_client.wait(_LIMIT_S)
        if rules.swallow_to_server if to_server else rules.swallow_to_client:
            self._lossy = True
        if self._lossy:
            return True
        cut_after = rules.cut_after
        if to_server or cut_after is None:
            sink.sendall(chunk)
            return True
        sink.sendall(chunk[:cut_after])
        left = rules.cut_after = max(0, cut_after - len(chunk))
        if left == 0:
            self.reset()
        return left > 0

    def inject(self, chunk: bytes) -> None:
        """Send bytes to the client as if the server had sent them."""
        self._client.sendall(chunk)

    def strand(self) -> None:
        """Drop all bytes from now on and keep both connections open."""
        self._lossy = True

    def reset(self) -> None:
        """End both connections with an RST."""
        for sock in (self._client, self._server):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """End both connections."""
        for sock in (self._client, self._server):
            with contextlib.suppress(OSError):
                # Without it a recv in another thread would keep the socket open, and no RST would be sent.
                sock.shutdown(socket.SHUT_RD)
            sock.close()
        self._proxy.forget(self)


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to `port`. A context manager. Thread-safe."""

    def __init__(self, port: int) -> None:
        self.target = port
        self._listening = socket.create_server((HOST, 0))
        self._changed = threading.Condition()
        self._links: list[_Link] = []
        self._gone: list[_Link] = []
        self.port: int = self._listening.getsockname()[1]
        self.rules = {kind: Rules() for kind in LinkKind}
        self.refusing = False
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True, name="proxy")

    @property
    def data(self) -> Rules:
        """Return the rules of the links that carry commands."""
        return self.rules[LinkKind.DATA]

    @property
    def pubsub(self) -> Rules:
        """Return the rules of the links that carry invalidations."""
        return self.rules[LinkKind.PUBSUB]

    def url(self, database: int = 1) -> str:
        """Return the `redis://` URL of one of the server's databases, through this proxy."""
        return f"redis://{HOST}:{self.port}/{database}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        # A blocked accept() does not notice that its socket was closed.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        # First: it may be about to add a link.
        self._thread.join(_LIMIT_S)
        for rules in self.rules.values():
            rules.hold_to_client.set()
        links = self.links()
        for link in links:
            link.reset()
        for thread in [thread for link in links for thread in link.threads]:
            thread.join(_LIMIT_S)

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.refusing:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                continue
            try:
                server = socket.create_connection((HOST, self.target), timeout=_LIMIT_S)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            link = _Link(self, client, server)
            with self._changed:
                self._links.append(link)
            for thread in link.threads:
                thread.start()

    def links(self, kind: LinkKind | None = None) -> list[_Link]:
        """Return the open links, of one kind or all."""
        with self._changed:
            return [link for link in self._links if kind is None or link.kind is kind]

    def reset(self, kind: LinkKind | None = None) -> int:
        """End the open links with an RST. Returns how many there were."""
        links = self.links(kind)
        for link in links:
            link.reset()
        return len(links)

    def strand(self, kind: LinkKind) -> int:
        """Forward nothing more on the open links of one kind, and keep them open. Returns how many there were."""
        links = self.links(kind)
        for link in links:
            link.strand()
        return len(links)

    @contextlib.contextmanager
    def holding(self, kind: LinkKind) -> Iterator[None]:
        """Hold back the server's bytes on the links of one kind during the block, then forward them."""
        self.rules[kind].hold_to_client.clear()
        try:
            yield
        finally:
            self.rules[kind].hold_to_client.set()

    def commands(self, kind: LinkKind | None = None) -> list[str]:
        """Return the names of all commands so far, in order within a link."""
        with self._changed:
            return [name for link in self._of(kind) for name in link.commands.names]

    def wait_for_command(self, name: str, kind: LinkKind, count: int = 1) -> None:
        """Wait until the command `name` was sent `count` times. Raises AssertionError after the time limit."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(link.commands.count_forwarded(name) for link in self._of(kind)) >= count, _LIMIT_S
            ), f"{name} was not sent {count} times"

    def noticed(self) -> None:
        """Wake the threads that wait for a command."""
        with self._changed:
            self._changed.notify_all()

    def forget(self, link: _Link) -> None:
        """Remove a closed link and keep its commands."""
        with self._changed:
            if link in self._links:
                self._links.remove(link)
                self._gone.append(link)

    def _of(self, kind: LinkKind | None) -> list[_Link]:
        return [link for link in [*self._gone, *self._links] if kind is None or link.kind is kind]
