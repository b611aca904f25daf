"""The state of a request from its beginning: that it reached the API, when, and its id.

The state is kept in the request's WSGI environment and not in `flask.g`: an application context that a test
or a command holds open serves several requests.
"""

import re
import uuid
from time import perf_counter

from flask import request

_OFFERED = "HTTP_X_REQUEST_ID"
_KNOWN = "servease.request_id"
_BEGAN = "servease.began_s"
_HARMLESS = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


def begin_request() -> None:
    """Record that the current request has passed all hooks that run before the API's own."""
    request.environ[_BEGAN] = perf_counter()


def request_began() -> bool:
    """Return whether the current request has reached the API.

    It has not if a hook of the host answered it or raised: then the answer is the host's.
    """
    return _BEGAN in request.environ


def seconds_so_far() -> float:
    """Return the seconds since the current request reached the API. Raises KeyError if it has not."""
    began_s: float = request.environ[_BEGAN]
    return perf_counter() - began_s


def request_id() -> str:
    """Return the id of the current request: the caller's if it is safe to log, else a new one.

    All calls within one request return the same id.
    """
    environ = request.environ
    known: str | None = environ.get(_KNOWN)
    if known is None:
        offered = environ.get(_OFFERED, "")
        known = environ[_KNOWN] = offered if _HARMLESS.fullmatch(offered) else uuid.uuid4().hex
    return known
