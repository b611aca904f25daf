"""The headers of every answer, and CORS for the origins in `CORS_ALLOWED_ORIGINS`."""

from flask import Response, request
from flask.sansio.scaffold import Scaffold

from servease_appt.api.context import container
from servease_appt.api.request_state import request_began, request_id

_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id"
_ANSWER_HEADERS = "ETag, Location, Retry-After, Server-Timing, X-Cache, X-Request-Id, X-Total-Count"
_PREFLIGHT_MAX_AGE_S = "600"


def install(scope: Scaffold) -> None:
    """Add the headers to every answer of the service within `scope`, an application or a blueprint."""
    scope.after_request(_finish)


def _finish(response: Response) -> Response:
    """Add the headers, except to an answer of a host's hook to a request that did not reach the API."""
    if not request_began():
        return response
    origins = container().settings.cors_allowed_origins
    headers = response.headers
    headers.add("X-Content-Type-Options", "nosniff")
    headers.add("X-Request-Id", request_id())
    headers.add("Vary", "Authorization, Origin" if origins else "Authorization")
    headers.setdefault("Cache-Control", "no-store")
    if origins:
        _allow_origin(response, origins)
    return response


def _allow_origin(response: Response, origins: tuple[str, ...]) -> None:
    """Let scripts of a listed origin read the answer. Credentials are not allowed: tokens are in a header."""
    origin = request.headers.get("Origin")
    if origin not in origins:
        return
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Expose-Headers"] = _ANSWER_HEADERS
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        headers["Access-Control-Allow-Methods"] = headers.get("Allow", "")
        headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        headers["Access-Control-Max-Age"] = _PREFLIGHT_MAX_AGE_S
