"""What the access log may know of a request; the application leaves it in the request's WSGI environment."""

from __future__ import annotations

from typing import NamedTuple

ACCESS = "servease.access"
"""The environment's key that holds an `Access`."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Every other method is logged and counted as `other`: it is the caller's word."""


class Access(NamedTuple):
    """All of it: an id that is harmless to log, a route's name, and the header `X-Cache` if there is one."""

    request_id: str
    route: str
    x_cache: str | None
