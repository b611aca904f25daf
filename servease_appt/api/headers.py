"""The headers of every answer, and CORS for the origins in `CORS_ALLOWED_ORIGINS`."""

from flask import Flask, Response, request
from flask.sansio.scaffold import Scaffold

from servease_appt.api.context import container
from servease_appt.api.request_state import request_began, request_id

_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id"
_ANSWER_HEADERS = "ETag, Location, Retry-After, Server-Timing, X-Cache, X-Request-Id, X-Total-Count"
_PREFLIGHT_MAX_AGE_S = "600"

_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # Concerns pages that embed an answer as an image or a script. What CORS allows stays allowed.
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Referrer-Policy", "no-referrer"),
)
_UNLESS_SET = (
    ("Cache-Control", "no-store"),
    # JSON loads nothing. The pages have policies of their own.
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
_HTTPS_ONLY = "max-age=31536000"
"""One year. Without `includeSubDomains`: this service does not know what else is under its host's name."""


def install(scope: Scaffold) -> None:
    """Add the headers to every answer of the service within `scope`, an application or a blueprint.

    `Strict-Transport-Security` is added to an application of our own only: browsers apply it to the whole host
    name, which is for a host application to decide.
    """
    scope.after_request(_finish)
    if isinstance(scope, Flask):
        scope.after_request(_require_https)


def _finish(response: Response) -> Response:
    """Add the headers, except to an answer of a host's hook to a request that did not reach the API."""
    if not request_began():
        return response
    origins = container().settings.cors_allowed_origins
    headers = response.headers
    given = {name for name, _ in headers}  # one look for all: `setdefault` goes through them each time
    for name, value in _ALWAYS:
        headers.add(name, value)
    for name, value in _UNLESS_SET:
        if name not in given:
            headers.add(name, value)
    headers.add("X-Request-Id", request_id())
    headers.add("Vary", "Authorization, Origin" if origins else "Authorization")
    if origins:
        _allow_origin(response, origins)
    return response


def _require_https(response: Response) -> Response:
    """Let browsers use HTTPS alone from now on, where the request came by HTTPS.

    Behind a proxy that is so where gunicorn trusts its `X-Forwarded-Proto` (`FORWARDED_ALLOW_IPS`).
    """
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = _HTTPS_ONLY
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
