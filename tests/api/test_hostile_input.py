"""Whatever is sent, on every route: a 4xx in JSON that says what is wrong, and never a 5xx."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from servease_appt.api import RESOURCES
from servease_appt.api.parsing import LARGEST_BODY
from servease_appt.api.routing import Route
from tests.support.dataset import Dataset, new_id

ROUTES = [route for resource in RESOURCES for route in resource.routes]
WITH_BODY = [route for route in ROUTES if route.body is not None]
WITH_QUERY = [route for route in ROUTES if route.query is not None]

HOSTILE_BODIES: dict[str, bytes] = {
    "nested arrays": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "nested and closed": b"[" * 5000 + b"]" * 5000,
    "an array": b"[]",
    "null": b"null",
    "text": b'"x"',
    "a number": b"1",
    "true": b"true",
    "NaN": b"NaN",
    "NaN inside": b'{"estimated_cost": NaN}',
    "Infinity inside": b'{"estimated_cost": -Infinity}',
    "1e400": b'{"duration_minutes": 1e400}',
    "cut off": b'{"reason": "x',
    "two documents": b"{}{}",
    "UTF-8 with a mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-32": "{}".encode("utf-32"),
    "latin-1": '{"reason": "ü"}'.encode("latin-1"),
    "lone surrogate": b'{"reason": "\\ud800"}',
    "lone surrogate as a name": b'{"\\ud800": 1}',
    "single quotes": b"{'reason': 'x'}",
    "a comment": b'{"reason": "x" /* no */}',
    "only blanks": b"   ",
    "a NUL byte": b"\x00",
}

HOSTILE_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    1e308,
    0.1,
    "",
    " ",
    "x",
    "\x00",
    "a\x00b",
    "x" * 5001,
    "'; DROP TABLE appointments; --",
    "<script>alert(1)</script>",
    "../../admin",
    "{{7*7}}",
    "٣",
    "1_0",
    "9" * 5000,
    "1e5",
    "NaN",
    "Infinity",
    "0000-00-00",
    "2026-02-30",
    "2026-W01-1",
    "9999-12-31",
    "0001-01-01",
    "infinity",
    "today",
    "24:00:00",
    "25:61",
    "10:00:00.5",
    "10:00:00+02:00",
    "\U0001f697\u202e",
    [],
    ["x"],
    {},
    {"$ne": None},
    [[[[]]]],
]

HOSTILE_QUERY_VALUES = [
    *(value for value in HOSTILE_VALUES if isinstance(value, str)),
    "%00",
    "%ff%fe",
    "%ed%a0%80",
    "-1",
    "0",
    "10000000000000000000000",
    "[]",
]


def _path(dataset: Dataset, route: Route) -> str:
    """The route's path on an object that exists."""
    made: dict[str, Callable[[], str]] = {
        "<appointment_id>": dataset.appointment,
        "<slot_id>": dataset.slot,
        "<history_id>": lambda: dataset.history_row(new_id()),
        "<employee_id>": lambda: dataset.erin_id,
    }
    for name, make in made.items():
        if name in route.path:
            return route.path.replace(name, make())
    return route.path


def _assert_an_error_in_json(answer: Any, what: object) -> None:
    assert 400 <= answer.status_code < 500, (what, answer.status_code, answer.data)
    errors = answer.get_json()
    assert errors, what
    if answer.status_code == 400:
        assert all(
            isinstance(said, list) and said and set(map(type, said)) == {str} for said in errors.values()
        )
    else:
        assert set(errors) == {"detail"}


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
def test_bodies_that_are_no_json_object(dataset: Dataset, route: Route) -> None:
    """Broken, foreign or bottomless JSON is a 400 on every route that takes a body."""
    path = _path(dataset, route)
    for what, body in HOSTILE_BODIES.items():
        answer = dataset.ada.ask(route.method, path, data=body, content_type="application/json")
        assert (answer.status_code, set(answer.get_json())) == (400, {"detail"}), (what, answer.data)
        _assert_an_error_in_json(answer, what)


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
def test_values_that_no_field_can_hold(dataset: Dataset, route: Route) -> None:
    """Each field of each body takes each hostile value or refuses it by name; nothing breaks."""
    path = _path(dataset, route)
    good = dataset.booking() if route.name == "book_appointment" else {}
    assert route.body is not None
    for name in route.body.fields:
        for value in HOSTILE_VALUES:
            answer = dataset.ada.ask(route.method, path, json={**good, name: value})
            if answer.status_code >= 400:
                _assert_an_error_in_json(answer, (name, value))


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
def test_names_that_no_body_has(dataset: Dataset, route: Route) -> None:
    """Unknown names are dropped or refused, whatever they are called and hold."""
    path = _path(dataset, route)
    for name in (
        "",
        "x" * 1000,
        "\x00",
        "__proto__",
        "detail",
        "self",
        "now",
        "if_match",
        "'; --",
        "\U0001f697",
    ):
        values: tuple[Any, ...] = (1, "\x00", [[]], {"a": {}})
        for value in values:
            answer = dataset.ada.ask(route.method, path, json={name: value})
            if answer.status_code >= 400:
                _assert_an_error_in_json(answer, name)


@pytest.mark.parametrize("route", WITH_QUERY, ids=lambda route: route.name)
def test_queries_that_no_field_can_hold(dataset: Dataset, route: Route) -> None:
    """Each parameter takes each hostile value or refuses it by name; nothing breaks."""
    path = _path(dataset, route)
    assert route.query is not None
    for name in (*route.query.fields, "zz"):
        for value in HOSTILE_QUERY_VALUES:
            answer = dataset.ada.get(path, query_string={name: value})
            raw = dataset.ada.get(path, query_string=f"{name}={value}")
            for answered in (answer, raw):
                if answered.status_code >= 400:
                    _assert_an_error_in_json(answered, (name, value))


@pytest.mark.parametrize(
    "days", [("0001-01-01", "0001-01-02"), ("9998-12-30", "9998-12-31"), ("9999-12-30", "9999-12-31")]
)
def test_the_ends_of_the_calendar(dataset: Dataset, days: tuple[str, str]) -> None:
    """The first and last days that dates can hold are answered like any others, or refused by name."""
    first, last = days
    dataset.appointment()
    by_query = {"start_date": first, "end_date": last}
    asked = [
        dataset.ada.get("/appointments/", query_string=by_query),
        dataset.ada.get("/appointments/available_slots/", query_string=by_query),
        dataset.ada.get("/time-slots/", query_string=by_query),
        dataset.ada.post("/time-slots/bulk_create/", by_query),
        dataset.ada.post("/time-slots/", {"date": last, "start_time": "23:00", "end_time": "00:00"}),
        dataset.ada.get("/time-slots/"),
        dataset.ada.get("/appointments/available_slots/", query_string=by_query),
        dataset.ada.post("/appointments/", dataset.booking(scheduled_date=last, scheduled_time="23:59")),
        dataset.ada.post(
            f"/appointments/{dataset.appointment()}/reschedule/", {"new_date": last, "new_time": "23:59:59"}
        ),
    ]
    for answer in asked:
        assert answer.status_code < 500
        if answer.status_code >= 400:
            _assert_an_error_in_json(answer, days)


def test_queries_that_are_no_queries(dataset: Dataset) -> None:
    """Garbled query strings are read as far as they go, and too many parameters are refused."""
    for text in ("%", "%zz", "&&&&", "===", "a=1&b", "\x01", "?page=1", "page[]=1", "page=1;page=2"):
        assert dataset.ada.get("/appointments/", query_string=text).status_code in {200, 400}
    answer = dataset.ada.get("/appointments/", query_string="&".join(f"a{n}=1" for n in range(101)))
    assert answer.status_code == 400


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
def test_bodies_of_another_type_are_415(dataset: Dataset, route: Route) -> None:
    """A body that does not say it is JSON, or is packed, is a 415."""
    path = _path(dataset, route)
    for content_type in (
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "",
        "x",
        "json",
    ):
        answer = dataset.ada.ask(route.method, path, data=b"{}", content_type=content_type)
        assert answer.status_code == 415, content_type
        assert set(answer.get_json()) == {"detail"}
    packed = dataset.ada.ask(
        route.method, path, data=b"{}", content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    assert packed.status_code == 415


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
def test_json_by_any_of_its_names_is_taken(dataset: Dataset, content_type: str) -> None:
    """The type may carry a charset, capitals or a +json suffix."""
    path = f"/appointments/{dataset.appointment()}/"
    answer = dataset.ada.ask("PATCH", path, data=b'{"customer_notes": "hi"}', content_type=content_type)
    assert (answer.status_code, answer.get_json()["customer_notes"]) == (200, "hi")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_bodies_over_one_megabyte_are_413(dataset: Dataset, route: Route) -> None:
    """On every route, whether it reads a body or not, an announced size over 1 MB is refused."""
    answer = dataset.ada.ask(
        route.method, _path(dataset, route), data=b" " * (LARGEST_BODY + 1), content_type="application/json"
    )
    if answer.status_code != 403:
        assert answer.status_code == 413
        assert set(answer.get_json()) == {"detail"}


def test_a_chunked_body_is_counted_as_it_comes(dataset: Dataset) -> None:
    """A body without an announced length is refused once more than 1 MB of it has come."""
    path = f"/appointments/{dataset.appointment()}/"
    for size, status in ((LARGEST_BODY + 1, 413), (1000, 400)):
        answer = dataset.ada.ask(
            "PATCH",
            path,
            input_stream=io.BytesIO(b"x" * size),
            content_type="application/json",
            environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
        )
        assert answer.status_code == status, answer.data


def test_a_body_of_exactly_one_megabyte_is_read(dataset: Dataset) -> None:
    """The limit itself is allowed."""
    body = json.dumps({"customer_notes": "hi"}).encode()
    answer = dataset.ada.ask(
        "PATCH",
        f"/appointments/{dataset.appointment()}/",
        data=body + b" " * (LARGEST_BODY - len(body)),
        content_type="application/json",
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("length", ["abc", "-1", "1.5", "", "99"])
def test_a_wrong_content_length_is_a_clients_mistake(dataset: Dataset, length: str) -> None:
    """Whatever Content-Length claims, the answer is below 500."""
    answer = dataset.ada.ask(
        "PATCH",
        f"/appointments/{dataset.appointment()}/",
        input_stream=io.BytesIO(b"{}"),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": length},
    )
    assert answer.status_code < 500


def test_the_last_of_two_equal_names_counts(dataset: Dataset) -> None:
    """One documented reading for repeated names, in bodies and in queries."""
    path = f"/appointments/{dataset.appointment()}/"
    body = b'{"customer_notes": "first", "customer_notes": "last"}'
    answer = dataset.ada.ask("PATCH", path, data=body, content_type="application/json")
    assert answer.get_json()["customer_notes"] == "last"
    page = dataset.ada.get("/appointments/?status=completed&status=pending").get_json()
    assert page["count"] == 1


@pytest.mark.parametrize("name", ["If-Match", "Idempotency-Key", "X-Request-Id", "Origin", "Accept", "Host"])
def test_hostile_headers(dataset: Dataset, name: str) -> None:
    """No header breaks a request."""
    path = f"/appointments/{dataset.appointment()}/"
    for value in ("", "\xff\xfe", "x" * 10_000, '"', "*", 'W/"', "'; --", "[::1", "a:b:c", "{}", ","):
        for method, target, body in (
            ("PATCH", path, {"customer_notes": "x"}),
            ("POST", "/appointments/", dataset.booking()),
            ("GET", "/appointments/?page_size=1", None),
        ):
            answer = dataset.ada.ask(method, target, headers={name: value}, json=body)
            assert answer.status_code < 500, (value, answer.data)
