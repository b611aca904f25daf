"""How an answer is written: JSON by orjson, never by the host's JSON provider."""

from collections.abc import Mapping
from typing import Any

import orjson
from flask import Response

JSON = "application/json"
# Timestamps end in Z, as promised; dates and times need no option.
_OPTIONS = orjson.OPT_UTC_Z


def json_bytes(data: object) -> bytes:
    """Return `data` as UTF-8 JSON. It may hold dates, naive times and aware UTC timestamps, but no Decimal."""
    return orjson.dumps(data, option=_OPTIONS)


def json_response(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `data` as a JSON response."""
    return raw_response(json_bytes(data), status, headers)


def raw_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON that is already bytes as a response."""
    extra: Any = headers
    return Response(body, status, extra, mimetype=JSON)


def empty_response(headers: Mapping[str, str] | None = None) -> Response:
    """Return 204: nothing to say, and so no content type either."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    response.headers.extend(headers or {})
    return response
