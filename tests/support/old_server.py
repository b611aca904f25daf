"""A server that calls itself Redis 6: a relay to a Valkey server that changes the version in its answers."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from servease_appt.testing.servers import HOST, EmbeddedValkey

COMPATIBLE: Final = ["--extended-redis-compatibility", "yes"]
"""Options with which Valkey calls itself Redis 7.2.4 in HELLO."""
_REAL: Final = b"7.2.4"
_CLAIMED: Final = b"6.2.4"
"""As long as the real one, since answers begin with their length."""


@contextmanager
def old_server(server: EmbeddedValkey) -> Iterator[str]:
    """Yield the URL of the relay, which runs until the block ends. `server` was started with `COMPATIBLE`."""

    class Link(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((HOST, server.port)) as behind, contextlib.suppress(OSError):
                answers = threading.Thread(target=self._relay_answers, args=(behind,), daemon=True)
                answers.start()
                while chunk := self.request.recv(65536):
                    behind.sendall(chunk)
                behind.shutdown(socket.SHUT_RDWR)
                answers.join()

        def _relay_answers(self, behind: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while chunk := behind.recv(65536):
                    self.request.sendall(chunk.replace(_REAL, _CLAIMED))
                self.request.shutdown(socket.SHUT_RDWR)

    with socketserver.ThreadingTCPServer((HOST, 0), Link) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"redis://{HOST}:{relay.server_address[1]}/1"
        finally:
            relay.shutdown()
            server.kill()  # ends the links, which the relay waits for
            thread.join()
