"""The target of HTTP requests."""

from dataclasses import dataclass

from tests.support.gunicorn import Gunicorn


@dataclass(frozen=True, slots=True)
class Target:
    """A page of a server, and an optional header line of the request."""

    server: Gunicorn
    path: str
    header: str = ""

    def request(self, token: str) -> bytes:
        """Return the bytes of the request."""
        lines = [f"GET {self.path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}"]
        return "\r\n".join([*lines, *filter(None, [self.header]), "", ""]).encode()
