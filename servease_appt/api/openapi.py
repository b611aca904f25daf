"""The OpenAPI document, made from the declared routes and their schemas."""

import re
from collections.abc import Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

import servease_appt
from servease_appt.api.openapi_errors import (
    FIELD_OR_RULE_ERRORS,
    error_answer,
    error_components,
    header_objects,
)
from servease_appt.api.openapi_examples import BODIES, PARAMETERS, UNAVAILABLE, example_of
from servease_appt.api.openapi_fields import Converter, first_sentence
from servease_appt.api.responses import JSON
from servease_appt.api.routing import RequiredRole, Resource, Route
from servease_appt.api.schemas.operations import FIELD_ERRORS

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
    spec.components.schema(FIELD_OR_RULE_ERRORS, converter.field2property(FIELD_ERRORS))
    for name, error in error_components().items():
        spec.components.response(name, error)
    tags: dict[str, None] = {}
    for resource in resources:
        tags[resource.tag] = None
        for route in (route for route in resource.routes if route.in_document):
            path = _PATH_ID.sub(r"{\1}", route.path)
            spec.path(path, operations={route.method.lower(): _operation(route, resource.tag)})
    for tag in tags:
        spec.tag({"name": tag, "description": _TAGS[tag]})
    document: dict[str, Any] = spec.to_dict()
    _add_parameter_examples(document)
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
        operation["requestBody"] = {"required": required, "content": {JSON: content}}
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
    return {
        str(route.status): _answer(route),
        **({"304": _unchanged(route)} if "If-None-Match" in route.headers else {}),
        **{str(status): _error(route, status) for status in _error_statuses(route)},
    }


def _answer(route: Route) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _about(route)}
    if route.status != 204:
        answer["content"] = {route.media_type: _content(route)}
    if route.answer_headers:
        answer["headers"] = header_objects(route.answer_headers)
    return answer


def _unchanged(route: Route) -> dict[str, Any]:
    return {
        "description": "The caller has the current detail.",
        "headers": header_objects(route.answer_headers),
    }


def _about(route: Route) -> str:
    if route.status == 204:
        return "Done; the answer has no body."
    if route.answer is None:
        return f"What was asked for, as {route.media_type}."
    schemas = route.answer if isinstance(route.answer, tuple) else (route.answer,)
    return " Or: ".join(
        f"An array. {first_sentence(schema)}" if schema.many else first_sentence(schema) for schema in schemas
    )


def _content(route: Route) -> dict[str, Any]:
    if route.answer is None:
        return {"schema": {"type": "string"}}
    if isinstance(route.answer, tuple):
        examples = {
            "array" if schema.many else "page": {"value": example_of(schema)} for schema in route.answer
        }
        return {"schema": {"oneOf": list(route.answer)}, "examples": examples}
    return {"schema": route.answer, "example": example_of(route.answer)}


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


def _error(route: Route, status: int) -> str | dict[str, Any]:
    return error_answer(status, route.error_answer if status in route.errors else None, UNAVAILABLE)


def _add_parameter_examples(document: dict[str, Any]) -> None:
    """Give each required parameter its example; for the others one would be taken for a filter that is set."""
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter.get("required"):
                    parameter["example"] = PARAMETERS[parameter["name"]]
