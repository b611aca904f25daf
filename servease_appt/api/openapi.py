"""The OpenAPI document, made from the declared routes and their schemas."""

import re
from collections.abc import Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

import servease_appt
from servease_appt.api.openapi_examples import BODIES
from servease_appt.api.openapi_fields import Converter
from servease_appt.api.routing import RequiredRole, Resource, Route
from servease_appt.api.schemas.operations import FIELD_ERRORS, ErrorSchema

_JSON = "application/json"
_PATH_ID = re.compile(r"<(\w+)>")
_INFO = {
    "summary": "Appointments of a vehicle service workshop.",
    "description": "Appointments, time slots and their history. Names of customers, vehicles and employees come"
    " from the services that own them, through a cache in two tiers.\n\n"
    "Errors are JSON. A 400 is `{field: [sentence, …]}` for fields, or `{detail: [sentence, …]}` for a rule. Every"
    " other error is `{detail: sentence}`. Beside the errors that an operation names, any may answer 405, 408,"
    " 413, 429 or 503.",
    "license": {"name": "MIT", "identifier": "MIT"},
    "contact": {"name": "ServEase"},
}
_TAGS = {
    "Appointments": "List, book, read, change and delete appointments.",
    "Appointment actions": "Change the status, the schedule or the employee. Each accepted change writes one"
    " history row.",
    "Appointment views": "The appointments of one customer, employee or vehicle, free starts, and statistics.",
    "Changes": "What has changed since a client has looked, for clients that keep a copy.",
    "History": "Accepted changes. Read only.",
    "Time slots": "When the workshop takes bookings, and how many at once.",
    "Cache": "Invalidate cached names, and read the cache's counters.",
    "Health": "Health and readiness. No token is needed.",
    "Metrics": "Prometheus metrics of all workers.",
    "This document": "This document, and a page to try the API.",
}
_ROLES = {
    RequiredRole.OPEN: "No token is needed.",
    RequiredRole.USERS: "Customers, employees and admins.",
    RequiredRole.STAFF: "Employees and admins.",
    RequiredRole.ADMIN: "Admins.",
    RequiredRole.CACHE: "Admins, and other services (role `service`).",
}
_REQUEST_HEADERS = {
    "If-Match": "The `ETag` of the detail that the change is based on; 412 when it is out of date.",
    "If-None-Match": "The `ETag` of the detail that the caller has; 304 while it is the current one.",
    "Idempotency-Key": "Up to 255 characters, kept 24 hours: the same request gets the first answer again.",
}
_ANSWER_HEADERS = {
    "ETag": "The version of the detail, for `If-Match` and `If-None-Match`.",
    "Location": "The path of the new appointment.",
    "Retry-After": "Seconds after which another try makes sense.",
    "Server-Timing": "Milliseconds spent on db, cache and upstream.",
    "WWW-Authenticate": "The scheme to authenticate with: `Bearer`.",
    "X-Cache": "Where the names came from: l1, l2, upstream, stale, unknown.",
    "X-Total-Count": "How many rows there are; the array stops at 500. Absent from a page.",
}
_ERRORS = {
    400: "A field is wrong: `{field: [sentence, …]}`. Or a rule is broken: `{detail: [sentence, …]}`.",
    401: "There is no valid token.",
    403: "The role does not allow it.",
    404: "There is no such object or page, or the object is another customer's.",
    409: "A request with this Idempotency-Key is still running.",
    410: "The changes asked for are no longer kept: read everything again.",
    412: "`If-Match` is out of date.",
    413: "The body is larger than 1 MB.",
    415: "The body is not JSON.",
    422: "The Idempotency-Key was used with another body.",
    429: "The caller has made too many requests.",
    503: "PostgreSQL or another server that is needed does not answer.",
}
_ERROR_HEADERS = {401: ["WWW-Authenticate"], 409: ["Retry-After"], 429: ["Retry-After"], 503: ["Retry-After"]}
_FIELD_ERRORS = "FieldOrRuleErrors"


class _Plugin(MarshmallowPlugin):
    Converter = Converter


def build_document(resources: Iterable[Resource]) -> dict[str, Any]:
    """Return the document without `servers`, which depend on where the API is mounted."""
    plugin = _Plugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="ServEase appointments",
        version=servease_appt.__version__,
        openapi_version="3.1.0",
        info=_INFO,
        plugins=[plugin],
    )
    converter: Any = plugin.converter  # None only before the plugin belongs to a document
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    spec.components.schema(_FIELD_ERRORS, converter.field2property(FIELD_ERRORS))
    tags: dict[str, None] = {}
    for resource in resources:
        tags[resource.tag] = None
        for route in resource.routes:
            path = _PATH_ID.sub(r"{\1}", route.path)
            spec.path(path, operations={route.method.lower(): _operation(route, resource.tag)})
    for tag in tags:
        spec.tag({"name": tag, "description": _TAGS[tag]})
    document: dict[str, Any] = spec.to_dict()
    return document


def _schema_name(schema: Schema | type[Schema]) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema")


def _operation(route: Route, tag: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _camel_case(route.name),
        "tags": [tag],
        "summary": route.summary,
        "description": _ROLES[route.role],
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": [] if route.role is RequiredRole.OPEN else [{"token": []}],
    }
    if route.body is not None:
        required = any(field.required for field in route.body.fields.values())
        content = {"schema": type(route.body), "example": BODIES[type(route.body)]}
        operation["requestBody"] = {"required": required, "content": {_JSON: content}}
    return operation


def _camel_case(name: str) -> str:
    """Return the name of a function in the spelling of generated clients: `confirmAppointment`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"in": "path", "name": name, "required": True, "schema": {"type": "string", "format": "uuid"}}
        for name in _PATH_ID.findall(route.path)
    ]
    parameters += [
        {"in": "header", "name": name, "description": _REQUEST_HEADERS[name], "schema": {"type": "string"}}
        for name in route.headers
    ]
    if route.query is not None:
        parameters.append({"in": "query", "schema": type(route.query)})
    return parameters


def _responses(route: Route) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Done."}
    if isinstance(route.answer, tuple):
        answer["content"] = {_JSON: {"schema": {"oneOf": list(route.answer)}}}
    elif route.answer is not None:
        answer["content"] = {_JSON: {"schema": route.answer}}
    if route.answer_headers:
        answer["headers"] = _headers(route.answer_headers)
    unchanged = {"304": _unchanged(route)} if "If-None-Match" in route.headers else {}
    errors = {str(status): _error(status) for status in _error_statuses(route)}
    return {str(route.status): answer, **unchanged, **errors}


def _unchanged(route: Route) -> dict[str, Any]:
    return {"description": "The caller has the current detail.", "headers": _headers(route.answer_headers)}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"description": _ANSWER_HEADERS[name], "schema": {"type": "string"}} for name in names}


def _error_statuses(route: Route) -> list[int]:
    found = set(route.errors)
    if route.role is not RequiredRole.OPEN:
        found |= {401, 403, 429, 503}
    if route.query is not None or route.body is not None:
        found.add(400)
    if "<" in route.path:
        found.add(404)
    if route.body is not None:
        found |= {413, 415}
    if "If-Match" in route.headers:
        found.add(412)
    return sorted(found - {route.status})


def _error(status: int) -> dict[str, Any]:
    error: dict[str, Any] = {
        "description": _ERRORS[status],
        "content": {_JSON: {"schema": _FIELD_ERRORS if status == 400 else ErrorSchema}},
    }
    if status in _ERROR_HEADERS:
        error["headers"] = _headers(_ERROR_HEADERS[status])
    return error
