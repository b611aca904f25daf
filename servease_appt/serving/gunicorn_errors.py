"""What gunicorn answers to bytes that are no request: JSON like every other error, not its page of HTML."""

from __future__ import annotations

import socket

import orjson
from gunicorn import util


def write_error(sock: socket.socket, status_int: int, reason: str, mesg: str) -> None:  # noqa: ARG001
    """Answer and announce the end of the connection; stands in for gunicorn's function of that name.

    `mesg` quotes the caller's bytes and is for the log alone.
    """
    util.write_nonblock(sock, error_bytes(status_int, reason))


def error_bytes(status: int, phrase: str, retry_after_s: int | None = None) -> bytes:
    """Return a whole error response, which ends the connection."""
    body = orjson.dumps({"detail": f"{phrase}."})
    retry = "" if retry_after_s is None else f"Retry-After: {retry_after_s}\r\n"
    head = (
        f"HTTP/1.1 {status} {phrase}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/json\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
        f"{retry}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body
