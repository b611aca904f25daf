"""The entry of a request in the access log, which the application puts into the WSGI environment."""

from __future__ import annotations

from typing import NamedTuple

ACCESS = "servease.access"
"""The environment's key that holds an `AccessLogEntry`."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""All other methods are logged and counted as `other`: callers may send any word."""


class AccessLogEntry(NamedTuple):
    """A request id that is safe to log, the route's name, and the header `X-Cache` if the answer has one."""

    request_id: str
    route: str
    x_cache: str | None
