"""From the bytes of a request to checked values. Whatever is wrong becomes an ApiError that names it."""

from collections.abc import Mapping
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson
from flask import Request
from marshmallow import Schema, ValidationError

from servease_appt.api.errors import ApiError, detail_error, field_error, rule_error

LARGEST_BODY = 1024 * 1024
_MOST_QUERY_FIELDS = 100


def refuse_large_body(request: Request) -> None:
    """Raise 413 for a body that announces more than 1 MB, whether or not anybody is going to read it."""
    if (request.content_length or 0) > LARGEST_BODY:
        raise detail_error(413)


def read_body(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the JSON object in the request's body, checked by `schema`. No body counts as `{}`."""
    # A chunked body announces no length, and Werkzeug cuts it off at the limit without a word: one byte more
    # than is allowed tells the two apart.
    request.max_content_length = LARGEST_BODY + 1
    raw = request.get_data()
    if len(raw) > LARGEST_BODY:
        raise detail_error(413)
    if not raw:
        return load(schema, {})
    if not request.is_json or request.headers.get("Content-Encoding", "identity") != "identity":
        raise detail_error(415)
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise rule_error(f"The body is not valid JSON: {error.msg} (line {error.lineno}).") from None
    if not isinstance(data, dict):
        raise rule_error("The body must be a JSON object.")
    return load(schema, data)


def read_query(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the query string, checked by `schema`. Empty values count as not given; the last one given counts."""
    if not request.query_string:
        return dict(_defaults(schema))
    return load(schema, {name: value for name, value in query_pairs(request) if value != ""})


@cache
def _defaults(schema: Schema) -> dict[str, Any]:
    """Return what an empty query stands for; each route has its one schema object, so they are few."""
    return load(schema, {})


def query_pairs(request: Request) -> list[tuple[str, str]]:
    """Return the query string as names and values, in order, empty values included."""
    text = request.query_string.decode(errors="replace")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=_MOST_QUERY_FIELDS)
    except ValueError:
        raise rule_error(f"The query has more than {_MOST_QUERY_FIELDS} parameters.") from None


def load(schema: Schema, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` as `schema` understands it. Raises ApiError 400 naming each field that is wrong."""
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise _as_field_error(error) from None
    return loaded


def _as_field_error(error: ValidationError) -> ApiError:
    messages = cast("dict[str, list[str]]", error.messages)  # our schemas are flat: a list for each field
    return field_error(messages)
