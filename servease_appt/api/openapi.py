"""The OpenAPI document, made from the declared routes and the schemas that check requests."""

import re
from collections.abc import Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

import servease_appt
from servease_appt.api.routing import RequiredRole, Resource, Route
from servease_appt.api.schemas import fields
from servease_appt.api.schemas.shapes import COMPONENTS, ref

_JSON = "application/json"
_PATH_ID = re.compile(r"<(\w+)>")
_WHO = {
    RequiredRole.OPEN: "Open to everybody.",
    RequiredRole.USERS: "Customers, employees and admins.",
    RequiredRole.STAFF: "Employees and admins.",
    RequiredRole.ADMIN: "Admins.",
    RequiredRole.CACHE: "Admins, and other services (role `service`).",
}
_FIELD_TYPES = {
    fields.Id: ("string", "uuid"),
    fields.Day: ("string", "date"),
    fields.Clock: ("string", "time"),
    fields.Whole: ("integer", None),
    fields.Flag: ("boolean", None),
    fields.Money: ("string", "decimal"),
    fields.Ids: ("array", None),
}
_REQUEST_HEADERS = {
    "If-Match": "The `ETag` of the detail that the change is based on; 412 when it is out of date.",
    "Idempotency-Key": "Up to 255 characters, kept 24 hours: the same request gets the first answer again.",
}
_ERRORS = {
    400: "A field is wrong, or a rule is against it.",
    401: "No valid token.",
    403: "The role does not allow it.",
    404: "There is no such thing, or it is someone else's, or no such page.",
    409: "A request with this Idempotency-Key is still running.",
    412: "`If-Match` is out of date.",
    413: "The body is larger than 1 MB.",
    415: "The body is not JSON.",
    422: "The Idempotency-Key was used with another body.",
    503: "PostgreSQL or another server that is needed is away. `Retry-After` says when to try again.",
}


def build_document(resources: Iterable[Resource]) -> dict[str, Any]:
    """Return the document without `servers`, which depend on where the API is mounted."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="ServEase appointments",
        version=servease_appt.__version__,
        openapi_version="3.0.3",
        info={"description": "Appointments, time slots and their history."},
        plugins=[plugin],
    )
    _map_fields(plugin)
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    for name, shape in COMPONENTS.items():
        spec.components.schema(name, shape)
    tags: dict[str, None] = {}
    for resource in resources:
        tags[resource.about] = None
        for route in resource.routes:
            path = _PATH_ID.sub(r"{\1}", route.path)
            spec.path(path, operations={route.method.lower(): _operation(route, resource.about)})
    for tag in tags:
        spec.tag({"name": tag})
    document: dict[str, Any] = spec.to_dict()
    return document


def _schema_name(schema: Schema | type[Schema]) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__


def _map_fields(plugin: MarshmallowPlugin) -> None:
    converter: Any = plugin.converter  # None only before the plugin belongs to a document; untyped inside
    for kind, said in _FIELD_TYPES.items():
        converter.map_to_openapi_type(kind, *said)
    converter.add_attribute_function(_limits)


def _limits(_self: object, field: object, **_: object) -> dict[str, Any]:
    """Return what the fields of our own know about their limits."""
    if isinstance(field, fields.Whole):
        return {"minimum": field.low, "maximum": field.high}
    if isinstance(field, fields.Ids):
        return {"items": {"type": "string", "format": "uuid"}, "minItems": 1, "maxItems": field.most}
    return {}


def _operation(route: Route, tag: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [tag],
        "summary": route.summary,
        "description": _WHO[route.role],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.role is not RequiredRole.OPEN:
        operation["security"] = [{"token": []}]
    if route.body is not None:
        required = any(field.required for field in route.body.fields.values())
        operation["requestBody"] = {"required": required, "content": {_JSON: {"schema": type(route.body)}}}
    return operation


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
    if route.answer is not None:
        answer["content"] = {_JSON: {"schema": route.answer}}
    headers = {
        name: {"schema": {"type": "string"}, "description": about} for name, about in _answer_headers(route)
    }
    if headers:
        answer["headers"] = headers
    return {
        str(route.status): answer,
        **{str(status): _error_answer(status) for status in _error_statuses(route)},
    }


def _answer_headers(route: Route) -> list[tuple[str, str]]:
    if not route.named:
        return []
    return [
        ("X-Cache", "Where the names came from: l1, l2, upstream, stale, unknown."),
        ("Server-Timing", "Milliseconds spent on db, cache and upstream."),
    ]


def _error_statuses(route: Route) -> list[int]:
    found = set(route.errors)
    if route.role is not RequiredRole.OPEN:
        found |= {401, 403, 503}
    if route.query is not None or route.body is not None:
        found.add(400)
    if "<" in route.path:
        found.add(404)
    if route.body is not None:
        found |= {413, 415}
    if "If-Match" in route.headers:
        found.add(412)
    return sorted(found - {route.status})


def _error_answer(status: int) -> dict[str, Any]:
    shape = ref("FieldOrRuleErrors") if status == 400 else ref("Error")
    return {"description": _ERRORS[status], "content": {_JSON: {"schema": shape}}}
