"""Time slots: read by all, written by staff."""

from datetime import time as clock
from typing import Any

import pytest

from tests.support.dataset import Dataset, weekday

FIELDS = {
    "id", "date", "start_time", "end_time", "is_available", "max_concurrent_appointments", "available_capacity",
}  # fmt: skip


def _new(**fields: Any) -> dict[str, Any]:
    return {"date": weekday(4).isoformat(), "start_time": "09:00", "end_time": "10:00:00", **fields}


def test_a_slot_and_its_room(dataset: Dataset) -> None:
    """The slot with its fields; what is booked in it lowers the room."""
    day = weekday(4)
    slot_id = dataset.slot(date=day, start_time=clock(9), end_time=clock(10))
    dataset.appointment(scheduled_date=day, scheduled_time=clock(9))
    slot = dataset.alice.get(f"/time-slots/{slot_id}/").get_json()
    assert set(slot) == FIELDS
    assert slot == {
        "id": slot_id,
        "date": day.isoformat(),
        "start_time": "09:00:00",
        "end_time": "10:00:00",
        "is_available": True,
        "max_concurrent_appointments": 2,
        "available_capacity": 1,
    }
    page = dataset.alice.get("/time-slots/").get_json()
    assert (page["count"], page["next"], page["previous"], page["results"]) == (1, None, None, [slot])


def test_slots_by_date(dataset: Dataset) -> None:
    """Filters are inclusive; pages work as everywhere."""
    first, second = (
        dataset.slot(date=weekday(number), start_time=clock(9), end_time=clock(10)) for number in (4, 6)
    )
    queries = {
        "": [first, second],
        f"start_date={weekday(5)}": [second],
        f"end_date={weekday(4)}": [first],
        f"start_date={weekday(4)}&end_date={weekday(6)}": [first, second],
        "page_size=1": [first],
        "page_size=1&page=2": [second],
    }
    for query, expected in queries.items():
        page = dataset.alice.get(f"/time-slots/?{query}").get_json()
        assert [slot["id"] for slot in page["results"]] == expected, query
    assert dataset.alice.get("/time-slots/?page=2").status_code == 404
    answer = dataset.alice.get(f"/time-slots/?start_date={weekday(6)}&end_date={weekday(5)}")
    assert (answer.status_code, set(answer.get_json())) == (400, {"end_date"})


def test_a_slot_is_made_changed_and_removed(dataset: Dataset) -> None:
    """POST, PUT, PATCH and DELETE, each answering the slot as it now is."""
    made = dataset.erin.post("/time-slots/", _new(max_concurrent_appointments="4", zz=1))
    assert made.status_code == 201, made.data
    slot = made.get_json()
    assert set(slot) == FIELDS
    assert (slot["start_time"], slot["is_available"], slot["available_capacity"]) == ("09:00:00", True, 4)
    path = f"/time-slots/{slot['id']}/"
    put = dataset.erin.put(path, _new(start_time="10:00", end_time="11:30")).get_json()
    assert (put["start_time"], put["end_time"], put["max_concurrent_appointments"]) == (
        "10:00:00",
        "11:30:00",
        4,
    )
    patched = dataset.erin.patch(path, {"is_available": False}).get_json()
    assert (patched["is_available"], patched["available_capacity"]) == (False, 0)
    assert dataset.alice.get(path).get_json() == patched
    assert dataset.erin.delete(path).status_code == 204
    assert dataset.erin.get(path).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("date", "2026-13-01"),
        ("date", None),
        ("start_time", "9"),
        ("end_time", "25:00"),
        ("is_available", "true"),
        ("is_available", 1),
        ("max_concurrent_appointments", -1),
        ("max_concurrent_appointments", 2**31),
        ("max_concurrent_appointments", "many"),
    ],
)
def test_a_wrong_slot_field_is_named(dataset: Dataset, field: str, value: object) -> None:
    """By every method that writes, and nothing is written."""
    slot_id = dataset.slot()
    before = dataset.erin.get(f"/time-slots/{slot_id}/").get_json()
    for method, path in (
        ("POST", "/time-slots/"),
        ("PUT", f"/time-slots/{slot_id}/"),
        ("PATCH", f"/time-slots/{slot_id}/"),
    ):
        answer = dataset.erin.ask(method, path, json=_new(**{field: value}))
        assert (answer.status_code, set(answer.get_json())) == (400, {field}), (method, answer.data)
    assert dataset.erin.get(f"/time-slots/{slot_id}/").get_json() == before
    assert dataset.count("time_slots") == 1


@pytest.mark.parametrize("field", ["id", "available_capacity", "zz"])
def test_unknown_slot_fields_are_refused_on_update(dataset: Dataset, field: str) -> None:
    """What a slot has not, or does not let be changed, is named."""
    answer = dataset.erin.patch(f"/time-slots/{dataset.slot()}/", {"is_available": False, field: 1})
    assert (answer.status_code, set(answer.get_json())) == (400, {field})


def test_put_needs_the_times(dataset: Dataset) -> None:
    """PUT wants date and times, PATCH nothing."""
    path = f"/time-slots/{dataset.slot()}/"
    assert set(dataset.erin.put(path, {}).get_json()) == {"date", "start_time", "end_time"}
    assert dataset.erin.patch(path, {}).status_code == 200


def test_a_slot_ends_after_it_starts_and_starts_once(dataset: Dataset) -> None:
    """A backward slot is refused, and so is a second one at the same start."""
    assert dataset.erin.post("/time-slots/", _new(end_time="08:00")).status_code == 400
    assert dataset.erin.post("/time-slots/", _new()).status_code == 201
    answer = dataset.erin.post("/time-slots/", _new())
    assert (answer.status_code, set(answer.get_json())) == (400, {"detail"})


def test_slots_by_the_week(dataset: Dataset) -> None:
    """Hourly from 9 to 17 on weekdays; again it adds nothing."""
    body = {"start_date": weekday(1).isoformat(), "end_date": weekday(2).isoformat()}
    first = dataset.erin.post("/time-slots/bulk_create/", body)
    assert first.status_code == 201
    assert first.get_json()["count"] == 16
    assert "16" in first.get_json()["message"]
    again = dataset.erin.post("/time-slots/bulk_create/", body)
    assert (again.status_code, again.get_json()["count"]) == (201, 0)
    assert dataset.alice.get("/time-slots/").get_json()["count"] == 16


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"start_date", "end_date"}),
        ({"start_date": "2030-01-02", "end_date": "2030-01-01"}, {"end_date"}),
        ({"start_date": "2030-01-01", "end_date": "2031-01-02"}, {"end_date"}),
        ({"start_date": "2000-01-01", "end_date": "2100-01-01"}, {"end_date"}),
    ],
)
def test_what_slots_can_not_be_made_for(dataset: Dataset, body: dict[str, str], fields: set[str]) -> None:
    """Both ends are needed, in order, at most 366 days."""
    answer = dataset.erin.post("/time-slots/bulk_create/", body)
    assert (answer.status_code, set(answer.get_json())) == (400, fields), answer.data
    assert dataset.count("time_slots") == 0
