"""One id for each request: the caller's own where it is harmless to log, else a new one."""

import re
import uuid

from flask import g, request

_OFFERED = "HTTP_X_REQUEST_ID"
_HARMLESS = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


def request_id() -> str:
    """Return the id of the current request; the same at every call within it."""
    known = g.get("servease_request_id")
    if known is None:
        offered = request.environ.get(_OFFERED, "")
        known = offered if _HARMLESS.fullmatch(offered) else uuid.uuid4().hex
        g.servease_request_id = known
    return str(known)
