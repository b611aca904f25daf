"""How an answer is written: JSON by orjson, never by the host's JSON provider."""

from collections.abc import Mapping
from typing import Any

import orjson
from flask import Response

JSON = "application/json"


def json_response(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `data` as a JSON response.

    Args:
        data: what a schema has dumped. It may hold dates, naive times and aware UTC timestamps, which are written
            with `Z`, but no Decimal.
        status: the HTTP status.
        headers: more headers.
    """
    extra: Any = headers
    return Response(orjson.dumps(data, option=orjson.OPT_UTC_Z), status, extra, mimetype=JSON)


def raw_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON that is already bytes as a response."""
    extra: Any = headers
    return Response(body, status, extra, mimetype=JSON)


def empty_response(headers: Mapping[str, str] | None = None) -> Response:
    """Return 204 without a body and without a content type."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    response.headers.extend(headers or {})
    return response
