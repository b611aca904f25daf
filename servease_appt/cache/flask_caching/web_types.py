"""Types that cached views return besides plain data: responses, markup, aborts and HTTP statuses."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Any, cast

import werkzeug.exceptions
import werkzeug.wrappers
from flask import Response
from flask_caching import CachedResponse
from markupsafe import Markup
from werkzeug.exceptions import HTTPException

from servease_appt.cache.flask_caching.serializer import Pack, Refused, TaggedType

_ABORTS: dict[str, type[HTTPException]] = {
    name: kind
    for name, kind in vars(werkzeug.exceptions).items()
    if isinstance(kind, type) and issubclass(kind, HTTPException)
}


def web_types(response_class: type[Response]) -> list[TaggedType]:
    """Return the additional types of `ExactSerializer` for an application with `response_class`."""
    responses: dict[str, type[werkzeug.wrappers.Response]] = {
        "flask": Response,
        "werkzeug": werkzeug.wrappers.Response,
        "cached": CachedResponse,
    }
    if response_class not in responses.values():
        responses["app"] = response_class
    return [
        TaggedType(Markup, "$markup", lambda value, _: str(value), Markup),
        TaggedType(HTTPStatus, "$status", lambda value, _: value.value, HTTPStatus),
        *(TaggedType(kind, "$abort", _pack_abort, _unpack_abort) for kind in _ABORTS.values()),
        *(_response_type(name, kind) for name, kind in responses.items()),
    ]


def _response_type(name: str, kind: type[werkzeug.wrappers.Response]) -> TaggedType:
    def unpack(content: Any) -> werkzeug.wrappers.Response:
        status, headers, body, timeout = content
        response: Any = Response(base64.b64decode(body), status)
        response.headers.clear()
        response.headers.extend([(field, value) for field, value in headers])
        if kind is CachedResponse:
            return CachedResponse(response, timeout)
        response.__class__ = kind  # as Flask does with the return value of a view
        return cast("werkzeug.wrappers.Response", response)

    return TaggedType(kind, f"$response-{name}", _pack_response, unpack)


def _pack_response(value: werkzeug.wrappers.Response, _: Pack) -> list[Any]:
    if value.is_streamed or value.direct_passthrough:
        raise Refused("a streamed response can be sent only once; return one whose body is bytes or text")
    timeout = value.timeout if isinstance(value, CachedResponse) else None
    body = base64.b64encode(value.get_data()).decode()
    return [value.status, [list(header) for header in value.headers.items()], body, timeout]


def _pack_abort(value: HTTPException, pack: Pack) -> list[Any]:
    return [type(value).__name__, pack(value.args), pack(vars(value))]


def _unpack_abort(content: Any) -> HTTPException:
    name, args, state = content
    kind = _ABORTS[name]
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(state)
    return error
