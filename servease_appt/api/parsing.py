"""From the bytes of a request to checked values. Whatever is wrong becomes an ApiError that names it."""

from collections.abc import Mapping
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson
from flask import Request
from marshmallow import Schema, ValidationError

from servease_appt.api.errors import ApiError, detail_error, field_error, rule_error
from servease_appt.api.schemas.fields import CommaSeparated

LARGEST_BODY = 1024 * 1024
"""Bytes. A route refuses a larger `Content-Length` whether or not it reads a body."""
_MOST_QUERY_FIELDS = 100


def read_body(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the JSON object in the request's body, checked by `schema`. No body counts as `{}`.

    Raises:
        ApiError: 400 for what is not a JSON object or not as `schema` has it, 413 for more than 1 MB, 415 for a
            body that is not declared as JSON.
    """
    # Werkzeug silently cuts a chunked body off at the limit, so the limit is one byte more than is allowed.
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
    """Return the query string, checked by `schema`.

    An empty value counts as not given. Of a repeated name the last value counts, or all where commas may separate
    several values.

    Raises:
        ApiError: 400 naming each parameter that is wrong.
    """
    if not request.query_string:
        return _defaults(schema).copy()
    given: dict[str, str] = {}
    for name, value in query_pairs(request):
        if value != "":
            several = name in given and isinstance(schema.fields.get(name), CommaSeparated)
            given[name] = f"{given[name]},{value}" if several else value
    return load(schema, given)


@cache
def _defaults(schema: Schema) -> dict[str, Any]:
    """Return what an empty query stands for. The cache is small: each route has one schema object."""
    return load(schema, {})


def query_pairs(request: Request) -> list[tuple[str, str]]:
    """Return the query string as names and values, in order, empty values included.

    Raises:
        ApiError: 400 for too many parameters.
    """
    text = request.query_string.decode(errors="replace")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=_MOST_QUERY_FIELDS)
    except ValueError:
        raise rule_error(f"The query has more than {_MOST_QUERY_FIELDS} parameters.") from None


def load(schema: Schema, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` as `schema` loads it.

    Raises:
        ApiError: 400 naming each field that is wrong.
    """
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise _as_field_error(error) from None
    return loaded


def _as_field_error(error: ValidationError) -> ApiError:
    messages = cast("dict[str, list[str]]", error.messages)  # our schemas are flat: a list for each field
    return field_error(messages)
