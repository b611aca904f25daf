"""Every route, asked by everyone. A route of the URL map without a row here fails the test."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from flask import Flask

from servease_appt.dashboard.blueprint import SCRIPTS
from tests.support.dataset import BASE, Dataset, new_id, weekday

Request = tuple[str, dict[str, Any] | None]
NOBODY, OWNER, OTHER, EMPLOYEE, ADMIN, SERVICE = "nobody", "owner", "other", "employee", "admin", "service"


class Row(NamedTuple):
    """What each asker gets, in the order nobody, owner, other customer, employee, admin, service."""

    statuses: str
    request: Callable[[Dataset], Request]


def _to(path: str, body: dict[str, Any] | None = None) -> Callable[[Dataset], Request]:
    return lambda _: (path, body)


def _appointment(suffix: str = "", status: str = "pending", **body: Any) -> Callable[[Dataset], Request]:
    return lambda dataset: (f"/appointments/{dataset.appointment(status=status)}/{suffix}", body)


def _reschedule(dataset: Dataset) -> Request:
    path, _ = _appointment("reschedule/")(dataset)
    day, start = dataset.start_ahead()
    return path, {"new_date": day.isoformat(), "new_time": start.isoformat()}


def _assign(dataset: Dataset) -> Request:
    path, _ = _appointment("assign/")(dataset)
    return path, {"employee_id": dataset.erin_id}


def _slot(**body: Any) -> Callable[[Dataset], Request]:
    return lambda dataset: (f"/time-slots/{dataset.slot()}/", body)


def _new_slot(dataset: Dataset) -> dict[str, Any]:
    day, start = dataset.start_ahead()
    end = start.replace(minute=30)
    return {"date": day.isoformat(), "start_time": start.isoformat(), "end_time": end.isoformat()}


def _put_slot(dataset: Dataset) -> Request:
    path, _ = _slot()(dataset)
    return path, _new_slot(dataset)


OPEN = "200 200 200 200 200 200"
USERS = "401 200 200 200 200 403"
OWN = "401 200 404 200 200 403"
STAFF = "401 403 403 200 200 403"
ADMINS = "401 403 403 403 200 403"
CACHE = "401 403 403 403 200 200"
DAY = weekday(2).isoformat()

ROWS: dict[tuple[str, str], Row] = {
    ("GET", "/appointments/"): Row(USERS, _to("/appointments/")),
    ("POST", "/appointments/"): Row(
        "401 201 403 201 201 403", lambda dataset: ("/appointments/", dataset.booking())
    ),
    ("GET", "/appointments/<appointment_id>/"): Row(OWN, _appointment()),
    ("PUT", "/appointments/<appointment_id>/"): Row(OWN, _appointment(customer_notes="Please call")),
    ("PATCH", "/appointments/<appointment_id>/"): Row(OWN, _appointment(customer_notes="Please call")),
    ("DELETE", "/appointments/<appointment_id>/"): Row("401 403 403 403 204 403", _appointment()),
    ("POST", "/appointments/<appointment_id>/confirm/"): Row(STAFF, _appointment("confirm/")),
    ("POST", "/appointments/<appointment_id>/start/"): Row(STAFF, _appointment("start/", "confirmed")),
    ("POST", "/appointments/<appointment_id>/complete/"): Row(
        STAFF, _appointment("complete/", "in_progress")
    ),
    ("POST", "/appointments/<appointment_id>/no_show/"): Row(STAFF, _appointment("no_show/", "confirmed")),
    ("POST", "/appointments/<appointment_id>/cancel/"): Row(OWN, _appointment("cancel/")),
    ("POST", "/appointments/<appointment_id>/reschedule/"): Row(OWN, _reschedule),
    ("POST", "/appointments/<appointment_id>/assign/"): Row(STAFF, _assign),
    ("GET", "/appointments/<appointment_id>/history/"): Row(OWN, _appointment("history/")),
    ("GET", "/appointments/customer_appointments/"): Row(
        "401 200 403 200 200 403",
        lambda dataset: (f"/appointments/customer_appointments/?customer_id={dataset.alice_id}", None),
    ),
    ("GET", "/appointments/employee_schedule/"): Row(
        STAFF, lambda dataset: (f"/appointments/employee_schedule/?employee_id={dataset.erin_id}", None)
    ),
    ("GET", "/appointments/employee/<employee_id>/"): Row(
        STAFF, lambda dataset: (f"/appointments/employee/{dataset.erin_id}/", None)
    ),
    ("GET", "/appointments/vehicle_history/"): Row(
        USERS, lambda dataset: (f"/appointments/vehicle_history/?vehicle_id={dataset.alices_car}", None)
    ),
    ("GET", "/appointments/available_slots/"): Row(
        USERS, _to(f"/appointments/available_slots/?start_date={DAY}&end_date={DAY}")
    ),
    ("GET", "/appointments/stats/"): Row(USERS, _to("/appointments/stats/")),
    ("GET", "/appointments/changes/"): Row(USERS, _to("/appointments/changes/?page_size=3")),
    ("GET", "/history/"): Row(USERS, _to("/history/")),
    ("GET", "/history/<history_id>/"): Row(
        OWN, lambda dataset: (f"/history/{dataset.history_row(dataset.appointment())}/", None)
    ),
    ("GET", "/time-slots/"): Row(USERS, _to("/time-slots/")),
    ("POST", "/time-slots/"): Row(
        "401 403 403 201 201 403", lambda dataset: ("/time-slots/", _new_slot(dataset))
    ),
    ("POST", "/time-slots/bulk_create/"): Row(
        "401 403 403 201 201 403", _to("/time-slots/bulk_create/", {"start_date": DAY, "end_date": DAY})
    ),
    ("GET", "/time-slots/<slot_id>/"): Row(USERS, _slot()),
    ("PUT", "/time-slots/<slot_id>/"): Row(STAFF, _put_slot),
    ("PATCH", "/time-slots/<slot_id>/"): Row(STAFF, _slot(max_concurrent_appointments=5)),
    ("DELETE", "/time-slots/<slot_id>/"): Row("401 403 403 204 204 403", _slot()),
    ("POST", "/cache/invalidate/"): Row(
        CACHE, lambda dataset: ("/cache/invalidate/", {"entity": "customer", "ids": [dataset.alice_id]})
    ),
    ("GET", "/cache/stats/"): Row(CACHE, _to("/cache/stats/")),
    ("GET", "/health/"): Row(OPEN, _to("/health/")),
    ("GET", "/health/ready/"): Row(OPEN, _to("/health/ready/")),
    ("GET", "/metrics"): Row(OPEN, _to("/metrics")),
    ("GET", "/openapi.json"): Row(OPEN, _to("/openapi.json")),
    ("GET", "/docs"): Row(OPEN, _to("/docs")),
    **{
        ("GET", f"/docs/{name}"): Row(OPEN, _to(f"/docs/{name}"))
        for name in ("accessibility.js", "page.css", "page.js", "swagger-ui-bundle.js", "swagger-ui.css")
    },
}

PAGE_ROWS: dict[tuple[str, str], Row] = {
    ("GET", "/"): Row(OPEN, _to("/")),
    ("GET", "/ops/cache/"): Row(OPEN, _to("/ops/cache/")),
    ("GET", "/ops/cache/page.css"): Row(OPEN, _to("/ops/cache/page.css")),
    **{("GET", f"/ops/cache/{name}.js"): Row(OPEN, _to(f"/ops/cache/{name}.js")) for name in SCRIPTS},
    ("POST", "/ops/cache/session"): Row(
        "401 401 401 401 401 401", _to("/ops/cache/session", {"code": "none"})
    ),
    **{
        ("GET", path): Row(ADMINS, _to(path))
        for path in (f"/ops/cache/{name}" for name in ("data", "keys", "events"))
    },
    ("POST", "/ops/cache/doctor"): Row(ADMINS, _to("/ops/cache/doctor", {})),
    ("POST", "/ops/cache/explain"): Row(
        ADMINS, lambda dataset: ("/ops/cache/explain", {"entity": "customer", "id": dataset.alice_id})
    ),
    ("POST", "/ops/cache/invalidate"): Row(
        ADMINS, lambda dataset: ("/ops/cache/invalidate", {"entity": "customer", "id": dataset.alice_id})
    ),
}
"""Not part of the API, and not in its document."""

ALL_ROWS = {**ROWS, **PAGE_ROWS}


def test_every_route_has_a_row(app: Flask) -> None:
    """The table is complete: it names exactly the methods and paths that the application serves."""
    served = {
        (method, rule.rule.removeprefix(BASE))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in {"HEAD", "OPTIONS"}
    }
    assert served == set(ALL_ROWS)


@pytest.mark.parametrize("route", ALL_ROWS, ids=[f"{method} {path}" for method, path in ALL_ROWS])
def test_each_asker_gets_what_the_table_says(dataset: Dataset, route: tuple[str, str]) -> None:
    """Nobody, owner, other customer, employee, admin and service, each on an object of its own."""
    method, _ = route
    row = ALL_ROWS[route]
    got = {}
    for name, asker in dataset.askers.items():
        path, body = row.request(dataset)
        got[name] = asker.ask(method, path, json=body).status_code
    assert got == dict(zip(got, map(int, row.statuses.split()), strict=True))


@pytest.mark.parametrize("route", [route for route in ROWS if "<" in route[1]], ids=" ".join)
def test_a_foreign_object_looks_like_a_missing_one(dataset: Dataset, route: tuple[str, str]) -> None:
    """What a customer gets for somebody else's id is, byte for byte, what they get for one that nobody has."""
    method, path = route
    foreign, body = ROWS[route].request(dataset)
    missing = path.replace(path[path.index("<") : path.index(">") + 1], new_id())
    got, expected = dataset.bob.ask(method, foreign, json=body), dataset.bob.ask(method, missing, json=body)
    if got.status_code not in {200, 403}:
        assert (got.status_code, got.data) == (expected.status_code, expected.data)


def test_a_refused_request_changes_nothing(dataset: Dataset) -> None:
    """Another customer's attempts leave the appointment and its history as they were."""
    appointment_id = dataset.appointment()
    before = dataset.stored(appointment_id)
    path = f"/appointments/{appointment_id}/"
    day, start = dataset.start_ahead()
    dataset.bob.patch(path, {"customer_notes": "mine now"})
    dataset.bob.put(path, {"customer_notes": "mine now"})
    dataset.bob.delete(path)
    dataset.bob.post(f"{path}cancel/")
    dataset.bob.post(f"{path}reschedule/", {"new_date": day.isoformat(), "new_time": start.isoformat()})
    for action in ("confirm", "start", "complete", "no_show"):
        dataset.alice.post(f"{path}{action}/")
    assert dataset.stored(appointment_id) == before
    assert dataset.count("appointment_history") == 0


def test_lists_and_numbers_hold_only_ones_own(dataset: Dataset) -> None:
    """No filter shows a customer another's rows, nor how many there are."""
    dataset.appointment(assigned_employee_id=dataset.erin_id)
    foreign = dataset.appointment()
    dataset.history_row(foreign)
    for query in (
        "",
        f"?customer_id={dataset.alice_id}",
        f"?vehicle_id={dataset.alices_car}",
        f"?employee_id={dataset.erin_id}",
    ):
        page = dataset.bob.get(f"/appointments/{query}").get_json()
        assert (page["count"], page["results"]) == (0, [])
    vehicle = dataset.bob.get(f"/appointments/vehicle_history/?vehicle_id={dataset.alices_car}")
    assert (vehicle.get_json(), vehicle.headers["X-Total-Count"]) == ([], "0")
    assert dataset.bob.get("/appointments/stats/").get_json()["total_appointments"] == 0
    assert dataset.bob.get("/history/").get_json()["count"] == 0
    assert dataset.bob.get(f"/history/?appointment_id={foreign}").get_json()["count"] == 0


def test_a_method_can_not_be_overridden(dataset: Dataset) -> None:
    """X-HTTP-Method-Override is not looked at."""
    path = f"/appointments/{dataset.appointment()}/"
    answer = dataset.ada.get(path, headers={"X-HTTP-Method-Override": "DELETE"})
    assert answer.status_code == 200
    assert dataset.count("appointments") == 1
