"""The error answers of the OpenAPI document, one component for each status."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from marshmallow import Schema

from servease_appt.api.errors import MESSAGES
from servease_appt.api.responses import JSON
from servease_appt.api.schemas.operations import ErrorSchema

FIELD_OR_RULE_ERRORS: Final = "FieldOrRuleErrors"
"""The name of the schema of a 400."""

_STRING: Final = {"type": "string"}
_WHOLE: Final = {"type": "integer", "minimum": 0}
_HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "ETag": ("The version of the detail, for `If-Match` and `If-None-Match`.", _STRING),
    "Location": ("The path of the new appointment.", {"type": "string", "format": "uri-reference"}),
    "Retry-After": ("Seconds after which another try makes sense.", _WHOLE),
    "Server-Timing": ("Milliseconds spent on db, cache and upstream.", _STRING),
    "WWW-Authenticate": ("The scheme to authenticate with: `Bearer`.", _STRING),
    "X-Cache": (
        "Where the names came from: `l1=40 l2=19 upstream=1 stale=0 unknown=0`.",
        {"type": "string", "pattern": r"^l1=\d+ l2=\d+ upstream=\d+ stale=\d+ unknown=\d+$"},
    ),
    "X-Total-Count": ("How many rows there are; the array stops at 500. Absent from a page.", _WHOLE),
}


@dataclass(frozen=True, slots=True)
class _ErrorAnswer:
    component: str
    description: str
    detail: str
    headers: tuple[str, ...] = ()


_ERRORS: Final = {
    401: _ErrorAnswer(
        "Unauthorized",
        "There is no valid token.",
        "Authentication credentials were not provided.",
        ("WWW-Authenticate",),
    ),
    403: _ErrorAnswer("Forbidden", "The role does not allow it.", MESSAGES[403]),
    404: _ErrorAnswer(
        "NotFound", "There is no such object or page, or the object is another customer's.", MESSAGES[404]
    ),
    409: _ErrorAnswer(
        "Conflict",
        "A request with this Idempotency-Key is still running.",
        "A request with this Idempotency-Key is still running.",
        ("Retry-After",),
    ),
    410: _ErrorAnswer(
        "Gone", "The changes asked for are no longer kept: read everything again.", MESSAGES[410]
    ),
    412: _ErrorAnswer("PreconditionFailed", "`If-Match` is out of date.", MESSAGES[412]),
    413: _ErrorAnswer("ContentTooLarge", "The body is larger than 1 MB.", MESSAGES[413]),
    415: _ErrorAnswer("UnsupportedMediaType", "The body is not JSON.", MESSAGES[415]),
    422: _ErrorAnswer("KeyReused", "The Idempotency-Key was used with another body.", MESSAGES[422]),
    429: _ErrorAnswer(
        "TooManyRequests", "The caller has made too many requests.", MESSAGES[429], ("Retry-After",)
    ),
    503: _ErrorAnswer(
        "ServiceUnavailable",
        "PostgreSQL or another server that is needed does not answer.",
        "The database is not available.",
        ("Retry-After",),
    ),
}
_BAD_REQUEST: Final = {
    "description": "A field is wrong: `{field: [sentence, …]}`. Or a rule is broken: `{detail: [sentence, …]}`.",
    "content": {
        JSON: {
            "schema": FIELD_OR_RULE_ERRORS,
            "examples": {
                "field": {
                    "summary": "A field is wrong",
                    "value": {"scheduled_date": ["Not a valid date. Use YYYY-MM-DD."]},
                },
                "rule": {
                    "summary": "A rule is broken",
                    "value": {"detail": ["There is a time slot that starts at 09:00:00 already."]},
                },
            },
        }
    },
}


def error_components() -> dict[str, dict[str, Any]]:
    """Return the error answers by the names of their components."""
    return {"BadRequest": _BAD_REQUEST} | {
        error.component: _error(status, ErrorSchema) | {"description": error.description}
        for status, error in _ERRORS.items()
    }


def error_answer(status: int, schema: Schema | None, example: Any = None) -> str | dict[str, Any]:
    """Return the name of the error answer for a status, or an answer with a body of another schema."""
    if schema is None:
        return "BadRequest" if status == 400 else _ERRORS[status].component
    answer = _error(status, type(schema))
    answer["content"][JSON]["example"] = example
    return answer


def _error(status: int, schema: type[Schema]) -> dict[str, Any]:
    error = _ERRORS[status]
    answer: dict[str, Any] = {
        "description": error.description,
        "content": {JSON: {"schema": schema, "example": {"detail": error.detail}}},
    }
    if error.headers:
        answer["headers"] = header_objects(error.headers)
    return answer


def header_objects(names: Iterable[str]) -> dict[str, Any]:
    """Return the headers of an answer, described and typed."""
    return {name: {"description": _HEADERS[name][0], "schema": _HEADERS[name][1]} for name in names}
