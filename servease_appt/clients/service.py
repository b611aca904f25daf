"""Ask one upstream service for one JSON object."""

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests import Request, Response

from servease_appt.clients.connections import OneServiceSession, Reused
from servease_appt.clients.errors import BadAnswer, Denied, InvalidId, NotFound, Unavailable, UpstreamError
from servease_appt.identifiers import canonical_uuid

MAX_BODY_BYTES = 1_000_000
_PIECE_BYTES = 65_536
_NOT_JSON: Any = object()
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+", re.ASCII)

# The errors of the layers below; ValueError is for a URL or a header that urllib3 and http.client refuse.
CALL_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)

_FAILURES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    ((urllib3.exceptions.NameResolutionError, socket.gaierror), "its host name can't be resolved"),
    ((urllib3.exceptions.NewConnectionError, ConnectionRefusedError), "it can't be connected to"),
    ((urllib3.exceptions.TimeoutError, requests.Timeout, TimeoutError), "it gave no answer in time"),
    ((urllib3.exceptions.SSLError, ssl.SSLError), "TLS could not be set up"),
    (
        (urllib3.exceptions.ProtocolError, http.client.HTTPException, ConnectionError),
        "it closed the connection before the answer was complete",
    ),
)


def _in_words(failure: BaseException) -> str:
    return next(
        (words for kinds, words in _FAILURES if isinstance(failure, kinds)), "it gave no usable answer"
    )


class JsonService:
    """A service under one base URL, over connections that are kept open.

    Any number of threads may use one at once. After a fork the child opens connections of its own.

    Args:
        name: what errors call it, such as "customer".
        base_url: `http://host:port`, with an optional path.
        timeout_s: seconds that a call may take from connecting to the last byte, where the call names none.
        pool_size: connections kept open; as many as threads use it.
    """

    def __init__(self, name: str, base_url: str, *, timeout_s: float, pool_size: int) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._base_url = base_url.rstrip("/")
        self._pool_size = pool_size
        self._open()

    def __repr__(self) -> str:
        parts = urlsplit(self._base_url)
        return f"<{type(self).__name__} {self.name} at {parts.scheme}://{parts.hostname}:{parts.port}>"

    def _open(self) -> None:
        self._process_id = os.getpid()
        self._session = OneServiceSession(self._base_url, self._pool_size)
        # Prepared once and copied for each call: preparing costs seven times as much as the rest of a Session.
        self._prepared = self._session.prepare_request(Request("GET", self._base_url))

    def close(self) -> None:
        """Close the connections. Calls from then on are `Unavailable`."""
        if self._process_id == os.getpid():
            self._session.close()

    def deadline(self, timeout_s: float | None) -> float:
        """Return the moment of `time.monotonic()` at which a call that begins now is out of time."""
        return time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)

    def get(self, path: str, auth_token: str | None, deadline: float) -> dict[str, Any]:
        """GET `path` and return the JSON object that it answers with.

        Args:
            path: with a leading slash, below the base URL. Ids in it come from `path_id`.
            auth_token: the bearer token to send; None sends no header.
            deadline: moment of `time.monotonic()` by which the answer has to be complete.

        Raises:
            NotFound, Denied, Unavailable, BadAnswer: see `errors`.
        """
        headers = self._headers(auth_token)
        try:
            response = self._send_again_if_reused(path, headers, deadline)
            # An answer read to its end has freed its connection for the next call; any other takes it along.
            with contextlib.closing(response.raw):
                if response.status_code == 200:
                    return self._parse(self._read(response))
                failure: UpstreamError = self._refusal(response)
        except urllib3.exceptions.DecodeError:
            failure = BadAnswer(self.name, "answered something that can't be decoded", 200)
        except CALL_ERRORS as error:
            failure = self._unavailable(error)
        # Raised outside of `except`, so that it has no context: requests' errors hold the request, and the token.
        raise failure

    def _headers(self, auth_token: str | None) -> dict[str, str]:
        if auth_token is None:
            return {}
        if not _TOKEN.fullmatch(auth_token):
            raise Denied(self.name, "the caller's token is malformed")
        return {"Authorization": f"Bearer {auth_token}"}

    def _send_again_if_reused(self, path: str, headers: dict[str, str], deadline: float) -> Response:
        try:
            return self._send(path, headers, deadline)
        except requests.ConnectionError as error:
            # The server closed an idle connection just when we used it: it has not answered anything.
            if not _was_reused(error):
                raise
        return self._send(path, headers, deadline)

    def _send(self, path: str, headers: dict[str, str], deadline: float) -> Response:
        if self._process_id != os.getpid():
            self._open()
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left")
        timeout: Any = urllib3.Timeout(total=left)  # requests takes one, only its annotations don't
        request = self._prepared.copy()
        request.url = self._base_url + path
        request.headers.update(headers)
        return self._session.send(request, stream=True, timeout=timeout, allow_redirects=False)

    def _read(self, response: Response) -> bytearray:
        """Return the decoded body."""
        body = bytearray()
        while piece := response.raw.read(_PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise BadAnswer(self.name, "answered more than 1 MB", response.status_code)
        return body

    def _refusal(self, response: Response) -> UpstreamError:
        status = response.status_code
        with contextlib.suppress(*CALL_ERRORS):
            response.raw.read(_PIECE_BYTES)  # most are shorter, and the connection can be used again
        if status == 404:
            return NotFound(self.name, "has no such entry", status)
        if status in {401, 403}:
            return Denied(self.name, "does not allow this caller to see it", status)
        return Unavailable(self.name, f"answered with status {status}", status)

    def _unavailable(self, error: BaseException) -> Unavailable:
        cause: BaseException = error
        for inner in getattr(error, "args", None) or ():
            if isinstance(inner, BaseException):
                cause = getattr(inner, "reason", None) or inner
        return Unavailable(self.name, _in_words(cause))

    def _parse(self, body: bytearray) -> dict[str, Any]:
        answer = _NOT_JSON
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(body)
        if answer is _NOT_JSON:
            raise BadAnswer(self.name, "answered something that is not JSON", 200)
        if not isinstance(answer, dict):
            raise BadAnswer(self.name, "answered no JSON object", 200)
        return answer


def path_id(value: str) -> str:
    """Return `value` if it may become part of a path.

    Raises:
        InvalidId: it is not a canonical UUID. Quoting anything else would not do: `..` survives it.
    """
    if canonical_uuid(value) != value:
        raise InvalidId(f"not a canonical UUID: {value!r:.80}")
    return value


def _was_reused(error: requests.ConnectionError) -> bool:
    protocol_error = error.args[0] if error.args else None
    return isinstance(protocol_error, urllib3.exceptions.ProtocolError) and any(
        isinstance(cause, Reused) for cause in protocol_error.args
    )
