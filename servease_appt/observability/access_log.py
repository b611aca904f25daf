"""What the access log records of a request; the application puts it into the request's WSGI environment."""

from __future__ import annotations

from typing import NamedTuple

ACCESS = "servease.access"
"""The environment's key that holds an `AccessLogEntry`."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Every other method is logged and counted as `other`: callers may send any word."""


class AccessLogEntry(NamedTuple):
    """A request id that is safe to log, the route's name, and the header `X-Cache` if the answer has one."""

    request_id: str
    route: str
    x_cache: str | None
