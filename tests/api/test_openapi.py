"""The document: complete, well formed, and true of real answers."""

import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from servease_appt.api import RESOURCES
from servease_appt.api.routing import Route
from servease_appt.demo.sample_data import SEED, DemoData
from servease_appt.demo.sample_entities import make_people
from tests.api.test_permissions import ROWS
from tests.support.dataset import BASE, TODAY, Dataset

TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": int | float, "boolean": bool,
}  # fmt: skip
FORMATS: dict[str, Callable[[str], object]] = {
    "uuid": lambda text: re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text),
    "date": date.fromisoformat,
    "date-time": lambda text: text.endswith("Z") and datetime.fromisoformat(text),
    "uri-reference": lambda text: text.startswith("http://"),
}
API = [(method, path) for method, path in ROWS if not path.startswith("/docs/")]
"""The routes of the API: all but the files that the page loads."""


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    """The document as a client gets it."""
    body: dict[str, Any] = app.test_client().get(f"{BASE}/openapi.json").get_json()
    return body


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)


def test_every_route_is_in_the_document(document: dict[str, Any]) -> None:
    """It names exactly the methods and paths that the application serves."""
    documented = {(method, path) for method, path, _ in _operations(document)}
    assert documented == {(method, re.sub(r"<(\w+)>", r"{\1}", path)) for method, path in API}


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """It is OpenAPI 3.1 by the specification's own schema."""
    OpenAPIV31SpecValidator(document).validate()


def test_the_document_is_well_formed(document: dict[str, Any]) -> None:
    """Each part has what this document promises beyond the specification."""
    assert re.fullmatch(r"3\.1\.\d", document["openapi"])
    assert set(document["info"]) >= {"title", "version", "license", "contact"}
    assert document["servers"] == [{"url": BASE}]
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    names = [operation["operationId"] for *_, operation in _operations(document)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)
    assert {"listAppointments", "bookAppointment", "confirmAppointment"} <= set(names)
    for method, path, operation in _operations(document):
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        assert ("requestBody" in operation) <= (method in {"POST", "PUT", "PATCH"})
        in_path = {part["name"] for part in operation["parameters"] if part["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        keys = [(part["in"], part["name"]) for part in operation["parameters"]]
        assert len(keys) == len(set(keys))
        for part in operation["parameters"]:
            assert part["in"] in {"path", "query", "header"}
            assert "schema" in part
            assert part["in"] != "path" or part["required"] is True
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[2345]\d\d", status)
            assert _resolved(document, response)["description"]
    for node in _nodes(document):
        if "$ref" in node:
            assert _resolved(document, node) is not None
        if node.get("type") == "array":
            assert "items" in node
        assert "nullable" not in node, "a word of OpenAPI 3.0"


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference to a schema or to an answer stands for; anything else as it is."""
    while "$ref" in schema:
        target: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = target
    return schema


def _wrong(document: dict[str, Any], schema: dict[str, Any], value: Any, where: str = "answer") -> list[str]:
    """What about `value` is not as `schema` has it: the parts of JSON schema that the document uses."""
    schema = _resolved(document, schema)
    options = schema.get("oneOf", schema.get("anyOf"))
    if options is not None:
        results = [_wrong(document, option, value, where) for option in options]
        return [] if [] in results else results[0]
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if value is None and "null" in types:
        return []
    allowed = tuple(TYPES[name] for name in types if name != "null")
    if not isinstance(value, allowed) or (value is True and "boolean" not in types):
        return [f"{where} is no {types}: {value!r}"]
    if isinstance(value, dict):
        return _wrong_object(document, schema, value, where)
    if isinstance(value, list):
        return [wrong for entry in value for wrong in _wrong(document, schema["items"], entry, f"{where}[]")]
    return [] if not isinstance(value, str) or _fits(schema, value) else [f"{where} does not fit: {value!r}"]


def _fits(schema: dict[str, Any], text: str) -> bool:
    has_format = FORMATS.get(schema.get("format", ""), bool)
    return (
        ("format" not in schema or bool(has_format(text)))
        and re.search(schema.get("pattern", ""), text) is not None
        and text in schema.get("enum", [text])
    )


def _wrong_object(
    document: dict[str, Any], schema: dict[str, Any], value: dict[str, Any], where: str
) -> list[str]:
    properties = schema.get("properties", {})
    more = schema.get("additionalProperties", False)
    wrong = [f"{where} has no {name}" for name in set(schema.get("required", ())) - set(value)]
    for name, part in value.items():
        if name in properties:
            wrong += _wrong(document, properties[name], part, f"{where}.{name}")
        elif isinstance(more, dict):
            wrong += _wrong(document, more, part, f"{where}.{name}")
        elif not more:
            wrong.append(f"{where} has an undocumented {name}")
    return wrong


@pytest.mark.parametrize("route", API, ids=[f"{method} {path}" for method, path in API])
@pytest.mark.parametrize("name", ["nobody", "owner", "other", "admin"])
def test_real_answers_are_as_documented(
    dataset: Dataset, document: dict[str, Any], route: tuple[str, str], name: str
) -> None:
    """For each asker the status is among the documented ones, and the body has the documented shape."""
    method, pattern = route
    dataset.history_row(dataset.appointment(assigned_employee_id=dataset.erin_id))
    dataset.slot()
    path, body = ROWS[route].request(dataset)
    answer = dataset.askers[name].ask(method, path, json=body)
    operation = document["paths"][re.sub(r"<(\w+)>", r"{\1}", pattern)][method.lower()]
    documented = _resolved(document, operation["responses"][str(answer.status_code)])
    for media_type, content in documented.get("content", {}).items():
        assert answer.mimetype == media_type
        if answer.is_json:
            assert _wrong(document, content["schema"], answer.get_json()) == []
    for header in documented.get("headers", {}):
        assert header in answer.headers
    for header in ("X-Cache", "ETag", "Location", "Retry-After", "X-Total-Count", "WWW-Authenticate"):
        assert (header in answer.headers) == (header in documented.get("headers", {})), header


def test_refusals_are_documented_for_each_kind_of_route(document: dict[str, Any]) -> None:
    """Routes with a body, with an id, or behind a token say what these can lead to; the others need no token."""
    for method, path, operation in _operations(document):
        assert operation["security"] in ([], [{"token": []}])
        assert bool(operation["security"]) == ("401" in operation["responses"])
        expected = {"400", "413", "415"} if "requestBody" in operation else set()
        expected |= {"401", "403", "503"} if operation["security"] else set()
        expected |= {"404"} if "{" in path else set()
        assert expected <= set(operation["responses"]), (method, path)


def test_errors_are_as_documented(dataset: Dataset, document: dict[str, Any]) -> None:
    """A 400 for a field and one for a rule both have the documented shape."""
    schema = document["components"]["schemas"]["FieldOrRuleErrors"]
    for body in ({}, dataset.booking(scheduled_date="1999-01-01")):
        answer = dataset.alice.post("/appointments/", body)
        assert answer.status_code == 400
        assert _wrong(document, schema, answer.get_json()) == []


def test_bodies_show_their_limits(document: dict[str, Any]) -> None:
    """The schemas that check requests appear with their bounds, words and formats."""
    schemas = document["components"]["schemas"]
    create = schemas["AppointmentCreate"]
    assert set(create["required"]) == {
        "customer_id", "vehicle_id", "appointment_type", "scheduled_date", "scheduled_time",
    }  # fmt: skip
    assert create["properties"]["duration_minutes"]["maximum"] == 7 * 24 * 60
    assert create["properties"]["customer_id"]["format"] == "uuid"
    assert create["properties"]["appointment_type"] == {"$ref": "#/components/schemas/AppointmentType"}
    assert "emergency" in schemas["AppointmentType"]["enum"]
    assert "no_show" in schemas["AppointmentStatus"]["enum"]
    assert schemas["AppointmentPatch"]["additionalProperties"] is False
    assert schemas["CacheInvalidation"]["properties"]["ids"]["maxItems"] == 1000
    parameters = {part["name"]: part for part in document["paths"]["/appointments/"]["get"]["parameters"]}
    assert parameters["page_size"]["schema"]["maximum"] == 100


def test_examples_of_values_are_as_documented(document: dict[str, Any]) -> None:
    """Each value fits the schema that it is an example of."""
    examples = [
        (node, example)
        for node in _nodes(document)
        if isinstance(node.get("examples"), list)
        for example in node["examples"]
    ]
    assert len(examples) > 40
    for schema, example in examples:
        assert _wrong(document, schema, example) == []


def test_every_answer_in_json_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    """An answer of one shape has one example; an array or a page, and a field's or a rule's error, have two."""
    for method, path, operation in _operations(document):
        for status, response in operation["responses"].items():
            content = _resolved(document, response).get("content", {}).get("application/json")
            if content is None:
                assert status in {"200", "204", "304"}
                continue
            named = [example["value"] for example in content.get("examples", {}).values()]
            examples = named or [content["example"]]
            assert len(examples) == (2 if status == "400" or "oneOf" in content["schema"] else 1)
            for example in examples:
                assert _wrong(document, content["schema"], example) == [], (method, path, status)


def test_headers_are_typed(document: dict[str, Any]) -> None:
    """Numbers are numbers, in the document as in the answers."""
    headers = [node for node in _nodes(document) if "X-Total-Count" in node or "Retry-After" in node]
    assert len(headers) > 5
    for node in headers:
        for name in {"X-Total-Count", "Retry-After"} & set(node):
            assert node[name]["schema"]["type"] == "integer"


def test_the_state_of_the_parts_is_the_body_of_an_unready_answer(document: dict[str, Any]) -> None:
    """Readiness answers 503 with the same shape as 200, not with an error's."""
    unready = document["paths"]["/health/ready/"]["get"]["responses"]["503"]
    schema = unready["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Readiness"}
    assert "Retry-After" in unready["headers"]


def test_examples_of_reads_work_in_the_demo(
    app: Flask, environment: dict[str, str], dataset: Dataset, document: dict[str, Any]
) -> None:
    """With the demo's data, each operation that only reads answers 200 to its own examples."""
    data = DemoData.make(datetime.now(UTC), ZoneInfo("UTC"))
    data.insert(environment["DATABASE_URL"].replace("postgresql+psycopg2://", "postgresql://"))
    reads = [(path, operation) for method, path, operation in _operations(document) if method == "GET"]
    assert len(reads) > 15
    for path, operation in reads:
        examples: dict[str, dict[str, str]] = {"path": {}, "query": {}}
        for parameter in operation["parameters"]:
            if parameter.get("required"):
                examples[parameter["in"]][parameter["name"]] = parameter["example"]
        answer = dataset.ada.ask("GET", f"{path.format(**examples['path'])}?{urlencode(examples['query'])}")
        assert answer.status_code == 200, (path, answer.data)


BODY_ROUTES = [route for resource in RESOURCES for route in resource.routes if route.body is not None]


@pytest.mark.parametrize("route", BODY_ROUTES, ids=lambda route: route.name)
def test_examples_of_requests_work(dataset: Dataset, document: dict[str, Any], route: Route) -> None:
    """With the demo's people, every operation that takes a body accepts its example."""
    people = make_people(random.Random(SEED), TODAY.year)
    dataset.fake_services.customers.put(people.customers[0])
    dataset.fake_services.employees.put(people.employees[0])
    dataset.fake_services.vehicles.put(*people.vehicles_of(people.customers[0]["id"]))
    operation = document["paths"][re.sub(r"<(\w+)>", r"{\1}", route.path)][route.method.lower()]
    path, _ = ROWS[route.method, route.path].request(dataset)
    answer = dataset.ada.ask(
        route.method, path, json=operation["requestBody"]["content"]["application/json"]["example"]
    )
    assert answer.status_code == route.status, answer.data
