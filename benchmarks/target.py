"""What is asked for over HTTP."""

from dataclasses import dataclass

from tests.support.gunicorn import Gunicorn


@dataclass(frozen=True, slots=True)
class Target:
    """A page of a server, and a header line to ask for it with, where one is wanted."""

    server: Gunicorn
    path: str
    header: str = ""

    def request(self, token: str) -> bytes:
        """The request for it, whole."""
        lines = [f"GET {self.path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}"]
        return "\r\n".join([*lines, *filter(None, [self.header]), "", ""]).encode()
