"""Cursors: where a page of a list goes on, as text that clients send back without reading it.

A cursor names a position, never a right: what a caller may see is decided anew for each page. It is signed so that
the database gets no text that it has not written itself.
"""

import base64
import binascii
import hmac
import json
from typing import Any, Final

from servease_appt.api.context import container
from servease_appt.api.errors import ApiError, field_error

START: Final = "*"
"""The cursor of the first page."""

_SIGNATURE_BYTES: Final = 12


def write_cursor(purpose: str, *parts: Any) -> str:
    """Return a cursor for what JSON can write. `purpose` is the list that it belongs to, and its order."""
    body = json.dumps(parts, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_signature(purpose, body) + body).decode().rstrip("=")


def read_cursor(purpose: str, cursor: str) -> list[Any]:
    """Return the parts that `write_cursor` was given.

    Raises:
        ApiError: 400 naming `cursor`: it was not written for this purpose, or with another `SECRET_KEY`.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _refusal() from None
    signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(purpose, body)):
        raise _refusal()
    parts: list[Any] = json.loads(body)
    return parts


def _signature(purpose: str, body: bytes) -> bytes:
    key = f"cursor {container().settings.secret_key}".encode()
    return hmac.digest(key, purpose.encode() + b" " + body, "sha256")[:_SIGNATURE_BYTES]


def _refusal() -> ApiError:
    return field_error({"cursor": [f"Not a cursor of this list in this order. Begin again with {START}."]})
